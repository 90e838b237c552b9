//! Appends one behind the other on one call, each answered for itself.
//!
//! Appends to different streams wait for the disk together; those to one stream happen in the order in which they
//! came. What has come and is not done is bounded, and then nothing more is read.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use weft_events::{Expected, StreamName};
use weft_proxy::Reply;
use weft_wire::grpc::Status as Code;

use crate::{
    answer::{self, Producer},
    append::{self, APPEND_BYTES_MAX, Done, Gathered, Refused},
    event::EVENT_BYTES_MAX,
    fault::{Fault, packed},
    frame::{Requests, framed},
    messages::{
        BadRequest, BatchAppendRequest, BatchAppendResponse, Empty, MaximumAppendSizeExceeded,
        Status, StreamDeleted, StreamIdentifier, Target, Uuid, WrongExpectedVersion,
        batch_append_response as proto, wrong_expected_version as wrong,
    },
    target::Kurrent,
};

/// Appends that wait for the disk at once, and how much of them.
const IN_FLIGHT_MAX: usize = 64;
const IN_FLIGHT_BYTES_MAX: usize = 2 * APPEND_BYTES_MAX;
/// Appends of which a part has come, and how much of them.
const PARTS_MAX: usize = 64;
const PARTS_BYTES_MAX: usize = 2 * APPEND_BYTES_MAX;

/// `Streams/BatchAppend`
pub(crate) fn batch(kurrent: &Kurrent, requests: Requests) -> Reply {
    answer::produced(Batches {
        kurrent: kurrent.clone(),
        requests,
        is_over: false,
        parts: HashMap::new(),
        next: None,
        busy: HashSet::new(),
        running: FuturesUnordered::new(),
        bytes: 0,
    })
}

/// An append of which a part has come.
#[derive(Default)]
struct Part {
    id: Option<Uuid>,
    target: Target,
    gathered: Gathered,
    is_too_large: bool,
}

/// An append that has begun: its stream, how much it is, and what is answered.
type Running = Pin<Box<dyn Future<Output = (Vec<u8>, usize, Bytes)>>>;

struct Batches {
    kurrent: Kurrent,
    requests: Requests,
    is_over: bool,
    parts: HashMap<Vec<u8>, Part>,
    /// One that has come whole and waits for its stream.
    next: Option<Part>,
    /// Streams that are appended to.
    busy: HashSet<Vec<u8>>,
    running: FuturesUnordered<Running>,
    /// How much of appends that have begun is held.
    bytes: usize,
}

impl Producer for Batches {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            self.begin();
            let is_open = !self.is_over && self.next.is_none();
            tokio::select! {
                Some((stream, bytes, answer)) = self.running.next() => {
                    self.busy.remove(&stream);
                    self.bytes -= bytes;
                    return Ok(Some(answer));
                }
                request = self.requests.next::<BatchAppendRequest>(), if is_open => {
                    match request? {
                        Some(request) => self.take(request)?,
                        None => self.is_over = true,
                    }
                }
                else => return Ok(None),
            }
        }
    }
}

impl Batches {
    /// Begins the append that waits, if its turn has come.
    fn begin(&mut self) {
        let name = |part: &Part| {
            let identifier = part.target.stream_identifier.as_ref();
            identifier.map_or_else(Vec::new, |identifier| identifier.stream_name.clone())
        };
        let ready = |part: &mut Part| {
            self.running.len() < IN_FLIGHT_MAX
                && self.bytes + part.gathered.bytes <= IN_FLIGHT_BYTES_MAX
                && !self.busy.contains(&name(part))
        };
        if let Some(part) = self.next.take_if(ready) {
            let (name, bytes) = (name(&part), part.gathered.bytes);
            let kurrent = self.kurrent.clone();
            self.busy.insert(name.clone());
            self.bytes += bytes;
            self.running.push(Box::pin(async move {
                let answer = run(&kurrent, part).await;
                (name, bytes, answer)
            }));
        }
    }

