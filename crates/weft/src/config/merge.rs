//! Several files become one tree, and one tree becomes sections.
//!
//! Lists and maps by name may be added to by every file, with names that are unique over all of them; any
//! other section stands in one file: a value never depends on which file was read last.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use weft_kernel::Name;

use super::{
    catalogue::Catalogue,
    leaf::{Named, Switch},
    overlay::overlay,
    problem::Problem,
    secrets,
    sections::{Admin, Listener, Policy, Service, root},
    setting::{At, Cx, Table},
    source::Place,
    tree::{Key, Kind, Node},
};

/// The node's own sections but for the routes, which are as many as all else together and are read one by
/// one by `routes`; what could not be read is missing, and was reported.
#[derive(Clone, Debug)]
pub struct Read {
    /// Listeners in the order of the files.
    pub listeners: Vec<(At<Name>, Listener)>,
    /// Services in the order of the files.
    pub services: Vec<(At<Name>, Service)>,
    /// The admin API.
    pub admin: Option<(Switch<Admin>, Place)>,
    /// All names, also of what could not be read.
    pub names: Names,
}

/// The names that the node's own sections give.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Of listeners.
    pub listeners: NameSet,
    /// Of services.
    pub services: NameSet,
    /// Of policies.
    pub policies: NameSet,
}

/// Names that may be referred to, with their places; in order, so that suggestions are always the same.
#[derive(Clone, Debug, Default)]
pub struct NameSet(BTreeMap<Arc<str>, Place>);

impl NameSet {
    /// Whether a name is among them.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Where a name stands.
    pub fn place(&self, name: &str) -> Option<Place> {
        self.0.get(name).copied()
    }

    /// Whether a name is among them; if not, it is reported at the place where it is referred to, `noun`
    /// being what it would be the name of.
    pub fn require(&self, noun: &str, name: &str, place: Place, cx: &mut Cx) -> bool {
        let is_known = self.contains(name);
        if !is_known {
            cx.report(
                Problem::error(place, format!("there is no {noun} `{name}`"))
                    .near(name, self.0.keys().map(|name| &**name)),
            );
        }
        is_known
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Place)> {
        self.0.iter().map(|(name, place)| (&**name, *place))
    }
}

impl FromIterator<(Arc<str>, Place)> for NameSet {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Place)>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

/// Merges the roots of all files.
pub fn merge(roots: Vec<Node>, catalogue: &Catalogue, cx: &mut Cx) -> Node {
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
                Some((first, below)) => combine(first, below, &key, value, catalogue, cx),
            }
        }
    }
    Node { place, kind: Kind::Map(entries) }
}

fn combine(
    first: &Key,
    below: &mut Node,
    key: &Key,
    value: Node,
    catalogue: &Catalogue,
    cx: &mut Cx,
) {
    let gathers = catalogue.gathers(&key.text);
    match (&mut below.kind, value.kind) {
        (_, Kind::Null) => {}
        (Kind::Null, kind) => *below = Node { place: value.place, kind },
        (Kind::List(items), Kind::List(more)) if gathers => items.extend(more),
        (Kind::Map(entries), Kind::Map(more)) if gathers => {
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

/// Reads the node's own sections of a merged tree; keys that nobody knows are reported.
pub fn read(root: &Node, catalogue: &'static Catalogue, cx: &mut Cx) -> Read {
    cx.section(root, catalogue.table());
    let names = Names {
        listeners: root::LISTENERS.names(root),
        services: root::SERVICES.names(root),
        policies: root::POLICIES.names(root),
    };
    let listeners = root::LISTENERS.entries(root, cx);
    let services = root::SERVICES.entries(root, cx);
    // Each policy is read for itself, so that one that no route uses is checked as well.
    if let Some(node) = root.get("policies") {
        Named::read_by(node, cx, |node, cx| {
            let unfolded = cx.section(node, catalogue.policies());
            let section = unfolded.as_ref().unwrap_or(node);
            if matches!(section.kind, Kind::Bad) {
                return None;
            }
            catalogue.bindings(section, cx);
            Policy::fields_of(section, cx)
        });
    }
    secrets::read(root, cx);
    let place = root::ADMIN.place(root).unwrap_or(Place::BUILT_IN);
    let admin = root::ADMIN.read(root, cx).map(|admin| (admin, place));
    Read { listeners, services, admin, names }
}

/// The policies of a route over one another, with what the route says itself on top.
pub fn effective<'a, 'n>(
    route: &Node,
    table: &'static Table,
    names: impl Iterator<Item = &'a str>,
    find: impl Fn(&str) -> Option<&'n Node>,
) -> Node {
    let mut node = Node { place: route.place, kind: Kind::Map(Vec::new()) };
    for name in names {
        if let Some(policy) = find(name) {
            node = overlay(&node, policy, table);
        }
    }
    overlay(&node, route, table)
}
