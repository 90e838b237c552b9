//! What the pages on patterns promise of a request, each sentence as a case: what the services do, and the
//! whole story that must come of it, to the millisecond.
//!
//! In a story `a @3` is a try that reached endpoint `a` after 3 ms, `A` one of the second service, and
//! `-> 200 @5` the head of the answer. Of the access log each case tells the tries, the reason, and why no
//! further try was made.

use std::time::Duration;

use weft_proxy::plan::{self, FallbackTo, RoutePolicies};
use weft_resilience::{
    breaker, budget, bulkhead, hedge,
    retry::{self, Condition},
};

use crate::{
    node::name,
    play::{Ask, Outcome, Play, Sends, bytes},
    stage::{
        Act::{self, Answer, Close, Cut, Deaf, Early, HalfHead, Refuse, Silent, Stall},
        service,
    },
};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const GOOD: Act = Answer(5, 200, "");

/// A sentence and its proof.
struct Case {
    says: &'static str,
    play: Play,
}

fn case(says: &'static str, first: &[Act]) -> Case {
    let play = Play {
        first: first.to_vec(),
        second: vec![GOOD],
        services: vec![service(false, 2), service(true, 1)],
        policy: RoutePolicies::default(),
        asks: vec![Ask::get()],
        tells: &[],
        seed: 1,
    };
    Case { says, play }
}

impl Case {
    fn asks(mut self, asks: impl IntoIterator<Item = Ask>) -> Self {
        self.play.asks = asks.into_iter().collect();
        self
    }

    fn endpoints(mut self, number: u8) -> Self {
        self.play.services[0].discovery = service(false, number).discovery;
        self
    }

    fn tells(mut self, fields: &'static [&'static str]) -> Self {
        self.play.tells = fields;
        self
    }

    fn second(mut self, acts: &[Act]) -> Self {
        self.play.second = acts.to_vec();
        self
    }

    fn service(mut self, change: impl FnOnce(&mut plan::Service)) -> Self {
        change(&mut self.play.services[0]);
        self
    }

    fn policy(mut self, change: impl FnOnce(&mut RoutePolicies)) -> Self {
        change(&mut self.play.policy);
        self
    }

    /// Tries again so often, without a wait of its own.
    fn retry(self, retries: u32, change: impl FnOnce(&mut retry::Options)) -> Self {
        let backoff = retry::Backoff { base: Duration::ZERO, max: Duration::ZERO };
        let mut options = retry::Options { retries, backoff, ..retry::Options::default() };
        change(&mut options);
        self.policy(|policy| policy.retry = Some(options))
    }

    /// Limits of the request and of a try, in milliseconds.
    fn limits(self, request: u64, per_try: Option<u64>) -> Self {
        self.policy(|policy| {
            policy.timeout.request = Some(ms(request));
            policy.timeout.per_try = per_try.map(ms);
        })
    }

    fn hedge(self, delay: u64, max: u32, budget: f64) -> Self {
        let delay = hedge::Delay::Fixed(ms(delay));
        self.policy(|policy| policy.hedge = Some(hedge::Options { delay, max, budget }))
    }

    fn fallback(self, to: FallbackTo, statuses: &[u16]) -> Self {
        let fallback = plan::Fallback { to, statuses: statuses.to_vec() };
        self.policy(|policy| policy.fallback = Some(fallback))
    }

    /// Plays it, and holds it to its story and to what the access log tells of each request.
    #[track_caller]
    fn gives(self, story: &str, log: &[&str]) -> Outcome {
        let outcome = self.play.run();
        assert_eq!(outcome.stage.story(), story, "{}", self.says);
        let told: Vec<String> = outcome.log.iter().map(|line| told(line)).collect();
        assert_eq!(told, log, "{}\n{:#?}", self.says, outcome.log);
        assert_eq!(outcome.held, Vec::<String>::new(), "{}", self.says);
        outcome
    }
}

/// The tries, the reason, and why there was no further one, as a line of the access log has them.
fn told(line: &str) -> String {
    let after = |key: &str| line.split_once(key).map(|(_, rest)| rest);
    let number = after("\"attempts\":").unwrap_or("0");
    let mut told = number.split([',', '}']).next().unwrap().to_owned();
    for (key, end) in [("\"reason\":\"", '"'), ("not retried: ", '"')] {
        if let Some(rest) = after(key) {
            told.push(' ');
            told.push_str(rest.split([end, ';', ')']).next().unwrap());
        }
    }
    told
}

