//! Several files become one tree, and one tree becomes sections.
//!
//! Names are unique over all files, and `telemetry` and `admin` stand in one of them: a value never
//! depends on which file was read last.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use weft_kernel::Name;

use super::{
    leaf::{Named, Switch},
    overlay::overlay,
    problem::Problem,
    sections::{
        Admin, Amqp, Ledger, Listener, Policy, Queue, Root, Schedule, Service, Subscription,
        Telemetry, Topic,
    },
    setting::{At, Cx, Setting},
    source::Place,
    tree::{Key, Kind, Node},
};

/// The maps by name, to which every file may add.
const NAMED: [&str; 7] =
    ["listeners", "services", "policies", "topics", "queues", "subscriptions", "schedules"];

/// The sections but for the routes, which are as many as all else together and are read one by one by
/// `routes`; what could not be read is missing, and was reported.
#[derive(Clone, Debug)]
pub struct Read {
    /// Listeners in the order of the files.
    pub listeners: Vec<(At<Name>, Listener)>,
    /// Services in the order of the files.
    pub services: Vec<(At<Name>, Service)>,
    /// What is said of messages.
    pub messages: Messages,
    /// Telemetry.
    pub telemetry: Option<Telemetry>,
    /// The admin API.
    pub admin: Option<(Switch<Admin>, Place)>,
    /// All names, also of what could not be read.
    pub names: Names,
}

/// What is said of messages, in the order of the files.
#[derive(Clone, Debug)]
pub struct Messages {
    /// Topics.
    pub topics: Vec<(At<Name>, Topic)>,
    /// Queues.
    pub queues: Vec<(At<Name>, Queue)>,
    /// Subscriptions.
    pub subscriptions: Vec<(At<Name>, Subscription)>,
    /// Schedules.
    pub schedules: Vec<(At<Name>, Schedule)>,
    /// Where they are kept.
    pub ledger: Option<Ledger>,
    /// Whether that was said.
    pub ledger_said: bool,
    /// How AMQP is spoken.
    pub amqp: Option<Amqp>,
}

/// The names that may be referred to, with their places; in order, so that suggestions are always the same.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Of listeners.
    pub listeners: BTreeMap<Arc<str>, Place>,
    /// Of services.
    pub services: BTreeMap<Arc<str>, Place>,
    /// Of policies.
    pub policies: BTreeMap<Arc<str>, Place>,
    /// Of topics.
    pub topics: BTreeMap<Arc<str>, Place>,
    /// Of queues.
    pub queues: BTreeMap<Arc<str>, Place>,
}

/// Merges the roots of all files.
pub fn merge(roots: Vec<Node>, cx: &mut Cx) -> Node {
    let mut entries: Vec<(Key, Node)> = Vec::new();
    let mut place = Place::BUILT_IN;
    for root in roots {
        if !place.is_in_file() {
            place = root.place;
        }
        let Kind::Map(above) = root.kind else {
            cx.expected(
                &root,
                "a map of sections, such as listeners, services, routes, topics and queues",
            );
            continue;
        };
        // What begins with `x-` is the user's own: anchors, notes, what other tools read.
        for (key, value) in above.into_iter().filter(|(key, _)| !key.text.starts_with("x-")) {
            match entries.iter_mut().find(|(other, _)| other.text == key.text) {
                None => entries.push((key, value)),
                Some((first, below)) => combine(first, below, &key, value, cx),
            }
        }
    }
    Node { place, kind: Kind::Map(entries) }
}

fn combine(first: &Key, below: &mut Node, key: &Key, value: Node, cx: &mut Cx) {
    match (&mut below.kind, value.kind) {
        (_, Kind::Null) => {}
        (Kind::Null, kind) => *below = Node { place: value.place, kind },
        (Kind::List(items), Kind::List(more)) if &*key.text == "routes" => items.extend(more),
        (Kind::Map(entries), Kind::Map(more)) if NAMED.contains(&&*key.text) => {
            let known: HashMap<Arc<str>, Place> =
                entries.iter().map(|(key, _)| (Arc::clone(&key.text), key.place)).collect();
            for (name, value) in more {
                match known.get(&name.text) {
                    None => entries.push((name, value)),
                    Some(place) => cx.report(
                        Problem::error(
                            name.place,
                            format!("`{}` stands twice under `{}`", name.text, key.text),
                        )
                        .and(*place, "first here"),
                    ),
                }
            }
        }
        _ => cx.report(
            Problem::error(key.place, format!("`{}` stands in two files", key.text))
                .and(first.place, "first here"),
        ),
    }
}

/// Reads the sections of a merged tree.
pub fn read(root: &Node, cx: &mut Cx) -> Read {
    cx.section(root, Root::TABLE);
    let names_of = |key: &str| -> BTreeMap<Arc<str>, Place> {
        root.get(key)
            .map_or(&[][..], Node::entries)
            .iter()
            .map(|(key, _)| (Arc::clone(&key.text), key.place))
            .collect()
    };
    let names = Names {
        listeners: names_of("listeners"),
        services: names_of("services"),
        policies: names_of("policies"),
        topics: names_of("topics"),
        queues: names_of("queues"),
    };
    let listeners = named(root, "listeners", cx);
    let services = named(root, "services", cx);
    // Each policy is read for itself, so that one that no route uses is checked as well.
    let _: Vec<(At<Name>, Policy)> = named(root, "policies", cx);
    let messages = Messages {
        topics: named(root, "topics", cx),
        queues: named(root, "queues", cx),
        subscriptions: named(root, "subscriptions", cx),
        schedules: named(root, "schedules", cx),
        ledger: cx.field::<Ledger>(root, "ledger", "", None),
        ledger_said: root.get("ledger").is_some(),
        amqp: cx.field::<Amqp>(root, "amqp", "", None),
    };
    let telemetry = cx.field::<Telemetry>(root, "telemetry", "", None);
    let place = root.get("admin").map_or(Place::BUILT_IN, |node| node.place);
    let admin = cx.field::<Switch<Admin>>(root, "admin", "", None).map(|admin| (admin, place));
    Read { listeners, services, messages, telemetry, admin, names }
}

fn named<T: Setting>(root: &Node, key: &'static str, cx: &mut Cx) -> Vec<(At<Name>, T)> {
    cx.field::<Named<T>>(root, key, "", None).map_or_else(Vec::new, |named| named.0)
}

/// The policies of a route over one another, with what the route says itself on top.
pub fn effective<'a, 'n>(
    route: &Node,
    names: impl Iterator<Item = &'a str>,
    find: impl Fn(&str) -> Option<&'n Node>,
) -> Node {
    let mut node = Node { place: route.place, kind: Kind::Map(Vec::new()) };
    for name in names {
        if let Some(policy) = find(name) {
            node = overlay(&node, policy, Policy::TABLE);
        }
    }
    overlay(&node, route, Policy::TABLE)
}
