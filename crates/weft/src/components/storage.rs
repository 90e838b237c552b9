//! The store as a component: the ledger of a node, opened when its configuration asks for anything that keeps
//! state, and lent to the other components as a namespace each.

mod api;
mod build;
pub mod plan;
pub mod sections;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use weft_api::Row;
use weft_kernel::{Error, Reason, Result, SystemClock};
use weft_ledger::{Ledger, Store as _, Transaction};
use weft_telemetry::metrics::{Metric, Writer};

use crate::{
    cli,
    component::{Component, Host, Noun},
    config::{
        catalogue::Sections,
        setting::{Cx, Field},
    },
    node::Node,
};

/// The pause between two tries to acquire the ledger's lock from a former process.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The store of a node.
pub struct Storage {
    ledger: Ledger,
}

impl Component for Storage {
    type Plan = plan::Ledger;
    type Ready = ();
    type Fixed = Option<plan::Ledger>;
    type Locals = ();
    type Api = Ledger;
    type Noun = Nouns;

    const EXCLUSIVE: bool = true;
    const ABSENT: &'static str =
        "this node has no ledger: nothing that its configuration asks for keeps state";

    fn sections() -> &'static [Field] {
        sections::ALL
    }

    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<plan::Ledger> {
        build::build(said, cx)
    }

    /// Opens the ledger, which a former process may be about to close.
    async fn open(plan: &plan::Ledger, host: &Host, (): &()) -> anyhow::Result<Self> {
        let failed = |error: Error| match error.reason() {
            // Its own words name the folder.
            Reason::StorageBusy => described(error).context("the ledger"),
            _ => described(error).context(format!("the ledger at {}", plan.path.display())),
        };
        let began = Instant::now();
        let mut told = false;
        let (ledger, recovered) = loop {
            let (path, options) = (plan.path.clone(), plan.options.clone());
            let open = move || Ledger::open_folder(&path, options, Arc::new(SystemClock));
            match aside(open).await {
                Err(error)
                    if error.reason() == Reason::StorageBusy
                        && began.elapsed() < host.takeover_timeout =>
                {
                    if !std::mem::replace(&mut told, true) {
                        let (path, timeout) = (plan.path.display(), host.takeover_timeout);
                        tracing::info!(%path, ?timeout, "waiting for the ledger: {}", error.said());
                    }
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                opened => break opened.map_err(failed)?,
            }
        };
        let path = plan.path.display();
        tracing::info!(%path, took = ?began.elapsed(), ?recovered, "ledger open");
        if host.ledger.set(ledger.clone()).is_err() {
            anyhow::bail!("a node has one ledger");
        }
        Ok(Self { ledger })
    }

    fn fixed(plan: Option<&plan::Ledger>) -> Option<plan::Ledger> {
        plan.cloned()
    }

    fn awaits_restart(
        fixed: &Option<plan::Ledger>,
        plan: Option<&plan::Ledger>,
    ) -> Vec<&'static str> {
        if fixed.as_ref() == plan { Vec::new() } else { vec!["ledger"] }
    }

    async fn prepare(&self, _plan: Option<&plan::Ledger>) -> Result<(), Vec<String>> {
        Ok(())
    }

    async fn commit(&self, (): ()) {}

    fn health(&self) -> Result<()> {
        self.ledger.health()
    }

    fn measure(&self, to: &mut Writer) {
        let stats = self.ledger.stats();
        to.counter(Metric::LedgerTransactions, &[], stats.transactions);
        to.counter(Metric::LedgerSyncs, &[], stats.syncs);
        let spent = Duration::from_nanos(stats.sync_nanos);
        to.counter_real(Metric::LedgerSyncTime, spent.as_secs_f64());
        to.counter(Metric::LedgerWritten, &[], stats.written_bytes);
        to.counter(Metric::LedgerLost, &[], stats.damaged);
        for (kind, bytes) in [
            ("wal", stats.wal_bytes),
            ("segments", stats.segment_bytes),
            ("index", stats.index_bytes),
        ] {
            to.gauge(Metric::LedgerBytes, &[("kind", kind)], bytes as f64);
        }
        to.gauge(Metric::LedgerFull, &[], f64::from(u8::from(stats.full)));
        to.gauge(Metric::LedgerUnavailable, &[], f64::from(u8::from(stats.unavailable)));
        to.gauge(Metric::LedgerPoisoned, &[], f64::from(u8::from(stats.poisoned)));
        let stalled =
            self.ledger.health().is_err_and(|error| error.reason() == Reason::StorageStalled);
        to.gauge(Metric::LedgerStalled, &[], f64::from(u8::from(stalled)));
    }

    fn operations() -> &'static [Row<Ledger>] {
        api::OPERATIONS
    }

    fn api(self: &Arc<Self>, _node: &Arc<Node>) -> Ledger {
        self.ledger.clone()
    }

    /// Writes what waits, and lets go of the ledger.
    fn close(&self) {
        if let Err(error) = self.ledger.close() {
            tracing::error!("the ledger could not be closed in order: {}", error.detail());
        }
    }
}

impl Storage {
    /// Commits what components keep together; `ends` names each in order, with the end of its operations.
    ///
    /// # Errors
    /// What the store says, and of whose operation. Nothing is changed then.
    pub async fn keep(
        &self,
        kept: Transaction,
        ends: &[(usize, &'static str)],
    ) -> anyhow::Result<()> {
        let Err(refused) = self.ledger.commit(kept).await else { return Ok(()) };
        let whose = refused.op.and_then(|op| ends.iter().find(|(end, _)| op < *end));
        let error = described(refused.error);
        Err(match whose {
            Some((_, name)) => error.context(*name),
            None => error,
        })
    }
}

/// Its nouns.
#[derive(Debug, clap::Subcommand)]
pub enum Nouns {
    /// The ledger, the store of a node: inspect, verify, back up, restore.
    Ledger(cli::ledger::Ledger),
}

impl Noun for Nouns {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Ledger(ledger) => ledger.run(),
        }
    }
}

/// An error with all that is known of it.
pub(super) fn described(error: Error) -> anyhow::Error {
    anyhow::anyhow!(error.detail())
}

/// Does what waits for the disk on a thread of its own.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::new(Reason::Internal, "a task broke").because(error)))
}
