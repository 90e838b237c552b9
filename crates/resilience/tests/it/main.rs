//! Properties, simulations from a seed, and the layers under a paused clock.
#![allow(clippy::unwrap_used, missing_docs)]

mod adaptive;
mod breaker;
mod budget;
mod bulkhead;
mod ejection;
mod hedge;
mod layers;
mod retry;

use std::time::Duration;

use weft_kernel::Tick;

/// Where tests begin to count time: an hour after the origin, as the system's clock does.
const START: Tick = Tick::from_nanos(3_600_000_000_000);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(since_start: u64) -> Tick {
    START.plus(millis(since_start))
}
