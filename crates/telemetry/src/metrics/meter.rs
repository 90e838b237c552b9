//! What a route, a service and a listener count: handles that a compiled snapshot holds.
//!
//! A meter lives as long as somebody holds it, and its series vanish with it. All methods take the
//! number of the calling worker (see [`Shards`]) and cost a few plain stores.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use weft_kernel::{HandshakeFault, Reason, Tick};

use super::{
    facts::{Budget, Facts},
    shard::{Cells, Mode, Shards, Tally},
    slots::{Histogram, Sample, Slots},
    table::Metric,
    writer::Writer,
};

#[derive(Debug, Default)]
struct Traffic {
    slots: Slots,
    active: Tally,
    request_bytes: Tally,
    response_bytes: Tally,
    facts: Facts,
}

impl Traffic {
    #[inline]
    fn record(&self, sample: &Sample, mode: Mode) {
        self.slots.record(sample, mode);
        if sample.request_bytes > 0 {
            self.request_bytes.add(sample.request_bytes, mode);
        }
        if sample.response_bytes > 0 {
            self.response_bytes.add(sample.response_bytes, mode);
        }
    }
}

/// The metrics of one route.
#[derive(Debug)]
pub struct RouteMeter {
    name: Arc<str>,
    cells: Cells<Traffic>,
    budget: Budget,
}

impl RouteMeter {
    /// A meter that no registry shows; [`Registry::route`](super::Registry::route) makes one that it does.
    pub fn new(name: &str, shards: Shards) -> Self {
        Self::within(name, shards, Budget::default())
    }

    pub(super) fn within(name: &str, shards: Shards, budget: Budget) -> Self {
        Self { name: name.into(), cells: Cells::new(shards), budget }
    }

    /// The name of the route.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A request began; [`Self::leave`] must follow, whatever becomes of it.
    #[inline]
    pub fn enter(&self, worker: usize) {
        let (cell, mode) = self.cells.at(worker);
        cell.active.add(1, mode);
    }

    /// A request that [`Self::enter`] counted is over.
    #[inline]
    pub fn leave(&self, worker: usize) {
        let (cell, mode) = self.cells.at(worker);
        cell.active.add(u64::MAX, mode);
    }

    /// Counts a finished request.
    #[inline]
    pub fn record(&self, worker: usize, sample: &Sample) {
        let (cell, mode) = self.cells.at(worker);
        cell.record(sample, mode);
    }

    /// Counts a finished request under something that was found out about it, such as its consumer. Values
    /// beyond those that are told apart are counted as `_OTHER`.
    pub fn record_fact(&self, worker: usize, name: &'static str, value: &str, status: u16) {
        let (cell, _mode) = self.cells.at(worker);
        cell.facts.record(name, value, status, &self.budget);
    }

    pub(super) fn write(&self, to: &mut Writer) {
        // Routes are many and most see little: only one that was used has series.
        if self.cells.iter().next().is_none() {
            return;
        }
        let labels = [("http_route", &*self.name)];
        let mut sums = BTreeMap::new();
        self.cells.iter().for_each(|(_, cell)| cell.slots.gather(&mut sums));
        durations(to, Metric::ServerDuration, labels, sums);
        to.gauge(Metric::ServerActive, &labels, self.cells.sum(|cell| &cell.active) as i64 as f64);
        to.counter(Metric::RouteRequestBytes, &labels, self.cells.sum(|cell| &cell.request_bytes));
        to.counter(
            Metric::RouteResponseBytes,
            &labels,
            self.cells.sum(|cell| &cell.response_bytes),
        );
        let mut sums = BTreeMap::new();
        self.cells.iter().for_each(|(_, cell)| cell.facts.gather(&mut sums));
        for ((fact, value, class), count) in sums {
            let labels = [
                ("http_route", &*self.name),
                ("fact", fact),
                ("value", &*value),
                ("status_class", class.word()),
            ];
            to.counter(Metric::RouteFactRequests, &labels, count);
        }
    }
}

impl Drop for RouteMeter {
    fn drop(&mut self) {
        self.budget.give_back(self.cells.iter().map(|(_, cell)| cell.facts.values()).sum());
    }
}

