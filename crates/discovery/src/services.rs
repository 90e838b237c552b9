//! Every service by name: what configuration wants, what sources tell, and who checks whom.
//!
//! [`Services::apply`] takes the whole configuration and changes only what differs. A reload does it in
//! three steps: [`Services::prepare`] changes nothing yet, [`Services::commit`] puts in force what was
//! prepared, and [`Services::retain`] lets go of services that are gone once no request may ask for them.
//! The request path takes its services from a compiled snapshot and never asks here. [`Services::run`]
//! is the one long-lived task: it runs sources and checks on the control runtime until told to stop.

mod agenda;
mod run;
mod sources;
mod status;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use weft_kernel::{Clock, Name, Rng, Tick};

pub use status::{CheckStatus, EndpointStatus, ServiceStatus, SourceStatus};

use crate::{
    endpoint::Endpoint,
    health::{Probe, Pulse},
    options::{Health, ServiceOptions},
    resolve::Lookup,
    service::{Moved, Service},
    source::{Changes, Opener},
};
use agenda::Agenda;
use sources::{Ask, Share, Sources};

/// Checks that run at once, over all services.
pub const PROBES_MAX: usize = 128;
/// Names that are looked up at once, over all services.
pub const LOOKUPS_MAX: usize = 16;

type Table = BTreeMap<Name, Arc<Service>>;

/// An endpoint that is checked.
#[derive(Debug)]
struct Ward {
    service: Arc<Service>,
    endpoint: Arc<Endpoint>,
    options: Arc<ServiceOptions>,
    pulse: Pulse,
    /// Tells a finding under older options from one that counts.
    round: u64,
}

/// What the task works on; never touched by a request.
#[derive(Debug)]
struct Inner {
    rng: Rng,
    sources: Sources,
    wards: HashMap<u64, Ward>,
    checks: Agenda<u64>,
    next: u64,
}

/// Services that are to be; nothing is in force yet.
#[derive(Debug)]
pub struct Prepared(BTreeMap<Name, (Arc<ServiceOptions>, Arc<Service>)>);

impl Prepared {
    /// The service of a name: the one in force, or a new one, which has no endpoints until the commit.
    pub fn get(&self, name: &str) -> Option<&Arc<Service>> {
        self.0.get(name).map(|(_, service)| service)
    }
}

/// What one [`Services::apply`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Services that came.
    pub added: Vec<Name>,
    /// Services whose options or endpoints changed.
    pub updated: Vec<Name>,
    /// Services that went.
    pub removed: Vec<Name>,
    /// Endpoints that came.
    pub endpoints_added: usize,
    /// Endpoints that went; their idle connections are to be closed.
    pub endpoints_removed: usize,
}

impl Changed {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn count(&mut self, moved: Moved) {
        self.endpoints_added += moved.added;
        self.endpoints_removed += moved.removed;
    }
}

/// All services.
pub struct Services {
    services: ArcSwap<Table>,
    inner: Mutex<Inner>,
    wake: Arc<Notify>,
    clock: Arc<dyn Clock>,
    probe: Arc<dyn Probe>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("services", &self.services.load()).finish_non_exhaustive()
    }
}

impl Services {
    /// No services yet; who resolves names and who checks are handed in.
    pub fn new(
        clock: Arc<dyn Clock>,
        lookup: Arc<dyn Lookup>,
        probe: Arc<dyn Probe>,
        rng: Rng,
    ) -> Self {
        let wake = Arc::new(Notify::new());
        let changes = Changes::new(Arc::clone(&wake));
        Self {
            services: ArcSwap::default(),
            inner: Mutex::new(Inner {
                rng,
                sources: Sources::new(Arc::clone(&clock), lookup, changes),
                wards: HashMap::new(),
                checks: Agenda::new(PROBES_MAX),
                next: 0,
            }),
            wake,
            clock,
            probe,
        }
    }

