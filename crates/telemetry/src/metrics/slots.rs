//! Latency histograms by method and outcome, with a fixed number of slots per meter and worker.
//!
//! The outcomes that a route really has are few, so a short linear search over one or two cache lines
//! finds its slot; what does not fit any more is counted under `_OTHER`, so that nobody can make series
//! without end by sending odd methods.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use weft_kernel::Reason;

use super::shard::{Mode, Tally};

/// The upper bounds of the latency buckets in nanoseconds; the last bucket has none.
///
/// They are those that OpenTelemetry advises for HTTP, and four more below 5 ms, where a proxy lives.
pub const BUCKETS: [u64; 17] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// How many outcomes one meter tells apart on one worker.
const SLOTS: usize = 31;

/// The key of what found no slot.
pub(super) const OTHER: u32 = u32::MAX;

/// The request methods that metrics tell apart; all others are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `CONNECT`
    Connect,
    /// `OPTIONS`
    Options,
    /// `TRACE`
    Trace,
    /// `PATCH`
    Patch,
    /// Any other.
    #[default]
    Other,
}

impl Method {
    const ALL: [(Self, &'static str); 10] = [
        (Self::Get, "GET"),
        (Self::Head, "HEAD"),
        (Self::Post, "POST"),
        (Self::Put, "PUT"),
        (Self::Delete, "DELETE"),
        (Self::Connect, "CONNECT"),
        (Self::Options, "OPTIONS"),
        (Self::Trace, "TRACE"),
        (Self::Patch, "PATCH"),
        (Self::Other, "_OTHER"),
    ];

    /// The class of a method as it stands in a request; methods are case-sensitive.
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"POST" => Self::Post,
            b"HEAD" => Self::Head,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// The label value; `_OTHER` as the semantic conventions ask.
    pub const fn word(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// What is told of one request (to a route) or one try (to a service).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// The class of the method.
    pub method: Method,
    /// The status that was answered; 0 if none was.
    pub status: u16,
    /// The `grpc-status` of a gRPC call.
    pub grpc: Option<u8>,
    /// Why Weft failed or refused it, if it did.
    pub reason: Option<Reason>,
    /// How long it took.
    pub duration: Duration,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the response body.
    pub response_bytes: u64,
}

/// Method (4 bits), status (10), reason (8) and gRPC status (5) of a sample, never 0.
pub(super) fn key(sample: &Sample) -> u32 {
    let reason = sample.reason.map_or(0, |reason| reason as u32 + 1);
    let grpc = sample.grpc.map_or(0, |status| u32::from(status.min(17)) + 1);
    let status = u32::from(if sample.status > 999 { 0 } else { sample.status });
    (1 << 31) | (grpc << 22) | (reason << 14) | (status << 4) | sample.method as u32
}

/// What [`key`] was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) method: Method,
    pub(super) status: u16,
    pub(super) reason: Option<Reason>,
    pub(super) grpc: Option<u8>,
}

pub(super) fn outcome(key: u32) -> Outcome {
    let index = |shift: u32, bits: u32| ((key >> shift) & ((1 << bits) - 1)) as usize;
    Outcome {
        method: Method::ALL.get(index(0, 4)).map_or(Method::Other, |row| row.0),
        status: index(4, 10) as u16,
        reason: index(14, 8).checked_sub(1).and_then(|at| Reason::ALL.get(at).copied()),
        grpc: index(22, 5).checked_sub(1).map(|status| status as u8),
    }
}

/// One histogram; the count is the sum of its buckets, so that a scrape is never inconsistent.
#[derive(Debug, Default)]
struct Slot {
    buckets: [Tally; BUCKETS.len() + 1],
    nanos: Tally,
}

impl Slot {
    #[inline]
    fn observe(&self, duration: Duration, mode: Mode) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let at = BUCKETS.partition_point(|bound| *bound < nanos);
        self.buckets[at].add(1, mode);
        self.nanos.add(nanos, mode);
    }
}

/// The histograms of one meter on one worker.
#[derive(Debug)]
pub(super) struct Slots {
    keys: [AtomicU32; SLOTS],
    slots: [OnceLock<Box<Slot>>; SLOTS],
    other: OnceLock<Box<Slot>>,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            keys: [const { AtomicU32::new(0) }; SLOTS],
            slots: [const { OnceLock::new() }; SLOTS],
            other: OnceLock::new(),
        }
    }
}

