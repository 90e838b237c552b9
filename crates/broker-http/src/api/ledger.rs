//! The ledger beneath: what it holds, its copies and checkpoints. Not for routes.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use weft_kernel::{Error, Reason, Result};

use super::{Ask, view::LedgerView};
use crate::{
    body::{Body, Nothing},
    response::Response,
    schema::{Member, Object, Shape, text::FOLDER},
};

/// `GET /v1/ledger`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    let store = ask.handle.broker().store();
    let stats = store.stats();
    Response::json(
        200,
        &LedgerView {
            poisoned: store.poisoned(),
            full: store.full(),
            damaged: stats.damaged,
            damage: json!(store.damage()),
            transactions: stats.transactions,
            syncs: stats.syncs,
            logs: stats.logs,
            groups: stats.groups,
            maps: stats.maps,
            wal_bytes: stats.wal_bytes,
            segment_bytes: stats.segment_bytes,
            index_bytes: stats.index_bytes,
        },
    )
}

/// Where a copy goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backup {
    to: String,
}

impl Body for Backup {
    const SHAPE: &'static Shape =
        &Shape::Object(&Object::of(&[Member::must("to", Shape::Text(&FOLDER))]));
}

/// `POST /v1/ledger/backup`
pub(super) async fn backup(ask: Ask<'_>) -> Result<Response> {
    let asked: Backup = ask.body()?;
    let to = Path::new(&asked.to);
    if !to.is_absolute() {
        return Err(Error::new(Reason::MalformedRequest, "`to` is the absolute path of a folder"));
    }
    ask.handle.upkeep()?.backup(to).await?;
    Ok(Response::empty(204))
}

/// `POST /v1/ledger/checkpoint`
pub(super) async fn checkpoint(ask: Ask<'_>) -> Result<Response> {
    let Nothing {} = ask.body()?;
    ask.handle.upkeep()?.checkpoint().await?;
    Ok(Response::empty(204))
}
