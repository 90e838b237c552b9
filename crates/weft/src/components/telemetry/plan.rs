//! What a checked configuration asks for of telemetry.

/// What Weft tells about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// A line per request.
    pub access_log: weft_telemetry::access::Options,
    /// The share of traces that are kept.
    pub trace_sample: f64,
    /// Where spans are sent.
    pub otlp: Option<weft_telemetry::otlp::Options>,
    /// The log for operators.
    pub log: weft_telemetry::log::Options,
}