#[test]
fn retries_are_made_when_that_is_safe() {
    case(
        "A connection that broke before a response is tried again for idempotent methods",
        &[Close(3), GOOD],
    )
    .retry(1, |_| {})
    .gives("a @0, b @3, -> 200 @8", &["2"]);
    case("Half a head is no response", &[HalfHead(3), GOOD])
        .retry(1, |_| {})
        .gives("a @0, b @3, -> 200 @8", &["2"]);
    case("Only idempotent methods", &[Close(3), GOOD])
        .retry(1, |_| {})
        .asks([Ask::post()])
        .gives("a @0, -> 502 @3", &["1 upstream_closed not_idempotent"]);
    case("Requests with `Idempotency-Key`", &[Close(3), GOOD])
        .retry(1, |_| {})
        .asks([Ask::post().field("idempotency-key", "k")])
        .gives("a @0, b @3, -> 200 @8", &["2"]);
    case("Or with `unsafe_methods: true`", &[Close(3), GOOD])
        .retry(1, |retry| retry.unsafe_methods = true)
        .asks([Ask::post()])
        .gives("a @0, b @3, -> 200 @8", &["2"]);
    case("No connection is tried again whatever the method", &[Refuse, GOOD])
        .retry(1, |_| {})
        .asks([Ask::post()])
        .gives("a refuses @0, b @0, -> 200 @5", &["2"]);
    case(
        "429 is tried again whatever the method: the request was turned away",
        &[Answer(2, 429, ""), GOOD],
    )
    .retry(1, |retry| retry.statuses = vec![429])
    .asks([Ask::post()])
    .gives("a @0, b @2, -> 200 @7", &["2"]);
    case("Any other status only for idempotent methods", &[Answer(2, 503, ""), GOOD])
        .retry(1, |_| {})
        .asks([Ask::post()])
        .gives("a @0, -> 503 @2", &["1 not_idempotent"]);
    case("The defaults are 502, 503, 504", &[Answer(2, 503, ""), GOOD])
        .retry(1, |_| {})
        .gives("a @0, b @2, -> 200 @7", &["2"]);
    case("And only what `on` and `statuses` name", &[Answer(2, 500, ""), GOOD])
        .retry(1, |_| {})
        .gives("a @0, -> 500 @2", &["1 not_retryable"]);
    case("As often as `retries` says", &[Close(3)])
        .endpoints(3)
        .retry(2, |_| {})
        .gives("a @0, b @3, c @6, -> 502 @9", &["3 upstream_closed exhausted"]);
    case(
        "Nothing is tried again once the head of a response has gone to the client",
        &[Cut(3), GOOD],
    )
    .retry(1, |_| {})
    .gives("a @0, -> 200 @3, upstream_incomplete @3", &["1 upstream_incomplete"]);
    case(
        "The service is told the number of the try, from the second on",
        &[Close(3), Close(3), GOOD],
    )
    .endpoints(3)
    .retry(2, |_| {})
    .tells(&["x-request-attempt"])
    .gives("a @0, b 2 @3, c 3 @6, -> 200 @11", &["3"]);
}

#[test]
fn bodies_are_kept_for_another_try_up_to_a_bound() {
    let kept = |says, retry: fn(&mut retry::Options), sends| {
        case(says, &[Close(3), GOOD]).retry(1, retry).asks([Ask::put(sends)])
    };
    let body = |outcome: &Outcome, at: usize| outcome.stage.seen.borrow()[at].body.borrow().clone();
    let again = kept("A body is kept for another try", |_| {}, Sends::Whole(5000))
        .gives("a @0, b @3, -> 200 @8", &["2"]);
    assert_eq!((body(&again, 0), body(&again, 1)), (Some(bytes(5000)), Some(bytes(5000))));
    let pieces = kept("However it comes", |_| {}, Sends::Pieces(3, 10, 50))
        .gives("a @0, b @33, -> 200 @38", &["2"]);
    assert_eq!(body(&pieces, 1), Some(bytes(150)));
    kept("A longer one is tried once", |retry| retry.replay_bytes_max = 4, Sends::Whole(5))
        .gives("a @0, -> 502 @3", &["1 upstream_closed not_replayable"]);
    case("Which no connection does not use up", &[Refuse, GOOD])
        .retry(1, |retry| retry.replay_bytes_max = 4)
        .asks([Ask::put(Sends::Whole(5))])
        .gives("a refuses @0, b @0, -> 200 @5", &["2"]);
}

