//! The rows of the table about projections.

use weft_api::{Gives, Permission, Row, Verb, get, post};
use weft_kernel::Reason;

use super::{PROJECTION, Projected, moment, read, state};
use crate::{
    response::EVENT_STREAM,
    schema::{Parameter, Shape, text},
};

const fn may(name: &'static str, about: &'static str, shape: Shape) -> Parameter {
    Parameter { name, about, shape, required: false }
}

const KEY: &[Parameter] = &[Parameter {
    name: "key",
    about: "Key of the document.",
    shape: Shape::Text(&text::ANY),
    required: true,
}];
const WAIT: Parameter = may(
    "wait",
    "How long to wait for what the consistency token says, up to 60 s; 1 s if it is left out.",
    Shape::Text(&text::NAME),
);
const SINCE: Parameter = Parameter {
    name: "since",
    about: "The earlier moment, such as 2026-01-31T08:00:00Z.",
    shape: Shape::Text(&text::NAME),
    required: true,
};
const UNTIL: Parameter = may(
    "until",
    "The moment as of which the document is folded anew; now if it is left out.",
    Shape::Text(&text::NAME),
);
const ON_STALE: Parameter = may(
    "on_stale",
    "What becomes of a read that would show less than its consistency token says: refuse, or serve.",
    Shape::Words(&["refuse", "serve"]),
);

/// Reasons of what reads.
const READ: &[Reason] = &[
    Reason::NotFound,
    Reason::PositionConflict,
    Reason::ProjectionBehind,
    Reason::StorageUnavailable,
    Reason::StorageCorrupt,
    Reason::Draining,
];
/// Reasons of what reads a document as it is or was.
const DOCUMENT: &[Reason] = &[
    Reason::NotFound,
    Reason::Conflict,
    Reason::PositionConflict,
    Reason::ProjectionBehind,
    Reason::StorageUnavailable,
    Reason::StorageCorrupt,
    Reason::Draining,
];
/// Reasons of what looks back.
const MOMENT: &[Reason] = &[
    Reason::NotFound,
    Reason::Conflict,
    Reason::StorageUnavailable,
    Reason::StorageCorrupt,
    Reason::Draining,
];
/// Reasons of what changes.
const CHANGE: &[Reason] = &[
    Reason::NotFound,
    Reason::Conflict,
    Reason::StorageBusy,
    Reason::StorageFull,
    Reason::StorageUnavailable,
    Reason::StoragePoisoned,
    Reason::StorageStalled,
    Reason::StorageCorrupt,
    Reason::Draining,
];

/// Makes a handler of an async function.
macro_rules! by {
    ($($handler:ident)::+) => {
        |ask| Box::pin($($handler)::+(ask))
    };
}

/// What is offered of projections.
pub static PROJECTION_OPERATIONS: &[Row<Projected>] = &[
    get("projections", "/v1/projections", "Every projection.", Permission::Read, by!(state::list))
        .shows::<Vec<state::ProjectionView>>()
        .verb(
            &PROJECTION,
            Verb::List {
                help: "Every projection",
                member: "",
                columns: &[
                    ("projection", "name"),
                    ("state", "state"),
                    ("position", "position"),
                    ("lag", "lag_events"),
                    ("parked", "parked"),
                ],
            },
        ),
    get(
        "projection",
        "/v1/projections/{name}",
        "A projection: its definition, how far it is, and how far behind.",
        Permission::Read,
        by!(state::show),
    )
    .shows::<state::ProjectionView>()
    .refuses(&[Reason::NotFound])
    .verb(
        &PROJECTION,
        Verb::Show { help: "One projection: its definition, how far it is, and how far behind" },
    ),
    get(
        "projection_documents",
        "/v1/projections/{name}/documents",
        "Documents of a projection by key, or, as server-sent events, those that change.",
        Permission::Consume,
        by!(read::documents),
    )
    .query(&[
        may("prefix", "What their keys begin with.", Shape::Text(&text::ANY)),
        may("after", "The key to go on after.", Shape::Text(&text::ANY)),
        may("filter", "CEL over `document` and `key` that is true of them.", Shape::Text(&text::CEL)),
        may("sort", "The field by which they are put in order, `-` before it for the largest first.", Shape::Text(&text::ANY)),
        may("limit", "The most documents of the answer; 100 if it is left out.", Shape::Int(1, read::LIMIT)),
        may("from", "Of changes: start, end, or the position of the first event.", Shape::Text(&text::NAME)),
        WAIT,
        ON_STALE,
    ])
    .gives(&[Gives::json::<read::DocumentsView>(200), Gives::media(200, EVENT_STREAM)])
    .refuses(READ),
    get(
        "projection_document",
        "/v1/projections/{name}/documents/{key}",
        "A document of a projection.",
        Permission::Consume,
        by!(read::document),
    )
    .places(KEY)
    .query(&[UNTIL, WAIT, ON_STALE])
    .gives(&[Gives::json::<read::DocumentView>(200), Gives::empty(304)])
    .refuses(DOCUMENT),
    get(
        "projection_document_difference",
        "/v1/projections/{name}/documents/{key}/difference",
        "What has become of a document between two moments, as a JSON Patch.",
        Permission::Consume,
        by!(moment::difference),
    )
    .places(KEY)
    .query(&[SINCE, UNTIL])
    .shows::<moment::DifferenceView>()
    .refuses(MOMENT),
    post(
        "rebuild_projection",
        "/v1/projections/{name}/rebuild",
        "Builds a projection again from the first event on, beside what answers until it is as far.",
        Permission::Manage,
        by!(state::rebuild),
    )
    .gives(&[Gives::json::<state::ProjectionView>(202)])
    .refuses(CHANGE),
    get(
        "projection_parked",
        "/v1/projections/{name}/parked",
        "Documents and events of a projection that wait, and why.",
        Permission::Read,
        by!(state::parked),
    )
    .shows::<Vec<state::ParkedView>>()
    .refuses(&[Reason::NotFound]),
    post(
        "resume_projection_parked",
        "/v1/projections/{name}/parked/resume",
        "Applies a parked event again, and what has come since.",
        Permission::Manage,
        by!(state::resume),
    )
    .takes::<state::Which>()
    .shows::<state::ResolvedView>()
    .refuses(CHANGE),
    post(
        "skip_projection_parked",
        "/v1/projections/{name}/parked/skip",
        "Leaves a parked event out, and applies what has come since.",
        Permission::Manage,
        by!(state::skip),
    )
    .takes::<state::Which>()
    .shows::<state::ResolvedView>()
    .refuses(CHANGE),
];
