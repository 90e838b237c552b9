//! The one registry: hands out meters by name and writes everything as OpenMetrics text.
//!
//! It is used on the control path alone; its locks never meet a request.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{
    facts::Budget,
    meter::{ListenerMeter, RouteMeter, ServiceMeter},
    process,
    shard::Shards,
    table::Metric,
    writer::Writer,
};

/// The content type of [`Registry::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of the process; cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

type Source = Box<dyn Fn(&mut Writer) + Send + Sync>;

struct Inner {
    shards: Shards,
    routes: Meters<RouteMeter>,
    services: Meters<ServiceMeter>,
    listeners: Meters<ListenerMeter>,
    facts: Budget,
    sources: Mutex<Vec<Source>>,
    config: ConfigMeter,
    spans: SpanMeter,
    access: AccessMeter,
    version: &'static str,
    started: SystemTime,
}

/// Meters by name, kept only as long as somebody else holds them.
struct Meters<T>(Mutex<HashMap<String, Weak<T>>>);

impl<T> Meters<T> {
    fn get(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut map = lock(&self.0);
        if let Some(meter) = map.get(name).and_then(Weak::upgrade) {
            return meter;
        }
        // Names that are gone are swept when the map would grow, so it stays within twice what lives.
        if map.len() == map.capacity() {
            map.retain(|_, meter| meter.strong_count() > 0);
        }
        let meter = Arc::new(make());
        map.insert(name.to_owned(), Arc::downgrade(&meter));
        meter
    }

    /// Those that live, by name.
    fn live(&self) -> Vec<Arc<T>> {
        let mut live: Vec<_> = lock(&self.0)
            .iter()
            .filter_map(|(name, meter)| Some((name.clone(), meter.upgrade()?)))
            .collect();
        live.sort_by(|a, b| a.0.cmp(&b.0));
        live.into_iter().map(|(_, meter)| meter).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves a map of counters, which is no reason to stop showing them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// An empty registry for a process with these workers, that calls itself `version`.
    pub fn new(shards: Shards, version: &'static str) -> Self {
        Self(Arc::new(Inner {
            shards,
            routes: Meters(Mutex::default()),
            services: Meters(Mutex::default()),
            listeners: Meters(Mutex::default()),
            facts: Budget::default(),
            sources: Mutex::default(),
            config: ConfigMeter::default(),
            spans: SpanMeter::default(),
            access: AccessMeter::default(),
            version,
            started: SystemTime::now(),
        }))
    }

    /// How many workers count.
    pub fn shards(&self) -> Shards {
        self.0.shards
    }

    /// The meter of a route: the same one for the same name while any snapshot holds it.
    pub fn route(&self, name: &str) -> Arc<RouteMeter> {
        self.0.routes.get(name, || RouteMeter::within(name, self.0.shards, self.0.facts.clone()))
    }

    /// The meter of a service: the same one for the same name while any snapshot holds it.
    pub fn service(&self, name: &str) -> Arc<ServiceMeter> {
        self.0.services.get(name, || ServiceMeter::new(name, self.0.shards))
    }

    /// The meter of a listener: the same one for the same name while any snapshot holds it.
    pub fn listener(&self, name: &str) -> Arc<ListenerMeter> {
        self.0.listeners.get(name, || ListenerMeter::new(name, self.0.shards))
    }

    /// What is counted of configurations.
    pub fn config(&self) -> ConfigMeter {
        self.0.config.clone()
    }

    /// What is counted of spans.
    pub fn spans(&self) -> SpanMeter {
        self.0.spans.clone()
    }

    /// What is counted of access log lines.
    pub fn access(&self) -> AccessMeter {
        self.0.access.clone()
    }

    /// Adds something that is asked at each scrape, for as long as the registry lives.
    ///
    /// It runs on the scraping thread under a lock, so it must be quick and must not call the registry.
    pub fn source(&self, source: impl Fn(&mut Writer) + Send + Sync + 'static) {
        lock(&self.0.sources).push(Box::new(source));
    }

    /// Everything as OpenMetrics text ([`CONTENT_TYPE`]), in the order of the table.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(Scrape(Arc::clone(&self.0))));
        // Writing into a String does not fail, and neither does any encoder here.
        if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
            tracing::error!("metrics could not be written; the scrape is incomplete");
        }
        text
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("shards", &self.0.shards).finish_non_exhaustive()
    }
}

