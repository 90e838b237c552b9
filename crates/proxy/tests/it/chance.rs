//! Requests, services and settings drawn from a seed, held to what must be true whatever they are.

use std::{fmt::Write as _, time::Duration};

use weft_kernel::Rng;
use weft_proxy::plan::{self, FallbackTo, RoutePolicies};
use weft_resilience::{
    breaker, budget, bulkhead, hedge,
    retry::{self, Condition},
};
use weft_wire::Method;

use crate::{
    node::name,
    play::{Ask, Outcome, Play, Sends, bytes},
    stage::{Act, Seen, service},
};

/// Seeds of one run; each is a test of its own.
const SEEDS: u64 = 2_000;

/// How many of them run side by side.
const THREADS: u64 = 8;

/// A try of a request that reached nobody is not counted so often at most.
const DETOURS_MAX: u64 = 8;

fn ms(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(from + rng.below(to - from))
}

fn one_in(rng: &mut Rng, number: u64) -> bool {
    rng.below(number) == 0
}

fn act(rng: &mut Rng) -> Act {
    let after = rng.below(120);
    match rng.below(16) {
        0 => Act::Refuse,
        1 => Act::Silent,
        2 => Act::Stall,
        3 | 4 => Act::Close(after),
        5 => Act::Close(0),
        6 => Act::HalfHead(after),
        7 => Act::Cut(after),
        8 => Act::Deaf,
        9 => Act::Early(413),
        10 => Act::Answer(after, 503, ""),
        11 => Act::Answer(after, 429, "retry-after: 0\r\n"),
        12 => Act::Answer(0, 503, "retry-after: 1\r\n"),
        _ => Act::Answer(after, 200, ""),
    }
}

fn script(rng: &mut Rng) -> Vec<Act> {
    (0..1 + rng.below(12)).map(|_| act(rng)).collect()
}

fn places(rng: &mut Rng) -> Option<bulkhead::Options> {
    one_in(rng, 4).then(|| bulkhead::Options {
        in_flight_max: 1 + rng.below(2) as usize,
        queue_max: rng.below(4) as usize,
        queue_timeout: ms(rng, 10, 200),
    })
}

fn target(rng: &mut Rng, second: bool) -> plan::Service {
    let mut service = service(second, 1 + rng.below(4) as u8);
    if one_in(rng, 2) {
        service.discovery.ejection = None;
    }
    if one_in(rng, 4) {
        service.pool.connections_max = 1 + rng.below(2) as usize;
    }
    if one_in(rng, 4) {
        service.retry_budget = budget::Options { ratio: 0.0, per_second: 0, ..Default::default() };
    }
    service.breaker = one_in(rng, 4).then(|| breaker::Options {
        window: breaker::Window::Calls(4),
        calls_min: 2,
        open: ms(rng, 20, 200),
        half_open: 1,
        ..breaker::Options::default()
    });
    service.bulkhead = places(rng);
    service
}

fn policy(rng: &mut Rng) -> RoutePolicies {
    let mut policy = RoutePolicies { bulkhead: places(rng), ..RoutePolicies::default() };
    policy.timeout.request = Some(ms(rng, 50, 1000));
    policy.timeout.per_try = one_in(rng, 2).then(|| ms(rng, 20, 300));
    policy.timeout.connect = ms(rng, 10, 100);
    policy.retry = (!one_in(rng, 4)).then(|| retry::Options {
        retries: rng.below(4) as u32,
        on: match rng.below(2) {
            0 => retry::Conditions::default(),
            _ => Condition::ALL.iter().copied().filter(|_| !one_in(rng, 3)).collect(),
        },
        statuses: if one_in(rng, 2) { vec![429] } else { Vec::new() },
        backoff: retry::Backoff { base: ms(rng, 0, 40), max: ms(rng, 0, 100) },
        replay_bytes_max: if one_in(rng, 3) { 4 } else { 64 * 1024 },
        ..retry::Options::default()
    });
    policy.hedge = one_in(rng, 3).then(|| hedge::Options {
        delay: hedge::Delay::Fixed(ms(rng, 5, 100)),
        max: 1 + rng.below(2) as u32,
        budget: 2.0 * rng.unit(),
    });
    let to = match rng.below(3) {
        0 => None,
        1 => Some(FallbackTo::Service(name("second"))),
        _ => Some(FallbackTo::Respond(plan::Respond {
            status: 200,
            headers: Vec::new(),
            body: b"[]"[..].into(),
        })),
    };
    policy.fallback = to.map(|to| plan::Fallback { to, statuses: vec![503] });
    policy
}

fn ask(rng: &mut Rng) -> Ask {
    let mut ask = match rng.below(4) {
        0 => Ask::post(),
        1 => Ask::put(match rng.below(4) {
            0 => Sends::Breaks(1 + rng.below(50)),
            1 => Sends::Whole(40_000),
            2 => Sends::Whole(5),
            _ => Sends::Pieces(1 + rng.below(3) as usize, rng.below(60), 100),
        }),
        _ => Ask::get(),
    };
    ask.at = rng.below(300);
    if one_in(rng, 5) {
        ask.method = Method::Post;
    }
    if one_in(rng, 4) {
        ask = ask.field("x-request-timeout-ms", (10 + rng.below(300)).to_string());
    }
    if one_in(rng, 6) {
        ask = ask.field("idempotency-key", "k");
    }
    if one_in(rng, 6) {
        let after = 1 + rng.below(200);
        ask = ask.leaves(after);
    }
    ask
}