#[test]
fn tries_that_reached_nobody_cost_no_retry() {
    case(
        "It goes on at once where it was not sent to, and spends no budget",
        &[Refuse, Refuse, GOOD],
    )
    .endpoints(3)
    .service(|service| service.retry_budget = none())
    .retry(1, |_| {})
    .gives("a refuses @0, b refuses @0, c @0, -> 200 @5", &["3"]);
    case("In a restart they are tried again and again for up to `timeout.connect`", &[Refuse])
        .retry(1, |_| {})
        .gives(
            "a refuses @0, b refuses @0, a refuses @25, b refuses @50, a refuses @100, b refuses @200, \
             a refuses @400, b refuses @700, a refuses @1000, b refuses @1000, -> 502 @1000",
            &["10 connect_refused exhausted"],
        );
    case("Both want `connect-failure` among `on`", &[Refuse, GOOD])
        .retry(1, |retry| retry.on = [Condition::GatewayError].into_iter().collect())
        .gives("a refuses @0, -> 502 @0", &["1 connect_refused not_retryable"]);
    case("A kept connection that is closed is replaced without counting", &[GOOD, Close(0), GOOD])
        .endpoints(1)
        .asks([Ask::get(), Ask::get().at(50)])
        .gives("a @0, -> 200 @5, a @50, a @50, -> 200 @55", &["1", "1"]);
    case("For idempotent requests", &[GOOD, Close(0), GOOD])
        .endpoints(1)
        .asks([Ask::get(), Ask::post().at(50)])
        .gives("a @0, -> 200 @5, a @50, -> 502 @50", &["1", "1 upstream_closed"]);
}

/// A budget out of which there is no retry.
fn none() -> budget::Options {
    budget::Options { ratio: 0.0, per_second: 0, ..budget::Options::default() }
}

#[test]
fn waits_between_tries_are_what_was_asked_for() {
    const LATER: Act = Answer(0, 503, "retry-after: 1\r\n");
    case("`Retry-After` is waited for", &[LATER, GOOD])
        .retry(1, |_| {})
        .gives("a @0, b @1000, -> 200 @1005", &["2"]);
    case("If it asks for more than `retry_after_max`, there is no retry", &[LATER, GOOD])
        .retry(1, |retry| retry.retry_after_max = ms(999))
        .gives("a @0, -> 503 @0", &["1 pushed_back"]);
    case("A wait that would reach the deadline is not begun", &[LATER, GOOD])
        .retry(1, |_| {})
        .limits(1000, None)
        .gives("a @0, -> 503 @0", &["1 deadline"]);
    case("The budget is spent", &[Close(3)])
        .retry(3, |_| {})
        .service(|service| {
            service.retry_budget = budget::Options { per_second: 0, ratio: 1.0, ..none() };
        })
        .gives("a @0, b @3, -> 502 @6", &["2 upstream_closed budget"]);
    // At random between nothing and a bound that doubles.
    for seed in 0..200 {
        let mut play = case("", &[Close(0)]).retry(3, |_| {}).play;
        let retry = play.policy.retry.as_mut().unwrap();
        retry.backoff = retry::Backoff { base: ms(100), max: ms(250) };
        play.seed = seed;
        let outcome = play.run();
        let at: Vec<Duration> = outcome.stage.seen.borrow().iter().map(|seen| seen.at).collect();
        let waits: Vec<Duration> = at.windows(2).map(|two| two[1] - two[0]).collect();
        // A timer of the runtime rings a millisecond late at most.
        let bounds = [ms(101), ms(201), ms(251)];
        assert!(
            waits.len() == 3 && waits.iter().zip(bounds).all(|(wait, most)| *wait <= most),
            "{waits:?}"
        );
    }
}