    /// Registers a kind of source, which services then name by
    /// [`Location::Other`](crate::Location::Other). Before any service names it.
    pub fn add_kind(&self, kind: &str, opener: Opener) {
        self.inner().sources.add_kind(kind.into(), opener);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The service of a name.
    pub fn get(&self, name: &str) -> Option<Arc<Service>> {
        self.services.load().get(name).cloned()
    }

    /// Every service, by name.
    pub fn services(&self) -> Vec<Arc<Service>> {
        self.services.load().values().cloned().collect()
    }

    /// Makes these the services. A service keeps its endpoints by address, with all that was learnt
    /// about them; of two with one name the later counts.
    pub fn apply(&self, services: Vec<ServiceOptions>, now: Tick) -> Changed {
        let prepared = self.prepare(services);
        let names: HashSet<Name> = prepared.0.keys().cloned().collect();
        let mut changed = self.commit(prepared, now);
        let removed = self.retain(|name| names.contains(name));
        changed.removed = removed.removed;
        changed.endpoints_removed += removed.endpoints_removed;
        changed
    }

    /// Makes new services ready without any change to what is in force; of two with one name the later
    /// counts.
    pub fn prepare(&self, services: Vec<ServiceOptions>) -> Prepared {
        let old = self.services.load();
        let prepare = |options: ServiceOptions| {
            let options = Arc::new(options);
            let service = old.get(&options.name).cloned();
            let service = service
                .unwrap_or_else(|| Service::new(Arc::clone(&options), Arc::clone(&self.wake)));
            (options.name.clone(), (options, service))
        };
        Prepared(services.into_iter().map(prepare).collect())
    }

    /// Puts in force what was prepared. A service keeps its endpoints by address, with all that was
    /// learnt about them; services that were not prepared stay as they are. None may have been let go
    /// of since.
    pub fn commit(&self, prepared: Prepared, now: Tick) -> Changed {
        let mut inner = self.inner();
        let mut services = (**self.services.load()).clone();
        let mut changed = Changed::default();
        for (name, (options, service)) in prepared.0 {
            match services.get(&name) {
                Some(_) if *service.options() == *options => continue,
                Some(_) => changed.updated.push(name.clone()),
                None => changed.added.push(name.clone()),
            }
            let shares = inner.open_sources(&options);
            changed.count(inner.install(&service, options, &shares, now));
            services.insert(name, service);
        }
        inner.tidy(&services);
        self.services.store(Arc::new(services));
        drop(inner);
        self.wake.notify_one();
        changed
    }

    /// Lets go of services that are not to be kept: their endpoints take no request any more.
    pub fn retain(&self, keep: impl Fn(&Name) -> bool) -> Changed {
        let mut changed = Changed::default();
        if self.services.load().keys().all(&keep) {
            return changed;
        }
        let mut inner = self.inner();
        let mut services = (**self.services.load()).clone();
        services.retain(|name, service| {
            if keep(name) {
                return true;
            }
            changed.removed.push(name.clone());
            changed.endpoints_removed += service.set().members().len();
            service.retire();
            false
        });
        inner.tidy(&services);
        self.services.store(Arc::new(services));
        drop(inner);
        self.wake.notify_one();
        changed
    }

    /// Takes an endpoint out of service, or back; the endpoint, if there is one with that number.
    /// It stays drained over reloads, for as long as it stays.
    pub fn drain(&self, endpoint: u64, drained: bool) -> Option<Arc<Endpoint>> {
        // Under the lock, so that no reload builds a set from the state before.
        let _inner = self.inner();
        let now = self.clock.now();
        let services = self.services.load();
        services.values().find_map(|service| {
            let changed = service.drain(endpoint, drained, now)?;
            let set = service.set();
            let member = set.members().iter().find(|member| member.endpoint.id() == endpoint)?;
            if changed {
                let address = member.endpoint.label();
                tracing::info!(service = %service.name(), %address, drained, "endpoint drained or restored");
            }
            Some(Arc::clone(&member.endpoint))
        })
    }

    /// Sources that have told nothing yet: zero means that the first sets are in.
    pub fn pending(&self) -> usize {
        self.inner().sources.pending()
    }
}

impl Inner {
    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Opens every source that a service needs; all of them are given.
    fn open_sources(&mut self, options: &ServiceOptions) -> Vec<Share> {
        self.sources.open(options, &mut self.rng)
    }

    /// Gives a service the endpoints that its options and its sources make, and sees to their checks.
    fn install(
        &mut self,
        service: &Arc<Service>,
        options: Arc<ServiceOptions>,
        shares: &[Share],
        now: Tick,
    ) -> Moved {
        let wanted = self.sources.wanted(shares);
        let moved = service.install(Arc::clone(&options), wanted, now);
        service.note_unresolved(self.sources.has_unresolved(shares));
        if options.health.is_some() {
            for member in service.set().members() {
                self.watch(service, &member.endpoint, &options, now);
            }
        }
        moved
    }

    /// Sees to it that an endpoint is checked as the options now say.
    fn watch(
        &mut self,
        service: &Arc<Service>,
        endpoint: &Arc<Endpoint>,
        options: &Arc<ServiceOptions>,
        now: Tick,
    ) {
        if let Some(ward) = self.wards.get_mut(&endpoint.id())
            && same_checks(&ward.options, options)
        {
            ward.options = Arc::clone(options);
            return;
        }
        let round = self.id();
        let ward = Ward {
            service: Arc::clone(service),
            endpoint: Arc::clone(endpoint),
            options: Arc::clone(options),
            pulse: Pulse::new(endpoint.verdict(), now),
            round,
        };
        self.wards.insert(endpoint.id(), ward);
        self.checks.note(now, endpoint.id());
    }

    /// Ends the sources and checks that nobody needs any more.
    fn tidy(&mut self, services: &Table) {
        let shares = services.values().flat_map(|service| self.sources.shares(&service.options()));
        let needed: HashSet<Ask> = shares.map(|share| share.ask).collect();
        self.sources.retain(&needed);
        self.forget_wards();
    }

    fn forget_wards(&mut self) {
        self.wards
            .retain(|_, ward| !ward.endpoint.is_gone() && ward.service.options().health.is_some());
        let wards = &self.wards;
        self.checks.prune(wards.len(), |at, id| {
            wards.get(id).is_some_and(|ward| ward.pulse.due() == Some(at))
        });
    }
}

fn same_checks(a: &ServiceOptions, b: &ServiceOptions) -> bool {
    a.health == b.health && a.tls == b.tls
}

fn health(options: &ServiceOptions) -> Option<&Health> {
    options.health.as_ref()
}
