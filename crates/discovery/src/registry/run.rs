//! The registry's task: takes what is due from its two agendas, runs it, and notes what came of it.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::task::JoinSet;
use weft_kernel::Tick;

use super::{Ask, Inner, Registry, asks, health};
use weft_wire::proxy_protocol::Header;

use crate::{
    endpoint::Verdict,
    health::{Checkup, Finding},
    resolve::{Answer, Failure},
};

/// Calls for new addresses are heeded this often: a service without endpoints makes one with every
/// request.
const HEED_EVERY: Duration = Duration::from_millis(200);

/// Something that is to be done now.
#[derive(Debug)]
enum Job {
    Lookup { id: u64, ask: Ask },
    Check { id: u64, round: u64, checkup: Box<Checkup> },
}

/// What came of it.
#[derive(Debug)]
enum Done {
    Lookup { id: u64, result: Result<Answer, Failure> },
    Check { id: u64, round: u64, finding: Finding },
}

impl Registry {
    /// Resolves and checks until `stop` is ready; then what is under way is dropped.
    ///
    /// Needs a tokio runtime with time and I/O, which should not be one that carries requests.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        tokio::pin!(stop);
        let mut heed_at = Tick::ZERO;
        loop {
            let now = self.clock.now();
            if now >= heed_at && self.heed() {
                heed_at = now.plus(HEED_EVERY);
            }
            for job in self.due(now) {
                self.start(job, &mut tasks);
            }
            // A manual clock does not wake anybody; with the machine's, this is exact.
            let heed = (heed_at > now).then_some(heed_at);
            let wait = self.next().into_iter().chain(heed).min().map(|next| next.since(now));
            let sleep = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut stop => return,
                Some(done) = tasks.join_next() => match done {
                    Ok(done) => self.take_in(done),
                    // Only a panic ends a task so; its slot would be lost without notice.
                    Err(error) => tracing::error!(%error, "a look-up or check broke off"),
                },
                () = self.wake.notified() => {}
                () = sleep => {}
            }
        }
    }

    fn start(&self, job: Job, tasks: &mut JoinSet<Done>) {
        match job {
            Job::Lookup { id, ask } => {
                let lookup = Arc::clone(&self.lookup);
                tasks.spawn(async move {
                    let result = lookup.lookup(&ask.query).await;
                    Done::Lookup { id, result }
                });
            }
            Job::Check { id, round, checkup } => {
                let probe = Arc::clone(&self.probe);
                tasks.spawn(async move {
                    let finding = probe.probe(*checkup).await;
                    Done::Check { id, round, finding }
                });
            }
        }
    }

    /// Brings forward the names of services that found their endpoints wanting; true if there were.
    fn heed(&self) -> bool {
        let mut any = false;
        for service in self.services.load().values().filter(|service| service.take_nudge()) {
            any = true;
            let mut inner = self.inner();
            for ask in asks(&service.options()) {
                inner.want(&ask);
            }
        }
        any
    }

    fn due(&self, now: Tick) -> Vec<Job> {
        let mut inner = self.inner();
        let mut jobs = Vec::new();
        inner.due_lookups(now, &mut jobs);
        inner.due_checks(now, &mut jobs);
        jobs
    }

    fn next(&self) -> Option<Tick> {
        let inner = self.inner();
        [inner.asks.next(), inner.checks.next()].into_iter().flatten().min()
    }

    fn take_in(&self, done: Done) {
        let now = self.clock.now();
        let mut inner = self.inner();
        match done {
            Done::Lookup { id, result } => {
                inner.asks.ended();
                let asked = |inner: &Inner| {
                    inner.asked.get(&id).map(|asked| (asked.ask.clone(), asked.resolution.state()))
                };
                let before = asked(&inner).map(|(_, state)| state);
                let changed = inner.resolved(id, result, now);
                if let Some((ask, state)) = asked(&inner).filter(|_| changed.is_none())
                    && Some(state) != before
                {
                    for service in self.services.load().values() {
                        let options = service.options();
                        if asks(&options).contains(&ask) {
                            service.note_unresolved(inner.has_unresolved(&options));
                        }
                    }
                }
                if let Some(ask) = changed {
                    for service in self.services.load().values() {
                        let options = service.options();
                        if asks(&options).contains(&ask) {
                            let moved = inner.install(service, options, now);
                            tracing::info!(
                                service = %service.name(),
                                name = %ask.query,
                                added = moved.added,
                                removed = moved.removed,
                                "endpoints resolved"
                            );
                        }
                    }
                    inner.forget_wards();
                }
            }
            Done::Check { id, round, finding } => {
                inner.checks.ended();
                inner.checked(id, round, finding, now);
            }
        }
    }
}

