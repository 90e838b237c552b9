//! The one metric registry: sharded meters for the request path, tables of names, OpenMetrics text.
//!
//! A compiled snapshot holds a [`RouteMeter`] per route, a [`ServiceMeter`] per service and a
//! [`ListenerMeter`] per listener, got from the [`Registry`] by name so that their counters outlive a
//! reload. Recording is a few plain stores on memory of the worker's own; everything is summed,
//! labelled and formatted at a scrape. What other rooms know already (the state of endpoints, the age
//! of a certificate) is asked for at a scrape through [`Registry::source`].

mod facts;
mod meter;
mod process;
mod registry;
mod shard;
mod slots;
mod table;
mod writer;

pub use meter::{Count, ListenerMeter, RouteMeter, ServiceMeter};
pub use registry::{AccessMeter, CONTENT_TYPE, ConfigMeter, Counter, Registry, SpanMeter};
pub use shard::Shards;
pub use slots::{BUCKETS, Method, Sample};
pub use table::{Def, Kind, Metric, MetricRow, TABLE, faults};
pub use writer::Writer;
