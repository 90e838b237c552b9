//! The task of the services: runs sources, takes in what they tell, and checks what is due.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::task::JoinSet;
use weft_kernel::Tick;

use super::{Inner, Services, health};
use weft_wire::proxy_protocol::Header;

use crate::{
    endpoint::Verdict,
    health::{Checkup, Finding},
    service::Moved,
};

/// Calls for new endpoints are heeded this often: a service without endpoints makes one with every
/// request.
const HEED_EVERY: Duration = Duration::from_millis(200);

/// A check that is to be made now.
#[derive(Debug)]
struct Job {
    id: u64,
    round: u64,
    checkup: Box<Checkup>,
}

/// What came of a task.
#[derive(Debug)]
enum Done {
    /// A source has nothing else to tell.
    Source,
    Check {
        id: u64,
        round: u64,
        finding: Finding,
    },
}

impl Services {
    /// Runs sources and checks until `stop` is ready; then what is under way is dropped.
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
            self.take_in_changes();
            // Those included that were opened for what others told just now.
            self.start_sources(&mut tasks);
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
                    Err(error) if error.is_cancelled() => {}
                    // Only a panic ends a task so; its slot would be lost without notice.
                    Err(error) => {
                        tracing::error!(%error, "a source or check broke off");
                        self.inner().sources.broke(error.id());
                    }
                },
                () = self.wake.notified() => {}
                () = sleep => {}
            }
        }
    }

    fn start(&self, Job { id, round, checkup }: Job, tasks: &mut JoinSet<Done>) {
        let probe = Arc::clone(&self.probe);
        tasks.spawn(async move {
            let finding = probe.probe(*checkup).await;
            Done::Check { id, round, finding }
        });
    }

    fn start_sources(&self, tasks: &mut JoinSet<Done>) {
        let mut inner = self.inner();
        for (id, running) in inner.sources.take_starting() {
            let task = tasks.spawn(async move {
                running.await;
                Done::Source
            });
            inner.sources.started(id, task);
        }
    }

    /// Asks the sources of services that found their endpoints wanting; true if there were such.
    fn heed(&self) -> bool {
        let mut any = false;
        for service in self.services.load().values().filter(|service| service.take_nudge()) {
            any = true;
            self.inner().sources.want(&service.options());
        }
        any
    }

    fn due(&self, now: Tick) -> Vec<Job> {
        let mut inner = self.inner();
        let mut jobs = Vec::new();
        inner.due_checks(now, &mut jobs);
        jobs
    }

    fn next(&self) -> Option<Tick> {
        self.inner().checks.next()
    }

    /// Gives services what their sources have told.
    fn take_in_changes(&self) {
        let mut inner = self.inner();
        let changes = inner.sources.take_changes();
        if changes.is_empty() {
            return;
        }
        let now = self.clock.now();
        let services = self.services.load();
        // Only what others tell to be resolved further comes and goes with a set.
        let is_nested = changes.iter().any(|change| change.ask.may_nest());
        for change in changes {
            change.log();
            let source = &change.ask;
            for service in services.values() {
                let options = service.options();
                let shares = inner.sources.shares(&options);
                if !shares.iter().any(|share| share.ask == *source) {
                    continue;
                }
                // What it tells may have to be resolved further.
                let Inner { sources, rng, .. } = &mut *inner;
                sources.open_nested(&shares, rng);
                let moved = inner.install(service, options, &shares, now);
                if moved != Moved::default() {
                    tracing::info!(
                        service = %service.name(),
                        %source,
                        added = moved.added,
                        removed = moved.removed,
                        "endpoints changed"
                    );
                }
            }
        }
        if is_nested {
            inner.tidy(&services);
        } else {
            inner.forget_wards();
        }
    }

    fn take_in(&self, done: Done) {
        let Done::Check { id, round, finding } = done else { return };
        let now = self.clock.now();
        let mut inner = self.inner();
        inner.checks.ended();
        inner.checked(id, round, finding, now);
    }
}

impl Inner {
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
            jobs.push(Job {
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
