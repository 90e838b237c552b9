//! Appending to several streams at once: the second protocol.

use serde_json::{Map, Value as Json};
use weft_events::{
    Append, AppendBatch, AppendReceipt, Conflict, Expected, NewEvent, Rejected, StreamName,
};
use weft_kernel::Error;
use weft_proxy::Reply;
use weft_wire::grpc::Status;

use crate::{
    answer,
    append::{APPEND_BYTES_MAX, EVENTS_MAX, is_projected, place_of},
    event::{BYTES, EVENT_BYTES_MAX, JSON, Proposed, parse, place},
    fault::{Fault, actual_number, number},
    frame::Requests,
    messages::{
        ConsistencyViolations, NamedStream, Record, RecordTooLarge, RecordsRequest,
        RecordsResponse, RevisionConflict, SessionRequest, SessionResponse, TransactionTooLarge,
        Value, consistency_violations as violations, records_request::check, records_response,
        session_response, value::Kind,
    },
    metadata,
    target::Kurrent,
};

/// What stands before the names of details.
const ERRORS: &str = "kurrentdb.protocol.v2.streams.errors";
/// The format of records that are JSON.
const FORMAT_JSON: i32 = 1;

/// `StreamsService/AppendSession`
pub(crate) async fn append_session(
    kurrent: &Kurrent,
    mut requests: Requests,
) -> Result<Reply, Fault> {
    let mut session = Session::default();
    while let Some(request) = requests.next::<SessionRequest>().await? {
        let stream = StreamName::new(&request.stream)?;
        if session.batch.appends.iter().any(|append| append.stream == stream) {
            let say = format!("stream `{stream}` is in this session already");
            let detail = named(&stream);
            return Err(Fault::new(Status::Aborted, say)
                .detailed(&format!("{ERRORS}.StreamAlreadyInAppendSessionErrorDetails"), &detail));
        }
        let expected = expected(request.expected_revision.unwrap_or(-2))?;
        session.begin(&stream, expected)?;
        for record in request.records {
            session.take(&stream, &record)?;
        }
    }
    if session.batch.appends.is_empty() {
        return Err(Fault::invalid("the session has no requests"));
    }
    let (streams, metadata) = (session.streams(), session.metadata());
    let receipt = match kurrent.events.append(session.batch).await {
        Ok(receipt) => receipt,
        Err(Rejected::Conflict(conflict)) => return Err(conflicting(&conflict)),
        Err(rejected) => return Err(Error::from(rejected).into()),
    };
    for (stream, event) in metadata {
        metadata::written(kurrent, &stream, &event).await?;
    }
    let position = last_place(kurrent, &receipt).await?;
    let mut output = Vec::with_capacity(streams.len());
    for stream in streams {
        let stream_revision = revision(kurrent, &receipt, &stream).await?;
        let stream = stream.to_string();
        output.push(session_response::Output { stream, stream_revision, position: Some(position) });
    }
    Ok(answer::message(&SessionResponse { output, position }))
}

/// `StreamsService/AppendRecords`
pub(crate) async fn append_records(
    kurrent: &Kurrent,
    mut requests: Requests,
) -> Result<Reply, Fault> {
    let request: RecordsRequest = requests.only().await?;
    let mut session = Session::default();
    let mut checks = Vec::new();
    for check in request.checks {
        let Some(check::Type::StreamState(state)) = check.r#type else {
            return Err(Fault::invalid("a check is of the state of a stream"));
        };
        let (stream, expected) = (StreamName::new(&state.stream)?, expected(state.expected_state)?);
        session.begin(&stream, expected)?;
        checks.push((stream, expected));
    }
    if request.records.is_empty() {
        return Err(Fault::invalid("there are no records"));
    }
    for record in request.records {
        let stream = StreamName::new(&record.stream)?;
        // Records of one stream that follow each other are one append; their order is that of all events.
        let last = session.batch.appends.last();
        if session.batch.appends.len() == checks.len()
            || last.is_none_or(|last| last.stream != stream)
        {
            session.begin(&stream, Expected::Any)?;
        }
        session.take(&stream, &record)?;
    }
    let (streams, metadata) = (session.streams(), session.metadata());
    let receipt = match kurrent.events.append(session.batch).await {
        Ok(receipt) => receipt,
        Err(Rejected::Conflict(conflict)) if conflict.is_ended => {
            return Err(conflicting(&conflict));
        }
        Err(Rejected::Conflict(conflict)) => {
            return Err(violated(kurrent, &checks, &conflict).await?);
        }
        Err(rejected) => return Err(Error::from(rejected).into()),
    };
    for (stream, event) in metadata {
        metadata::written(kurrent, &stream, &event).await?;
    }
    let position = last_place(kurrent, &receipt).await?;
    let mut revisions = Vec::with_capacity(streams.len());
    for stream in streams {
        let is_written = |written: &weft_events::append::Written| {
            written.stream == stream && !written.versions.is_empty()
        };
        if receipt.written.iter().any(is_written) {
            let revision = revision(kurrent, &receipt, &stream).await?;
            revisions.push(records_response::Revision { stream: stream.to_string(), revision });
        }
    }
    Ok(answer::message(&RecordsResponse { revisions, position }))
}

