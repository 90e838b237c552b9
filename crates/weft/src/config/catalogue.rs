//! The catalogue of sections: what may stand at the top level of a configuration, and what is made of it.
//!
//! The node has sections of its own ([`root`]): listeners, services, policies and
//! routes, of which the request path is made, and the admin API. Every other section belongs to a
//! component, which says its key and type ([`KeyOf`]), makes its part of the plan of it, and checks what
//! elsewhere refers to it: its [`Contribution`]. Which components there are is not known here.
//!
//! Merging of files, reading, unknown keys and near misses, the JSON Schema, the reference page and the
//! configuration in effect are views of the catalogue, so that a component's section is told of wherever
//! the node's own are.

use std::{
    any::Any,
    fmt::{self, Debug},
    marker::PhantomData,
    sync::Arc,
};

use weft_kernel::{ByteSize, Name};
use weft_proxy::plan as proxy;

use super::{
    kept::Standing,
    leaf::Named,
    merge::{NameSet, Names},
    plan::Plan,
    remembered::Remembered,
    routes::Built,
    sections::{Policy, Route, root},
    setting::{At, Cx, Field, Setting, Shape, Table, built_in},
    source::Place,
    tree::{Kind, Node},
};

/// Key of the top level, and the type of what stands there.
pub struct KeyOf<T> {
    key: &'static str,
    about: &'static str,
    default: Option<&'static str>,
    of: PhantomData<fn() -> T>,
}

impl<T: Setting> KeyOf<T> {
    const SHAPE: &'static (dyn Fn() -> Shape + Send + Sync) = &T::shape;

    /// A key with what it means, in one sentence; if it is left out, the type decides what stands in.
    pub const fn new(key: &'static str, about: &'static str) -> Self {
        Self { key, about, default: None, of: PhantomData }
    }

    /// The same with a default, as it would be written.
    #[must_use]
    pub const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// The key.
    pub(super) const fn key(&self) -> &'static str {
        self.key
    }

    /// Its row in the table of the top level.
    pub const fn field(&self) -> Field {
        Field {
            key: self.key,
            about: self.about,
            shape: Self::SHAPE,
            absent: T::ABSENT,
            default: self.default,
        }
    }

    /// Reads what stands there; `None` when it cannot be read, which has then been reported.
    pub fn read(&self, root: &Node, cx: &mut Cx) -> Option<T> {
        let said = root.get(self.key).filter(|node| !matches!(node.kind, Kind::Null));
        match (said, self.default) {
            (None, Some(default)) => built_in(default),
            _ => cx.field(root, self.key, self.about, None),
        }
    }

    /// Where its value stands, if it has one.
    pub(super) fn place(&self, root: &Node) -> Option<Place> {
        root.get(self.key).map(|node| node.place)
    }
}

impl<T: Setting> KeyOf<Named<T>> {
    /// The names that stand there, also of what cannot be read.
    pub(super) fn names(&self, root: &Node) -> NameSet {
        let entries = root.get(self.key).map_or(&[][..], Node::entries);
        NameSet::from_iter(entries.iter().map(|(key, _)| (Arc::clone(&key.text), key.place)))
    }

    /// Reads them, in the order of the files.
    pub(super) fn entries(&self, root: &Node, cx: &mut Cx) -> Vec<(At<Name>, T)> {
        self.read(root, cx).map_or_else(Vec::new, |named| named.0)
    }
}

/// What a component made of its sections.
pub trait AnyPart: Any + Debug + Send + Sync {}

impl<P: Any + Debug + Send + Sync> AnyPart for P {}

/// What the components made of their sections, by type.
#[derive(Clone, Default)]
pub struct Parts(Vec<Arc<dyn AnyPart>>);

impl Parts {
    /// The part of this type.
    pub fn get<P: Any>(&self) -> Option<&P> {
        self.0.iter().find_map(|part| (&**part as &dyn Any).downcast_ref())
    }
}

impl Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

/// A key of a route that leads to what a component answers for, in place of its other targets.
pub struct TargetKey {
    /// Its row in the table of routes.
    pub field: Field,
    /// Makes the target of the route of a name, of what stands at the key; `None` if it cannot be, which was
    /// then reported.
    pub build: fn(&Name, &Node, &mut Cx) -> Option<Bound>,
}

/// A target that a component answers for.
#[derive(Debug)]
pub struct Bound {
    /// What the request path is told.
    pub binding: proxy::Binding,
    /// Where the name stands of what it leads to.
    pub place: Place,
}