#[test]
fn one_deadline_spans_a_request_with_all_its_tries() {
    case("`timeout.request` over: 504", &[Stall])
        .limits(100, None)
        .gives("a @0, -> 504 @100, a is left @100", &["1 request_timeout"]);
    case("`timeout.per_try` over: 504", &[Stall])
        .limits(1000, Some(50))
        .gives("a @0, -> 504 @50, a is left @50", &["1 try_timeout"]);
    case("Or another try", &[Stall, GOOD])
        .limits(1000, Some(50))
        .retry(1, |retry| retry.on = [Condition::TryTimeout].into_iter().collect())
        .gives("a @0, a is left @50, b @50, -> 200 @55", &["2"]);
    case("`timeout.connect` over: another try", &[Silent, GOOD])
        .policy(|policy| policy.timeout.connect = ms(30))
        .retry(1, |_| {})
        .gives("a is silent @0, b @30, -> 200 @35", &["2"]);
    case("`timeout.connect` over: 504", &[Silent])
        .policy(|policy| policy.timeout.connect = ms(30))
        .gives("a is silent @0, -> 504 @30", &["1 connect_timeout"]);
    case("One deadline spans a request with all its tries", &[Stall])
        .limits(100, Some(60))
        .retry(3, |retry| retry.on = [Condition::TryTimeout].into_iter().collect())
        .gives(
            "a @0, a is left @60, b @60, -> 504 @100, b is left @100",
            &["2 request_timeout deadline"],
        );
    case("What is left of it is passed on", &[Close(30), GOOD])
        .limits(1000, None)
        .retry(1, |_| {})
        .tells(&["x-request-timeout-ms"])
        .gives("a 1000 @0, b 970 @30, -> 200 @35", &["2"]);
    case("Callers can only make it earlier", &[Close(30), Stall])
        .limits(1000, None)
        .retry(1, |_| {})
        .tells(&["x-request-timeout-ms"])
        .asks([Ask::get().field("x-request-timeout-ms", "200")])
        .gives("a 200 @0, b 170 @30, -> 504 @200, b is left @200", &["2 request_timeout"]);
    case("And not later", &[Stall])
        .limits(100, None)
        .asks([Ask::get().field("x-request-timeout-ms", "5000")])
        .gives("a @0, -> 504 @100, a is left @100", &["1 request_timeout"]);
}

#[test]
fn the_time_of_a_client_is_its_own() {
    case("An upload that keeps moving may take as long as it needs", &[Answer(80, 200, "")])
        .limits(100, None)
        .asks([Ask::put(Sends::Pieces(5, 60, 10))])
        .gives("a @0, -> 200 @380", &["1"]);
    case("It begins when the service has the whole request", &[Stall])
        .limits(100, None)
        .asks([Ask::put(Sends::Pieces(5, 60, 10))])
        .gives("a @0, -> 504 @400, a is left @400", &["1 request_timeout"]);
    case("Both limit how long the service may take nothing of what is there", &[Deaf])
        .limits(100, None)
        .asks([Ask::put(Sends::Whole(1 << 20))])
        .gives("a @0, -> 504 @100", &["1 request_timeout"]);
    case("A body that breaks off is the client's, and spends no retry", &[Stall])
        .retry(1, |retry| retry.on = Condition::ALL.iter().copied().collect())
        .asks([Ask::put(Sends::Breaks(20))])
        .gives("a @0, -> 400 @40, a loses its client @40", &["1 caller_gone"]);
    case("An answer that comes before the request is whole is passed on", &[Early(413)])
        .asks([Ask::put(Sends::Pieces(3, 10, 10))])
        .gives("a @0, -> 413 @0, a loses its client @0", &["1"]);
    case("A client that leaves is left alone", &[Stall])
        .asks([Ask::get().leaves(70)])
        .gives("a @0, the client leaves @70, a is left @70", &["1 caller_gone"]);
    case(
        "A client that leaves in a wait between tries",
        &[Answer(0, 503, "retry-after: 1\r\n"), GOOD],
    )
    .retry(1, |_| {})
    .asks([Ask::get().leaves(70)])
    .gives("a @0, the client leaves @70", &["1 caller_gone"]);
}

