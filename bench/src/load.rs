//! Load: connections that are opened first and driven afterwards, so that opening them is in no figure.
//!
//! Closed loop keeps a fixed number of requests in flight and finds the ceiling. Open loop sends at
//! scheduled instants whatever comes back, and counts latency from the schedule, so that a stall is felt
//! by every request it delays. Every response is checked: status, length, and the end of a gRPC call.

mod h1;
mod h2;
mod once;
mod timer;

pub(crate) use self::{
    h2::{Local, message},
    once::get,
};

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    certificates::Trust,
    scenario::{Protocol, Scenario},
};

/// How long nothing may come before what is owed counts as lost.
const LATE: Duration = Duration::from_secs(5);

/// How requests follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As fast as responses come, for so long.
    Closed(Duration),
    /// As fast as responses come, so many.
    Count(u64),
    /// So many a second, for so long.
    Open {
        /// Requests a second.
        rate: u64,
        /// For how long.
        time: Duration,
    },
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Responses that were as they should be.
    pub(crate) good: u64,
    /// Wrong, cut or missing ones.
    pub(crate) bad: u64,
    /// What the first bad one was.
    pub(crate) complaint: Option<String>,
    /// From the first request to the last response.
    pub(crate) time: Duration,
    /// Of each good response in open loop, from its scheduled instant; sorted.
    pub(crate) latencies: Vec<Duration>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The path.
    pub(crate) path: &'a str,
    /// Tokens that are shown, each connection one of them; none without.
    pub(crate) tokens: &'a [String],
}

impl<'a> Asked<'a> {
    /// Of a path, by nobody.
    pub(crate) fn path(path: &'a str) -> Self {
        Self { path, tokens: &[] }
    }

    /// The token of a connection.
    fn token(&self, connection: usize) -> Option<&'a str> {
        let at = connection.checked_rem(self.tokens.len())?;
        self.tokens.get(at).map(String::as_str)
    }
}

impl Outcome {
    fn complain(&mut self, what: impl FnOnce() -> String) {
        self.bad += 1;
        self.complaint.get_or_insert_with(what);
    }
}

/// Open connections.
pub(crate) enum Driver {
    /// HTTP/1.1 on an event loop of its own.
    Http1(h1::Driver),
    /// HTTP/2 and gRPC.
    Http2(Box<h2::Driver>),
}

impl Driver {
    /// Opens the connections of a scenario.
    pub(crate) fn connect(
        scenario: &Scenario,
        asked: Asked<'_>,
        to: SocketAddr,
        trust: &Trust,
    ) -> Result<Self> {
        match scenario.protocol {
            Protocol::Http1 => {
                let tls = scenario.tls.then(|| trust.http1.clone());
                Ok(Self::Http1(h1::Driver::connect(scenario, asked, to, tls)?))
            }
            Protocol::Http2 | Protocol::Grpc => {
                let tls = scenario.tls.then(|| trust.http2.clone());
                Ok(Self::Http2(Box::new(h2::Driver::connect(scenario, asked, to, tls)?)))
            }
        }
    }

    /// Drives them.
    pub(crate) fn run(&mut self, pace: Pace) -> Result<Outcome> {
        let mut outcome = match self {
            Self::Http1(driver) => driver.run(pace)?,
            Self::Http2(driver) => driver.run(pace)?,
        };
        outcome.latencies.sort_unstable();
        Ok(outcome)
    }
}

/// Which requests are due, by the pace.
#[derive(Clone, Debug)]
struct Schedule {
    pace: Pace,
    began: Instant,
    sent: u64,
}

/// What a schedule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Send one, due at that instant.
    Now(Instant),
    /// Nothing before that instant.
    At(Instant),
    /// Nothing any more.
    Never,
}

impl Schedule {
    fn new(pace: Pace, began: Instant) -> Self {
        Self { pace, began, sent: 0 }
    }