/// Appends that happen together.
#[derive(Default)]
struct Session {
    batch: AppendBatch,
    events: usize,
    bytes: usize,
}

impl Session {
    fn begin(&mut self, stream: &StreamName, expected: Expected) -> Result<(), Fault> {
        if is_projected(stream.as_str()) {
            let say =
                format!("nothing is appended to stream `{stream}`, which is one of projections");
            return Err(Fault::invalid(say));
        }
        let append = Append { stream: stream.clone(), expected, events: Vec::new() };
        self.batch.appends.push(append);
        self.count(0, 64)
    }

    fn count(&mut self, events: usize, bytes: usize) -> Result<(), Fault> {
        self.events += events;
        self.bytes += bytes;
        if self.bytes <= APPEND_BYTES_MAX && self.events <= EVENTS_MAX {
            return Ok(());
        }
        let max = "at most 5,000 events and 8 MiB are appended at once";
        let (size, max_size) = (size(self.bytes), size(APPEND_BYTES_MAX));
        let detail = TransactionTooLarge { size, max_size };
        Err(Fault::new(Status::Aborted, max)
            .detailed(&format!("{ERRORS}.AppendTransactionSizeExceededErrorDetails"), &detail))
    }

    fn take(&mut self, stream: &StreamName, record: &Record) -> Result<(), Fault> {
        let no_id = || Fault::invalid("a record has a UUID");
        let id = record.record_id.as_deref().and_then(parse).ok_or_else(no_id)?;
        let schema = record.schema.clone().unwrap_or_default();
        let metadata = match record.properties.is_empty() {
            true => Vec::new(),
            false => {
                let all = record.properties.iter();
                let all: Map<_, _> = all.map(|(name, value)| (name.clone(), json(value))).collect();
                Json::Object(all).to_string().into_bytes()
            }
        };
        let bytes = record.data.len() + metadata.len();
        if bytes > EVENT_BYTES_MAX - 4096 {
            let detail = RecordTooLarge {
                stream: stream.to_string(),
                record_id: record.record_id.clone().unwrap_or_default(),
                size: size(bytes),
                max_size: size(EVENT_BYTES_MAX),
            };
            return Err(Fault::invalid("a record is larger than 1 MiB")
                .detailed(&format!("{ERRORS}.AppendRecordSizeExceededErrorDetails"), &detail));
        }
        self.count(1, bytes + 64)?;
        let content_type = if schema.format == FORMAT_JSON { JSON } else { BYTES };
        let (kind, data) = (&*schema.name, &*record.data);
        let proposed = Proposed { id, kind, content_type, metadata: &metadata, data };
        if let Some(append) = self.batch.appends.last_mut() {
            append.events.push(proposed.event(stream)?);
        }
        Ok(())
    }

    /// The last events of those streams that are of metadata.
    fn metadata(&self) -> Vec<(StreamName, NewEvent)> {
        let of = self.batch.appends.iter().filter(|append| metadata::is_of(&append.stream));
        of.filter_map(|append| Some((append.stream.clone(), append.events.last()?.clone())))
            .collect()
    }

    /// The streams, each once, in their order.
    fn streams(&self) -> Vec<StreamName> {
        let mut streams: Vec<StreamName> = Vec::new();
        for append in &self.batch.appends {
            if !streams.contains(&append.stream) {
                streams.push(append.stream.clone());
            }
        }
        streams
    }
}