impl Slots {
    #[inline]
    pub(super) fn record(&self, sample: &Sample, mode: Mode) {
        self.slot(key(sample)).observe(sample.duration, mode);
    }

    fn slot(&self, wanted: u32) -> &Slot {
        for (key, slot) in self.keys.iter().zip(&self.slots) {
            // On a worker's own cell nobody else claims. On the shared one the claim decides.
            let mut found = key.load(Ordering::Relaxed);
            if found == 0 {
                found = match key.compare_exchange(0, wanted, Ordering::Relaxed, Ordering::Relaxed)
                {
                    Ok(_) => wanted,
                    Err(other) => other,
                };
            }
            if found == wanted {
                return slot.get_or_init(Box::default);
            }
        }
        self.other.get_or_init(Box::default)
    }

    /// Adds everything to `total`, by key.
    pub(super) fn gather(&self, total: &mut BTreeMap<u32, Histogram>) {
        let known = self.slots.iter().zip(self.keys.iter().map(Some));
        for (slot, key) in known.chain(std::iter::once((&self.other, None))) {
            // The slot before its key: a slot is made after its key, so that the key then stands.
            let Some(slot) = slot.get() else { continue };
            let key = key.map_or(OTHER, |key| key.load(Ordering::Relaxed));
            let sum = total.entry(key).or_default();
            for (to, from) in sum.counts.iter_mut().zip(&slot.buckets) {
                *to += from.get();
            }
            sum.seconds += slot.nanos.get() as f64 / 1e9;
        }
    }
}

/// The sum of slots at one moment; counts are per bucket, not cumulative.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram {
    pub(super) counts: [u64; BUCKETS.len() + 1],
    pub(super) seconds: f64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn methods_have_their_words() {
        for (method, word) in Method::ALL {
            assert_eq!(method.word(), word);
            assert_eq!(Method::of(word.as_bytes()), method);
        }
        assert_eq!(Method::of(b"get"), Method::Other);
        assert_eq!(Method::of(b"QUERY"), Method::Other);
    }

    #[test]
    fn a_duration_falls_in_the_first_bucket_that_holds_it() {
        for (nanos, bucket) in
            [(0, 0), (500_000, 0), (500_001, 1), (10_000_000_000, 16), (u64::MAX, 17)]
        {
            let slots = Slots::default();
            let sample = Sample { duration: Duration::from_nanos(nanos), ..Sample::default() };
            slots.record(&sample, Mode::Own);
            let mut total = BTreeMap::new();
            slots.gather(&mut total);
            assert_eq!(total[&key(&sample)].counts[bucket], 1, "{nanos}");
        }
    }

    #[test]
    fn what_finds_no_slot_is_counted_under_other() {
        let slots = Slots::default();
        for _ in 0..2 {
            for status in 200..300 {
                slots.record(&Sample { status, ..Sample::default() }, Mode::Own);
            }
        }
        let mut total = BTreeMap::new();
        slots.gather(&mut total);
        assert_eq!(total.len(), SLOTS + 1);
        assert_eq!(total[&OTHER].counts.iter().sum::<u64>(), 2 * (100 - SLOTS as u64));
    }

    #[test]
    fn threads_on_the_shared_cell_lose_nothing() {
        let slots = Slots::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for turn in 0..4_000u16 {
                        let sample = Sample { status: 200 + turn % 40, ..Sample::default() };
                        slots.record(&sample, Mode::Shared);
                    }
                });
            }
        });
        let mut total = BTreeMap::new();
        slots.gather(&mut total);
        let count: u64 = total.values().flat_map(|sum| sum.counts).sum();
        assert_eq!(count, 16_000);
    }

    proptest! {
        #[test]
        fn a_key_keeps_the_outcome(method in 0usize..10, status in 0u16..1000, reason in 0..=Reason::ALL.len(), grpc in 0u8..=17) {
            let sample = Sample {
                method: Method::ALL[method].0,
                status,
                reason: reason.checked_sub(1).map(|at| Reason::ALL[at]),
                grpc: grpc.checked_sub(1),
                ..Sample::default()
            };
            let key = key(&sample);
            prop_assert!(key != 0 && key != OTHER);
            let back = outcome(key);
            prop_assert_eq!((back.method, back.status, back.reason, back.grpc),
                (sample.method, sample.status, sample.reason, sample.grpc));
        }
    }
}
