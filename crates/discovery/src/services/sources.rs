//! The sources that services name: opened once for all that name the same, and ended with the last.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::Path,
    sync::Arc,
};

use tokio::{
    sync::Semaphore,
    task::{AbortHandle, Id},
};
use weft_kernel::{Clock, Reason, Rng, Tick};

use super::SourceStatus;
use crate::{
    endpoint::Key,
    options::{Dns, EndpointOptions, Location, ServiceOptions},
    resolve::{Lookup, Query},
    service::Wanted,
    source::{
        Changes, DnsSource, Feed, FixedSource, Instance, Metadata, Opener, Running, Slot, Source,
        State, Told, file::FileSource,
    },
};

/// What makes a source the same for all services.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ask {
    Fixed(Arc<[EndpointOptions]>),
    Dns { query: Query, dns: Dns },
    File(Arc<Path>),
    Other { kind: Arc<str>, name: Arc<str> },
}

impl Ask {
    /// What a location is asked of; `None` for an address.
    fn of(location: &Location, dns: &Dns) -> Option<Self> {
        Some(match location {
            Location::Address(_) => return None,
            Location::Host { .. } | Location::Srv(_) => {
                Self::Dns { query: Query::of(location, dns.family)?, dns: dns.clone() }
            }
            Location::File(path) => Self::File(Arc::clone(path)),
            Location::Other { kind, name } => {
                Self::Other { kind: Arc::clone(kind), name: Arc::clone(name) }
            }
        })
    }

    /// Whether it may tell of names, which are resolved further.
    pub(super) fn may_nest(&self) -> bool {
        matches!(self, Self::File(_) | Self::Other { .. })
    }

    /// The word of its kind.
    pub(super) fn kind(&self) -> &str {
        match self {
            Self::Fixed(_) => "static",
            Self::Dns { .. } => "dns",
            Self::File(_) => "file",
            Self::Other { kind, .. } => kind,
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(endpoints) => write!(f, "{} addresses", endpoints.len()),
            Self::Dns { query, .. } => query.fmt(f),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Other { kind, name } => write!(f, "{kind}:{name}"),
        }
    }
}

/// What one source gives to a service, with what the service says beside.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) ask: Ask,
    weight: u32,
    priority: u16,
    zone: Option<Arc<str>>,
    metadata: Arc<Metadata>,
}

impl Share {
    fn of(ask: Ask) -> Self {
        Self { ask, weight: 1, priority: 0, zone: None, metadata: Arc::default() }
    }

    /// The share of what an endpoint of this one, which is no address, is resolved to.
    fn beyond(&self, instance: &Instance, dns: &Dns) -> Option<Self> {
        // One step only: what a host resolves to are addresses.
        if !matches!(instance.location, Location::Host { .. } | Location::Srv(_)) {
            return None;
        }
        Some(Self {
            ask: Ask::of(&instance.location, dns)?,
            weight: self.weight.saturating_mul(instance.weight.max(1)),
            priority: self.priority.saturating_add(instance.priority),
            zone: instance.zone.clone().or_else(|| self.zone.clone()),
            metadata: Arc::clone(&instance.metadata),
        })
    }

    fn wanted(&self, instance: &Instance) -> Option<Wanted> {
        let Location::Address(address) = &instance.location else { return None };
        let own = &instance.metadata;
        Some(Wanted {
            key: Key {
                address: address.clone(),
                hostname: instance.hostname.clone(),
                zone: instance.zone.clone().or_else(|| self.zone.clone()),
            },
            weight: self.weight.saturating_mul(instance.weight.max(1)),
            priority: self.priority.saturating_add(instance.priority),
            metadata: Arc::clone(if own.is_empty() { &self.metadata } else { own }),
        })
    }
}

/// The sources that the options of a service name.
fn named(options: &ServiceOptions) -> Vec<Share> {
    let is_fixed = |endpoint: &&EndpointOptions| matches!(endpoint.location, Location::Address(_));
    let fixed: Arc<[_]> = options.endpoints.iter().filter(is_fixed).cloned().collect();
    let mut shares = Vec::new();
    if !fixed.is_empty() {
        shares.push(Share::of(Ask::Fixed(fixed)));
    }
    shares.extend(options.endpoints.iter().filter_map(|endpoint| {
        Some(Share {
            weight: endpoint.weight.max(1),
            priority: endpoint.priority,
            zone: endpoint.zone.clone(),
            ..Share::of(Ask::of(&endpoint.location, &options.dns)?)
        })
    }));
    shares
}

