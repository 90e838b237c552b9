//! Routes: each is read and built in one go, or taken as an earlier load left it.
//!
//! What a route says is dropped as soon as its plan stands, so that thousands of them take little room
//! while they are read, and those that say nothing of their own about policies share one.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use weft_kernel::Name;
use weft_proxy::plan;

use super::{
    build,
    catalogue::Catalogue,
    kept::{Item, Placed},
    merge::{Names, effective},
    problem::Problem,
    sections::{Policy, Route, listener::Protocol},
    setting::{At, Cx},
    source::Place,
    tree::{Kind, Node},
};

/// A route that was built.
#[derive(Debug)]
pub(super) struct Built {
    /// What it came to.
    pub(super) item: Arc<Item>,
    /// Where its name stands; where the route begins, if it was kept.
    pub(super) name: Place,
    /// Where the route begins.
    pub(super) place: Place,
    /// Where what its target names stands; where the route begins, if it was kept.
    pub(super) target: Place,
    /// Whether a later load may take it as it is.
    pub(super) keep: bool,
}

/// What routes refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    pub(super) names: &'a Names,
    pub(super) protocols: &'a HashMap<&'a str, Protocol>,
    pub(super) catalogue: &'static Catalogue,
}

/// Reads and builds the routes of a merged tree, and puts those that were kept in their places among
/// them. `None` if one that was kept must be read again.
pub(super) fn read(
    root: &Node,
    kept: Vec<Placed>,
    around: Around<'_>,
    cx: &mut Cx,
) -> Option<Vec<Built>> {
    let items = items(root, cx);
    let mut reader = Reader {
        around,
        policies: root
            .get("policies")
            .map_or(&[][..], Node::entries)
            .iter()
            .map(|(key, node)| (Arc::clone(&key.text), node))
            .collect(),
        shared: HashMap::new(),
        first: HashMap::with_capacity(items.len() + kept.len()),
    };
    let mut routes = Vec::with_capacity(items.len() + kept.len());
    let mut kept = kept.into_iter().peekable();
    let mut items = items.iter().peekable();
    loop {
        let next = items.peek().map(|item| item.place);
        let before = |place: &Place| next.is_none_or(|next| *place < next);
        match kept.next_if(|(place, _)| before(place)) {
            Some((_, item)) if !still_fits(&item, around) => return None,
            Some((place, item)) => {
                reader.claim(&item.plan.name, place, cx);
                routes.push(Built { item, name: place, place, target: place, keep: true });
            }
            None => match items.next() {
                Some(item) => routes.extend(reader.route(item, cx)),
                None => return Some(routes),
            },
        }
    }
}

fn items<'n>(root: &'n Node, cx: &mut Cx) -> &'n [Node] {
    let Some(node) = root.get("routes") else { return &[] };
    match &node.kind {
        Kind::List(items) => return items,
        Kind::Null | Kind::Bad => {}
        Kind::Map(_) => cx.report(
            Problem::error(node.place, "expected a list of routes, found a map")
                .help("write `- name: orders` for each, since their order can matter"),
        ),
        Kind::Text(_) => cx.expected(node, "a list of routes"),
    }
    &[]
}

/// Whether the listeners and services that a route refers to are still there. What a component answers for
/// is checked by that, for routes that were kept as for all others.
fn still_fits(item: &Item, around: Around<'_>) -> bool {
    let http = |name: &Name| around.protocols.get(name.as_str()) == Some(&Protocol::Http);
    item.plan.listeners.iter().all(http)
        && item.plan.services().all(|name| around.names.services.contains(name.as_str()))
}

/// Works out each route; those that only name policies share what these come to.
struct Reader<'a> {
    around: Around<'a>,
    policies: HashMap<Arc<str>, &'a Node>,
    shared: HashMap<Vec<Name>, Effective>,
    /// Where each name was first given.
    first: HashMap<Name, Place>,
}

/// The policies of a route, as they are said and as they are built; what cannot be was reported.
#[derive(Clone)]
struct Effective {
    section: Option<Arc<Policy>>,
    plan: Option<Arc<plan::RoutePolicies>>,
    /// Whether nothing at all was said of them.
    clean: bool,
}

impl Reader<'_> {
    fn claim(&mut self, name: &Name, place: Place, cx: &mut Cx) {
        match self.first.entry(name.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(place);
            }
            Entry::Occupied(entry) => cx.report(
                Problem::error(place, format!("two routes are named `{name}`"))
                    .and(*entry.get(), "first here"),
            ),
        }
    }

    fn route(&mut self, node: &Node, cx: &mut Cx) -> Option<Built> {
        // What a route says of files and secrets is taken apart, to be seen.
        let outer = (std::mem::take(&mut cx.files), std::mem::take(&mut cx.secrets));
        let problems = cx.problems.len();
        let unfolded = cx.section(node, self.around.catalogue.routes());
        let section = unfolded.as_ref().unwrap_or(node);
        let route = match section.kind {
            Kind::Bad => None,
            _ => Route::fields_of(section, cx),
        };
        let list = route.as_ref().map_or(&[][..], |route| &route.policies);
        let names = &self.around.names.policies;
        for name in list {
            names.require("policy", name.as_str(), name.place, cx);
        }
        let effective = self.effective(node, list, cx);
        if let Some(route) = &route {
            self.claim(&route.name.value, route.name.place, cx);
        }
        let built = match (&route, &effective.section) {
            (Some(route), Some(section)) => {
                build::route(node, route, section, effective.plan.clone(), self.around, cx)
            }
            _ => None,
        };
        let clean = effective.clean
            && cx.problems.len() == problems
            && cx.files.is_empty()
            && cx.secrets.is_empty();
        cx.files.extend(outer.0);
        cx.secrets.extend(outer.1);
        let (route, (plan, target)) = route.zip(built)?;
        let policies = route.policies.iter().map(|name| name.value.clone()).collect();
        let item = Item { plan: Arc::new(plan), policies, nodes: node.count() };
        Some(Built {
            item: Arc::new(item),
            name: route.name.place,
            place: node.place,
            target,
            keep: clean,
        })
    }

    fn effective(&mut self, route: &Node, names: &[At<Name>], cx: &mut Cx) -> Effective {
        let table = self.around.catalogue.policies();
        let inline = route.entries().iter().any(|(key, _)| table.field(&key.text).is_some());
        let list: Vec<Name> = names.iter().map(|name| name.value.clone()).collect();
        if !inline && let Some(shared) = self.shared.get(&list) {
            return shared.clone();
        }
        let node = effective(route, table, names.iter().map(|name| name.as_str()), |name| {
            self.policies.get(name).copied()
        });
        let problems = cx.problems.len();
        // Unknown keys were reported where each policy and route was read.
        let section = Policy::fields_of(&node, cx).map(Arc::new);
        let bindings = self.around.catalogue.bindings(&node, cx);
        let plan = section
            .as_ref()
            .and_then(|section| build::policy(section, bindings, self.around.names, cx))
            .map(Arc::new);
        let effective = Effective { section, plan, clean: cx.problems.len() == problems };
        if !inline {
            self.shared.insert(list, effective.clone());
        }
        effective
    }
}
