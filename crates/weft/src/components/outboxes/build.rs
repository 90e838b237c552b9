//! From the section of outboxes to its plan.

use std::time::Duration;

use weft_broker::Key;
use weft_kernel::{ByteSize, Name};
use weft_outbox::{
    Database, Options, Template,
    options::{Columns, Messages, Table, is_identifier, is_slot},
};

use super::{
    plan,
    sections::{LogSection, OUTBOXES, OutboxSection, TableSection},
};
use crate::{
    components::{
        messages::sections::{QUEUES, TOPICS},
        storage,
    },
    config::{
        catalogue::Sections,
        merge::NameSet,
        problem::Problem,
        setting::{At, Cx},
        source::Place,
    },
};

/// More than a position takes in the store.
const ROW_BYTES: ByteSize = ByteSize(4_096);
/// The shortest and the longest time between looks at a server.
const HEARTBEATS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(600));
/// Prefix of the messages by which slots are moved on.
const RESERVED: &str = "weft.heartbeat";

/// Names that outboxes refer to.
struct Names {
    topics: NameSet,
    queues: NameSet,
}

/// The outboxes; `None` if there are none.
pub(super) fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<plan::Outboxes> {
    let sections = said.entries(&OUTBOXES, cx);
    let place = said.place(&OUTBOXES)?;
    let names = Names { topics: said.names(&TOPICS), queues: said.names(&QUEUES) };
    if names.topics.iter().next().is_none() && said.place(&storage::sections::LEDGER).is_none() {
        let say = "an outbox publishes to topics, and the node keeps none";
        cx.report(Problem::error(place, say).help("name them in `topics`"));
        return None;
    }
    let built = sections.iter().filter_map(|(name, section)| outbox(name, section, &names, cx));
    let outboxes: Vec<plan::Outbox> = built.collect();
    twice(&sections, &outboxes, cx);
    said.keep(At { value: ROW_BYTES, place });
    Some(plan::Outboxes { outboxes })
}

/// Reports slots that two outboxes would read.
fn twice(said: &[(At<Name>, OutboxSection)], all: &[plan::Outbox], cx: &mut Cx) {
    for (at, one) in all.iter().enumerate() {
        let of = |one: &plan::Outbox| {
            let Options { database, slot, .. } = &one.options;
            (database.to_string(), slot.clone())
        };
        let Some(other) = all[..at].iter().find(|other| of(other) == of(one)) else { continue };
        let found = said.iter().find(|(name, _)| name.value == one.options.name);
        let place = found.map_or(Place::BUILT_IN, |(name, _)| name.place);
        let say = format!(
            "outbox `{}` reads the same slot as `{}`, and a slot has one reader",
            one.options.name, other.options.name
        );
        cx.report(Problem::error(place, say).help("give it another `slot`"));
    }
}