/// A source that runs.
#[derive(Debug)]
struct Open {
    ask: Ask,
    slot: Arc<Slot>,
    failure: Reason,
    /// Not the configuration names it, but what another source told.
    nested: bool,
    /// How far it was trusted when services were told last.
    seen: State,
    task: Option<AbortHandle>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn status(Open { ask, slot, nested, .. }: &Open, now: Tick) -> Option<SourceStatus> {
    if let Ask::Fixed(_) = ask {
        return None;
    }
    let told = slot.told();
    Some(SourceStatus {
        kind: ask.kind().to_owned(),
        name: ask.to_string(),
        nested: *nested,
        state: told.state,
        endpoints: told.instances.len(),
        pushed: told.pushed.map(|at| now.since(at)),
        failing: told.failing_since.map(|at| now.since(at)),
        error: told.error,
        failures: told.failures,
        next: told.next.map(|at| at.since(now)),
    })
}

/// What changed with a source.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) ask: Ask,
    pub(super) before: State,
    pub(super) told: Told,
}

impl Change {
    /// Tells the operator that a source fails, or works again.
    pub(super) fn log(&self) {
        let Self { ask: source, before, told } = self;
        if told.state == *before || matches!(source, Ask::Fixed(_)) {
            return;
        }
        let (state, kept) = (told.state.word(), told.instances.len());
        match &told.error {
            Some(error) => tracing::warn!(%source, state, error, kept, "source failed"),
            None => tracing::info!(%source, state, kept, "source works"),
        }
    }
}

/// All sources that are open.
pub(super) struct Sources {
    ids: HashMap<Ask, u64>,
    open: HashMap<u64, Open>,
    /// Those that are to be run and are not yet.
    starting: Vec<(u64, Running)>,
    kinds: HashMap<Arc<str>, Opener>,
    changes: Arc<Changes>,
    clock: Arc<dyn Clock>,
    lookup: Arc<dyn Lookup>,
    lookups: Arc<Semaphore>,
    next: u64,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Sources {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        lookup: Arc<dyn Lookup>,
        changes: Arc<Changes>,
    ) -> Self {
        Self {
            ids: HashMap::new(),
            open: HashMap::new(),
            starting: Vec::new(),
            kinds: HashMap::new(),
            changes,
            clock,
            lookup,
            lookups: Arc::new(Semaphore::new(super::LOOKUPS_MAX)),
            next: 0,
        }
    }

    pub(super) fn add_kind(&mut self, kind: Arc<str>, opener: Opener) {
        self.kinds.insert(kind, opener);
    }

    fn get(&self, ask: &Ask) -> Option<&Open> {
        self.open.get(self.ids.get(ask)?)
    }

    /// The state of a source, if it is open; the addresses of the configuration have none to speak of.
    pub(super) fn status_of(&self, ask: &Ask, now: Tick) -> Option<SourceStatus> {
        status(self.get(ask)?, now)
    }

    /// The state of every open source.
    pub(super) fn status(&self, now: Tick) -> Vec<SourceStatus> {
        self.open.values().filter_map(|open| status(open, now)).collect()
    }

    /// Every source of a service, those included that resolve what others tell. It copies the addresses of
    /// the options, so it is asked for once and handed on.
    pub(super) fn shares(&self, options: &ServiceOptions) -> Vec<Share> {
        self.with_nested(named(options), options)
    }

    /// Shares that are named, with those that resolve what these tell.
    fn with_nested(&self, mut shares: Vec<Share>, options: &ServiceOptions) -> Vec<Share> {
        for at in 0..shares.len() {
            let Some(open) = self.get(&shares[at].ask) else { continue };
            if !open.ask.may_nest() {
                continue;
            }
            let instances = open.slot.instances();
            let beyond = instances.iter().filter_map(|one| shares[at].beyond(one, &options.dns));
            let beyond: Vec<Share> = beyond.collect();
            shares.extend(beyond);
        }
        shares
    }

    /// Opens every source that a service needs and that is not open; all of them are given.
    pub(super) fn open(&mut self, options: &ServiceOptions, rng: &mut Rng) -> Vec<Share> {
        let named = named(options);
        for share in &named {
            self.open_one(&share.ask, false, rng);
        }
        let shares = self.with_nested(named, options);
        self.open_nested(&shares, rng);
        shares
    }

    /// Opens those of a service that resolve what the others tell and that are not open.
    pub(super) fn open_nested(&mut self, shares: &[Share], rng: &mut Rng) {
        for share in shares {
            self.open_one(&share.ask, true, rng);
        }
    }

