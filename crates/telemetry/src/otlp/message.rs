//! The messages of `opentelemetry/proto/collector/trace/v1` that Weft sends and reads.
//!
//! They are written out here, as a dozen fields of a stable format are lighter than the generated
//! crate with all of metrics, logs and profiles. Numbers are those of opentelemetry-proto 1.x.

use crate::span::{Kind, SpanRecord, Status as SpanStatus, Value as SpanValue};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(super) spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub(super) trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(super) name: String,
    #[prost(int32, tag = "6")]
    pub(super) kind: i32,
    #[prost(fixed64, tag = "7")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub(super) end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub(super) status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    pub(super) flags: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(int32, tag = "3")]
    pub(super) code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3")]
    pub(super) value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
}

/// What the collector answers; empty if all went well.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

/// Span flags: the trace flags in the low byte.
const FLAG_SAMPLED: u32 = 1;
const KIND_SERVER: i32 = 2;
const KIND_CLIENT: i32 = 3;
const STATUS_ERROR: i32 = 2;

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::Text(value.to_owned())) });
    KeyValue { key: key.to_owned(), value }
}

impl From<SpanRecord> for Span {
    fn from(span: SpanRecord) -> Self {
        let attributes = span.attributes.into_iter().map(|(key, value)| {
            let value = match value {
                SpanValue::Text(text) => Value::Text(text.into_owned()),
                SpanValue::Int(number) => Value::Int(number),
                SpanValue::Bool(yes) => Value::Bool(yes),
            };
            KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
        });
        Self {
            trace_id: span.trace_id.to_be_bytes().to_vec(),
            span_id: span.span_id.to_be_bytes().to_vec(),
            trace_state: span.tracestate.map(String::from).unwrap_or_default(),
            parent_span_id: match span.parent_id {
                0 => Vec::new(),
                id => id.to_be_bytes().to_vec(),
            },
            name: span.name.into_owned(),
            kind: match span.kind {
                Kind::Server => KIND_SERVER,
                Kind::Client => KIND_CLIENT,
            },
            start_time_unix_nano: span.start_nanos,
            // A wall clock may be set back within a span; the format wants the end not before the start.
            end_time_unix_nano: span.end_nanos.max(span.start_nanos),
            attributes: attributes.collect(),
            status: match span.status {
                SpanStatus::Unset => None,
                SpanStatus::Error(why) => {
                    Some(Status { message: why.into_owned(), code: STATUS_ERROR })
                }
            },
            flags: if span.sampled { FLAG_SAMPLED } else { 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// The same span as the official Python classes of opentelemetry-proto write it.
    const RECORDED: &str = "\
        0aea010a180a160a0c736572766963652e6e616d6512060a047765667412cd010a170a0e776566742d74656c656d65\
        7472791205302e312e3012b1010a100af7651916cd43dd8448eb211c80319c1208b7ad6b71692033311a03613d3122\
        0800f067aa0ba902b72a0a474554206f726465727330033901002a36fe9c97174102002a36fe9c97174a1c0a0e7365\
        727665722e61646472657373120a0a0831302e302e302e374a200a19687474702e726573706f6e73652e7374617475\
        735f636f6465120318f8034a0d0a0772657472696564120210017a0f120b7472795f74696d656f7574180285010100\
        0000";

    #[test]
    fn a_span_is_written_as_the_official_classes_write_it() {
        let span = SpanRecord {
            trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            span_id: 0xb7ad_6b71_6920_3331,
            parent_id: 0x00f0_67aa_0ba9_02b7,
            sampled: true,
            tracestate: Some("a=1".into()),
            name: "GET orders".into(),
            kind: Kind::Client,
            start_nanos: 1_700_000_000_000_000_001,
            end_nanos: 1_700_000_000_000_000_002,
            attributes: vec![
                ("server.address", "10.0.0.7".into()),
                ("http.response.status_code", 504.into()),
                ("retried", true.into()),
            ],
            status: SpanStatus::Error("try_timeout".into()),
        };
        let scope = Scope { name: "weft-telemetry".into(), version: "0.1.0".into() };
        let request = Request {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes: vec![text("service.name", "weft")] }),
                scope_spans: vec![ScopeSpans { scope: Some(scope), spans: vec![span.into()] }],
            }],
        };
        let hex: String =
            request.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, RECORDED);
    }

    #[test]
    fn a_span_never_ends_before_it_starts() {
        let span = SpanRecord { start_nanos: 9, end_nanos: 3, ..SpanRecord::default() };
        assert_eq!(Span::from(span).end_time_unix_nano, 9);
    }
}