#[test]
fn hedges_run_beside_slow_tries() {
    case(
        "A second try is started while the first is slow; the other is given up",
        &[Answer(100, 200, ""), GOOD],
    )
    .hedge(30, 1, 1.0)
    .gives("a @0, b @30, -> 200 @35, a is left @35", &["1"]);
    case("The first good answer counts", &[Answer(40, 200, ""), Answer(30, 200, "")])
        .hedge(30, 1, 1.0)
        .gives("a @0, b @30, -> 200 @40, b is left @40", &["1"]);
    case(
        "An answer that a retry would replace does not win",
        &[Answer(40, 503, ""), Answer(30, 200, "")],
    )
    .hedge(30, 1, 1.0)
    .gives("a @0, b @30, -> 200 @60", &["1"]);
    case("It is passed on if none does better", &[Answer(40, 503, ""), Close(30)])
        .hedge(30, 1, 1.0)
        .gives("a @0, b @30, -> 503 @60", &["1"]);
    case("It sends no hedge either", &[Answer(10, 503, ""), GOOD])
        .hedge(30, 1, 1.0)
        .gives("a @0, -> 503 @10", &["1"]);
    case("To try again is the retry's matter", &[Answer(10, 503, ""), GOOD])
        .hedge(30, 1, 1.0)
        .retry(1, |_| {})
        .gives("a @0, b @10, -> 200 @15", &["2"]);
    case("Only idempotent requests are hedged", &[Answer(100, 200, ""), GOOD])
        .hedge(30, 1, 1.0)
        .asks([Ask::post()])
        .gives("a @0, -> 200 @100", &["1"]);
    case("There must be another endpoint", &[Answer(100, 200, ""), GOOD])
        .endpoints(1)
        .hedge(30, 1, 1.0)
        .gives("a @0, -> 200 @100", &["1"]);
    case("Each after another delay and on another endpoint", &[GOOD, Answer(100, 200, "")])
        .endpoints(3)
        .hedge(30, 2, 1.0)
        .asks([Ask::get(), Ask::get().at(500)])
        .gives(
            "a @0, -> 200 @5, b @500, a @530, c @560, -> 200 @600, a is left @600, c is left @600",
            &["1", "1"],
        );
    case("At most the share `budget` of the requests", &[Answer(100, 200, "")])
        .hedge(30, 1, 0.5)
        .asks([Ask::get(), Ask::get().at(500)])
        .gives("a @0, -> 200 @100, b @500, a @530, -> 200 @600, a is left @600", &["1", "1"]);
    case("The delay begins when the service has the whole request", &[Answer(100, 200, ""), GOOD])
        .hedge(30, 1, 1.0)
        .asks([Ask::put(Sends::Pieces(3, 20, 10))])
        .gives("a @0, b @90, -> 200 @95, a is left @95", &["1"]);
    case("Whose body is within `replay_max`", &[Answer(100, 200, ""), GOOD])
        .retry(1, |retry| retry.replay_bytes_max = 4)
        .hedge(30, 1, 1.0)
        .asks([Ask::put(Sends::Whole(5))])
        .gives("a @0, -> 200 @100", &["1"]);
    case("All of them within one deadline", &[Stall])
        .hedge(30, 1, 1.0)
        .limits(100, None)
        .gives("a @0, b @30, -> 504 @100, a is left @100, b is left @100", &["1 request_timeout"]);
}

