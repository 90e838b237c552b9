//! What Weft tells about itself: metrics, trace context, spans, access log and operator log.

pub mod metrics;