fn size(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

/// What is expected by a number.
fn expected(number: i64) -> Result<Expected, Fault> {
    match number {
        -1 => Ok(Expected::None),
        -2 => Ok(Expected::Any),
        -4 => Ok(Expected::Exists),
        number => u64::try_from(number).map(Expected::Version).map_err(|_negative| {
            Fault::invalid(format!("{number} is no revision that can be expected"))
        }),
    }
}

/// A property as JSON.
fn json(value: &Value) -> Json {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::NumberValue(number)) => (*number).into(),
        Some(Kind::StringValue(text)) => text.as_str().into(),
        Some(Kind::BoolValue(truth)) => (*truth).into(),
        Some(Kind::StructValue(fields)) => {
            let all = fields.fields.iter();
            Json::Object(all.map(|(name, value)| (name.clone(), json(value))).collect())
        }
        Some(Kind::ListValue(values)) => values.values.iter().map(json).collect(),
    }
}

fn named(stream: &StreamName) -> NamedStream {
    NamedStream { stream: stream.to_string() }
}

/// The place of the last event of an append.
async fn last_place(kurrent: &Kurrent, receipt: &AppendReceipt) -> Result<i64, Fault> {
    let last = receipt.written.iter().rev().find(|written| !written.versions.is_empty());
    let found = match (receipt.position, last) {
        (Some(position), _) => Some(place(position)),
        (None, Some(last)) => place_of(kurrent, &last.stream, last.versions.end - 1).await?,
        (None, None) => None,
    };
    Ok(found.map_or(0, |place| i64::try_from(place).unwrap_or(i64::MAX)))
}

/// The version of the last event of a stream.
async fn revision(
    kurrent: &Kurrent,
    receipt: &AppendReceipt,
    stream: &StreamName,
) -> Result<i64, Fault> {
    let of = receipt.written.iter().rev();
    let mut of = of.filter(|written| written.stream == *stream && !written.versions.is_empty());
    let next = match of.next() {
        Some(written) => written.versions.end,
        None => kurrent.events.stream(stream).await?.map_or(0, |info| info.next),
    };
    Ok(actual_number(next.checked_sub(1)))
}

fn conflicting(conflict: &Conflict) -> Fault {
    let Conflict { stream, expected, actual, is_ended, .. } = conflict;
    if *is_ended {
        let say = format!("stream `{stream}` is tombstoned, and takes no events any more");
        return Fault::new(Status::FailedPrecondition, say)
            .detailed(&format!("{ERRORS}.StreamTombstonedErrorDetails"), &named(stream));
    }
    let (expected_revision, actual_revision) = (number(*expected), actual_number(*actual));
    let say = format!(
        "stream `{stream}`: revision {expected_revision} was expected, and the actual one is {actual_revision}"
    );
    let detail =
        RevisionConflict { stream: stream.to_string(), expected_revision, actual_revision };
    Fault::new(Status::FailedPrecondition, say)
        .detailed(&format!("{ERRORS}.StreamRevisionConflictErrorDetails"), &detail)
}

/// Every check that does not hold.
async fn violated(
    kurrent: &Kurrent,
    checks: &[(StreamName, Expected)],
    conflict: &Conflict,
) -> Result<Fault, Fault> {
    let mut violations = Vec::new();
    for (at, (stream, expected)) in checks.iter().enumerate() {
        let info = kurrent.events.stream(stream).await?;
        let is_open = info.filter(|info| info.life == weft_events::head::Life::Open);
        let actual = is_open.and_then(|info| info.next.checked_sub(1));
        let holds = match expected {
            Expected::Any => true,
            Expected::None => actual.is_none(),
            Expected::Exists => actual.is_some(),
            Expected::Version(version) => actual == Some(*version),
        };
        if holds && *stream != conflict.stream {
            continue;
        }
        let state = violations::StreamState {
            stream: stream.to_string(),
            expected_state: number(*expected),
            actual_state: actual_number(actual),
        };
        violations.push(violations::Violation {
            check_index: size(at),
            r#type: Some(violations::violation::Type::StreamState(state)),
        });
    }
    let detail = ConsistencyViolations { violations };
    Ok(Fault::new(Status::FailedPrecondition, "streams are not as the checks expect them")
        .detailed(&format!("{ERRORS}.AppendConsistencyViolationErrorDetails"), &detail))
}
