//! What is told of a connection that is no request, or no longer one: raw relays, tunnels, and clients
//! that broke their protocol before there was a request.

use std::net::SocketAddr;

use weft_discovery::Outcome;
use weft_kernel::{Reason, Tick};
use weft_net::{Address, clock, relay::End};
use weft_telemetry::{access, otlp::wall_nanos};

use crate::local::Local;

/// Why a relay ended, if not because both sides had nothing more to say.
pub(crate) fn why(end: &End) -> Option<(Reason, &'static str)> {
    match end {
        End::Closed => None,
        End::Idle => Some((Reason::StreamIdle, "no byte moved for the idle time")),
        End::Cut => Some((Reason::Draining, "the drain was over")),
        End::CallerFailed(_) => Some((Reason::CallerGone, "the client's connection broke")),
        End::UpstreamFailed(_) => {
            Some((Reason::UpstreamIncomplete, "the service's connection broke"))
        }
    }
}

/// What that says of the endpoint: it failed if it broke off before it sent anything.
pub(crate) fn outcome(end: &End, down_bytes: u64) -> Outcome {
    match end {
        End::UpstreamFailed(_) if down_bytes == 0 => Outcome::FAILED,
        _ => Outcome::OK,
    }
}

/// Where a client is, if it has an address.
pub(crate) const fn client(address: &Address) -> Option<SocketAddr> {
    match address {
        Address::Tcp(address) => Some(*address),
        Address::Unix(_) => None,
    }
}

/// Writes the access log entry of something that began then and is over now, if it is wanted.
pub(crate) fn log(local: &Local, began: Tick, entry: access::Entry<'_>) {
    let Some(log) = &local.observers.access else { return };
    if !log.wants(entry.status, entry.reason, &mut local.rng.borrow_mut()) {
        return;
    }
    let duration = clock::now().since(began);
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let time_nanos = wall_nanos(clock::wall()).saturating_sub(nanos);
    log.push(local.index, &access::Entry { time_nanos, duration, ..entry });
}