    fn open_one(&mut self, ask: &Ask, nested: bool, rng: &mut Rng) {
        if self.ids.contains_key(ask) {
            return;
        }
        let ask = ask.clone();
        self.next += 1;
        let id = self.next;
        let slot = Slot::new(id, Arc::clone(&self.changes), Arc::clone(&self.clock));
        let feed = Feed::new(Arc::clone(&slot));
        let mut failure = Reason::NoEndpoint;
        match self.source(&ask, rng) {
            Some(source) => {
                failure = source.failure();
                self.starting.extend(source.start(feed).map(|running| (id, running)));
            }
            None => feed.fail(format!("there is no source of the kind `{}`", ask.kind())),
        }
        // What it told at once is taken in by whoever opened it.
        self.changes.forget(id);
        let change = Change { ask, before: State::Pending, told: slot.told() };
        change.log();
        let Change { ask, told, .. } = change;
        self.ids.insert(ask.clone(), id);
        self.open.insert(id, Open { ask, slot, failure, nested, seen: told.state, task: None });
    }

    fn source(&self, ask: &Ask, rng: &mut Rng) -> Option<Box<dyn Source>> {
        Some(match ask {
            Ask::Fixed(endpoints) => Box::new(FixedSource(Arc::clone(endpoints))),
            Ask::Dns { query, dns } => Box::new(DnsSource {
                query: query.clone(),
                dns: dns.clone(),
                lookup: Arc::clone(&self.lookup),
                clock: Arc::clone(&self.clock),
                rng: Rng::seeded(rng.next_u64()),
                at_once: Arc::clone(&self.lookups),
            }),
            Ask::File(path) => Box::new(FileSource::new(Arc::clone(path))),
            Ask::Other { kind, name } => self.kinds.get(kind)?(name),
        })
    }

    /// The sources that are to be run.
    pub(super) fn take_starting(&mut self) -> Vec<(u64, Running)> {
        std::mem::take(&mut self.starting)
    }

    /// Notes that a source runs; one that was ended meanwhile is ended.
    pub(super) fn started(&mut self, id: u64, task: AbortHandle) {
        match self.open.get_mut(&id) {
            Some(open) => open.task = Some(task),
            None => task.abort(),
        }
    }

    /// Notes that the task of a source broke off: what it told stays.
    pub(super) fn broke(&self, task: Id) {
        let its = |open: &&Open| open.task.as_ref().is_some_and(|of| of.id() == task);
        if let Some(open) = self.open.values().find(its) {
            Feed::new(Arc::clone(&open.slot)).fail("the source broke off: restart Weft to mend it");
        }
    }

    /// What sources have told since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let ids = self.changes.take();
        let changes = ids.into_iter().filter_map(|id| {
            let open = self.open.get_mut(&id)?;
            let told = open.slot.told();
            let before = std::mem::replace(&mut open.seen, told.state);
            Some(Change { ask: open.ask.clone(), before, told })
        });
        changes.collect()
    }

    /// Ends the sources that nobody needs.
    pub(super) fn retain(&mut self, needed: &HashSet<Ask>) {
        self.ids.retain(|ask, _| needed.contains(ask));
        self.open.retain(|_, open| needed.contains(&open.ask));
        let open = &self.open;
        self.starting.retain(|(id, _)| open.contains_key(id));
    }

    /// The endpoints that the sources of a service make.
    pub(super) fn wanted(&self, shares: &[Share]) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for share in shares {
            let Some(open) = self.get(&share.ask) else { continue };
            let instances = open.slot.instances();
            wanted.extend(instances.iter().filter_map(|instance| share.wanted(instance)));
        }
        wanted
    }

    /// Whether a service has a name without an answer to stand on: none yet, or none at all.
    pub(super) fn has_unresolved(&self, shares: &[Share]) -> bool {
        shares.iter().filter_map(|share| self.get(&share.ask)).any(|open| {
            open.failure == Reason::DnsFailed
                && matches!(open.slot.state(), State::Pending | State::Failed)
        })
    }

    /// Sources that have told nothing yet.
    pub(super) fn pending(&self) -> usize {
        self.open.values().filter(|open| open.slot.state() == State::Pending).count()
    }

    /// Asks the sources of a service to look again.
    pub(super) fn want(&self, options: &ServiceOptions) {
        for share in self.shares(options) {
            if let Some(open) = self.get(&share.ask) {
                open.slot.want();
            }
        }
    }
}
