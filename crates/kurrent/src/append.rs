//! Appending to one stream.

use weft_events::{AppendBatch, Direction, Expected, PageLimits, Rejected, StreamName, head::Life};
use weft_kernel::{Error, Reason};
use weft_proxy::Reply;

use crate::{
    answer,
    event::{EVENT_BYTES_MAX, JSON, Proposed, place, read_uuid},
    fault::Fault,
    frame::Requests,
    messages::{
        AppendRequest, AppendResponse, Empty, Position, ProposedMessage, StreamIdentifier, Target,
        append_request::Content,
        append_response::{self as proto, success, wrong_expected_version as wrong},
        target::Expected as Wanted,
    },
    metadata,
    target::Kurrent,
};

/// Events that are appended at once, and how much of them.
pub(crate) const EVENTS_MAX: usize = 5_000;
pub(crate) const APPEND_BYTES_MAX: usize = 8 << 20;

/// What an append has come to.
pub(crate) struct Done {
    /// The version of the last event of the stream, if it is there.
    pub(crate) revision: Option<u64>,
    /// The place of the last event that was appended.
    pub(crate) place: Option<u64>,
}

/// Why nothing was appended.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The stream is not as expected.
    Conflict { actual: Option<u64> },
    /// It takes no events any more.
    Deleted,
    /// It is more than may be appended at once.
    TooLarge,
    /// Something else.
    Fault(Fault),
}

impl<F: Into<Fault>> From<F> for Refused {
    fn from(fault: F) -> Self {
        Self::Fault(fault.into())
    }
}

/// `Streams/Append`
pub(crate) async fn append(kurrent: &Kurrent, mut requests: Requests) -> Result<Reply, Fault> {
    let Some(Content::Options(target)) = requests.only::<AppendRequest>().await?.content else {
        return Err(Fault::invalid("an append begins with its options"));
    };
    let stream = stream(target.stream_identifier.as_ref())?;
    let expected = expected(&target)?;
    let mut gathered = Gathered::default();
    while let Some(request) = requests.next::<AppendRequest>().await? {
        let Some(Content::ProposedMessage(message)) = request.content else {
            return Err(Fault::invalid("behind the options of an append come its events"));
        };
        if !gathered.take(message) {
            return Err(Fault::too_large(APPEND_BYTES_MAX));
        }
    }
    let refused = match put(kurrent, &stream, expected, &gathered.messages).await {
        Ok(done) => {
            let result = Some(proto::Result::Success(success(&done)));
            return Ok(answer::message(&AppendResponse { result }));
        }
        Err(refused) => refused,
    };
    match refused {
        Refused::Conflict { actual } => {
            let result = Some(wrong_version(expected, actual));
            Ok(answer::message(&AppendResponse { result }))
        }
        Refused::Deleted => Err(Fault::deleted(&stream)),
        Refused::TooLarge => Err(Fault::too_large(EVENT_BYTES_MAX)),
        Refused::Fault(fault) => Err(fault),
    }
}

/// Events that have come of an append.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) messages: Vec<ProposedMessage>,
    pub(crate) bytes: usize,
}

impl Gathered {
    /// Takes one more, unless it is too much.
    pub(crate) fn take(&mut self, message: ProposedMessage) -> bool {
        self.bytes += size(&message);
        self.messages.push(message);
        self.bytes <= APPEND_BYTES_MAX && self.messages.len() <= EVENTS_MAX
    }
}

/// How much an event is.
fn size(message: &ProposedMessage) -> usize {
    let pairs: usize = message.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    64 + pairs + message.custom_metadata.len() + message.data.len()
}

/// Appends events to a stream.
pub(crate) async fn put(
    kurrent: &Kurrent,
    stream: &StreamName,
    expected: Expected,
    messages: &[ProposedMessage],
) -> Result<Done, Refused> {
    check_name(stream)?;
    let mut events = Vec::with_capacity(messages.len());
    for message in messages {
        if message.data.len() + message.custom_metadata.len() > EVENT_BYTES_MAX - 4096 {
            return Err(Refused::TooLarge);
        }
        let of = |name: &str| message.metadata.get(name).map_or("", String::as_str);
        let content_type = match of("content-type") {
            "" => JSON,
            content_type => content_type,
        };
        let proposed = Proposed {
            id: read_uuid(message.id.as_ref())?,
            kind: of("type"),
            content_type,
            metadata: &message.custom_metadata,
            data: &message.data,
        };
        events.push(proposed.event(stream)?);
    }
    let batch = |expected| AppendBatch::of(stream.clone(), expected, events.clone());
    let appended = match kurrent.events.append(batch(expected)).await {
        // Of a stream that was deleted a client may still know the last version.
        Err(Rejected::Conflict(_)) if is_deleted_at(kurrent, stream, expected).await? => {
            kurrent.events.append(batch(Expected::None)).await
        }
        appended => appended,
    };
    let receipt = match appended {
        Ok(receipt) => receipt,
        Err(Rejected::Conflict(conflict)) if conflict.is_ended => return Err(Refused::Deleted),
        Err(Rejected::Conflict(conflict)) => {
            return Err(Refused::Conflict { actual: conflict.actual });
        }
        Err(Rejected::Failed(error)) if error.reason() == Reason::MessageTooLarge => {
            return Err(Refused::TooLarge);
        }
        Err(rejected) => return Err(Error::from(rejected).into()),
    };
    let last = receipt
        .written
        .first()
        .and_then(|written| (!written.versions.is_empty()).then(|| written.versions.end - 1));
    let done = match (last, receipt.position) {
        (Some(last), Some(position)) => Done { revision: Some(last), place: Some(place(position)) },
        // It was there already.
        (Some(last), None) => {
            Done { revision: Some(last), place: place_of(kurrent, stream, last).await? }
        }
        (None, _) => {
            let info = kurrent.events.stream(stream).await?;
            let is_open = info.filter(|info| info.life == Life::Open);
            Done { revision: is_open.and_then(|info| info.next.checked_sub(1)), place: None }
        }
    };
    if let Some(event) = events.last() {
        metadata::written(kurrent, stream, event).await?;
    }
    Ok(done)
}

