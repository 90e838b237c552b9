//! The rows of the table about streams.

use weft_api::{Gives, Permission, Row, Verb, delete, get, post};
use weft_kernel::Reason;

use super::{STREAM, Streams, append, change, read, view};
use crate::{
    PUBLISH_BYTES_MAX,
    response::{EVENT_STREAM, JSON},
    schema::{Parameter, Shape, text},
};

const fn may(name: &'static str, about: &'static str, shape: Shape) -> Parameter {
    Parameter { name, about, shape, required: false }
}

const EXPECTED: Parameter = may(
    "expected",
    "What the stream must be: any, none, exists, or the version of its last event.",
    Shape::Text(&text::NAME),
);
const FROM: Parameter = may(
    "from",
    "The version, or position among all, to begin with: start, end, or a number.",
    Shape::Text(&text::NAME),
);
const DIRECTION: Parameter =
    may("direction", "From old to new or back.", Shape::Words(&["forward", "backward"]));
const MAX: Parameter =
    may("max", "The most events of a page; 100 if it is left out.", Shape::Int(1, read::MAX));

const SINCE: Parameter = may(
    "since",
    "The time of the first events, as 2026-01-31T00:00:00Z.",
    Shape::Text(&text::TIME),
);
const UNTIL: Parameter =
    may("until", "The time of the last events of pages.", Shape::Text(&text::TIME));
const CATEGORY: Parameter = may(
    "category",
    "Only events of streams of a category, as `order` of order-1001.",
    Shape::Text(&text::SPACE),
);
const TYPE: Parameter = may(
    "type",
    "Only events of one of these types, with commas between them.",
    Shape::Text(&text::EVENT_TYPES),
);
const TAGS: Parameter = may(
    "tags",
    "Only events with all of these tags, with commas between them.",
    Shape::Text(&text::TAGS),
);
const CORRELATION: Parameter =
    may("correlation", "Only events with this correlation id.", Shape::Text(&text::ANY));
const OF_STREAM: Parameter = may("stream", "Only events of this stream.", Shape::Text(&text::NAME));

/// Reasons of what reads.
const READ: &[Reason] = &[
    Reason::NotFound,
    Reason::PositionConflict,
    Reason::StorageUnavailable,
    Reason::StorageCorrupt,
    Reason::Draining,
];
/// Reasons of what changes.
const CHANGE: &[Reason] = &[
    Reason::VersionConflict,
    Reason::ConditionConflict,
    Reason::PositionConflict,
    Reason::SchemaMismatch,
    Reason::MalformedMessage,
    Reason::MessageTooLarge,
    Reason::StorageBusy,
    Reason::StorageFull,
    Reason::StorageUnavailable,
    Reason::StoragePoisoned,
    Reason::StorageStalled,
    Reason::StorageCorrupt,
    Reason::Draining,
];
const PAGE: &[Gives] = &[Gives::json::<view::EventsView>(200), Gives::media(200, EVENT_STREAM)];

/// Makes a handler of an async function.
macro_rules! by {
    ($($handler:ident)::+) => {
        |ask| Box::pin($($handler)::+(ask))
    };
}

/// What is offered of streams.
pub static STREAM_OPERATIONS: &[Row<Streams>] = &[
    get("streams", "/v1/streams", "Every stream that there ever was, by name.", Permission::Read, by!(read::list))
        .query(&[
            may("prefix", "What their names begin with.", Shape::Text(&text::NAME)),
            may("after", "The name to go on after.", Shape::Text(&text::NAME)),
            may("max", "The most streams of the answer; 100 if it is left out.", Shape::Int(1, read::STREAMS_MAX)),
        ])
        .shows::<view::StreamsView>()
        .refuses(&[Reason::StorageUnavailable, Reason::StorageCorrupt, Reason::Draining])
        .verb(
            &STREAM,
            Verb::List {
                help: "Every stream that there ever was, by name",
                member: "streams",
                columns: &[
                    ("stream", "name"),
                    ("events", "events"),
                    ("first", "first"),
                    ("next", "next"),
                    ("state", "state"),
                ],
            },
        ),
    get("stream", "/v1/streams/{stream}", "A stream: how many events it has, and their versions.", Permission::Read, by!(read::show))
        .shows::<view::StreamView>()
        .refuses(READ)
        .verb(&STREAM, Verb::Show { help: "One stream: how many events it has, and their versions" }),
    post(
        "append_to_stream",
        "/v1/streams/{stream}/events",
        "Appends events to a stream, if it is as expected; 409 shows those that were not known.",
        Permission::Publish,
        by!(append::append),
    )
    .query(&[
        EXPECTED,
        may("type", "The type of an event that is made of a body.", Shape::Text(&text::EVENT_TYPE)),
        may("durability", "When it counts as done.", Shape::Words(&["memory", "os", "fsync"])),
    ])
    .takes_media(&[("*/*", &Shape::Any)], PUBLISH_BYTES_MAX)
    .shows::<view::AppendsView>()
    .refuses(CHANGE),
    post(
        "append_to_streams",
        "/v1/events",
        "Appends events to several streams, all or nothing, unless events match a condition; one without events is only held to what is expected.",
        Permission::Publish,
        by!(append::append_all),
    )
    .takes_media(&[(JSON, <append::Several as weft_api::Body>::SHAPE)], PUBLISH_BYTES_MAX)
    .shows::<view::AppendsView>()
    .refuses(CHANGE),
    get(
        "read_stream",
        "/v1/streams/{stream}/events",
        "Events of a stream, page by page, or, as server-sent events, as they come.",
        Permission::Consume,
        by!(read::read),
    )
    .query(&[FROM, SINCE, UNTIL, DIRECTION, MAX])
    .gives(PAGE)
    .refuses(READ),
    get(
        "read_events",
        "/v1/events",
        "Events of all streams, or those with what is asked for, in the order in which they were appended, page by page, or as they come.",
        Permission::Consume,
        by!(read::read_all),
    )
    .query(&[CATEGORY, TYPE, TAGS, CORRELATION, OF_STREAM, FROM, SINCE, UNTIL, DIRECTION, MAX])
    .gives(PAGE)
    .refuses(READ),
    post(
        "truncate_stream",
        "/v1/streams/{stream}/truncate",
        "Removes the events of a stream before a version.",
        Permission::Manage,
        by!(change::truncate),
    )
    .query(&[EXPECTED])
    .takes::<change::Truncate>()
    .shows::<view::StreamView>()
    .refuses(CHANGE),
    delete(
        "delete_stream",
        "/v1/streams/{stream}",
        "Removes all events of a stream; the next one begins it again, unless it is to end.",
        Permission::Manage,
        by!(change::delete),
    )
    .query(&[
        EXPECTED,
        may("end", "Whether the stream never takes another event.", Shape::Words(&["true", "false"])),
    ])
    .shows::<view::StreamView>()
    .refuses(CHANGE)
    .verb(
        &STREAM,
        Verb::Delete {
            help: "Delete a stream with all its events; the next one begins it again",
            confirm: true,
            done: "deleted",
        },
    ),
];
