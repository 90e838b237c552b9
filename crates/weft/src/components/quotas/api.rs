//! The operations of quotas: what each key has used, and what is done about that by hand.

use std::sync::Arc;

use serde::Deserialize;
use weft_api::{
    Ask, Body, Noun, Permission, Response, Row, Verb,
    body::Nothing,
    get, post,
    schema::{Member, Object, Parameter, Shape, text},
};
use weft_gateway::quota::{Book, Books, Quota, account::Account, now_ms};
use weft_kernel::{Error, Reason, Result};

use super::view::{KeyView, KeysView, QuotaView};
use crate::admin::{no, page};

/// A quota.
pub static QUOTA: Noun =
    Noun { name: "quota", about: "how much clients may have in a day, week or month" };

/// Keys of one page.
const PAGE_MAX: u64 = 1_000;
/// The most units, as much as an integer of a structured field holds.
const UNITS_MAX: u64 = 999_999_999_999_999;

const KEY: &[Parameter] = &[Parameter {
    name: "key",
    about: "What requests are counted under, as the list of keys shows it.",
    shape: Shape::Text(&text::NAME),
    required: true,
}];

const PAGE: &[Parameter] = &[
    Parameter {
        name: "after",
        about: "The key to go on after.",
        shape: Shape::Text(&text::NAME),
        required: false,
    },
    Parameter {
        name: "max",
        about: "The most keys of the answer; 100 if it is left out.",
        shape: Shape::Int(1, PAGE_MAX),
        required: false,
    },
];

/// Why a change may be refused.
const CHANGE: &[Reason] = &[
    Reason::NotFound,
    Reason::StorageBusy,
    Reason::StorageFull,
    Reason::StorageUnavailable,
    Reason::StoragePoisoned,
    Reason::StorageStalled,
    Reason::Draining,
];

/// What is offered.
pub(super) static OPERATIONS: &[Row<Books>] = &[
    get("quotas", "/v1/quotas", "Every quota.", Permission::Read, |ask| {
        Box::pin(async move { list(&ask) })
    })
    .shows::<Vec<QuotaView>>()
    .admin_only()
    .verb(
        &QUOTA,
        Verb::List {
            help: "Every quota",
            member: "",
            columns: &[
                ("quota", "name"),
                ("limit", "limit"),
                ("per", "per"),
                ("keys", "keys"),
                ("refused", "refused"),
            ],
        },
    ),
    get("quota", "/v1/quotas/{name}", "A quota.", Permission::Read, |ask| {
        Box::pin(async move {
            let (book, quota) = find(&ask)?;
            Response::json(200, &QuotaView::of(&book, &quota))
        })
    })
    .shows::<QuotaView>()
    .refuses(&[Reason::NotFound])
    .admin_only()
    .verb(
        &QUOTA,
        Verb::Show {
            help: "One quota: its limit and period, and how many keys have used some of it",
        },
    ),
    get(
        "quota_keys",
        "/v1/quotas/{name}/keys",
        "The keys of a quota, and what each has used.",
        Permission::Read,
        |ask| Box::pin(async move { keys(&ask) }),
    )
    .query(PAGE)
    .shows::<KeysView>()
    .refuses(&[Reason::NotFound])
    .admin_only(),
    get(
        "quota_key",
        "/v1/quotas/{name}/keys/{key}",
        "What a key has used of a quota.",
        Permission::Read,
        |ask| {
            Box::pin(async move {
                let (book, quota) = find(&ask)?;
                let key = ask.names.at(1);
                let account = book.account(key).filter(|account| !account.is_over(now_ms()));
                let account = account.ok_or_else(|| no("key", key))?;
                Response::json(200, &KeyView::of(key, &account, &quota))
            })
        },
    )
    .places(KEY)
    .shows::<KeyView>()
    .refuses(&[Reason::NotFound])
    .admin_only(),
    post(
        "reset_quota_key",
        "/v1/quotas/{name}/keys/{key}/reset",
        "Forgets what a key has used and was given in this period.",
        Permission::Manage,
        |ask| {
            Box::pin(async move {
                let Nothing {} = ask.body()?;
                change(&ask, |account| (account.used, account.extra) = (0, 0)).await
            })
        },
    )
    .places(KEY)
    .takes::<Nothing>()
    .shows::<KeyView>()
    .refuses(CHANGE)
    .admin_only(),
    post(
        "add_to_quota_key",
        "/v1/quotas/{name}/keys/{key}/add",
        "Gives a key units beyond its limit, in this period.",
        Permission::Manage,
        |ask| {
            Box::pin(async move {
                let Add { units } = ask.body()?;
                let most = |extra: u64| extra.saturating_add(units).min(UNITS_MAX);
                change(&ask, |account| account.extra = most(account.extra)).await
            })
        },
    )
    .places(KEY)
    .takes::<Add>()
    .shows::<KeyView>()
    .refuses(CHANGE)
    .admin_only(),
    post(
        "set_quota_key",
        "/v1/quotas/{name}/keys/{key}/set",
        "Sets what a key has used in this period, or a limit of its own.",
        Permission::Manage,
        |ask| Box::pin(set(ask)),
    )
    .places(KEY)
    .takes::<Set>()
    .shows::<KeyView>()
    .refuses(CHANGE)
    .admin_only(),
];