    /// Takes the next request, if it is due.
    fn next(&mut self, now: Instant) -> Due {
        let due = match self.pace {
            Pace::Closed(time) if now.duration_since(self.began) < time => now,
            Pace::Count(count) if self.sent < count => now,
            Pace::Closed(_) | Pace::Count(_) => return Due::Never,
            Pace::Open { rate, time } => {
                let after = u128::from(self.sent) * 1_000_000_000 / u128::from(rate.max(1));
                let after = Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX));
                if after >= time {
                    return Due::Never;
                }
                self.began + after
            }
        };
        if due > now {
            return Due::At(due);
        }
        self.sent += 1;
        Due::Now(due)
    }

    fn is_open(&self) -> bool {
        matches!(self.pace, Pace::Open { .. })
    }
}

/// Whether anything still comes.
struct Progress {
    seen: u64,
    since: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { seen: 0, since: Instant::now() }
    }

    fn has_stalled(&mut self, outcome: &Outcome) -> bool {
        let total = outcome.good + outcome.bad;
        if total != self.seen {
            *self = Self { seen: total, since: Instant::now() };
        }
        self.since.elapsed() > LATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_schedule_never_waits_for_anybody() {
        let began = Instant::now();
        let time = Duration::from_millis(2);
        let mut schedule = Schedule::new(Pace::Open { rate: 1_000, time }, began);
        assert_eq!(schedule.next(began), Due::Now(began));
        let second = began + Duration::from_millis(1);
        assert_eq!(schedule.next(began), Due::At(second));
        // Late by an hour: still due when it was due.
        assert_eq!(schedule.next(began + Duration::from_secs(3600)), Due::Now(second));
        assert_eq!(schedule.next(began + Duration::from_secs(3600)), Due::Never);
    }

    #[test]
    fn closed_schedules_end() {
        let began = Instant::now();
        let mut count = Schedule::new(Pace::Count(2), began);
        assert_eq!([count.next(began), count.next(began)], [Due::Now(began); 2]);
        assert_eq!(count.next(began), Due::Never);
        let mut time = Schedule::new(Pace::Closed(Duration::from_secs(1)), began);
        assert_eq!(time.next(began), Due::Now(began));
        assert_eq!(time.next(began + Duration::from_secs(1)), Due::Never);
    }

    /// Every protocol, with and without TLS, against the upstream itself.
    #[test]
    fn drives_what_it_is_told_and_checks_what_comes() {
        let server = crate::upstream::tests::server();
        let drive = |scenario: &Scenario, path: &str, pace: Pace| {
            let to = match scenario.protocol {
                _ if scenario.tls => server.ports.tls,
                Protocol::Http1 => server.ports.http1,
                Protocol::Http2 | Protocol::Grpc => server.ports.http2,
            };
            Driver::connect(scenario, Asked::path(path), to, &server.trust)
                .expect("connected")
                .run(pace)
        };
        for scenario in crate::scenario::ALL {
            let scenario =
                Scenario { connections: 3, streams: scenario.streams.min(4), ..*scenario };
            let path = scenario.path();
            let outcome = drive(&scenario, &path, Pace::Count(40)).expect("a run");
            assert_eq!((outcome.good, outcome.bad), (40, 0), "{}: {outcome:?}", scenario.name);
            let open = Pace::Open { rate: 1_000, time: Duration::from_millis(30) };
            let outcome = drive(&scenario, &path, open).expect("a run");
            assert_eq!((outcome.good, outcome.bad), (30, 0), "{}: {outcome:?}", scenario.name);
            assert_eq!(outcome.latencies.len(), 30);
            // The server answers with 99 bytes, and that is told.
            let other = path.replace(&scenario.size.to_string(), "99");
            match drive(&scenario, &other, Pace::Count(40)) {
                Ok(outcome) => assert_eq!((outcome.good, outcome.bad), (0, 40), "{outcome:?}"),
                Err(error) => assert!(format!("{error:#}").contains("bytes instead"), "{error:#}"),
            }
        }
    }

    #[test]
    fn a_server_that_is_gone_is_told() {
        let server = crate::upstream::tests::server();
        let scenario = crate::scenario::find("h1_100").expect("a scenario");
        let path = scenario.path();
        let mut driver =
            Driver::connect(scenario, Asked::path(&path), server.ports.http1, &server.trust)
                .expect("connected");
        drop(server);
        assert!(driver.run(Pace::Count(10)).is_err());
    }
}
