//! Memory: of a proxy that has just begun, and with a thousand kept-alive connections that idle.

use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::{
    load::{Asked, Driver, Pace},
    peer::Peer,
    record,
    scenario::{self, Scenario},
    testbed::Testbed,
};

/// Connections that are held.
const HELD: usize = 1_000;

/// What was found.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) at: u64,
    pub(crate) memory: &'static str,
    pub(crate) idle_mib: f64,
    /// With the connections, each of which has been used.
    pub(crate) held_mib: f64,
    pub(crate) kib_per_connection: f64,
    /// The same over TLS.
    pub(crate) kib_per_tls_connection: f64,
}

/// Measures one that is started for it: a proxy that has worked keeps what it needed.
pub(crate) fn measure(testbed: &Testbed, peer: Peer) -> Result<Memory> {
    let (idle, plain) = held(testbed, peer, "h1_100")?;
    let (idle_tls, secure) = held(testbed, peer, "tls_h1")?;
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / HELD as f64;
    Ok(Memory {
        at: record::now(),
        memory: peer.name(),
        idle_mib: idle as f64 / 1024.0,
        held_mib: plain as f64 / 1024.0,
        kib_per_connection: each(idle, plain),
        kib_per_tls_connection: each(idle_tls, secure),
    })
}

/// KiB before and with the connections.
fn held(testbed: &Testbed, peer: Peer, name: &str) -> Result<(u64, u64)> {
    let running = testbed.start(peer, testbed.site(peer, &format!("memory-{name}"), 2)?)?;
    let idle = running.settled_memory_kib()?;
    let Some(scenario) = scenario::find(name) else { bail!("no scenario {name}") };
    let scenario = Scenario { connections: HELD, ..*scenario };
    let to = running.address(&scenario);
    let mut driver = Driver::connect(&scenario, Asked::path(&scenario.path()), to, &testbed.trust)?;
    // Three requests on each, a few at a time: connections to the upstream stay few.
    let outcome = driver.run(Pace::Open { rate: 3_000, time: Duration::from_secs(1) })?;
    if outcome.bad > 0 {
        let complaint = outcome.complaint.unwrap_or_default();
        bail!("{} of {HELD} connections to {}: {complaint}", outcome.bad, peer.name());
    }
    let held = running.settled_memory_kib()?;
    drop(driver);
    Ok((idle, held))
}