struct Scrape(Arc<Inner>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Writer::new();
        self.0.routes.live().iter().for_each(|meter| meter.write(&mut to));
        self.0.services.live().iter().for_each(|meter| meter.write(&mut to));
        let mut spread = BTreeMap::new();
        for meter in self.0.listeners.live() {
            meter.write(&mut to);
            meter.spread(&mut spread);
        }
        for (worker, active) in spread {
            if worker < self.0.shards.workers() {
                let labels = [("worker", &*worker.to_string())];
                to.gauge(Metric::WorkerConnections, &labels, active as f64);
            }
        }
        self.0.config.write(&mut to);
        self.0.spans.write(&mut to);
        self.0.access.write(&mut to);
        to.gauge(Metric::Build, &[("version", self.0.version)], 1.0);
        process::write(&mut to, self.0.started);
        for source in lock(&self.0.sources).iter() {
            source(&mut to);
        }
        to.encode(&mut encoder)
    }
}

/// A counter that several threads may add to.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts configurations that were read.
#[derive(Clone, Debug, Default)]
pub struct ConfigMeter {
    applied: Counter,
    refused: Counter,
    applied_at: Counter,
    stale: Counter,
}

impl ConfigMeter {
    /// A configuration was applied at the wall-clock time `at`.
    pub fn applied(&self, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.applied.add(1);
        self.applied_at.0.store(seconds, Ordering::Relaxed);
        self.stale.0.store(0, Ordering::Relaxed);
    }

    /// A configuration was refused, and the one before it goes on.
    pub fn refused(&self) {
        self.refused.add(1);
        self.stale.0.store(1, Ordering::Relaxed);
    }

    fn write(&self, to: &mut Writer) {
        to.counter(Metric::ConfigReloads, &[("outcome", "applied")], self.applied.get());
        to.counter(Metric::ConfigReloads, &[("outcome", "refused")], self.refused.get());
        to.gauge(Metric::ConfigApplied, &[], self.applied_at.get() as f64);
        to.gauge(Metric::ConfigStale, &[], self.stale.get() as f64);
    }
}

/// Counts spans on their way to the collector.
#[derive(Clone, Debug, Default)]
pub struct SpanMeter {
    /// Accepted by the collector.
    pub exported: Counter,
    /// The queue was full.
    pub full: Counter,
    /// The collector refused them.
    pub refused: Counter,
    /// The collector could not be reached in time.
    pub failed: Counter,
}

impl SpanMeter {
    fn write(&self, to: &mut Writer) {
        to.counter(Metric::SpansExported, &[], self.exported.get());
        for (cause, counter) in
            [("full", &self.full), ("refused", &self.refused), ("failed", &self.failed)]
        {
            to.counter(Metric::SpansDropped, &[("cause", cause)], counter.get());
        }
    }
}

/// Counts access log lines.
#[derive(Clone, Debug, Default)]
pub struct AccessMeter {
    /// Written.
    pub lines: Counter,
    /// The queue was full.
    pub full: Counter,
    /// They could not be written.
    pub failed: Counter,
}

impl AccessMeter {
    fn write(&self, to: &mut Writer) {
        to.counter(Metric::AccessLines, &[], self.lines.get());
        for (cause, counter) in [("full", &self.full), ("failed", &self.failed)] {
            to.counter(Metric::AccessDropped, &[("cause", cause)], counter.get());
        }
    }
}
