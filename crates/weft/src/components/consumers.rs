//! The registry of consumers as a component: those that are made while the node runs, with keys that it draws,
//! kept in its store.
//!
//! What is kept is on the disk before it is answered, and in memory ([`Kept`]) before that too, so that a key that
//! was revoked lets nobody in any more once that is answered, on any worker. Of a key nothing but a digest and its
//! last letters is kept. Changes of one consumer come one after the other; those of many share syncs of the disk.

pub mod api;
mod changes;
mod records;
pub mod sections;

use std::{
    collections::HashMap,
    process::ExitCode,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicUsize},
    time::Duration,
};

use tokio::sync::{Mutex, MutexGuard};
use weft_api::{Row, time::now_ms};
use weft_gateway::{
    Digest, Directory,
    kept::{Credential, Kept},
};
use weft_kernel::{ByteSize, Error, Name, Result};
use weft_ledger::{Durability, Transaction};
use weft_net::Stop;
use weft_telemetry::metrics::{Def, Kind as MetricKind, Writer};

use self::{
    records::{Key, Records},
    sections::{Plan, REGISTRY},
};
use super::storage::described;
use crate::{
    cli,
    component::{Component, Host, Noun},
    config::{
        catalogue::Sections,
        leaf::Switch,
        setting::{At, Cx, Field},
        source,
    },
    node::Node,
};

/// The most keys of a consumer.
const KEYS_MAX: usize = 100;
/// The largest that is kept at once: a consumer that goes with all of its keys.
const KEPT_MAX: ByteSize = ByteSize(1 << 20);
/// How many locks changes of consumers share.
const LOCKS: usize = 64;
/// How often it is looked for keys that have ended or were used.
const SWEEP: Duration = Duration::from_secs(60);
/// How exactly the store knows when a key was used last.
const USED_S: u64 = 3_600;
/// The most uses that are written at once.
const USES_MAX: usize = 1_000;

/// Consumers that the node keeps.
pub struct Consumers {
    records: Records,
    kept: Arc<Kept>,
    plan: RwLock<Plan>,
    locks: Box<[Mutex<()>]>,
    /// When keys were used last, as the store knows it.
    stored: Mutex<HashMap<Box<str>, u64>>,
    /// Consumers that are being made.
    making: AtomicUsize,
    /// Consumers of whom it is not known what the store has made of a change, and how often they are looked at again.
    doubted: Mutex<HashMap<Name, u32>>,
}

static METRICS: [Def; 2] = [
    Def {
        name: "weft_kept_consumers",
        kind: MetricKind::Gauge,
        unit: "",
        labels: &[],
        help: "Consumers in the registry.",
    },
    Def {
        name: "weft_kept_keys",
        kind: MetricKind::Gauge,
        unit: "",
        labels: &[],
        help: "Keys and passwords in the registry.",
    },
];

impl Consumers {
    fn settings(&self) -> Plan {
        self.plan.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn lock(&self, name: &Name) -> MutexGuard<'_, ()> {
        let number = name
            .as_str()
            .bytes()
            .fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        self.locks[number % LOCKS].lock().await
    }

    /// When a key was used last, if it ever was: wall-clock seconds.
    fn used_s(&self, key: &Key) -> Option<u64> {
        let used = self.kept.credential(&key.digest()?)?.used_s();
        (used > 0).then_some(used)
    }

    /// Forgets keys that have ended, and writes when others were used: each at most once an hour.
    async fn sweep(&self) -> Result<()> {
        self.settle_doubted().await?;
        let now = now_ms();
        let mut stored = self.stored.lock().await;
        let mut uses = Vec::new();
        for (digest, credential) in self.kept.credentials() {
            if credential.expires_ms > 0 && credential.expires_ms <= now {
                self.kept.remove(&digest);
                stored.remove(&credential.id);
            } else if uses.len() < USES_MAX
                && credential.used_s() >= stored.get(&credential.id).map_or(1, |it| it + USED_S)
            {
                uses.push(credential);
            }
        }
        drop(stored);
        if uses.is_empty() {
            return Ok(());
        }
        let mut transaction = Transaction::new(Durability::Os);
        for of in &uses {
            let key = (&of.consumer, &*of.id);
            transaction.ops.push(self.records.put_used(key, of.used_s(), of.expires_ms));
        }
        self.records.store.commit(transaction).await.map_err(Error::from)?;
        self.stored.lock().await.extend(uses.into_iter().map(|of| (of.id.clone(), of.used_s())));
        Ok(())
    }
}

