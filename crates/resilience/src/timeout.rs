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
        within(self.request, now, callers)
    }

    /// The deadline of a try that begins now, never later than the request's.
    pub fn try_deadline(&self, now: Tick, request: Deadline) -> Deadline {
        within(self.per_try, now, request)
    }

    /// The deadline for a connection that is begun now, never later than the try's.
    pub fn connect_deadline(&self, now: Tick, outer: Deadline) -> Deadline {
        within(Some(self.connect), now, outer)
    }
}

fn within(span: Option<Duration>, now: Tick, outer: Deadline) -> Deadline {
    span.map_or(outer, |span| Deadline::after(now, span).min(outer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_deadline_never_outlasts_the_outer() {
        let seconds = |s| Tick::ZERO.plus(Duration::from_secs(s));
        let options = Options { per_try: Some(Duration::from_secs(5)), ..Options::default() };
        let now = seconds(100);
        let request = options.deadline(now, Deadline::NONE);
        assert_eq!(request.tick(), seconds(115));
        assert_eq!(options.deadline(now, Deadline::at(seconds(103))).tick(), seconds(103));
        assert_eq!(options.try_deadline(now, request).tick(), seconds(105));
        assert_eq!(options.try_deadline(seconds(112), request).tick(), seconds(115));
        assert_eq!(options.connect_deadline(now, request).tick(), seconds(101));
        let stream = Options { request: None, ..Options::default() };
        assert_eq!(stream.deadline(now, Deadline::NONE), Deadline::NONE);
    }
}
