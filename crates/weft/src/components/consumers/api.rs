//! The operations of consumers: those of the configuration are shown, those of the registry made and taken out,
//! and keys of both drawn, rotated and revoked.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::{
    Ask, Body, Gives, Noun, Permission, Response, Row, Settings, Verb, delete, get, post, put,
    schema::{Fault, Member, Object, Parameter, Section, Setting, Shape, text},
    time,
};
use weft_gateway::Directory;
use weft_kernel::{Error, Name, Reason, Result, parse_duration};

use super::{
    Consumers, KEYS_MAX,
    changes::Drawn,
    records::{Entry, Key, Kind},
};
use crate::admin::no;

/// Those that are kept, and the way to those of the configuration.
pub struct Api {
    pub(super) consumers: Arc<Consumers>,
    pub(super) configured: Box<dyn Fn() -> Arc<Directory> + Send + Sync>,
}

/// A consumer.
pub static CONSUMER: Noun =
    Noun { name: "consumer", about: "clients that the node knows by their credentials" };

/// The most that one answer lists.
const PAGE_MAX: u64 = 1_000;
/// The longest lifetime of a key.
const LIFETIME_MS: u64 = 100 * 366 * 86_400_000;
/// For how long a key that was rotated is still taken, unless it is said.
const OVERLAP: Duration = Duration::from_secs(86_400);
/// The most groups of a consumer.
const GROUPS_MAX: usize = 64;

/// A name as the configuration has it.
const NAME: text::Kind = text::Kind { what: "a name", word: "name", ..text::SERVICE };

const STORE: &[Reason] = &[
    Reason::NotFound,
    Reason::Conflict,
    Reason::DefinitionConflict,
    Reason::VersionConflict,
    Reason::StorageBusy,
    Reason::StorageFull,
    Reason::StorageUnavailable,
    Reason::StoragePoisoned,
    Reason::StorageStalled,
    Reason::StorageCorrupt,
    Reason::Draining,
];

const PLACES: &[Parameter] = &[Parameter {
    name: "name",
    about: "The name of a consumer.",
    shape: Shape::Text(&NAME),
    required: true,
}];

const PAGES: &[Parameter] = &[
    Parameter {
        name: "after",
        about: "The name behind which it begins.",
        shape: Shape::Text(&NAME),
        required: false,
    },
    Parameter {
        name: "max",
        about: "The most that is listed.",
        shape: Shape::Int(1, PAGE_MAX),
        required: false,
    },
];

const CHANGE: &[Parameter] = &[Parameter {
    name: "change",
    about: "Whether one that is there with other groups is changed.",
    shape: Shape::Bool,
    required: false,
}];

const SECTION: Section = Section {
    name: "consumer",
    about: "A client that the node knows by its credentials.",
    short: None,
    settings: &[Setting::group(
        "groups",
        Shape::Many(&Shape::Text(&NAME), GROUPS_MAX),
        "Groups that it is in.",
    )],
    forms: &[],
    rule: "",
};

/// The settings of a consumer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsumerSettings {
    groups: Vec<String>,
}

impl Body for ConsumerSettings {
    const SHAPE: &'static Shape = &Shape::Section(&SECTION);
}

impl Settings for ConsumerSettings {
    const SECTION: &'static Section = &SECTION;

    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

/// Where a consumer is from.
#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Origin {
    /// The configuration, which alone changes it.
    Configuration,
    /// The registry.
    Registry,
    /// Neither any more: keys of it are left, which let nobody in.
    Gone,
}

/// Consumers, in the order of their names.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Consumers")]
struct ConsumersView {
    consumers: Vec<ConsumerView>,
    /// The name behind which the next page begins; `null` if this is the last one.
    next: Option<String>,
}

/// A consumer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Consumer")]
struct ConsumerView {
    /// Its name.
    name: String,
    /// Where it is from.
    origin: Origin,
    /// The groups that it is in.
    groups: Vec<String>,
    /// When it was made, if it is of the registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    /// The keys and passwords of it that the registry has. In a list they are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<KeyView>>,
}

