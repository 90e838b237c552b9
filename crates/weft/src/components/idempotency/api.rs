//! The operations of idempotency keys: which there are, and how to free one. What was answered is not shown.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use weft_api::{
    Ask, Noun, Permission, Response, Row, Verb, delete, get,
    schema::{Parameter, Shape, text},
    time,
};
use weft_gateway::idempotency::{Entry, EntryKey, Keys, Standing};
use weft_kernel::{Error, Reason, Result};

use crate::admin::page;

/// The most entries of one page.
const LIST_MAX: u64 = 1000;

/// Why the store may refuse.
const STORE: &[Reason] = &[
    Reason::StorageFull,
    Reason::StorageUnavailable,
    Reason::StoragePoisoned,
    Reason::StorageStalled,
    Reason::StorageCorrupt,
    Reason::Draining,
];
const ONE: &[Reason] = &[
    Reason::NotFound,
    Reason::StorageFull,
    Reason::StorageUnavailable,
    Reason::StoragePoisoned,
    Reason::StorageStalled,
    Reason::StorageCorrupt,
    Reason::Draining,
];
const FREED: &[Reason] = &[
    Reason::NotFound,
    Reason::Conflict,
    Reason::StorageFull,
    Reason::StorageUnavailable,
    Reason::StoragePoisoned,
    Reason::StorageStalled,
    Reason::StorageCorrupt,
    Reason::Draining,
];

/// An idempotency key.
static KEY: Noun = Noun {
    name: "idempotency-key",
    about: "requests that are carried out once, with their answers",
};

/// The text by which an entry is named.
const ID: text::Kind = text::Kind {
    word: "id",
    what: "the id of an idempotency key: ROUTE:CONSUMER:KEY",
    pattern: "[ -~]{1,520}",
    format: None,
    fits: |text| {
        (1..=520).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    },
};

const PLACE: &[Parameter] = &[Parameter {
    name: "id",
    about: "Route, consumer and key, with colons between them; for a consumer `-` if it came without \
            credentials.",
    shape: Shape::Text(&ID),
    required: true,
}];

/// What is offered.
pub(super) static OPERATIONS: &[Row<Arc<Keys>>] = &[
    get(
        "idempotency_keys",
        "/v1/idempotency-keys",
        "Idempotency keys, by route, consumer and key. Where there are more, `next` is the `after` to go on with.",
        Permission::Read,
        |ask| Box::pin(list(ask)),
    )
    .query(&[
        Parameter {
            name: "after",
            about: "The id to go on after.",
            shape: Shape::Text(&ID),
            required: false,
        },
        Parameter {
            name: "max",
            about: "How many at most: 100 if not given.",
            shape: Shape::Int(1, LIST_MAX),
            required: false,
        },
    ])
    .shows::<IdempotencyKeys>()
    .refuses(STORE)
    .admin_only()
    .verb(
        &KEY,
        Verb::List {
            help: "Every idempotency-key, with how its request stands",
            member: "keys",
            columns: &[
                ("id", "id"),
                ("state", "state"),
                ("status", "status"),
                ("bytes", "bytes"),
                ("began", "began"),
                ("expires", "expires"),
            ],
        },
    ),
    get(
        "idempotency_key",
        "/v1/idempotency-keys/{id}",
        "How the request of an idempotency key stands.",
        Permission::Read,
        |ask| Box::pin(show(ask)),
    )
    .places(PLACE)
    .shows::<IdempotencyKey>()
    .refuses(ONE)
    .admin_only()
    .verb(&KEY, Verb::Show { help: "One idempotency-key: how its request stands, and until when it is kept" }),
    delete(
        "delete_idempotency_key",
        "/v1/idempotency-keys/{id}",
        "Frees an idempotency key: the next request with it is carried out.",
        Permission::Manage,
        |ask| Box::pin(free(ask)),
    )
    .places(PLACE)
    .refuses(FREED)
    .admin_only()
    .verb(
        &KEY,
        Verb::Delete {
            help: "Delete an idempotency-key; the next request with it is carried out",
            confirm: false,
            done: "deleted",
        },
    ),
];

/// Idempotency keys.
#[derive(Serialize, JsonSchema)]
struct IdempotencyKeys {
    /// The keys.
    keys: Vec<IdempotencyKey>,
    /// The `after` to go on with, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// An idempotency key, and how its request stands.
#[derive(Serialize, JsonSchema)]
struct IdempotencyKey {
    /// Route, consumer and key.
    id: String,
    /// The route.
    route: String,
    /// The consumer; `-` for requests without credentials, and a digest behind `~` for the subject of a token.
    consumer: String,
    /// The key.
    key: String,
    /// `running`; `kept`: its answer is given again; `not_kept`: it was answered, and the answer cannot be given
    /// again; `unknown`: it was begun, and nobody knows what came of it.
    state: &'static str,
    /// The status that was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Bytes of the answer that is kept.
    bytes: u64,
    /// When it began.
    began: String,
    /// When it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<String>,
    /// When the key is forgotten.
    expires: String,
}

impl From<Entry> for IdempotencyKey {
    fn from(entry: Entry) -> Self {
        let [route, consumer, key] = entry.key.parts().map(str::to_owned);
        Self {
            id: entry.key.to_string(),
            route,
            consumer,
            key,
            state: match (entry.standing, entry.is_running) {
                (Standing::Running, true) => "running",
                (Standing::Running, false) => "unknown",
                (Standing::Kept, _) => "kept",
                (Standing::NotKept, _) => "not_kept",
            },
            status: (entry.status > 0).then_some(entry.status),
            bytes: entry.bytes,
            began: time::text(entry.began_ms),
            done: (entry.done_ms > 0).then(|| time::text(entry.done_ms)),
            expires: time::text(entry.expires_ms),
        }
    }
}

fn id(text: &str) -> Result<EntryKey> {
    EntryKey::parse(text).ok_or_else(|| {
        Error::new(Reason::NotFound, "the id of an idempotency key is ROUTE:CONSUMER:KEY")
    })
}

async fn list(ask: Ask<'_, Arc<Keys>>) -> Result<Response> {
    let mut query = ask.query()?;
    let max = query.number("max", 1, LIST_MAX)?.unwrap_or(100) as usize;
    let after = query.take("after").map(|text| id(&text)).transpose()?;
    let found = ask.state.list(after, max + 1).await?;
    let (entries, next) = page(found, max, |entry| entry.key.to_string());
    let keys = entries.into_iter().map(Into::into).collect();
    Response::json(200, &IdempotencyKeys { keys, next })
}

async fn show(ask: Ask<'_, Arc<Keys>>) -> Result<Response> {
    let entry = ask.state.show(id(ask.names.at(0))?).await?;
    Response::json(200, &IdempotencyKey::from(entry))
}

async fn free(ask: Ask<'_, Arc<Keys>>) -> Result<Response> {
    ask.state.delete(id(ask.names.at(0))?).await?;
    Ok(Response::empty(204))
}
