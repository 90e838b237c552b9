//! Every service by name: what configuration wants, what names resolve to, and who checks whom.
//!
//! [`Registry::apply`] takes the whole configuration and changes only what differs. A reload does it in
//! three steps: [`Registry::prepare`] changes nothing yet, [`Registry::commit`] puts in force what was
//! prepared, and [`Registry::retain`] lets go of services that are gone once no request may ask for them.
//! The request path takes its services from a compiled snapshot and never asks the registry. [`Registry::run`]
//! is the one long-lived task: it resolves and checks on the control runtime until told to stop.

mod agenda;
mod run;
mod status;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use weft_kernel::{Clock, Name, Rng, Tick};

pub use status::{CheckStatus, EndpointStatus, ResolutionStatus, ServiceStatus};

use crate::{
    endpoint::{Endpoint, Key},
    health::{Probe, Pulse},
    options::{Dns, Health, ServiceOptions, Source},
    resolve::{Lookup, Query, Resolution, State},
    service::{Moved, Service, Wanted},
};
use agenda::Agenda;

/// Checks that run at once, over all services.
pub const PROBES_MAX: usize = 128;
/// Names that are looked up at once, over all services.
pub const LOOKUPS_MAX: usize = 16;

type Services = BTreeMap<Name, Arc<Service>>;

/// A name with how it is resolved; services that say the same share one look-up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ask {
    query: Query,
    dns: Dns,
}

#[derive(Debug)]
struct Asked {
    ask: Ask,
    resolution: Resolution,
}

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

/// What the registry's own task works on; never touched by a request.
#[derive(Debug)]
struct Inner {
    rng: Rng,
    ids: HashMap<Ask, u64>,
    asked: HashMap<u64, Asked>,
    asks: Agenda<u64>,
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

/// What one [`Registry::apply`] changed.
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
pub struct Registry {
    services: ArcSwap<Services>,
    inner: Mutex<Inner>,
    wake: Arc<Notify>,
    clock: Arc<dyn Clock>,
    lookup: Arc<dyn Lookup>,
    probe: Arc<dyn Probe>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("services", &self.services.load()).finish_non_exhaustive()
    }
}

impl Registry {
    /// An empty registry; who resolves and who checks are handed in.
    pub fn new(
        clock: Arc<dyn Clock>,
        lookup: Arc<dyn Lookup>,
        probe: Arc<dyn Probe>,
        rng: Rng,
    ) -> Self {
        Self {
            services: ArcSwap::default(),
            inner: Mutex::new(Inner {
                rng,
                ids: HashMap::new(),
                asked: HashMap::new(),
                asks: Agenda::new(LOOKUPS_MAX),
                wards: HashMap::new(),
                checks: Agenda::new(PROBES_MAX),
                next: 0,
            }),
            wake: Arc::new(Notify::new()),
            clock,
            lookup,
            probe,
        }
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
        inner.ask_for(prepared.0.values().map(|(options, _)| &**options), now);
        for (name, (options, service)) in prepared.0 {
            match services.get(&name) {
                Some(_) if *service.options() == *options => continue,
                Some(_) => changed.updated.push(name.clone()),
                None => changed.added.push(name.clone()),
            }
            changed.count(inner.install(&service, options, now));
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

    /// Names that were never answered yet: zero means that the first answers are in.
    pub fn pending(&self) -> usize {
        let pending = |asked: &&Asked| asked.resolution.state() == State::Pending;
        self.inner().asked.values().filter(pending).count()
    }
}

impl Inner {
    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Notes every name that these services need.
    fn ask_for<'a>(&mut self, services: impl Iterator<Item = &'a ServiceOptions>, now: Tick) {
        for ask in services.flat_map(asks) {
            if !self.ids.contains_key(&ask) {
                let id = self.id();
                self.ids.insert(ask.clone(), id);
                self.asked.insert(id, Asked { ask, resolution: Resolution::new(now) });
                self.asks.note(now, id);
            }
        }
    }

    /// Gives a service the endpoints that its options and the answers make, and sees to their checks.
    fn install(
        &mut self,
        service: &Arc<Service>,
        options: Arc<ServiceOptions>,
        now: Tick,
    ) -> Moved {
        let wanted = self.wanted(&options);
        let moved = service.install(Arc::clone(&options), wanted, now);
        service.note_unresolved(self.has_unresolved(&options));
        if options.health.is_some() {
            for member in service.set().members() {
                self.watch(service, &member.endpoint, &options, now);
            }
        }
        moved
    }

    /// Whether a name of these options has no answer to stand on: none yet, or none at all.
    fn has_unresolved(&self, options: &ServiceOptions) -> bool {
        asks(options).iter().any(|ask| {
            let asked = self.ids.get(ask).and_then(|id| self.asked.get(id));
            asked.is_none_or(|asked| {
                matches!(asked.resolution.state(), State::Pending | State::Failed)
            })
        })
    }

    /// The members that options and answers make.
    fn wanted(&self, options: &ServiceOptions) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for endpoint in &options.endpoints {
            let weight = endpoint.weight.max(1);
            if let Source::Address(address) = &endpoint.source {
                let zone = endpoint.zone.clone();
                let key = Key { address: address.clone(), hostname: None, zone };
                wanted.push(Wanted { key, weight, priority: endpoint.priority });
            }
            let records = ask(options, &endpoint.source)
                .and_then(|ask| self.asked.get(self.ids.get(&ask)?))
                .map_or(&[][..], |asked| asked.resolution.records());
            wanted.extend(records.iter().map(|record| Wanted {
                key: Key {
                    address: record.address.into(),
                    hostname: Some(Arc::clone(&record.hostname)),
                    zone: endpoint.zone.clone(),
                },
                weight: weight.saturating_mul(record.weight),
                priority: endpoint.priority.saturating_add(record.priority),
            }));
        }
        wanted
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

    /// Forgets names and checks that nobody needs any more.
    fn tidy(&mut self, services: &Services) {
        let needed: HashSet<Ask> =
            services.values().flat_map(|service| asks(&service.options())).collect();
        self.ids.retain(|ask, _| needed.contains(ask));
        self.asked.retain(|_, asked| needed.contains(&asked.ask));
        self.forget_wards();
        let asked = &self.asked;
        self.asks.prune(asked.len(), |at, id| {
            asked.get(id).is_some_and(|asked| asked.resolution.due() == Some(at))
        });
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

fn ask(options: &ServiceOptions, source: &Source) -> Option<Ask> {
    let query = Query::of(source, options.dns.family)?;
    Some(Ask { query, dns: options.dns.clone() })
}

fn asks(options: &ServiceOptions) -> Vec<Ask> {
    options.endpoints.iter().filter_map(|endpoint| ask(options, &endpoint.source)).collect()
}

fn health(options: &ServiceOptions) -> Option<&Health> {
    options.health.as_ref()
}