#[test]
fn a_breaker_stops_calling_a_service_while_it_fails() {
    let breaker = |case: Case| {
        case.service(|service| {
            service.discovery.ejection = None;
            service.breaker = Some(breaker::Options {
                window: breaker::Window::Calls(2),
                calls_min: 2,
                open: ms(1000),
                half_open: 1,
                ..breaker::Options::default()
            });
        })
        .endpoints(1)
        .service(|service| service.discovery.ejection = None)
    };
    let each = |number: u64| (0..number).map(|at| Ask::get().at(at * 100));
    breaker(case("Calls are refused at once while it is open", &[Answer(0, 503, "")]))
        .asks(each(3))
        .gives("a @0, -> 503 @0, a @100, -> 503 @100, -> 503 @200", &["1", "1", "0 breaker_open"]);
    breaker(case("Trial calls close it again", &[Answer(0, 503, ""), Answer(0, 503, ""), GOOD]))
        .asks(each(2).chain([Ask::get().at(1101), Ask::get().at(1200)]))
        .gives(
            "a @0, -> 503 @0, a @100, -> 503 @100, a @1101, -> 200 @1106, a @1200, -> 200 @1205",
            &["1", "1", "1", "1"],
        );
    breaker(case("A failure that a retry hid is none", &[Close(0), GOOD, Close(0), GOOD, GOOD]))
        .retry(1, |_| {})
        .asks(each(3))
        .gives(
            "a @0, a @0, -> 200 @5, a @100, a @100, -> 200 @105, a @200, -> 200 @205",
            &["2", "1", "1"],
        );
    let mirror = plan::Mirror { service: name("second"), share: 1.0, body_bytes_max: 9 };
    breaker(case("What it refuses is not mirrored", &[Answer(0, 503, "")]))
        .policy(|policy| policy.mirror = Some(mirror))
        .asks(each(3))
        .gives(
            "a @0, A @0, -> 503 @0, a @100, A @100, -> 503 @100, -> 503 @200",
            &["1", "1", "0 breaker_open"],
        );
    breaker(case("501 and 505 are no failures", &[Answer(0, 501, "")]))
        .asks(each(3))
        .gives("a @0, -> 501 @0, a @100, -> 501 @100, a @200, -> 501 @200", &["1", "1", "1"]);
    breaker(case("What the client caused does not count", &[Stall]))
        .asks(each(3).map(|ask| ask.field("x-request-timeout-ms", "50")))
        .gives(
            "a @0, -> 504 @50, a is left @50, a @100, -> 504 @150, a is left @150, a @200, -> 504 @250, \
             a is left @250",
            &["1 request_timeout"; 3],
        );
}

#[test]
fn an_injected_delay_ends_with_the_deadline() {
    let delayed = |says| {
        let all = plan::Share { share: 1.0, header: None };
        let fault = plan::Fault { delay: Some((ms(300), all)), abort: None };
        case(says, &[GOOD]).policy(|policy| policy.fault = Some(fault))
    };
    delayed("It is waited out").gives("a @300, -> 200 @305", &["1"]);
    delayed("The route's deadline spans it")
        .limits(100, None)
        .gives("-> 504 @100", &["0 request_timeout"]);
    delayed("With a body that nobody has begun to read as well")
        .limits(100, None)
        .asks([Ask::put(Sends::Whole(5))])
        .gives("-> 504 @100", &["0 request_timeout"]);
    delayed("And so does the caller's")
        .asks([Ask::get().field("x-request-timeout-ms", "50")])
        .gives("-> 504 @50", &["0 request_timeout"]);
}

fn respond() -> FallbackTo {
    FallbackTo::Respond(plan::Respond { status: 200, headers: Vec::new(), body: b"[]"[..].into() })
}

#[test]
fn a_fallback_answers_when_the_target_cannot() {
    let second = || FallbackTo::Service(name("second"));
    case("It stands in for every failure that is not the caller's", &[Refuse])
        .fallback(respond(), &[])
        .gives("a refuses @0, -> 200 @0", &["1"]);
    case("For a timeout too", &[Stall])
        .limits(100, None)
        .fallback(respond(), &[])
        .gives("a @0, -> 200 @100, a is left @100", &["1"]);
    case("`statuses` adds statuses of the service itself", &[Answer(5, 503, "")])
        .fallback(second(), &[503])
        .gives("a @0, A @5, -> 200 @10", &["2"]);
    case("And no others", &[Answer(5, 500, "")])
        .fallback(second(), &[503])
        .gives("a @0, -> 500 @5", &["1"]);
    case("Retries come first", &[Close(5)])
        .retry(1, |_| {})
        .fallback(second(), &[])
        .gives("a @0, b @5, A @10, -> 200 @15", &["3"]);
    case("Another service is asked only for requests without a body", &[Close(5)])
        .fallback(second(), &[])
        .asks([Ask::put(Sends::Whole(3))])
        .gives("a @0, -> 502 @5", &["1 upstream_closed"]);
    case("It has its own first try", &[Close(5)])
        .retry(1, |_| {})
        .second(&[Close(5), GOOD])
        .fallback(second(), &[])
        .tells(&["x-request-attempt"])
        .gives("a @0, b 2 @5, A @10, A 2 @15, -> 200 @20", &["4"]);
    case("The deadline spans the fallback too", &[Stall])
        .limits(100, None)
        .fallback(second(), &[])
        .gives("a @0, -> 504 @100, a is left @100", &["2 request_timeout"]);
    case("Bound the first target by `per_try`", &[Stall])
        .limits(100, Some(30))
        .fallback(second(), &[])
        .tells(&["x-request-timeout-ms"])
        .gives("a 100 @0, a is left @30, A 70 @30, -> 200 @35", &["2"]);
    case("The caller's own is counted once, from the arrival", &[Close(60)])
        .fallback(second(), &[])
        .second(&[Stall])
        .asks([Ask::get().field("x-request-timeout-ms", "100")])
        .tells(&["x-request-timeout-ms"])
        .gives("a 100 @0, A 40 @60, -> 504 @100, A is left @100", &["2 request_timeout"]);
}

