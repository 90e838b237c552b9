//! Gathers the points of one scrape, so that each family is written once, whoever added to it.
//!
//! OpenMetrics forbids that a family be interrupted by another or begun twice, and several rooms add
//! to the same ones; so points are kept by metric until all are there.

use std::{borrow::Cow, fmt};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Unit,
};

use super::{
    slots::{BUCKETS, Histogram, OTHER, outcome},
    table::{Def, Kind, Metric, MetricRow, TABLE},
};

/// Takes the points of one scrape.
#[derive(Debug)]
pub struct Writer {
    /// By row of the table.
    listed: Vec<Vec<Point>>,
    /// Rows that components bring, in the order in which they first had a point.
    own: Vec<(&'static Def, Vec<Point>)>,
}

#[derive(Debug)]
struct Point {
    labels: Labels,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Whole(u64),
    Real(f64),
    Histogram(Box<Histogram>),
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { listed: TABLE.iter().map(|_| Vec::new()).collect(), own: Vec::new() }
    }

    /// Adds a point of a gauge (or an info, whose value is 1). Labels that its row does not name are left out.
    pub fn gauge(&mut self, of: impl Into<MetricRow>, labels: &[(&'static str, &str)], value: f64) {
        self.push(of.into(), labels, Value::Real(value));
    }

    /// Adds a point of a counter. Labels that its row does not name are left out.
    pub fn counter(
        &mut self,
        of: impl Into<MetricRow>,
        labels: &[(&'static str, &str)],
        value: u64,
    ) {
        self.push(of.into(), labels, Value::Whole(value));
    }

    /// Adds a point of a counter that is not a whole number.
    pub fn counter_real(&mut self, metric: Metric, value: f64) {
        self.push(metric.into(), &[], Value::Real(value));
    }

    /// Adds a histogram of durations, with the labels of its outcome.
    pub(super) fn durations(
        &mut self,
        metric: Metric,
        of: [(&'static str, &str); 1],
        key: u32,
        sum: &Histogram,
    ) {
        let mut labels = Labels::of(metric.def(), &of);
        if key == OTHER {
            labels.push("http_request_method", "_OTHER");
            labels.push("http_response_status_code", "_OTHER");
        } else {
            let outcome = outcome(key);
            labels.push("http_request_method", outcome.method.word());
            if outcome.status > 0 {
                labels.push("http_response_status_code", outcome.status.to_string());
            }
            if let Some(status) = outcome.grpc {
                labels.push("rpc_grpc_status_code", status.to_string());
            }
            // A server's error is a 5xx; a client's is whatever it did not want, 4xx included.
            let client = metric == Metric::ClientDuration;
            if let Some(reason) = outcome.reason {
                labels.push("error_type", reason.word());
            } else if outcome.status >= if client { 400 } else { 500 } {
                labels.push("error_type", outcome.status.to_string());
            } else if let Some(status) = outcome.grpc
                && grpc_error(status, client)
            {
                labels.push("error_type", status.to_string());
            }
        }
        let value = Value::Histogram(Box::new(sum.clone()));
        self.points(metric.into()).push(Point { labels, value });
    }

    fn push(&mut self, of: MetricRow, labels: &[(&'static str, &str)], value: Value) {
        let labels = Labels::of(of.def(), labels);
        self.points(of).push(Point { labels, value });
    }

    fn points(&mut self, of: MetricRow) -> &mut Vec<Point> {
        match of {
            MetricRow::Listed(metric) => &mut self.listed[metric as usize],
            MetricRow::Own(def) => {
                let known = self.own.iter().position(|(own, _)| own.name == def.name);
                let at = known.unwrap_or(self.own.len());
                if known.is_none() {
                    self.own.push((def, Vec::new()));
                }
                &mut self.own[at].1
            }
        }
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let own = self.own.iter().map(|(def, points)| (*def, points));
        for (def, points) in TABLE.iter().zip(&self.listed).chain(own) {
            if points.is_empty() {
                continue;
            }
            let unit = unit(def);
            let mut family =
                encoder.encode_descriptor(stem(def), def.help, unit.as_ref(), kind(def))?;
            for point in points {
                if def.kind == Kind::Info {
                    family.encode_info(&point.labels)?;
                } else if point.labels.0.is_empty() {
                    point.value.encode(def, &mut family)?;
                } else {
                    point.value.encode(def, &mut family.encode_family(&point.labels)?)?;
                }
            }
        }
        Ok(())
    }
}

/// Which gRPC statuses are a server's errors, by the RPC semantic conventions; for a client all are.
fn grpc_error(status: u8, client: bool) -> bool {
    if client { status != 0 } else { matches!(status, 2 | 4 | 12 | 13 | 14 | 15) }
}

impl Value {
    fn encode(&self, def: &Def, to: &mut MetricEncoder<'_>) -> fmt::Result {
        let none: Option<&Exemplar<NoLabelSet, f64>> = None;
        match (self, def.kind) {
            (Self::Whole(value), Kind::Counter) => to.encode_counter(value, none),
            (Self::Real(value), Kind::Counter) => to.encode_counter(value, none),
            (Self::Real(value), _) => to.encode_gauge(value),
            (Self::Whole(value), _) => to.encode_gauge(&(*value as f64)),
            (Self::Histogram(sum), _) => {
                let mut buckets = [(f64::INFINITY, 0); BUCKETS.len() + 1];
                for (at, (bucket, count)) in buckets.iter_mut().zip(sum.counts).enumerate() {
                    bucket.1 = count;
                    if let Some(nanos) = BUCKETS.get(at) {
                        bucket.0 = *nanos as f64 / 1e9;
                    }
                }
                let count = sum.counts.iter().sum();
                to.encode_histogram::<NoLabelSet>(sum.seconds, count, &buckets, None)
            }
        }
    }
}

fn kind(def: &Def) -> MetricType {
    match def.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
        Kind::Info => MetricType::Info,
    }
}

/// The name without what the encoder appends by itself.
fn stem(def: &Def) -> &'static str {
    let stem = match def.kind {
        Kind::Counter => def.name.trim_end_matches("_total"),
        Kind::Info => def.name.trim_end_matches("_info"),
        Kind::Gauge | Kind::Histogram => def.name,
    };
    match stem.strip_suffix(def.unit) {
        Some(bare) if !def.unit.is_empty() => bare.trim_end_matches('_'),
        _ => stem,
    }
}

fn unit(def: &Def) -> Option<Unit> {
    match def.unit {
        "" => None,
        "seconds" => Some(Unit::Seconds),
        "bytes" => Some(Unit::Bytes),
        other => Some(Unit::Other(other.to_owned())),
    }
}

#[derive(Debug)]
struct Labels(Vec<(&'static str, Cow<'static, str>)>);

impl Labels {
    fn of(def: &Def, labels: &[(&'static str, &str)]) -> Self {
        let known = labels.iter().filter(|(name, _)| def.labels.contains(name));
        Self(known.map(|(name, value)| (*name, Cow::Owned((*value).to_owned()))).collect())
    }

    fn push(&mut self, name: &'static str, value: impl Into<Cow<'static, str>>) {
        self.0.push((name, value.into()));
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.as_slice().encode(encoder)
    }
}