fn list(ask: &Ask<'_, Books>) -> Result<Response> {
    let view = |book: Arc<Book>| book.terms().map(|quota| QuotaView::of(&book, &quota));
    Response::json(200, &ask.state.all().into_iter().filter_map(view).collect::<Vec<_>>())
}

fn find(ask: &Ask<'_, Books>) -> Result<(Arc<Book>, Arc<Quota>)> {
    let name = ask.names.at(0);
    let found = ask.state.all().into_iter().find(|book| book.name().as_str() == name);
    found.and_then(|book| book.terms().map(|quota| (book, quota))).ok_or_else(|| no("quota", name))
}

fn keys(ask: &Ask<'_, Books>) -> Result<Response> {
    let (book, quota) = find(ask)?;
    let mut query = ask.query()?;
    let after = query.take("after");
    let max = query.number("max", 1, PAGE_MAX)?.unwrap_or(100);
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let found = book.keys_after(after.as_deref(), max + 1, now_ms());
    let (found, next) = page(found, max, |(key, _)| key.to_string());
    let keys = found.iter().map(|(key, account)| KeyView::of(key, account, &quota)).collect();
    Response::json(200, &KeysView { keys, next })
}

/// What is added.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    units: u64,
}

impl Body for Add {
    const SHAPE: &'static Shape =
        &Shape::Object(&Object::of(&[Member::must("units", Shape::Int(1, UNITS_MAX))]));
}

/// What is set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    used: Option<u64>,
    limit: Option<Limit>,
}

/// A limit of its own, or that of the quota again.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum Limit {
    Own(u64),
    Word(Common),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Common {
    Default,
}

impl Body for Set {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[
        Member::may("used", Shape::Int(0, UNITS_MAX)),
        Member::may(
            "limit",
            Shape::Either(&[Shape::Int(0, UNITS_MAX), Shape::Words(&["default"])]),
        ),
    ]));
}

async fn set(ask: Ask<'_, Books>) -> Result<Response> {
    let Set { used, limit } = ask.body()?;
    if used.is_none() && limit.is_none() {
        return Err(Error::new(Reason::MalformedRequest, "say `used`, `limit` or both"));
    }
    change(&ask, |account| {
        account.used = used.unwrap_or(account.used);
        match limit {
            None => {}
            Some(Limit::Own(limit)) => account.limit = Some(limit),
            Some(Limit::Word(Common::Default)) => account.limit = None,
        }
    })
    .await
}

async fn change(ask: &Ask<'_, Books>, with: impl FnOnce(&mut Account)) -> Result<Response> {
    let (book, quota) = find(ask)?;
    let key = ask.names.at(1);
    let account = ask.state.change(&book, key, with).await?;
    let (used, allowed) = (account.used, account.allowed(&quota.terms()));
    tracing::info!(quota = %quota.name, %key, used, allowed, "quota changed by hand");
    Response::json(200, &KeyView::of(key, &account, &quota))
}
