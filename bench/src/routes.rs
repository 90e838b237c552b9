//! One more route at five thousand: how long until it answers, and what traffic feels of it.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::{
    edge::Edge,
    latency::median,
    load::{self, Asked, Driver, Pace},
    peer::{self, Peer},
    record,
    scenario::{self, Scenario},
    stop,
    testbed::{Running, Testbed},
};

/// Routes to begin with.
const ROUTES: usize = 5_000;
/// Answers in a row after which a route is there; one alone may be a worker ahead of its sibling.
const IN_A_ROW: u32 = 20;
/// How long a route may take.
const LONGEST: Duration = Duration::from_secs(10);
/// Requests a second meanwhile.
const RATE: u64 = 1_000;
/// Traffic before the change, to see that all is well.
const BEFORE: Duration = Duration::from_millis(500);

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Routes {
    pub(crate) at: u64,
    pub(crate) routes: &'static str,
    pub(crate) memory_mib: f64,
    /// The median of the additions.
    pub(crate) added_ms: f64,
    /// Requests of the traffic that failed, cut connections among them.
    pub(crate) failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) complaint: Option<String>,
}

/// Starts one with many routes and adds more, one by one, under traffic.
pub(crate) fn measure(
    testbed: &Testbed,
    peer: Peer,
    edge: Option<&Edge>,
    additions: usize,
) -> Result<Routes> {
    let mut site = testbed.site(peer, "routes", 2)?;
    site.edge = edge.cloned();
    site.routes = Some(ROUTES);
    let mut running = testbed.start(peer, site)?;
    let memory_mib = running.settled_memory_kib()? as f64 / 1024.0;
    let mut times = Vec::with_capacity(additions);
    let (mut failed, mut complaint) = (0, None);
    for number in ROUTES..ROUTES + additions {
        let (time, outcome) = add(testbed, &mut running, number)?;
        times.push(time.as_secs_f64() * 1e3);
        failed += outcome.bad;
        complaint = complaint.or(outcome.complaint);
    }
    let added_ms = median(&times);
    let at = record::now();
    Ok(Routes { at, routes: running.name(), memory_mib, added_ms, failed, complaint })
}

fn add(
    testbed: &Testbed,
    running: &mut Running,
    number: usize,
) -> Result<(Duration, load::Outcome)> {
    let to = running.site.http1;
    let fresh = format!("{}/", peer::route(number));
    let asked = Asked { path: &fresh, tokens: &testbed.tokens };
    if load::get(to, asked, LONGEST)?.0 == 200 {
        bail!("{fresh} answers before it is configured");
    }
    let Some(scenario) = scenario::find("h1_100") else { bail!("no scenario h1_100") };
    let scenario = Scenario { connections: 20, ..*scenario };
    let path = format!("{}/100", peer::route(0));
    let (trust, tokens) = (testbed.trust.clone(), testbed.tokens.clone());
    // The traffic ends by itself, some while after the route may be expected.
    let time = BEFORE + Duration::from_secs(3);
    let traffic = thread::spawn(move || {
        let asked = Asked { path: &path, tokens: &tokens };
        let mut driver = Driver::connect(&scenario, asked, to, &trust)?;
        driver.run(Pace::Open { rate: RATE, time })
    });
    thread::sleep(BEFORE);
    running.site.routes = Some(number + 1);
    let began = peer::configure(running.peer, &running.site)?;
    if let Some(child) = &running.child {
        peer::reload(running.peer, child)?;
    }
    let answered = answers(to, asked, began);
    let outcome = match traffic.join() {
        Ok(outcome) => outcome.context("the traffic")?,
        Err(_) => bail!("the traffic panicked"),
    };
    Ok((answered?, outcome))
}

/// From the beginning until the first of many good answers in a row, each on a connection of its own.
fn answers(to: std::net::SocketAddr, asked: Asked<'_>, began: Instant) -> Result<Duration> {
    let mut first = None;
    let mut in_a_row = 0;
    while in_a_row < IN_A_ROW {
        stop::check()?;
        if began.elapsed() > LONGEST {
            bail!("{} did not answer within {LONGEST:?}", asked.path);
        }
        match load::get(to, asked, LONGEST) {
            Ok((200, _)) => {
                first.get_or_insert_with(|| began.elapsed());
                in_a_row += 1;
            }
            Ok(_) | Err(_) => (first, in_a_row) = (None, 0),
        }
    }
    first.context("no answer")
}