/// A key or a password.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConsumerKey")]
struct KeyView {
    /// What it is called.
    id: String,
    /// What it is.
    kind: Kind,
    /// The key or password itself: in the answer that draws it, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Its last four letters.
    last4: String,
    /// When it was drawn.
    created: String,
    /// When it ends; `null` for never.
    expires: Option<String>,
    /// When it was used last, to the minute; `null` if it never was.
    last_used: Option<String>,
}

/// What key is to be drawn.
#[derive(Deserialize)]
struct NewKey {
    kind: Option<Kind>,
    expires_in: Option<String>,
}

impl Body for NewKey {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[
        Member::may("kind", Shape::Words(&["api_key", "password"])),
        Member::may("expires_in", Shape::Span(1_000, LIFETIME_MS)),
    ]));
}

/// How a key is to be rotated.
#[derive(Deserialize)]
struct Rotation {
    overlap: Option<String>,
}

impl Body for Rotation {
    const SHAPE: &'static Shape =
        &Shape::Object(&Object::of(&[Member::may("overlap", Shape::Span(0, LIFETIME_MS))]));
}

/// What is offered.
pub static OPERATIONS: &[Row<Api>] = &[
    get("consumers", "/v1/consumers", "Consumers, by pages.", Permission::Read, |ask| {
        Box::pin(list(ask))
    })
    .query(PAGES)
    .shows::<ConsumersView>()
    .refuses(STORE)
    .admin_only()
    .verb(
        &CONSUMER,
        Verb::List {
            help: "Every consumer, also of the configuration",
            member: "consumers",
            columns: &[("name", "name"), ("origin", "origin"), ("groups", "groups")],
        },
    ),
    get(
        "consumer",
        "/v1/consumers/{name}",
        "A consumer with its keys.",
        Permission::Read,
        |ask| Box::pin(async move { show(ask.state, &named(&ask)?).await }),
    )
    .places(PLACES)
    .shows::<ConsumerView>()
    .refuses(STORE)
    .admin_only()
    .verb(&CONSUMER, Verb::Show { help: "One consumer: its groups and keys" }),
    put(
        "put_consumer",
        "/v1/consumers/{name}",
        "Makes a consumer; 200 if it is there with the same groups, 409 if with others.",
        Permission::Manage,
        |ask| Box::pin(create(ask)),
    )
    .places(PLACES)
    .query(CHANGE)
    .takes::<ConsumerSettings>()
    .gives(&[Gives::json::<ConsumerView>(200), Gives::json::<ConsumerView>(201)])
    .refuses(STORE)
    .admin_only()
    .verb(&CONSUMER, Verb::Create),
    delete(
        "delete_consumer",
        "/v1/consumers/{name}",
        "Takes out a consumer and its keys, which let nobody in from then on; 409 if it is one of the configuration.",
        Permission::Manage,
        |ask| Box::pin(remove(ask)),
    )
    .places(PLACES)
    .refuses(STORE)
    .admin_only()
    .verb(
        &CONSUMER,
        Verb::Delete {
            help: "Delete a consumer and its keys, which let nobody in from then on",
            confirm: true,
            done: "deleted",
        },
    ),
    get(
        "consumer_keys",
        "/v1/consumers/{name}/keys",
        "The keys and passwords of a consumer.",
        Permission::Read,
        |ask| Box::pin(keys(ask)),
    )
    .places(PLACES)
    .shows::<Vec<KeyView>>()
    .refuses(STORE)
    .admin_only(),
    post(
        "create_consumer_key",
        "/v1/consumers/{name}/keys",
        "Draws a key or password for a consumer, also of the configuration, and shows it this once.",
        Permission::Manage,
        |ask| Box::pin(create_key(ask)),
    )
    .places(PLACES)
    .takes::<NewKey>()
    .gives(&[Gives::json::<KeyView>(201)])
    .refuses(STORE)
    .admin_only(),
    post(
        "rotate_consumer_key",
        "/v1/consumers/{name}/keys/{id}/rotate",
        "Draws a key in place of another, which is taken for `overlap` more: a day, unless it is said.",
        Permission::Manage,
        |ask| Box::pin(rotate_key(ask)),
    )
    .places(PLACES)
    .takes::<Rotation>()
    .gives(&[Gives::json::<KeyView>(201)])
    .refuses(STORE)
    .admin_only(),
    delete(
        "revoke_consumer_key",
        "/v1/consumers/{name}/keys/{id}",
        "Revokes a key, which lets nobody in from then on.",
        Permission::Manage,
        |ask| Box::pin(revoke_key(ask)),
    )
    .places(PLACES)
    .refuses(STORE)
    .admin_only(),
];

