//! The table of metrics: name, kind, unit, labels and meaning of each.
//!
//! Everything that a scrape shows is a row of [`TABLE`], or one that a component brings itself
//! ([`MetricRow::Own`]) and lists among its own; [`faults`] holds all of them to the same rules. Names
//! follow the OpenTelemetry semantic conventions in their Prometheus form where a convention exists,
//! and begin with `weft_` otherwise. Labels come from configuration or from small closed sets, never
//! from a request, so that a client cannot make series. Values of facts may be many, and are bounded.

use std::collections::BTreeSet;

/// How a metric behaves over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process or its owner goes.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts of observations by size, with their sum.
    Histogram,
    /// Always 1; what it says stands in its labels.
    Info,
}

impl Kind {
    /// The word of the OpenMetrics `TYPE` line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// One row of [`TABLE`].
#[derive(Debug)]
pub struct Def {
    /// The name as a query writes it, with its unit and `_total` (a histogram adds `_bucket`, `_sum`, `_count`).
    pub name: &'static str,
    /// Counter, gauge, histogram or info.
    pub kind: Kind,
    /// The unit, which is also part of the name; empty for a plain number.
    pub unit: &'static str,
    /// Every label that it may carry.
    pub labels: &'static [&'static str],
    /// What it counts, in one sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident = $name:literal, $kind:ident, $unit:literal, [$($label:literal),*], $help:literal;)+) => {
        /// The identity of a metric; its row is [`Metric::def`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Metric { $(#[doc = $help] $id,)+ }

        impl Metric {
            /// Every metric, in the order of [`TABLE`].
            pub const ALL: &[Self] = &[$(Self::$id,)+];
        }

        /// Every metric there is; a [`Metric`] is an index into it.
        pub const TABLE: &[Def] = &[
            $(Def { name: $name, kind: Kind::$kind, unit: $unit, labels: &[$($label),*], help: $help },)+
        ];
    };
}

impl Metric {
    /// The row of this metric.
    pub const fn def(self) -> &'static Def {
        &TABLE[self as usize]
    }
}

/// What a point belongs to: a metric of the [`TABLE`], or one that a component brings.
#[derive(Clone, Copy, Debug)]
pub enum MetricRow {
    /// A metric of the table.
    Listed(Metric),
    /// A row of a component.
    Own(&'static Def),
}

impl MetricRow {
    /// Its row.
    pub const fn def(self) -> &'static Def {
        match self {
            Self::Listed(metric) => metric.def(),
            Self::Own(def) => def,
        }
    }
}

impl From<Metric> for MetricRow {
    fn from(metric: Metric) -> Self {
        Self::Listed(metric)
    }
}

impl From<&'static Def> for MetricRow {
    fn from(def: &'static Def) -> Self {
        Self::Own(def)
    }
}

/// What is wrong with rows that stand together: a name that does not say kind or unit, or stands twice, or
/// a help text that cannot be written.
pub fn faults<'a>(rows: impl IntoIterator<Item = &'a Def>) -> Vec<String> {
    let mut names = BTreeSet::new();
    let mut faults = Vec::new();
    for def in rows {
        let name = def.name;
        let stem = name.trim_end_matches("_total");
        let rules = [
            (names.insert(name), "stands twice"),
            (
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "has other characters than a to z and _",
            ),
            (
                (def.kind == Kind::Counter) == name.ends_with("_total"),
                "ends with _total only and always as a counter",
            ),
            (
                (def.kind == Kind::Info) == name.ends_with("_info"),
                "ends with _info only and always as an info",
            ),
            (
                def.unit.is_empty() || stem.ends_with(&format!("_{}", def.unit)),
                "does not end with its unit",
            ),
            (
                def.help.ends_with('.') && !def.help.contains(['\n', '\\', '"']),
                "has a help text that is no sentence of one line without quotes",
            ),
        ];
        let broken = rules.into_iter().filter(|(holds, _)| !holds);
        faults.extend(broken.map(|(_, what)| format!("the metric {name} {what}")));
    }
    faults
}

