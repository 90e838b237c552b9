//! Faults: a status, what is said, and what clients look for in trailers.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use prost::Message;
use weft_events::{Expected, StreamName, shared::SharedName};
use weft_kernel::{Error, Reason};
use weft_wire::{
    Fields, Known,
    grpc::{self, Status},
};

use crate::messages::{Any, RichStatus};

/// Why a call ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) status: Status,
    /// For whoever reads it.
    pub(crate) say: String,
    /// Trailers by which clients tell exceptions apart.
    fields: Vec<(&'static str, String)>,
    /// A message for clients of the second protocol.
    detail: Option<Any>,
}

impl Fault {
    pub(crate) fn new(status: Status, say: impl Into<String>) -> Self {
        Self { status, say: say.into(), fields: Vec::new(), detail: None }
    }

    /// The caller's request is wrong.
    pub(crate) fn invalid(say: impl Into<String>) -> Self {
        Self::new(Status::InvalidArgument, say)
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// With a message of a type.
    pub(crate) fn detailed(mut self, kind: &str, message: &impl Message) -> Self {
        self.detail = Some(packed(kind, message));
        self
    }

    /// The stream takes no events any more.
    pub(crate) fn deleted(stream: &StreamName) -> Self {
        Self::new(Status::FailedPrecondition, format!("Event stream '{stream}' is deleted."))
            .with("exception", "stream-deleted")
            .with("stream-name", stream.as_str())
    }

    /// The stream is not as expected; what it is stands in the text in numbers, as clients read them.
    pub(crate) fn wrong_version(
        stream: &StreamName,
        expected: Expected,
        actual: Option<u64>,
    ) -> Self {
        let (expected, actual) = (number(expected), actual_number(actual));
        let say = format!(
            "The change failed due to WrongExpectedVersion. Stream: {stream}, Expected version: {expected}, \
             Actual version: {actual}"
        );
        Self::new(Status::FailedPrecondition, say)
            .with("exception", "wrong-expected-version")
            .with("stream-name", stream.as_str())
            .with("expected-version", expected.to_string())
            .with("actual-version", actual.to_string())
    }

    /// More was to be appended at once than may be.
    pub(crate) fn too_large(max: usize) -> Self {
        Self::invalid(format!("Maximum Append Size of {max} Exceeded."))
            .with("exception", "maximum-append-size-exceeded")
            .with("maximum-append-size", max.to_string())
    }

    /// Something is wrong with a persistent subscription.
    pub(crate) fn persistent(
        status: Status,
        say: impl Into<String>,
        exception: &str,
        name: &SharedName,
    ) -> Self {
        Self::new(status, say)
            .with("exception", exception)
            .with("stream-name", name.stream.as_str())
            .with("group-name", name.group.as_str())
    }

    /// The trailers that tell it.
    pub(crate) fn trailers(&self) -> Fields {
        let mut fields = Fields::new();
        fields.add(Known::GrpcStatus, self.status.number().to_string().as_bytes());
        let mut text = Vec::new();
        grpc::encode_message(&self.say, &mut text);
        fields.add(Known::GrpcMessage, &text);
        for (name, value) in &self.fields {
            text.clear();
            grpc::encode_message(value, &mut text);
            fields.append(name, &text);
        }
        if let Some(detail) = &self.detail {
            let status = RichStatus {
                code: self.status.number().into(),
                message: self.say.clone(),
                details: vec![detail.clone()],
            };
            let status = STANDARD_NO_PAD.encode(status.encode_to_vec());
            fields.append("grpc-status-details-bin", status.as_bytes());
        }
        fields
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let status = match error.reason() {
            Reason::MessageTooLarge | Reason::BodyTooLarge => Status::InvalidArgument,
            _ => Status::of_code(error.code()),
        };
        Self::new(status, error.said())
    }
}

/// A message within another, by the name of its type.
pub(crate) fn packed(kind: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{kind}"), value: message.encode_to_vec() }
}

/// What is expected, as a number.
pub(crate) fn number(expected: Expected) -> i64 {
    match expected {
        Expected::Any => -2,
        Expected::None => -1,
        Expected::Exists => -4,
        Expected::Version(version) => i64::try_from(version).unwrap_or(i64::MAX),
    }
}

/// The version of a stream, as a number.
pub(crate) fn actual_number(actual: Option<u64>) -> i64 {
    actual.map_or(-1, |actual| i64::try_from(actual).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_find_what_they_look_for() {
        let stream = StreamName::new("bestellung-ä").unwrap();
        let fields = Fault::wrong_version(&stream, Expected::Version(3), None).trailers();
        assert_eq!(fields.get_str(Known::GrpcStatus), Some("9"));
        let message = fields.get(Known::GrpcMessage).unwrap();
        let message = grpc::decode_message(message).into_owned();
        assert!(
            message.ends_with(". Stream: bestellung-ä, Expected version: 3, Actual version: -1"),
            "{message}"
        );
        assert_eq!(fields.named("exception"), Some(&b"wrong-expected-version"[..]));
        assert_eq!(fields.named("stream-name"), Some(&b"bestellung-%C3%A4"[..]));
        let fields = Fault::too_large(9).trailers();
        assert_eq!(fields.named("maximum-append-size"), Some(&b"9"[..]));
    }
}