fn play(seed: u64) -> Play {
    let mut rng = Rng::seeded(seed);
    let rng = &mut rng;
    Play {
        first: script(rng),
        second: script(rng),
        services: vec![target(rng, false), target(rng, true)],
        policy: policy(rng),
        asks: (0..1 + rng.below(6)).map(|_| ask(rng)).collect(),
        tells: &["x-request-id"],
        seed,
    }
}

/// What a request may cost at most, and must have come to.
fn judge(
    number: usize,
    ask: &Ask,
    policy: &RoutePolicies,
    outcome: &Outcome,
) -> Result<(), String> {
    let id = format!("request-{number}");
    let seen = outcome.stage.seen.borrow();
    let seen: Vec<&Seen> = seen.iter().filter(|seen| seen.id == id).collect();
    let told = outcome.told[number].as_ref();
    let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };

    let asked = ask.fields.iter().find(|(name, _)| *name == "x-request-timeout-ms");
    let asked = asked.map(|(_, millis)| Duration::from_millis(millis.parse().unwrap()));
    let began = Duration::from_millis(ask.at);
    // A timer of the runtime rings a millisecond late at most.
    let late = Duration::from_millis(2);
    let whole = matches!(ask.sends, Sends::Nothing);
    let route = policy.timeout.request.filter(|_| whole);
    if let Some(limit) = route.into_iter().chain(asked).min() {
        let end = began + limit + late;
        must(seen.iter().all(|seen| seen.at < end), "a try begins after the deadline")?;
        must(told.is_none_or(|told| told.at <= end), "it is answered after the deadline")?;
    }

    let retries = policy.retry.as_ref().map_or(0, |retry| retry.retries);
    let hedges = policy.hedge.as_ref().map_or(0, |hedge| hedge.max);
    let idempotent =
        ask.method != Method::Post || ask.fields.iter().any(|(name, _)| *name == "idempotency-key");
    for second in [false, true] {
        let at: Vec<&Seen> = seen.iter().copied().filter(|seen| seen.second == second).collect();
        if idempotent {
            // What found a kept connection closed is sent over a fresh one, and is the same try.
            let stale = |seen: &&&Seen| !seen.fresh && matches!(seen.act, Act::Close(_));
            let tries = at.len() - at.iter().filter(stale).count();
            let most = (1 + retries) * (1 + hedges);
            must(tries as u64 <= u64::from(most), "it is tried too often")?;
        } else {
            let turned_away = |seen: &&Seen| matches!(seen.act, Act::Answer(_, 429, _));
            let done = at.split_last().is_none_or(|(_, before)| before.iter().all(turned_away));
            must(done, "what may have taken effect is sent again")?;
        }
    }
    let second = seen.iter().any(|seen| seen.second);
    must(!second || whole, "the fallback is asked with a body that is gone")?;
    let sent = bytes(ask.sends.len());
    for seen in &seen {
        let body = seen.body.borrow();
        must(body.as_ref().is_none_or(|body| *body == sent), "a body is not what was sent")?;
    }

    match told {
        None => must(ask.leaves.is_some(), "it is not answered")?,
        Some(told) => {
            if let Ok(body) = &told.body
                && told.status == 200
            {
                must(body == id.as_bytes() || &body[..] == b"[]", "the answer is another's")?;
            }
        }
    }
    let lines = outcome.log.iter().filter(|line| line.contains(&format!("\"{id}\"")));
    let lines: Vec<&String> = lines.collect();
    must(lines.len() == 1, "it has not one line in the log")?;
    let attempts = lines[0].split_once("\"attempts\":").map_or("0", |(_, rest)| rest);
    let attempts: u64 = attempts.split([',', '}']).next().unwrap().parse().unwrap();
    let most = 2 * (1 + u64::from(retries) + DETOURS_MAX);
    must(attempts <= most, "the log tells of too many tries")?;
    must(seen.is_empty() || attempts > 0, "the log tells of no try")
}

fn check(seed: u64) -> Outcome {
    let settings = play(seed);
    let outcome = play(seed).run();
    let mut wrong = String::new();
    for (number, ask) in settings.asks.iter().enumerate() {
        if let Err(what) = judge(number, ask, &settings.policy, &outcome) {
            let _ = writeln!(wrong, "request-{number}: {what}");
        }
    }
    if !outcome.held.is_empty() {
        let _ = writeln!(wrong, "held at the end: {:?}", outcome.held);
    }
    assert!(
        wrong.is_empty(),
        "seed {seed}:\n{wrong}story: {}\nfirst: {:?}\nsecond: {:?}\nasks: {:#?}\npolicy: {:#?}\n{:#?}",
        outcome.stage.story(),
        settings.first,
        settings.second,
        settings.asks,
        settings.policy,
        outcome.log,
    );
    outcome
}

#[test]
fn whatever_happens_a_request_keeps_to_its_bounds() {
    // A seed that is named alone is played alone.
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        println!("{}", check(seed).stage.story());
        return;
    }
    // Each run waits a little for the writer of its log.
    std::thread::scope(|scope| {
        for first in 0..THREADS {
            scope.spawn(move || {
                (first..SEEDS).step_by(THREADS as usize).for_each(|seed| drop(check(seed)))
            });
        }
    });
}

#[test]
fn a_seed_tells_the_same_story_again() {
    for seed in 0..50 {
        assert_eq!(check(seed).stage.story(), check(seed).stage.story(), "seed {seed}");
    }
}
