//! How long things may take.
//!
//! The request timeout spans everything, retries and hedges included; a try timeout cuts one try
//! short so that another can still be made within it.

use std::time::Duration;

use weft_kernel::{Deadline, Tick};

/// The times of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The whole request, all tries together; `None` for streams, which have `idle` instead.
    pub request: Option<Duration>,
    /// One try; `None` leaves a try the whole request.
    pub per_try: Option<Duration>,
    /// Until a connection stands.
    pub connect: Duration,
    /// Between two pieces of a stream.
    pub idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request: Some(Duration::from_secs(15)),
            per_try: None,
            connect: Duration::from_secs(1),
            idle: Duration::from_secs(300),
        }
    }
}

impl Options {
    /// The deadline of a request that arrives now, never later than the one its caller has set.
    pub fn deadline(&self, now: Tick, callers: Deadline) -> Deadline {
        self.request.map_or(callers, |span| Deadline::after(now, span).min(callers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_later_than_the_callers() {
        let seconds = |s| Tick::ZERO.plus(Duration::from_secs(s));
        let options = Options::default();
        let now = seconds(100);
        assert_eq!(options.deadline(now, Deadline::NONE).tick(), seconds(115));
        assert_eq!(options.deadline(now, Deadline::at(seconds(103))).tick(), seconds(103));
        let stream = Options { request: None, ..Options::default() };
        assert_eq!(stream.deadline(now, Deadline::NONE), Deadline::NONE);
    }
}