impl Inner {
    fn want(&mut self, ask: &Ask) {
        let Some(id) = self.ids.get(ask).copied() else { return };
        let Some(asked) = self.asked.get_mut(&id) else { return };
        asked.resolution.want(&ask.dns);
        if let Some(due) = asked.resolution.due() {
            self.asks.note(due, id);
        }
    }

    fn due_lookups(&mut self, now: Tick, jobs: &mut Vec<Job>) {
        while let Some((at, id)) = self.asks.take(now) {
            let Some(asked) = self.asked.get_mut(&id) else { continue };
            if asked.resolution.due() == Some(at) {
                asked.resolution.begin();
                self.asks.started();
                jobs.push(Job::Lookup { id, ask: asked.ask.clone() });
            }
        }
    }

    fn due_checks(&mut self, now: Tick, jobs: &mut Vec<Job>) {
        while let Some((at, id)) = self.checks.take(now) {
            let Some(ward) = self.wards.get_mut(&id) else { continue };
            let Some(health) = health(&ward.options) else { continue };
            if ward.pulse.due() != Some(at) {
                continue;
            }
            ward.pulse.begin();
            self.checks.started();
            let mut address = ward.endpoint.address().clone();
            if let (Some(port), weft_net::Address::Tcp(tcp)) = (health.port, &mut address) {
                tcp.set_port(port);
            }
            jobs.push(Job::Check {
                id,
                round: ward.round,
                checkup: Box::new(Checkup {
                    check: health.check.clone(),
                    address,
                    hostname: ward.endpoint.hostname().cloned(),
                    tls: ward.options.tls.clone(),
                    // What is checked by a port of its own is not what traffic meets.
                    proxy_header: (ward.options.proxy_protocol.filter(|_| health.port.is_none()))
                        .map(|version| Header { version, ends: None }),
                    timeout: health.timeout,
                }),
            });
        }
    }

    /// Takes in an answer; the name, if its addresses are others now.
    fn resolved(&mut self, id: u64, result: Result<Answer, Failure>, now: Tick) -> Option<Ask> {
        // Nobody needs it any more.
        let asked = self.asked.get_mut(&id)?;
        let before = asked.resolution.state();
        let changed = asked.resolution.end(result, &asked.ask.dns, now, &mut self.rng);
        if let Some(due) = asked.resolution.due() {
            self.asks.note(due, id);
        }
        let state = asked.resolution.state();
        if state != before {
            let kept = asked.resolution.records().len();
            let name = &asked.ask.query;
            match asked.resolution.error() {
                Some(error) => {
                    tracing::warn!(%name, state = state.word(), error, kept, "name not resolved");
                }
                None => tracing::info!(%name, state = state.word(), kept, "name resolved"),
            }
        }
        changed.then(|| asked.ask.clone())
    }

    fn checked(&mut self, id: u64, round: u64, finding: Finding, now: Tick) {
        let Some(ward) = self.wards.get_mut(&id).filter(|ward| ward.round == round) else {
            return;
        };
        let Some(health) = health(&ward.options) else { return };
        let ok = finding.is_ok();
        let verdict = ward.pulse.end(ok, health, now, &mut self.rng);
        if let Some(due) = ward.pulse.due() {
            self.checks.note(due, id);
        }
        let (Ok(detail) | Err(detail)) = &finding;
        ward.service.judge(&ward.endpoint, verdict, ok, detail, now);
        let (service, address) = (ward.service.name(), ward.endpoint.label());
        match verdict {
            Some(Verdict::Unhealthy) => {
                tracing::warn!(%service, %address, detail, "endpoint unhealthy");
            }
            Some(Verdict::Healthy) => {
                tracing::info!(%service, %address, detail, "endpoint healthy");
            }
            Some(Verdict::Unknown) | None => {}
        }
    }
}