/// A key of a policy that a component answers for.
pub struct PolicyKey {
    /// Its row in the table of policies.
    pub field: Field,
    /// Makes what the request path is told, of a policy in effect; `None` if that does not ask for it, or
    /// cannot be, which was then reported.
    pub build: fn(&Node, &mut Cx) -> Option<proxy::Binding>,
}

/// What a component has to do with a configuration.
#[derive(Clone, Copy)]
pub struct Contribution {
    /// Its sections: rows of the table of the top level.
    pub sections: &'static [Field],
    /// Its targets of routes.
    pub targets: &'static [TargetKey],
    /// Its keys of policies.
    pub policies: &'static [PolicyKey],
    /// Makes its part of the plan; `None` if it is not asked for, or cannot be, which was then reported.
    pub build: fn(&mut Sections<'_>, &mut Cx) -> Option<Arc<dyn AnyPart>>,
    /// Checks what can be checked only once all parts are built.
    pub check: fn(&Checked<'_>, &mut Cx),
}

/// Every section of a configuration, and who makes something of it.
pub struct Catalogue {
    table: Table,
    routes: &'static Table,
    policies: &'static Table,
    contributions: Vec<Contribution>,
}

impl Catalogue {
    /// The node's own sections with those of components, in the order in which pages list them.
    ///
    /// There is one for each list of components, for the life of the process.
    pub fn new(contributions: Vec<Contribution>) -> &'static Self {
        let keys = contributions.iter().flat_map(|one| one.policies).map(|key| key.field);
        let policies = with_keys(Policy::TABLE, keys, None);
        let keys = contributions.iter().flat_map(|one| one.targets).map(|key| key.field);
        let routes = with_keys(Route::TABLE, keys, Some(policies));
        let named = || Shape::Map { key: "name", value: Box::new(Shape::Section(policies)) };
        let listed = || Shape::List(Box::new(Shape::Section(routes)));
        let mut fields = root::BEFORE.to_vec();
        fields.push(Field { shape: Box::leak(Box::new(named)), ..root::POLICIES.field() });
        fields.push(Field { shape: Box::leak(Box::new(listed)), ..root::ROUTES.field() });
        fields.extend(contributions.iter().flat_map(|one| one.sections).copied());
        fields.extend_from_slice(root::BEHIND);
        let table = Table {
            name: "configuration",
            about: root::ABOUT,
            short: None,
            fields: Vec::leak(fields),
            with: None,
        };
        Box::leak(Box::new(Self { table, routes, policies, contributions }))
    }

    /// The table of the top level.
    pub const fn table(&'static self) -> &'static Table {
        &self.table
    }

    /// The table of routes, with the targets that components answer for.
    pub(super) const fn routes(&self) -> &'static Table {
        self.routes
    }

    /// The table of policies, with the keys that components answer for.
    pub(super) const fn policies(&self) -> &'static Table {
        self.policies
    }

    /// What components add to a policy in effect.
    pub(super) fn bindings(&self, policy: &Node, cx: &mut Cx) -> Vec<proxy::Binding> {
        let keys = self.contributions.iter().flat_map(|one| one.policies);
        keys.filter_map(|key| (key.build)(policy, cx)).collect()
    }

    /// The targets of routes that components answer for.
    pub(super) fn targets(&self) -> impl Iterator<Item = &'static TargetKey> {
        self.contributions.iter().flat_map(|one| one.targets)
    }

    /// Whether every file may add to what stands at a key: to a list of items, or a map by name.
    pub(super) fn gathers(&self, key: &str) -> bool {
        let shape = self.table.field(key).map(|field| (field.shape)());
        matches!(shape, Some(Shape::List(_) | Shape::Map { .. }))
    }

    /// Lets the components make their parts.
    pub(super) fn build(&self, sections: &mut Sections<'_>, cx: &mut Cx) -> Parts {
        Parts(self.contributions.iter().filter_map(|one| (one.build)(sections, cx)).collect())
    }

    /// Lets the components check the whole.
    pub(super) fn check(&self, checked: &Checked<'_>, cx: &mut Cx) {
        self.contributions.iter().for_each(|one| (one.check)(checked, cx));
    }
}

/// A table with more keys, for the life of the process.
fn with_keys(
    table: &'static Table,
    keys: impl Iterator<Item = Field>,
    with: Option<&'static Table>,
) -> &'static Table {
    let fields = table.fields.iter().copied().chain(keys).collect();
    Box::leak(Box::new(Table { fields: Vec::leak(fields), with, ..*table }))
}

impl Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.table.keys()).finish()
    }
}