/// The name of the path.
fn named(ask: &Ask<'_, Api>) -> Result<Name> {
    name(ask.names.at(0))
}

fn name(text: &str) -> Result<Name> {
    Name::new(text).map_err(|error| Error::new(Reason::MalformedRequest, error.to_string()))
}

fn span(text: Option<&str>) -> Result<Option<Duration>> {
    let parse = |text| {
        parse_duration(text)
            .map_err(|error| Error::new(Reason::MalformedRequest, error.to_string()))
    };
    text.map(parse).transpose()
}

async fn list(ask: Ask<'_, Api>) -> Result<Response> {
    let mut query = ask.query()?;
    let max = query.number("max", 1, PAGE_MAX)?.unwrap_or(100);
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let after = query.take("after");
    let directory = (ask.state.configured)();
    let mut found: BTreeMap<String, ConsumerView> = BTreeMap::new();
    for (name, entry) in ask.state.consumers.records.consumers(after.as_deref(), max + 1).await? {
        let view = ConsumerView {
            name: name.to_string(),
            origin: Origin::Registry,
            groups: entry.record.groups,
            created: Some(time::text(entry.record.created_ms)),
            keys: None,
        };
        found.insert(name.to_string(), view);
    }
    let last = (found.len() > max).then(|| found.keys().next_back().cloned()).flatten();
    for (name, groups) in directory.all() {
        let is_in = after.as_deref().is_none_or(|after| name.as_str() > after)
            && last.as_deref().is_none_or(|last| name.as_str() <= last);
        if is_in {
            found.insert(name.to_string(), configured(name, groups));
        }
    }
    let next = found.keys().nth(max - 1).filter(|_| found.len() > max).cloned();
    let consumers = found.into_values().take(max).collect();
    Response::json(200, &ConsumersView { consumers, next })
}

fn configured(name: &Name, groups: &[Name]) -> ConsumerView {
    ConsumerView {
        name: name.to_string(),
        origin: Origin::Configuration,
        groups: groups.iter().map(ToString::to_string).collect(),
        created: None,
        keys: None,
    }
}

/// A consumer as it is: also the answer to whatever changes it.
async fn view(api: &Api, name: &Name) -> Result<ConsumerView> {
    let directory = (api.configured)();
    let keys = keys_of(api, name).await?;
    let mut view =
        match (directory.groups_of(name.as_str()), api.consumers.records.consumer(name).await?) {
            (Some(groups), _) => configured(name, groups),
            (None, Some(entry)) => ConsumerView {
                name: name.to_string(),
                origin: Origin::Registry,
                groups: entry.record.groups,
                created: Some(time::text(entry.record.created_ms)),
                keys: None,
            },
            (None, None) if keys.is_empty() => return Err(no("consumer", name.as_str())),
            (None, None) => ConsumerView { origin: Origin::Gone, ..configured(name, &[]) },
        };
    view.keys = Some(keys);
    Ok(view)
}

async fn show(api: &Api, name: &Name) -> Result<Response> {
    Response::json(200, &view(api, name).await?)
}

/// Refuses what is to be changed of a consumer of the configuration.
fn not_configured(api: &Api, name: &Name) -> Result<()> {
    if (api.configured)().has(name.as_str()) {
        let say = format!("consumer {name} is the configuration's, which alone changes it");
        return Err(Error::new(Reason::Conflict, say));
    }
    Ok(())
}

