//! Another configuration for a node that runs: all of it, or nothing.
//!
//! Everything that may fail comes first: loading, compiling beside the snapshot in force, opening sockets.
//! Only then is anything changed. What is under way ends as it began: a request holds the snapshot with
//! which it began, and a service stays known to discovery, with its checks and look-ups, for as long as any
//! snapshot that names it is held.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use weft_kernel::{Name, SystemClock, Tick};
use weft_proxy::Snapshot;

use super::{Node, Refusal, State, compile, refused};
use crate::{
    components::{List as _, Ready},
    config::{Loaded, Plan, Refused},
};

/// How long a snapshot is kept in any case. A worker that has just begun to lead a connection of raw bytes
/// does not hold it, and is done within moments.
const KEPT: Duration = Duration::from_millis(200);

/// A snapshot that is no longer in force.
pub(super) struct Retired {
    snapshot: Arc<Snapshot>,
    since: Tick,
}

impl Retired {
    fn is_held(&self, now: Tick) -> bool {
        Arc::strong_count(&self.snapshot) > 1 || now.since(self.since) < KEPT
    }
}

impl Node {
    /// Reads certificates and the configuration anew and, if nothing at all is wrong with it, puts it in
    /// force. What is under way ends as it began.
    pub async fn reload(&self) -> Result<(), String> {
        let _turn = self.reloading.lock().await;
        let began = Instant::now();
        self.state().listeners.reload_certificates();
        let result = self.try_reload().await;
        match &result {
            Ok(()) => {
                let generation = self.current.load().generation;
                tracing::info!(generation, took = ?began.elapsed(), "configuration applied");
            }
            Err(why) => {
                self.metrics.config().refused();
                self.state().refused = Some(Refusal { at: SystemTime::now(), reason: why.clone() });
                tracing::warn!("configuration refused, the last good one stays in force: {why}");
            }
        }
        // Whoever asked for it: what it refers to now is what may change it next.
        self.watcher.files(&self.state().watched);
        result
    }

    async fn try_reload(&self) -> Result<(), String> {
        let loaded = self.load().await?;
        let plan = &loaded.plan;
        let now = SystemClock::tick();
        let before = self.current.load_full();
        let compiled =
            compile(&self.components, plan, &self.handlers, &self.metrics, Some(&before)).await;
        let mut listeners = std::mem::take(&mut self.state().listeners);
        let opened = listeners.prepare(&plan.sockets, Some(&self.workers));
        let (mut ready, snapshot, opened) = match (compiled, opened) {
            (Ok((ready, snapshot)), Ok(opened)) => (ready, snapshot, opened),
            (compiled, opened) => {
                self.state().listeners = listeners;
                let faults = [compiled.err(), opened.err()].into_iter().flatten().flatten();
                return Err(faults.collect::<Vec<_>>().join("; "));
            }
        };
        let committed = match self.open_missing(plan, &mut ready).await {
            // The store alone can refuse what was prepared, and changes nothing then.
            Ok(()) => self.components.commit(ready).await,
            refused => refused,
        };
        if let Err(error) = committed {
            self.state().listeners = listeners;
            return Err(format!("{error:#}"));
        }
        // From here on nothing is refused.
        listeners.retire(&plan.sockets, &self.workers, self.options.drain).await;
        self.current.store(Arc::new(snapshot));
        if let Err(error) = listeners.commit(opened, &self.workers, self.options.drain).await {
            // The sockets are open; only a worker that is no more cannot take them.
            tracing::error!("not every listener could be put in force: {error:#}");
        }
        // What has been opened begins; the others have begun.
        self.components.run();
        let components = self.components.clone();
        if let Err(error) = self.workers.each(move |local| components.begin(local)).await {
            tracing::error!("not every worker does its part: {}", error.detail());
        }
        let wall = SystemTime::now();
        self.metrics.config().applied(wall);
        {
            let mut state = self.state();
            for setting in self.changed(&state, plan) {
                tracing::warn!(
                    "configuration: {setting} has changed, which takes effect with a restart"
                );
            }
            state.listeners = listeners;
            state.watched = loaded.files.clone();
            state.loaded = Arc::new(loaded);
            state.applied = wall;
            state.refused = None;
            state.retired.push(Retired { snapshot: before, since: now });
        }
        self.tidy();
        Ok(())
    }

    /// Opens the components that a configuration is the first to ask for, and lets them prepare it. They
    /// stay open if it is refused after that, with nothing in them.
    async fn open_missing(&self, plan: &Plan, ready: &mut Ready) -> anyhow::Result<()> {
        for exclusive in [false, true] {
            self.components.open(plan, &self.host, exclusive).await?;
        }
        let mut faults = Vec::new();
        self.components.prepare_rest(plan, ready, &mut faults).await;
        if faults.is_empty() { Ok(()) } else { Err(refused(faults)) }
    }

    /// Loads the configuration; nothing in force is changed by it. Commands of secrets may take their time, so
    /// it is done on a thread of its own.
    async fn load(&self) -> Result<Loaded, String> {
        let mut loader = std::mem::take(&mut self.state().loader);
        let path = self.options.config.clone();
        let load = tokio::task::spawn_blocking(move || {
            let loaded = loader.load(&path, &|name| std::env::var(name).ok());
            (loader, loaded)
        });
        let (loader, loaded) = load.await.map_err(|error| format!("the load ended: {error}"))?;
        let mut state = self.state();
        state.loader = loader;
        let loaded = loaded.map_err(|refused: Box<Refused>| {
            state.watched.extend(refused.files.iter().cloned());
            refused.to_string()
        })?;
        for warning in &loaded.warnings {
            tracing::warn!("configuration: {}", warning.message);
        }
        Ok(loaded)
    }

    /// Lets go of snapshots that no request holds any more, and of services that only they name. To be
    /// called now and then.
    pub fn tidy(&self) {
        let now = SystemClock::tick();
        let gone: Vec<Retired> = {
            let mut state = self.state();
            let (held, gone) = std::mem::take(&mut state.retired)
                .into_iter()
                .partition(|retired: &Retired| retired.is_held(now));
            state.retired = held;
            gone
        };
        if gone.is_empty() {
            return;
        }
        let current = self.current.load();
        let mut named: HashSet<Name> = current.services.keys().cloned().collect();
        for retired in &self.state().retired {
            named.extend(retired.snapshot.services.keys().cloned());
        }
        for name in self.services.retain(|name| named.contains(name)).removed {
            tracing::debug!(service = %name, "no request asks for this service any more");
        }
    }

    /// The settings that a plan has otherwise than the start had, which alone puts them in force.
    fn changed(&self, state: &State, plan: &Plan) -> Vec<&'static str> {
        let mut changed = self.components.awaits_restart(plan);
        changed.extend((state.admin != plan.admin).then_some("admin"));
        changed.sort_unstable();
        changed
    }

    /// The settings of the configuration in force that take effect with a restart.
    pub(super) fn awaits_restart(&self) -> Vec<&'static str> {
        let state = self.state();
        self.changed(&state, &state.loaded.plan)
    }
}
