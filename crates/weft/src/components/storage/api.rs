//! The operations of the ledger: what it holds, its copies and checkpoints. Not for routes.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::{
    Ask, Body, Gives, Permission, Response, Row,
    body::Nothing,
    get, post,
    schema::{Member, Object, Shape, text::FOLDER},
};
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{EmbeddedStore as _, Ledger};

use super::aside;

/// Why the disk may refuse.
const STORE: &[Reason] = &[
    Reason::StorageBusy,
    Reason::StorageFull,
    Reason::StorageUnavailable,
    Reason::StoragePoisoned,
    Reason::Draining,
    Reason::StorageStalled,
    Reason::StorageCorrupt,
];

/// What is offered.
pub(super) static OPERATIONS: &[Row<Ledger>] = &[
    get("ledger", "/v1/ledger", "What the ledger holds.", Permission::Read, |ask| {
        Box::pin(show(ask))
    })
    .shows::<LedgerView>()
    .admin_only(),
    post(
        "backup",
        "/v1/ledger/backup",
        "Writes a copy of everything into a folder.",
        Permission::Manage,
        |ask| Box::pin(backup(ask)),
    )
    .takes::<Backup>()
    .gives(&[Gives::empty(204)])
    .refuses(STORE)
    .admin_only(),
    post(
        "checkpoint",
        "/v1/ledger/checkpoint",
        "Brings the checkpoint up to now.",
        Permission::Manage,
        |ask| Box::pin(checkpoint(ask)),
    )
    .takes::<Nothing>()
    .gives(&[Gives::empty(204)])
    .refuses(STORE)
    .admin_only(),
];

/// What the ledger holds.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Ledger")]
struct LedgerView {
    /// Why nothing more is taken, if a write has failed.
    poisoned: Option<String>,
    /// Whether the disk is full.
    full: bool,
    /// How many records are damaged.
    damaged: u64,
    /// What is damaged, in words.
    damage: Vec<String>,
    /// Transactions.
    transactions: u64,
    /// Syncs of the disk.
    syncs: u64,
    /// Logs.
    logs: u64,
    /// Groups.
    groups: u64,
    /// Maps.
    maps: u64,
    /// Bytes of the write-ahead log.
    wal_bytes: u64,
    /// Bytes of segments.
    segment_bytes: u64,
    /// Bytes of the index.
    index_bytes: u64,
}

async fn show(ask: Ask<'_, Ledger>) -> Result<Response> {
    let ledger = ask.state;
    let stats = ledger.stats();
    Response::json(
        200,
        &LedgerView {
            poisoned: ledger
                .ended_now()
                .filter(|ended| ended.reason() == Reason::StoragePoisoned)
                .map(|ended| ended.detail()),
            full: ledger.full_now(),
            damaged: stats.damaged,
            damage: ledger.damage_now(),
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
struct Backup {
    to: PathBuf,
}

impl Body for Backup {
    const SHAPE: &'static Shape =
        &Shape::Object(&Object::of(&[Member::must("to", Shape::Text(&FOLDER))]));
}

async fn backup(ask: Ask<'_, Ledger>) -> Result<Response> {
    let Backup { to } = ask.body()?;
    if !to.is_absolute() {
        return Err(Error::new(Reason::MalformedRequest, "`to` is the absolute path of a folder"));
    }
    let ledger = ask.state.clone();
    aside(move || ledger.backup(&to)).await?;
    Ok(Response::empty(204))
}

async fn checkpoint(ask: Ask<'_, Ledger>) -> Result<Response> {
    let Nothing {} = ask.body()?;
    let ledger = ask.state.clone();
    aside(move || ledger.checkpoint()).await?;
    Ok(Response::empty(204))
}