fn outbox(
    name: &At<Name>,
    section: &OutboxSection,
    names: &Names,
    cx: &mut Cx,
) -> Option<plan::Outbox> {
    let database = Database::parse(section.database.reveal());
    if database.as_ref().is_ok_and(|database| database.password.is_some()) {
        section.database.discourage(cx);
    }
    let database = database.map_err(|wrong| {
        let say = format!("the URL of the database cannot be used: {wrong}");
        let help = "it looks like postgres://weft:…@db.internal:5432/shop";
        cx.report(Problem::error(section.database.place, say).help(help));
    });
    if section.table.is_none() && section.messages.is_none() {
        let say = format!("outbox `{}` publishes nothing", name.value);
        cx.report(Problem::error(section.place, say).help("name a `table`, `messages`, or both"));
        return None;
    }
    let table = section.table.as_ref().map(|of| table(of, names, cx));
    let messages = section.messages.as_ref().map(|of| messages(of, names, cx));
    let slot = match &section.slot {
        Some(slot) => slot.value.clone(),
        None => format!("weft_{}", name.value.as_str().replace(['-', '.'], "_")),
    };
    if !is_slot(&slot) {
        let place = section.slot.as_ref().map_or(name.place, |slot| slot.place);
        let say = format!("`{slot}` cannot be the name of a slot");
        cx.report(Problem::error(place, say).help("it has 1 to 63 of `a-z`, `0-9` and `_`"));
        return None;
    }
    let publication = match &section.publication {
        Some(publication) => identifier(publication, "publication", cx)?,
        None => slot.clone(),
    };
    let refused_to = section.refused_to.as_ref().and_then(|queue| {
        names.queues.require("queue", queue.value.as_str(), queue.place, cx);
        Key::plain(queue.value.as_str()).ok()
    });
    let heartbeat = section.heartbeat.value.0;
    if !(HEARTBEATS.0..=HEARTBEATS.1).contains(&heartbeat) {
        let place = match section.heartbeat.place {
            Place::BUILT_IN => section.place,
            place => place,
        };
        cx.report(Problem::error(place, "`heartbeat` is from 100ms to 10m"));
        return None;
    }
    let database = database.ok()?;
    if let (Some(file), false) = (&section.ca_file, database.tls) {
        let say = "`ca_file` is of a database with which TLS is spoken";
        cx.report(Problem::error(file.place, say).help("say `?sslmode=verify-full` in its URL"));
        return None;
    }
    Some(plan::Outbox {
        options: Options {
            name: name.value.clone(),
            database,
            slot,
            publication,
            table: table.map_or(Some(None), |table| table.map(Some))?,
            messages: messages.map_or(Some(None), |messages| messages.map(Some))?,
            source: section
                .source
                .clone()
                .unwrap_or_else(|| format!("/weft/outboxes/{}", name.value)),
            refused_to,
            heartbeat,
        },
        ca_file: section.ca_file.as_ref().map(|file| file.value.0.clone()),
        required: section.required,
    })
}

fn table(of: &At<TableSection>, names: &Names, cx: &mut Cx) -> Option<Table> {
    let (schema, name) = match of.name.split_once('.') {
        Some((schema, name)) => (schema, name),
        None => ("public", &**of.name),
    };
    if !is_identifier(schema) || !is_identifier(name) {
        let say = format!("`{}` cannot be the name of a table", of.name.value);
        cx.report(Problem::error(of.name.place, say));
        return None;
    }
    let columns = Columns {
        id: identifier(&of.id, "column", cx)?,
        aggregate_type: identifier(&of.aggregate_type, "column", cx)?,
        aggregate_id: identifier(&of.aggregate_id, "column", cx)?,
        kind: identifier(&of.event_type, "column", cx)?,
        payload: identifier(&of.payload, "column", cx)?,
    };
    let to = template(&of.to, of.place, names, cx)?;
    let (schema, name) = (schema.to_owned(), name.to_owned());
    Some(Table { schema, name, columns, to, content_type: of.content_type.clone() })
}

fn messages(of: &At<LogSection>, names: &Names, cx: &mut Cx) -> Option<Messages> {
    let prefix = &of.prefix;
    if prefix.is_empty() || prefix.contains('\0') || prefix.value == RESERVED {
        let say = format!("`{}` cannot be the prefix", prefix.value);
        cx.report(Problem::error(prefix.place, say).help("take one such as `weft`"));
        return None;
    }
    let to = template(&of.to, of.place, names, cx)?;
    Some(Messages { prefix: prefix.value.clone(), to })
}

fn template(text: &At<String>, section: Place, names: &Names, cx: &mut Cx) -> Option<Template> {
    let place = if text.place == Place::BUILT_IN { section } else { text.place };
    match Template::parse(text) {
        Ok(template) => {
            if let Some(topic) = template.fixed() {
                names.topics.require("topic", topic, place, cx);
            }
            Some(template)
        }
        Err(wrong) => {
            cx.report(Problem::error(place, format!("`to` cannot be used: {wrong}")));
            None
        }
    }
}

fn identifier(text: &At<String>, what: &str, cx: &mut Cx) -> Option<String> {
    if is_identifier(text) {
        return Some(text.value.clone());
    }
    let say = format!("`{}` cannot be the name of a {what}", text.value);
    cx.report(Problem::error(text.place, say));
    None
}