/// Whether a stream was deleted and its last version was the one that is expected.
async fn is_deleted_at(
    kurrent: &Kurrent,
    stream: &StreamName,
    expected: Expected,
) -> Result<bool, Fault> {
    let Expected::Version(version) = expected else { return Ok(false) };
    let info = kurrent.events.stream(stream).await?;
    Ok(info
        .is_some_and(|info| info.life == Life::Deleted && info.next == version.saturating_add(1)))
}

/// The place of an event that is there.
pub(crate) async fn place_of(
    kurrent: &Kurrent,
    stream: &StreamName,
    version: u64,
) -> Result<Option<u64>, Fault> {
    let limits = PageLimits { events: 1, ..PageLimits::default() };
    let page = match kurrent.events.read(stream, version, Direction::Forward, limits).await {
        Ok(page) => page,
        Err(error) if error.reason() == Reason::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(page.events.first().map(|event| place(event.position)))
}

/// The name of a stream.
pub(crate) fn stream(identifier: Option<&StreamIdentifier>) -> Result<StreamName, Fault> {
    let bytes = identifier.map_or(&[][..], |identifier| &identifier.stream_name);
    let text = std::str::from_utf8(bytes);
    let text = text.map_err(|error| Fault::invalid(format!("the name of a stream: {error}")))?;
    Ok(StreamName::new(text)?)
}

/// Whether a stream is one that KurrentDB's projections make, which are not there.
pub(crate) fn is_projected(stream: &str) -> bool {
    ["$ce-", "$et-", "$bc-", "$category-"].iter().any(|prefix| stream.starts_with(prefix))
        || matches!(stream, "$streams" | "$et" | "$ce" | "$bc")
}

/// Whether a stream may be written to.
fn check_name(stream: &StreamName) -> Result<(), Fault> {
    if is_projected(stream.as_str()) {
        let say = format!("stream `{stream}` is one of projections, and nothing is appended to it");
        return Err(Fault::invalid(say));
    }
    Ok(())
}

/// What a stream must be.
pub(crate) fn expected(target: &Target) -> Result<Expected, Fault> {
    match &target.expected {
        Some(Wanted::Revision(version)) => Ok(Expected::Version(*version)),
        Some(Wanted::NoStream(_)) => Ok(Expected::None),
        Some(Wanted::Any(_)) => Ok(Expected::Any),
        Some(Wanted::StreamExists(_)) => Ok(Expected::Exists),
        None => Err(Fault::invalid("a change says which revision of its stream it expects")),
    }
}

/// What is answered of an append that was done.
pub(crate) fn success(done: &Done) -> proto::Success {
    let at = |place| Position { commit_position: place, prepare_position: place };
    proto::Success {
        revision: Some(match done.revision {
            Some(revision) => success::Revision::CurrentRevision(revision),
            None => success::Revision::NoStream(Empty {}),
        }),
        at: Some(match done.place {
            Some(place) => success::At::Position(at(place)),
            None => success::At::NoPosition(Empty {}),
        }),
    }
}

fn wrong_version(expected: Expected, actual: Option<u64>) -> proto::Result {
    let current = match actual {
        Some(actual) => wrong::Current::CurrentRevision(actual),
        None => wrong::Current::CurrentNoStream(Empty {}),
    };
    let expected = match expected {
        Expected::Any => wrong::Expected::ExpectedAny(Empty {}),
        Expected::None => wrong::Expected::ExpectedNoStream(Empty {}),
        Expected::Exists => wrong::Expected::ExpectedStreamExists(Empty {}),
        Expected::Version(version) => wrong::Expected::ExpectedRevision(version),
    };
    let (current, expected) = (Some(current), Some(expected));
    proto::Result::WrongExpectedVersion(proto::WrongExpectedVersion { current, expected })
}