#[test]
fn a_bulkhead_has_so_many_places_and_a_queue() {
    let bulkhead = |case: Case, queue_max, timeout| {
        case.endpoints(1).service(move |service| {
            service.bulkhead =
                Some(bulkhead::Options { in_flight_max: 1, queue_max, queue_timeout: ms(timeout) });
        })
    };
    let two = || [Ask::get(), Ask::get().at(10)];
    const SLOW: Act = Answer(50, 200, "");
    bulkhead(case("Others wait in order", &[SLOW]), 1, 500)
        .asks(two())
        .gives("a @0, -> 200 @50, a @50, -> 200 @100", &["1", "1"]);
    bulkhead(case("At most `queue_max` of them", &[SLOW]), 0, 500)
        .asks(two())
        .gives("a @0, -> 503 @10, -> 200 @50", &["0 bulkhead_full", "1"]);
    bulkhead(case("At most `queue_timeout`", &[SLOW]), 1, 20)
        .asks(two())
        .gives("a @0, -> 503 @30, -> 200 @50", &["0 bulkhead_full", "1"]);
    bulkhead(case("And never beyond their deadline", &[SLOW]), 1, 500)
        .asks([Ask::get(), Ask::get().at(10).field("x-request-timeout-ms", "20")])
        .gives("a @0, -> 503 @30, -> 200 @50", &["0 bulkhead_full", "1"]);
    // Found by a seed: the fallback's wait was counted from the beginning of the first.
    bulkhead(case("Nor does its fallback wait beyond it", &[SLOW]), 1, 500)
        .policy(|policy| {
            policy.bulkhead =
                Some(bulkhead::Options { in_flight_max: 1, queue_max: 1, queue_timeout: ms(500) });
        })
        .fallback(FallbackTo::Service(name("second")), &[])
        .asks([Ask::get(), Ask::get().at(10).field("x-request-timeout-ms", "20")])
        .gives("a @0, -> 503 @30, -> 200 @50", &["0 bulkhead_full", "1"]);
    bulkhead(case("Who leaves gives up its turn", &[SLOW]), 2, 500)
        .asks([Ask::get(), Ask::get().at(10).leaves(20), Ask::get().at(20)])
        .gives(
            "a @0, the client leaves @30, -> 200 @50, a @50, -> 200 @100",
            &["0 caller_gone", "1", "1"],
        );
    bulkhead(
        case("A request holds its place until its response has ended", &[Cut(50), GOOD]),
        1,
        500,
    )
    .asks(two())
    .gives(
        "a @0, -> 200 @50, upstream_incomplete @50, a @50, -> 200 @55",
        &["1 upstream_incomplete", "1"],
    );
}

#[test]
fn a_body_of_a_request_that_was_refused_is_not_asked_for() {
    let mut play = case("", &[GOOD]).play;
    play.policy.body_bytes_max = plan::BodyLimit(Some(3));
    play.policy.retry = Some(retry::Options::default());
    play.asks = vec![Ask::put(Sends::Whole(4))];
    let outcome = play.run();
    assert_eq!(outcome.stage.story(), "-> 413 @0");
}