fn durations(
    to: &mut Writer,
    metric: Metric,
    label: [(&'static str, &str); 1],
    sums: BTreeMap<u32, Histogram>,
) {
    for (key, sum) in sums {
        to.durations(metric, label, key, &sum);
    }
}

/// What a service counts besides its tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Count {
    /// A try beyond the first.
    Retry,
    /// A retry not made because the budget was spent.
    RetryBudgetExhausted,
    /// A second try sent while the first still ran.
    Hedge,
    /// A connection that could not be opened.
    ConnectFailure,
    /// An endpoint taken out of balancing.
    Ejection,
    /// The service breaker opened.
    BreakerOpen,
    /// A request refused to protect the service.
    Shed,
    /// A connection opened.
    PoolOpened,
    /// A try that found an open connection.
    PoolReused,
}

impl Count {
    const ALL: [(Self, Metric); 9] = [
        (Self::Retry, Metric::ServiceRetries),
        (Self::RetryBudgetExhausted, Metric::ServiceRetryBudgetExhausted),
        (Self::Hedge, Metric::ServiceHedges),
        (Self::ConnectFailure, Metric::ServiceConnectFailures),
        (Self::Ejection, Metric::ServiceEjections),
        (Self::BreakerOpen, Metric::ServiceBreakerOpens),
        (Self::Shed, Metric::ServiceShed),
        (Self::PoolOpened, Metric::ServiceConnectionsOpened),
        (Self::PoolReused, Metric::ServiceConnectionsReused),
    ];
}

#[derive(Debug)]
struct ServiceCell {
    slots: Slots,
    request_bytes: Tally,
    response_bytes: Tally,
    counts: [Tally; Count::ALL.len()],
    reasons: [Tally; Reason::ALL.len()],
}

impl Default for ServiceCell {
    fn default() -> Self {
        Self {
            slots: Slots::default(),
            request_bytes: Tally::default(),
            response_bytes: Tally::default(),
            counts: std::array::from_fn(|_| Tally::default()),
            reasons: std::array::from_fn(|_| Tally::default()),
        }
    }
}

/// The metrics of one service.
#[derive(Debug)]
pub struct ServiceMeter {
    name: Arc<str>,
    cells: Cells<ServiceCell>,
}

impl ServiceMeter {
    /// A meter that no registry shows; [`Registry::service`](super::Registry::service) makes one that it does.
    pub fn new(name: &str, shards: Shards) -> Self {
        Self { name: name.into(), cells: Cells::new(shards) }
    }

    /// The name of the service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts the bodies of an exchange, once both have passed.
    #[inline]
    pub fn passed(&self, worker: usize, request_bytes: u64, response_bytes: u64) {
        let (cell, mode) = self.cells.at(worker);
        if request_bytes > 0 {
            cell.request_bytes.add(request_bytes, mode);
        }
        if response_bytes > 0 {
            cell.response_bytes.add(response_bytes, mode);
        }
    }

    /// Counts a try that has its answer or failed, and its reason if it has one; the bytes of a body come
    /// later, by [`Self::passed`].
    #[inline]
    pub fn record(&self, worker: usize, sample: &Sample) {
        let (cell, mode) = self.cells.at(worker);
        cell.slots.record(sample, mode);
        if let Some(reason) = sample.reason {
            cell.reasons[reason as usize].add(1, mode);
        }
    }

    /// Counts a request that failed or was refused, unless its last try was counted for that reason.
    #[inline]
    pub fn failed(&self, worker: usize, reason: Reason) {
        let (cell, mode) = self.cells.at(worker);
        cell.reasons[reason as usize].add(1, mode);
    }

    /// Counts one thing besides tries.
    #[inline]
    pub fn count(&self, worker: usize, what: Count) {
        let (cell, mode) = self.cells.at(worker);
        cell.counts[what as usize].add(1, mode);
    }

    pub(super) fn write(&self, to: &mut Writer) {
        let labels = [("weft_service", &*self.name)];
        let mut sums = BTreeMap::new();
        self.cells.iter().for_each(|(_, cell)| cell.slots.gather(&mut sums));
        durations(to, Metric::ClientDuration, labels, sums);
        let sum = |pick: fn(&ServiceCell) -> &Tally| self.cells.sum(pick);
        to.counter(Metric::ServiceRequestBytes, &labels, sum(|cell| &cell.request_bytes));
        to.counter(Metric::ServiceResponseBytes, &labels, sum(|cell| &cell.response_bytes));
        for (what, metric) in Count::ALL {
            to.counter(metric, &labels, self.cells.sum(|cell| &cell.counts[what as usize]));
        }
        for reason in Reason::ALL {
            let count = self.cells.sum(|cell| &cell.reasons[*reason as usize]);
            if count > 0 {
                let labels = [("weft_service", &*self.name), ("reason", reason.word())];
                to.counter(Metric::ServiceFailures, &labels, count);
            }
        }
    }
}

#[derive(Debug, Default)]
struct ListenerCell {
    accepted: Tally,
    active: Tally,
    refused: Tally,
    handshakes: Tally,
    handshakes_failed: [Tally; HandshakeFault::ALL.len()],
    protocol_errors: Tally,
    received: Tally,
    sent: Tally,
}

/// The metrics of one listener.
#[derive(Debug)]
pub struct ListenerMeter {
    name: Arc<str>,
    cells: Cells<ListenerCell>,
    told: [Told; HandshakeFault::ALL.len()],
}

/// How often a failed handshake of one reason is told in the log.
const HANDSHAKE_TOLD_EVERY: Duration = Duration::from_secs(60);

/// What has been told of something that may come in floods.
#[derive(Debug, Default)]
struct Told {
    /// When it may be told again.
    next: AtomicU64,
    /// How often it came since it was told.
    silent: AtomicU64,
}

impl Told {
    /// Whether it is to be told now, and how many times it was not since it was.
    fn is_due(&self, now: Tick) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        let later = now.plus(HANDSHAKE_TOLD_EVERY).nanos();
        let now = now.nanos();
        let takes = now >= next
            && self
                .next
                .compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if takes {
            return Some(self.silent.swap(0, Ordering::Relaxed));
        }
        self.silent.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl ListenerMeter {
    /// A meter that no registry shows; [`Registry::listener`](super::Registry::listener) makes one that it does.
    pub fn new(name: &str, shards: Shards) -> Self {
        Self { name: name.into(), cells: Cells::new(shards), told: Default::default() }
    }

    /// The name of the listener.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection was accepted; [`Self::closed`] must follow.
    #[inline]
    pub fn opened(&self, worker: usize) {
        let (cell, mode) = self.cells.at(worker);
        cell.accepted.add(1, mode);
        cell.active.add(1, mode);
    }

    /// A connection that [`Self::opened`] counted is gone; told by the worker that accepted it.
    #[inline]
    pub fn closed(&self, worker: usize) {
        let (cell, mode) = self.cells.at(worker);
        cell.active.add(u64::MAX, mode);
    }

    /// A connection was closed at once, and is not counted as opened.
    pub fn refused(&self, worker: usize) {
        let (cell, mode) = self.cells.at(worker);
        cell.refused.add(1, mode);
    }

    /// A TLS handshake with a client went well.
    pub fn handshake(&self, worker: usize) {
        let (cell, mode) = self.cells.at(worker);
        cell.handshakes.add(1, mode);
    }

    /// A TLS handshake with a client failed. Gives how many were not told since the last one of this
    /// reason that was, if this one is to be told: one a minute.
    pub fn handshake_failed(&self, worker: usize, fault: HandshakeFault, now: Tick) -> Option<u64> {
        let (cell, mode) = self.cells.at(worker);
        cell.handshakes_failed[fault as usize].add(1, mode);
        self.told[fault as usize].is_due(now)
    }

    /// A client broke its protocol.
    pub fn protocol_error(&self, worker: usize) {
        let (cell, mode) = self.cells.at(worker);
        cell.protocol_errors.add(1, mode);
    }

    /// Bytes that were relayed without being parsed.
    #[inline]
    pub fn relayed(&self, worker: usize, received: u64, sent: u64) {
        let (cell, mode) = self.cells.at(worker);
        cell.received.add(received, mode);
        cell.sent.add(sent, mode);
    }

    /// Connections open now; also what a connection limit and a drain look at.
    pub fn active(&self) -> u64 {
        u64::try_from(self.cells.sum(|cell| &cell.active) as i64).unwrap_or(0)
    }

    /// Adds the connections open on each worker to `total`, by worker number.
    pub(super) fn spread(&self, total: &mut BTreeMap<usize, i64>) {
        for (worker, cell) in self.cells.iter() {
            let active = total.entry(worker).or_default();
            *active = active.wrapping_add(cell.active.get() as i64);
        }
    }

    pub(super) fn write(&self, to: &mut Writer) {
        let labels = [("listener", &*self.name)];
        let sum = |pick: fn(&ListenerCell) -> &Tally| self.cells.sum(pick);
        to.counter(Metric::ListenerConnections, &labels, sum(|cell| &cell.accepted));
        to.gauge(Metric::ListenerActive, &labels, self.active() as f64);
        to.counter(Metric::ListenerRefused, &labels, sum(|cell| &cell.refused));
        to.counter(Metric::ListenerProtocolErrors, &labels, sum(|cell| &cell.protocol_errors));
        to.counter(Metric::ListenerReceivedBytes, &labels, sum(|cell| &cell.received));
        to.counter(Metric::ListenerSentBytes, &labels, sum(|cell| &cell.sent));
        let ok = sum(|cell| &cell.handshakes);
        let mut failed = 0;
        for fault in HandshakeFault::ALL {
            let count = self.cells.sum(|cell| &cell.handshakes_failed[fault as usize]);
            failed += count;
            if count > 0 {
                let labels = [("listener", &*self.name), ("reason", fault.word())];
                to.counter(Metric::ListenerHandshakeFailures, &labels, count);
            }
        }
        for (outcome, count) in [("ok", ok), ("failed", failed)] {
            if ok + failed > 0 {
                let labels = [("listener", &*self.name), ("outcome", outcome)];
                to.counter(Metric::ListenerHandshakes, &labels, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_now_and_then() {
        let told = Told::default();
        let at = |ms| Tick::ZERO.plus(Duration::from_secs(100) + Duration::from_millis(ms));
        assert_eq!(told.is_due(at(0)), Some(0));
        for ms in 1..1_000 {
            assert_eq!(told.is_due(at(ms)), None);
        }
        assert_eq!(told.is_due(at(60_000)), Some(999));
        assert_eq!(told.is_due(at(60_001)), None);
    }

    #[test]
    fn each_count_stands_at_its_own_index() {
        for (at, (what, metric)) in Count::ALL.iter().enumerate() {
            assert_eq!(*what as usize, at);
            assert_eq!(metric.def().labels, ["weft_service"]);
        }
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
        }
    }
}