metrics! {
    ServerDuration = "http_server_request_duration_seconds", Histogram, "seconds",
        ["http_route", "http_request_method", "http_response_status_code", "rpc_grpc_status_code", "error_type"],
        "Time from the head of a request to the end of its response, by route.";
    ServerActive = "http_server_active_requests", Gauge, "", ["http_route"],
        "Requests in progress, by route.";
    RouteRequestBytes = "weft_route_request_bytes_total", Counter, "bytes", ["http_route"],
        "Request body bytes taken from clients, by route.";
    RouteResponseBytes = "weft_route_response_bytes_total", Counter, "bytes", ["http_route"],
        "Response body bytes sent to clients, by route.";
    RouteFactRequests = "weft_route_fact_requests_total", Counter, "",
        ["http_route", "fact", "value", "status_class"],
        "Requests by what a policy has found out about them, such as their consumer; 10,000 values are told apart over all routes and workers, others are `_OTHER`.";
    ClientDuration = "http_client_request_duration_seconds", Histogram, "seconds",
        ["weft_service", "http_request_method", "http_response_status_code", "rpc_grpc_status_code", "error_type"],
        "Time of one try at an endpoint, until the head of its response, by service.";
    ClientActive = "http_client_active_requests", Gauge, "", ["weft_service"],
        "Tries in progress, until their response has ended, by service.";
    ServiceRequestBytes = "weft_service_request_bytes_total", Counter, "bytes", ["weft_service"],
        "Request body bytes of exchanges that a service answered; what a retry sends again is not counted again.";
    ServiceResponseBytes = "weft_service_response_bytes_total", Counter, "bytes", ["weft_service"],
        "Response body bytes passed on from a service.";
    ServiceFailures = "weft_service_failures_total", Counter, "", ["weft_service", "reason"],
        "Tries that failed, and requests that were refused or failed without one, by service and reason.";
    ServiceRetries = "weft_service_retries_total", Counter, "", ["weft_service"],
        "Tries beyond the first.";
    ServiceRetryBudgetExhausted = "weft_service_retry_budget_exhausted_total", Counter, "", ["weft_service"],
        "Retries not made because the retry budget was spent.";
    ServiceHedges = "weft_service_hedges_total", Counter, "", ["weft_service"],
        "Second tries sent while the first still ran.";
    ServiceConnectFailures = "weft_service_connect_failures_total", Counter, "", ["weft_service"],
        "Connections to endpoints that could not be opened.";
    ServiceEjections = "weft_service_ejections_total", Counter, "", ["weft_service"],
        "Endpoints taken out of balancing for failing.";
    ServiceBreakerOpens = "weft_service_breaker_opens_total", Counter, "", ["weft_service"],
        "Times the service breaker opened.";
    ServiceShed = "weft_service_shed_total", Counter, "", ["weft_service"],
        "Requests refused to protect the service from overload.";
    ServiceConnectionsOpened = "weft_service_connections_opened_total", Counter, "", ["weft_service"],
        "Connections opened to endpoints.";
    ServiceConnectionsReused = "weft_service_connections_reused_total", Counter, "", ["weft_service"],
        "Tries that found an open connection in the pool.";
    ServiceEndpoints = "weft_service_endpoints", Gauge, "", ["weft_service", "state"],
        "Endpoints of a service, by state.";
    SourceFresh = "weft_source_fresh", Gauge, "", ["kind", "source"],
        "1 while the last set of endpoints of a source stands, 0 while it fails or has told nothing.";
    SourceEndpoints = "weft_source_endpoints", Gauge, "", ["kind", "source"],
        "Endpoints that a source told last.";
    ServiceBreakerState = "weft_service_breaker_state", Gauge, "", ["weft_service"],
        "State of the service breaker: 0 closed, 1 half-open, 2 open, 3 isolated.";
    ServiceConcurrencyLimit = "weft_service_concurrency_limit", Gauge, "", ["weft_service"],
        "Requests that adaptive concurrency lets through at once.";
    EndpointHealthy = "weft_endpoint_healthy", Gauge, "", ["weft_service", "endpoint"],
        "1 if the endpoint passes its health checks, 0 if not.";
    EndpointEjected = "weft_endpoint_ejected", Gauge, "", ["weft_service", "endpoint"],
        "1 while the endpoint breaker keeps the endpoint out, 0 otherwise.";
    EndpointActive = "weft_endpoint_active_requests", Gauge, "", ["weft_service", "endpoint"],
        "Tries in progress at the endpoint.";
    EndpointLatency = "weft_endpoint_latency_seconds", Gauge, "seconds", ["weft_service", "endpoint"],
        "Moving average of the endpoint's latency, as the balancer sees it.";
    EndpointWeight = "weft_endpoint_weight", Gauge, "", ["weft_service", "endpoint"],
        "Weight of the endpoint among the others, slow start left out.";
    ListenerConnections = "weft_listener_connections_total", Counter, "", ["listener"],
        "Connections accepted.";
    ListenerActive = "weft_listener_connections_active", Gauge, "", ["listener"],
        "Connections open.";
    ListenerRefused = "weft_listener_connections_refused_total", Counter, "", ["listener"],
        "Connections closed at once for a limit, a rule or draining.";
    ListenerHandshakes = "weft_listener_tls_handshakes_total", Counter, "", ["listener", "outcome"],
        "TLS handshakes with clients, by outcome (ok, failed).";
    ListenerHandshakeFailures = "weft_listener_tls_handshake_failures_total", Counter, "", ["listener", "reason"],
        "TLS handshakes with clients that failed, by reason (not_tls, malformed, server_name, version, nothing_in_common, no_certificate, certificate, alert, closed, timeout, other).";
    ListenerProtocolErrors = "weft_listener_protocol_errors_total", Counter, "", ["listener"],
        "Connections or requests that broke the grammar or framing of their protocol.";
    ListenerReceivedBytes = "weft_listener_received_bytes_total", Counter, "bytes", ["listener"],
        "Bytes taken from clients by TCP relaying and upgraded connections, counted when these end.";
    ListenerSentBytes = "weft_listener_sent_bytes_total", Counter, "bytes", ["listener"],
        "Bytes sent to clients by TCP relaying and upgraded connections, counted when these end.";
    WorkerConnections = "weft_worker_connections_active", Gauge, "", ["worker"],
        "Client connections open on each worker, which shows an uneven spread.";
    Tasks = "weft_tasks", Gauge, "", ["thread"],
        "Tasks alive on each thread that runs them: each worker by its number, and control.";
    TopicPublished = "weft_topic_published_total", Counter, "", ["topic"],
        "Messages that a topic took.";
    TopicDuplicates = "weft_topic_duplicates_total", Counter, "", ["topic"],
        "Messages of a topic that were known by their id and not stored again.";
    TopicMessages = "weft_topic_messages", Gauge, "", ["topic"],
        "Messages that a topic holds.";
    TopicBytes = "weft_topic_size_bytes", Gauge, "bytes", ["topic"],
        "Bytes of the messages that a topic holds.";
    QueuePublished = "weft_queue_published_total", Counter, "", ["queue"],
        "Messages that a queue took.";
    QueueDuplicates = "weft_queue_duplicates_total", Counter, "", ["queue"],
        "Messages of a queue that were known by their id and not stored again.";
    QueueRefused = "weft_queue_refused_total", Counter, "", ["queue"],
        "Messages that a queue refused because it was full.";
    QueueDelivered = "weft_queue_delivered_total", Counter, "", ["queue"],
        "Messages of a queue handed out, each hand-out counted.";
    QueueSettled = "weft_queue_settled_total", Counter, "", ["queue", "how"],
        "Deliveries of a queue settled, by how (accepted, released, failed, rejected).";
    QueueDead = "weft_queue_dead_lettered_total", Counter, "", ["queue"],
        "Messages of a queue that became dead letters.";
    QueueDropped = "weft_queue_dropped_total", Counter, "", ["queue", "cause"],
        "Messages of a queue that expired or were given up with nowhere for dead letters, by cause (expired, given_up).";
    QueueMessages = "weft_queue_messages", Gauge, "", ["queue", "state"],
        "Messages of a queue by state (ready, leased, waiting, and dead_letter for those given up that wait for room among the dead letters).";
    QueueOldest = "weft_queue_oldest_ready_seconds", Gauge, "seconds", ["queue"],
        "Age of the oldest message of a queue that is ready.";
    QueueConsumers = "weft_queue_consumers", Gauge, "", ["queue"],
        "Consumers of a queue.";
    SubscriptionDelivered = "weft_subscription_delivered_total", Counter, "", ["topic", "subscription"],
        "Messages of a subscription handed out, each hand-out counted.";
    SubscriptionSettled = "weft_subscription_settled_total", Counter, "", ["topic", "subscription", "how"],
        "Deliveries of a subscription settled, by how (accepted, released, failed, rejected).";
    SubscriptionDead = "weft_subscription_dead_lettered_total", Counter, "", ["topic", "subscription"],
        "Messages of a subscription that became dead letters.";
    SubscriptionFilterFailed = "weft_subscription_filter_failed_total", Counter, "", ["topic", "subscription"],
        "Messages on which the filter of a subscription failed, so that it did not take them.";
    SubscriptionMessages = "weft_subscription_messages", Gauge, "", ["topic", "subscription", "state"],
        "Messages of a subscription by state (ready, leased, waiting, and dead_letter for those given up that wait for room among the dead letters).";
    SubscriptionLag = "weft_subscription_lag_seconds", Gauge, "seconds", ["topic", "subscription"],
        "Age of the oldest message that a subscription has not settled.";
    SubscriptionConsumers = "weft_subscription_consumers", Gauge, "", ["topic", "subscription"],
        "Consumers of a subscription.";
    LedgerTransactions = "weft_ledger_transactions_total", Counter, "", [],
        "Transactions that the ledger took.";
    LedgerSyncs = "weft_ledger_syncs_total", Counter, "", [],
        "Syncs of the ledger's log to the disk, each for all transactions that had gathered.";
    LedgerSyncTime = "weft_ledger_sync_time_seconds_total", Counter, "seconds", [],
        "Time spent in syncs of the ledger's log.";
    LedgerBytes = "weft_ledger_size_bytes", Gauge, "bytes", ["kind"],
        "Bytes of the ledger on the disk, by kind (wal, segments, index).";
    LedgerWritten = "weft_ledger_written_bytes_total", Counter, "bytes", [],
        "Bytes that the ledger wrote to its log.";
    LedgerLost = "weft_ledger_damaged_records_total", Counter, "", [],
        "Records that did not fit their checksum when they were read.";
    LedgerFull = "weft_ledger_full", Gauge, "", [],
        "1 while the disk has no room for more messages, 0 otherwise.";
    LedgerUnavailable = "weft_ledger_unavailable", Gauge, "", [],
        "1 while the ledger cannot open, read or make a file that it needs and tries again, 0 otherwise.";
    LedgerPoisoned = "weft_ledger_poisoned", Gauge, "", [],
        "1 once a write to the disk has failed and nothing more is taken, 0 otherwise.";
    LedgerStalled = "weft_ledger_stalled", Gauge, "", [],
        "1 while a thread of the ledger hangs and nothing is acknowledged, 0 otherwise.";
    ConfigReloads = "weft_config_reloads_total", Counter, "", ["outcome"],
        "Configurations read, by outcome (applied, refused).";
    ConfigApplied = "weft_config_applied_timestamp_seconds", Gauge, "seconds", [],
        "When the running configuration was applied, in seconds since 1970.";
    ConfigStale = "weft_config_stale", Gauge, "", [],
        "1 while the newest configuration is refused and an older one runs, 0 otherwise.";
    CertificateExpiry = "weft_certificate_expiry_timestamp_seconds", Gauge, "seconds", ["certificate"],
        "When a certificate ends, in seconds since 1970.";
    SpansExported = "weft_spans_exported_total", Counter, "", [],
        "Spans that the collector accepted.";
    SpansDropped = "weft_spans_dropped_total", Counter, "", ["cause"],
        "Spans lost on the way to the collector, by cause (full, refused, failed).";
    AccessLines = "weft_access_log_lines_total", Counter, "", [],
        "Access log lines written.";
    AccessDropped = "weft_access_log_dropped_total", Counter, "", ["cause"],
        "Access log lines lost, by cause (full, failed).";
    Build = "weft_build_info", Info, "", ["version"],
        "The version that runs.";
    ProcessCpu = "process_cpu_seconds_total", Counter, "seconds", [],
        "User and system CPU time of the process.";
    ProcessMemory = "process_resident_memory_bytes", Gauge, "bytes", [],
        "Memory of the process that is resident.";
    ProcessFiles = "process_open_fds", Gauge, "", [],
        "File descriptors that are open.";
    ProcessFilesMax = "process_max_fds", Gauge, "", [],
        "File descriptors that may be open.";
    ProcessStart = "process_start_time_seconds", Gauge, "seconds", [],
        "When the process started, in seconds since 1970.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_named_after_its_kind_and_unit() {
        assert_eq!(faults(TABLE), [""; 0]);
        assert!(Metric::ALL.iter().zip(TABLE).all(|(metric, def)| metric.def().name == def.name));
    }

    #[test]
    fn a_row_that_does_not_say_what_it_is_is_told() {
        let row = |name, kind, unit, help| Def { name, kind, unit, labels: &[], help };
        for (row, fault) in [
            (row("weft_a_total", Kind::Gauge, "", "A."), "_total"),
            (row("weft_a", Kind::Counter, "", "A."), "_total"),
            (row("weft_a", Kind::Info, "", "A."), "_info"),
            (row("weft_A", Kind::Gauge, "", "A."), "characters"),
            (row("weft_a", Kind::Gauge, "seconds", "A."), "unit"),
            (row("weft_a_bytes_total", Kind::Counter, "seconds", "A."), "unit"),
            (row("weft_a", Kind::Gauge, "", "A \"b\"."), "help"),
            (row("weft_build_info", Kind::Info, "", "A."), "twice"),
        ] {
            let told = faults(TABLE.iter().chain([&row]));
            assert!(matches!(&*told, [one] if one.contains(fault)), "{row:?}: {told:?}");
        }
    }
}