async fn create(ask: Ask<'_, Api>) -> Result<Response> {
    let consumer = named(&ask)?;
    let mut query = ask.query()?;
    let change = matches!(query.take("change").as_deref(), Some("true"));
    let settings: ConsumerSettings = ask.body()?;
    let groups = settings.groups.iter().map(|group| name(group)).collect::<Result<Vec<_>>>()?;
    not_configured(ask.state, &consumer)?;
    let was_there = ask.state.consumers.put(&consumer, groups, change).await?;
    if !was_there {
        tracing::info!(%consumer, "consumer made");
    }
    let view = view(ask.state, &consumer).await?;
    Response::json(if was_there { 200 } else { 201 }, &view)
}

async fn remove(ask: Ask<'_, Api>) -> Result<Response> {
    let consumer = named(&ask)?;
    // It would be there as before, so nobody is told that it is gone. Its keys are revoked one by one.
    not_configured(ask.state, &consumer)?;
    if !ask.state.consumers.delete(&consumer).await? {
        return Err(no("consumer", consumer.as_str()));
    }
    tracing::info!(%consumer, "consumer deleted");
    Ok(Response::empty(204))
}

async fn keys_of(api: &Api, name: &Name) -> Result<Vec<KeyView>> {
    let keys = api.consumers.records.keys_of(name, KEYS_MAX).await?;
    let view = |(id, entry): &(Box<str>, Entry<Key>)| shown(api, id, entry, None);
    Ok(keys.iter().map(view).collect())
}

fn shown(api: &Api, id: &str, entry: &Entry<Key>, key: Option<String>) -> KeyView {
    let used_s = api.consumers.used_s(&entry.record);
    KeyView {
        id: id.to_owned(),
        kind: entry.record.kind,
        key,
        last4: entry.record.last4.clone(),
        created: time::text(entry.record.created_ms),
        expires: (entry.expires_ms > 0).then(|| time::text(entry.expires_ms)),
        last_used: used_s.map(|used_s| time::text(used_s.saturating_mul(1_000))),
    }
}

async fn keys(ask: Ask<'_, Api>) -> Result<Response> {
    let view = view(ask.state, &named(&ask)?).await?;
    Response::json(200, &view.keys.unwrap_or_default())
}

fn drawn(api: &Api, drawn: Drawn) -> Result<Response> {
    let Drawn { id, secret, entry } = drawn;
    let response = Response::json(201, &shown(api, &id, &entry, Some(secret)))?;
    Ok(response)
}

async fn create_key(ask: Ask<'_, Api>) -> Result<Response> {
    let consumer = named(&ask)?;
    let asked: NewKey = ask.body()?;
    let good_for = span(asked.expires_in.as_deref())?;
    let configured = || (ask.state.configured)().has(consumer.as_str());
    let kind = asked.kind.unwrap_or(Kind::ApiKey);
    let key = ask.state.consumers.create_key(&consumer, kind, good_for, configured).await?;
    tracing::info!(%consumer, id = %key.id, "key created");
    drawn(ask.state, key)
}

async fn rotate_key(ask: Ask<'_, Api>) -> Result<Response> {
    let (consumer, id) = (named(&ask)?, ask.names.at(1));
    let asked: Rotation = ask.body()?;
    let overlap = span(asked.overlap.as_deref())?.unwrap_or(OVERLAP);
    let key = ask.state.consumers.rotate_key(&consumer, id, overlap).await?;
    tracing::info!(%consumer, id, successor = %key.id, "key rotated");
    drawn(ask.state, key)
}

async fn revoke_key(ask: Ask<'_, Api>) -> Result<Response> {
    let (consumer, id) = (named(&ask)?, ask.names.at(1));
    ask.state.consumers.revoke_key(&consumer, id).await?;
    tracing::info!(%consumer, id, "key revoked");
    Ok(Response::empty(204))
}
