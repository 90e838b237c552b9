//! What Weft tells about itself: metrics, trace context, spans, access log and operator log.
//!
//! Invariants: a request never waits for telemetry and never allocates for it, but for a span that is
//! exported; every queue is bounded, and what finds it full is dropped and counted; nothing that a
//! client sends becomes a metric label, and nothing it sends reaches a log unescaped. Deliberately
//! absent: metrics by client, path or endpoint address on the request path, and any exporter of metrics
//! but the scrape.
//!
//! Reading order: [`metrics`] (the table first), [`trace`], [`span`] and [`otlp`], [`access`], [`log`].

pub mod access;
pub mod log;
pub mod metrics;
pub mod otlp;
pub mod span;
pub mod trace;