impl Component for Consumers {
    type Plan = Plan;
    type Ready = Option<Plan>;
    type Fixed = ();
    type Locals = ();
    type Api = api::Api;
    type Noun = Nouns;

    /// What it keeps stands in the store, which is opened late.
    const EXCLUSIVE: bool = true;
    const ABSENT: &'static str = "this node has no registry of consumers: its configuration does not say `consumer_registry`";

    fn sections() -> &'static [Field] {
        sections::ALL
    }

    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<Plan> {
        let Switch::On(section) = said.read(&REGISTRY, cx)? else { return None };
        said.keep(At { value: KEPT_MAX, place: source::Place::BUILT_IN });
        section.plan(cx)
    }

    async fn open(plan: &Plan, host: &Host, (): &()) -> anyhow::Result<Self> {
        let records = Records::open(host.store("consumers")?).await.map_err(described)?;
        let kept = Arc::clone(&host.kept);
        let mut stored = HashMap::new();
        let mut digests: HashMap<Box<str>, Digest> = HashMap::new();
        let loaded = records.each(
            |name, consumer| {
                let groups = consumer.groups.iter().filter_map(|group| Name::new(group).ok());
                kept.put_consumer(name, groups.collect());
            },
            |name, id, entry| {
                if let Some(digest) = entry.record.digest() {
                    let of = Credential::new(name, id.clone(), entry.expires_ms, 0);
                    kept.put(digest, Arc::new(of));
                    digests.insert(id, digest);
                }
            },
            |_, id, used_s| {
                stored.insert(id, used_s);
            },
        );
        loaded.await.map_err(described)?;
        for (id, used_s) in &stored {
            let of = digests.get(id).and_then(|digest| Some((digest, kept.credential(digest)?)));
            if let Some((digest, of)) = of {
                let (name, id) = (of.consumer.clone(), of.id.clone());
                kept.put(*digest, Arc::new(Credential::new(name, id, of.expires_ms, *used_s)));
            }
        }
        let locks = (0..LOCKS).map(|_| Mutex::default()).collect();
        Ok(Self {
            records,
            kept,
            plan: RwLock::new(plan.clone()),
            locks,
            stored: Mutex::new(stored),
            making: AtomicUsize::new(0),
            doubted: Mutex::default(),
        })
    }

    fn fixed(_plan: Option<&Plan>) {}

    fn awaits_restart((): &(), _plan: Option<&Plan>) -> Vec<&'static str> {
        Vec::new()
    }

    async fn prepare(&self, plan: Option<&Plan>) -> Result<Option<Plan>, Vec<String>> {
        Ok(plan.cloned())
    }

    async fn commit(&self, plan: Option<Plan>) {
        self.kept.set_open(plan.is_some());
        if let Some(plan) = plan {
            *self.plan.write().unwrap_or_else(PoisonError::into_inner) = plan;
        }
    }

    /// Forgets what has ended, and writes when keys were used.
    async fn run(self: Arc<Self>, stop: Stop) {
        let sweep = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                if let Err(error) = self.sweep().await {
                    tracing::warn!("when keys were used could not be kept: {}", error.detail());
                }
            }
        };
        tokio::select! {
            () = sweep => {}
            () = stop.closed() => {}
        }
        // Best effort: at an end the store may be about to close.
        let _ = self.sweep().await;
    }

    fn metrics() -> &'static [Def] {
        &METRICS
    }

    fn measure(&self, to: &mut Writer) {
        let (consumers, keys) = self.kept.counts();
        to.gauge(&METRICS[0], &[], consumers as f64);
        to.gauge(&METRICS[1], &[], keys as f64);
    }

    fn operations() -> &'static [Row<api::Api>] {
        api::OPERATIONS
    }

    fn api(self: &Arc<Self>, node: &Arc<Node>) -> api::Api {
        let node = Arc::clone(node);
        let configured = move || {
            let gateway = node.components.gateway.get();
            gateway.map_or_else(Arc::<Directory>::default, |gateway| gateway.directory())
        };
        api::Api { consumers: Arc::clone(self), configured: Box::new(configured) }
    }
}

/// Its nouns.
#[derive(Debug, clap::Subcommand)]
pub enum Nouns {
    /// The noun of consumers.
    #[command(about = api::CONSUMER.title())]
    Consumer(cli::consumer::Consumer),
}

impl Noun for Nouns {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Consumer(consumer) => consumer.run(),
        }
    }
}