/// What a configuration says, for a component to make its part of, with the request path that was built.
#[derive(Debug)]
pub struct Sections<'a> {
    pub(super) root: &'a Node,
    pub(super) names: &'a Names,
    /// The request path: listeners, services and routes that could be built.
    pub proxy: &'a proxy::Plan,
    /// Internal routes that were added.
    pub(super) added: Internal,
    /// Policies of every route.
    pub(super) everywhere: Vec<proxy::Binding>,
    /// The largest of what is to be kept, if anything is.
    kept: Option<At<ByteSize>>,
    memory: (&'a Remembered, &'a Standing),
}

/// Internal routes that components have.
#[derive(Debug, Default)]
pub(super) struct Internal {
    /// Those that the configuration speaks of.
    pub(super) named: Vec<Arc<proxy::Route>>,
    /// Those that it does not speak of.
    pub(super) unnamed: Vec<Arc<proxy::Route>>,
}

impl<'a> Sections<'a> {
    pub(super) fn new(
        root: &'a Node,
        names: &'a Names,
        proxy: &'a proxy::Plan,
        memory: (&'a Remembered, &'a Standing),
    ) -> Self {
        let (added, everywhere) = Default::default();
        Self { root, names, proxy, added, everywhere, kept: None, memory }
    }

    /// Reads a section; `None` when it cannot be read, which has then been reported.
    pub fn read<T: Setting>(&self, key: &KeyOf<T>, cx: &mut Cx) -> Option<T> {
        key.read(self.root, cx)
    }

    /// Reads a section by name, in the order of the files, without what cannot be read.
    pub fn entries<T: Setting>(&self, key: &KeyOf<Named<T>>, cx: &mut Cx) -> Vec<(At<Name>, T)> {
        key.entries(self.root, cx)
    }

    /// What `make` makes of a section by name. While the section stays, and `beside`, which is to be all else that it
    /// depends on, it is what was made for the load before.
    pub fn remembered<T, B, M>(
        &self,
        key: &KeyOf<Named<T>>,
        beside: B,
        cx: &mut Cx,
        make: impl FnOnce(Vec<(At<Name>, T)>, &mut Cx) -> M,
    ) -> Arc<M>
    where
        T: Setting,
        B: PartialEq + Send + 'static,
        M: Send + Sync + 'static,
    {
        let (remembered, standing) = self.memory;
        let made = |cx: &mut Cx| make(key.entries(self.root, cx), cx);
        remembered.of((key.key, standing), beside, cx, made)
    }

    /// The names in a section, also of what cannot be read.
    pub fn names<T: Setting>(&self, key: &KeyOf<Named<T>>) -> NameSet {
        key.names(self.root)
    }

    /// Where a section stands, if it is there.
    pub fn place<T: Setting>(&self, key: &KeyOf<T>) -> Option<Place> {
        key.place(self.root)
    }

    /// The names of the services.
    pub const fn services(&self) -> &NameSet {
        &self.names.services
    }

    /// Asks for the store, which is then to keep what has at most so many bytes at once, as is said there.
    pub fn keep(&mut self, bytes_max: At<ByteSize>) {
        if self.kept.as_ref().is_none_or(|kept| kept.value < bytes_max.value) {
            self.kept = Some(bytes_max);
        }
    }

    /// The most bytes of what components before this one keep at once; `None` if they keep nothing.
    pub fn kept(&self) -> Option<At<ByteSize>> {
        self.kept.clone()
    }

    /// Adds an internal route to a service that the section names.
    pub fn lead(&mut self, route: proxy::Route) -> Arc<proxy::Route> {
        let route = Arc::new(route);
        self.added.named.push(Arc::clone(&route));
        route
    }

    /// Has every route bound to a policy, behind those of its stage that it is bound to itself; also internal ones.
    pub fn bind_everywhere(&mut self, binding: proxy::Binding) {
        self.everywhere.push(binding);
    }

    /// Adds an internal route that no section speaks of; it is not listed among the others.
    pub fn lead_unnamed(&mut self, route: proxy::Route) {
        self.added.unnamed.push(Arc::new(route));
    }
}

/// The whole plan, before it is handed out, for components to check how its parts fit together.
#[derive(Debug)]
pub struct Checked<'a> {
    /// The plan.
    pub plan: &'a Plan,
    pub(super) root: &'a Node,
    pub(super) built: &'a [Built],
}

impl Checked<'_> {
    /// The names in a section, also of what cannot be read.
    pub fn names<T: Setting>(&self, key: &KeyOf<Named<T>>) -> NameSet {
        key.names(self.root)
    }

    /// The routes of the configuration, each with the place of what its target names.
    pub fn routes(&self) -> impl Iterator<Item = (&proxy::Route, Place)> {
        self.built.iter().map(|built| (&*built.item.plan, built.target))
    }
}