    fn take(&mut self, request: BatchAppendRequest) -> Result<(), Fault> {
        let BatchAppendRequest { correlation_id, options, proposed_messages, is_final } = request;
        let key = correlation_id.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default();
        let part = self.parts.entry(key.clone()).or_default();
        part.id = correlation_id;
        if let Some(options) = options {
            part.target = options;
        }
        for message in proposed_messages {
            if part.is_too_large || !part.gathered.take(message) {
                // It is refused once it is whole.
                part.is_too_large = true;
                part.gathered = Gathered::default();
            }
        }
        if is_final {
            self.next = self.parts.remove(&key);
        }
        let held: usize = self.parts.values().map(|part| part.gathered.bytes).sum();
        if self.parts.len() > PARTS_MAX || held > PARTS_BYTES_MAX {
            let say = "too many appends of this call have begun, and none is whole";
            return Err(Fault::new(Code::ResourceExhausted, say));
        }
        Ok(())
    }
}

/// Does an append, and gives what is answered.
async fn run(kurrent: &Kurrent, part: Part) -> Bytes {
    let Part { id, target, gathered, is_too_large } = part;
    let read = append::stream(target.stream_identifier.as_ref())
        .and_then(|stream| Ok((stream, append::expected(&target)?)));
    let result = match read {
        Err(fault) => proto::Result::Error(told(&fault)),
        Ok(_) if is_too_large => proto::Result::Error(too_large(APPEND_BYTES_MAX)),
        Ok((stream, expected)) => {
            match append::put(kurrent, &stream, expected, &gathered.messages).await {
                Ok(done) => success(&done),
                Err(refused) => proto::Result::Error(error(&stream, expected, refused)),
            }
        }
    };
    framed(&BatchAppendResponse {
        correlation_id: id,
        result: Some(result),
        expected: target.expected.map(asked),
        stream_identifier: target.stream_identifier,
    })
}

fn success(done: &Done) -> proto::Result {
    proto::Result::Success(append::success(done))
}

/// What was expected, as it is told again.
fn asked(expected: crate::messages::target::Expected) -> proto::Expected {
    use crate::messages::target::Expected as Wanted;
    match expected {
        Wanted::Revision(version) => proto::Expected::StreamPosition(version),
        Wanted::NoStream(_) => proto::Expected::NoStream(Empty {}),
        Wanted::Any(_) => proto::Expected::Any(Empty {}),
        Wanted::StreamExists(_) => proto::Expected::StreamExists(Empty {}),
    }
}

fn error(stream: &StreamName, expected: Expected, refused: Refused) -> Status {
    match refused {
        Refused::Conflict { actual } => {
            let current = match actual {
                Some(actual) => wrong::Current::CurrentStreamRevision(actual),
                None => wrong::Current::CurrentNoStream(Empty {}),
            };
            let expected = match expected {
                Expected::Any => wrong::Expected::ExpectedAny(Empty {}),
                Expected::None => wrong::Expected::ExpectedNoStream(Empty {}),
                Expected::Exists => wrong::Expected::ExpectedStreamExists(Empty {}),
                Expected::Version(version) => wrong::Expected::ExpectedStreamPosition(version),
            };
            let detail = WrongExpectedVersion { current: Some(current), expected: Some(expected) };
            let details = Some(packed("event_store.client.WrongExpectedVersion", &detail));
            status(Code::FailedPrecondition, "WrongExpectedVersion", details)
        }
        Refused::Deleted => {
            let stream_name = stream.as_str().as_bytes().to_vec();
            let stream_identifier = Some(StreamIdentifier { stream_name });
            let detail = StreamDeleted { stream_identifier };
            let details = Some(packed("event_store.client.StreamDeleted", &detail));
            status(
                Code::FailedPrecondition,
                &format!("Event stream '{stream}' is deleted."),
                details,
            )
        }
        Refused::TooLarge => too_large(EVENT_BYTES_MAX),
        Refused::Fault(fault) => told(&fault),
    }
}

fn too_large(max: usize) -> Status {
    let max_append_size = u32::try_from(max).unwrap_or(u32::MAX);
    let detail = MaximumAppendSizeExceeded { max_append_size };
    let details = Some(packed("event_store.client.MaximumAppendSizeExceeded", &detail));
    status(Code::InvalidArgument, "MaximumAppendSizeExceeded", details)
}

/// A fault, in the only form in which clients show its text.
fn told(fault: &Fault) -> Status {
    let detail = BadRequest { message: fault.say.clone() };
    status(fault.status, &fault.say, Some(packed("event_store.client.BadRequest", &detail)))
}

fn status(code: Code, say: &str, details: Option<crate::messages::Any>) -> Status {
    Status { code: code.number().into(), message: say.to_owned(), details }
}
