//! The operations of outboxes: how they stand, and from where one goes on that stands still.

use std::sync::Arc;

use serde::Deserialize;
use weft_api::{
    Ask, Body, Noun, Permission, Response, Row, Verb, get, post,
    schema::{Member, Object, Shape},
};
use weft_kernel::{Reason, Result};
use weft_outbox::{Outbox, service::From};

use super::{
    Running,
    view::{OutboxView, ResetView},
};
use crate::admin::no;

/// An outbox.
pub static OUTBOX: Noun = Noun {
    name: "outbox",
    about: "what services commit to PostgreSQL databases, published to topics exactly once",
};

/// What is offered.
pub(super) static OPERATIONS: &[Row<Arc<Running>>] = &[
    get("outboxes", "/v1/outboxes", "Every outbox, and how it stands.", Permission::Read, |ask| {
        Box::pin(list(ask))
    })
    .shows::<Vec<OutboxView>>()
    .admin_only()
    .verb(
        &OUTBOX,
        Verb::List {
            help: "Every outbox, and how it stands",
            member: "",
            columns: &[
                ("outbox", "name"),
                ("database", "database"),
                ("state", "state"),
                ("fault", "fault"),
                ("published", "published"),
                ("lag s", "lag_seconds"),
                ("lag bytes", "lag_bytes"),
                ("kept bytes", "kept_bytes"),
            ],
        },
    ),
    get("outbox", "/v1/outboxes/{name}", "An outbox, and how it stands.", Permission::Read, |ask| {
        Box::pin(show(ask))
    })
    .shows::<OutboxView>()
    .refuses(&[Reason::NotFound])
    .admin_only()
    .verb(
        &OUTBOX,
        Verb::Show { help: "One outbox: what it does, why it stands still, and how far it is" },
    ),
    post(
        "reset_outbox",
        "/v1/outboxes/{name}/reset",
        "Has an outbox go on from somewhere else. `now` makes its slot anew: what was committed before and not \
         published is left out. `slot` goes on from where the slot is that is there. `kept` goes on from the last \
         transaction that was published, on a server that is another one and has the same log.",
        Permission::Manage,
        |ask| Box::pin(reset(ask)),
    )
    .takes::<Reset>()
    .shows::<ResetView>()
    .refuses(&[Reason::NotFound, Reason::Conflict])
    .admin_only(),
];

async fn list(ask: Ask<'_, Arc<Running>>) -> Result<Response> {
    let mut all = Vec::new();
    for outbox in ask.state.all() {
        all.push(OutboxView::of(&outbox).await?);
    }
    Response::json(200, &all)
}

async fn show(ask: Ask<'_, Arc<Running>>) -> Result<Response> {
    let outbox = find(&ask)?;
    Response::json(200, &OutboxView::of(&outbox).await?)
}

fn find(ask: &Ask<'_, Arc<Running>>) -> Result<Arc<Outbox>> {
    let name = ask.names.at(0);
    let all = ask.state.all();
    let found = all.into_iter().find(|outbox| outbox.options().name.as_str() == name);
    found.ok_or_else(|| no("outbox", name))
}

/// From where on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    from: Word,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Now,
    Slot,
    Kept,
}

impl Body for Reset {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[Member::must(
        "from",
        Shape::Words(&["now", "slot", "kept"]),
    )]));
}

async fn reset(ask: Ask<'_, Arc<Running>>) -> Result<Response> {
    let Reset { from } = ask.body()?;
    let outbox = find(&ask)?;
    let from = match from {
        Word::Now => From::Now,
        Word::Slot => From::Slot,
        Word::Kept => From::Kept,
    };
    let position = outbox.reset(from).await?.to_string();
    Response::json(200, &ResetView { name: outbox.options().name.to_string(), position })
}
