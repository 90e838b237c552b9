//! The registry of consumers as a component: those that are made while the node runs, with keys that it draws,
//! kept in its store.
//!
//! What is kept is on the disk before it is answered, and in memory ([`Kept`]) before that too, so that a key that
//! was revoked lets nobody in any more once that is answered, on any worker. Of a key nothing but a digest and its
//! last letters is kept. Changes of one consumer come one after the other; those of many share syncs of the disk.

pub mod api;
mod records;
pub mod sections;

use std::{
    collections::HashMap,
    process::ExitCode,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::sync::{Mutex, MutexGuard};
use weft_api::{Row, time::now_ms};
use weft_gateway::{
    Digest, Directory,
    kept::{Credential, Kept},
    key,
};
use weft_kernel::{ByteSize, Error, Name, Reason, Result};
use weft_ledger::{Durability, ExpectValue, Op, Transaction};
use weft_net::Stop;
use weft_telemetry::metrics::{Def, Kind as MetricKind, Writer};

use self::{
    records::{Consumer, Entry, Key, Kind, Records},
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
        source::Place,
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
/// Letters of the id of a key.
const ID_LETTERS: usize = 12;
/// Letters of a password.
const PASSWORD_LETTERS: usize = 32;

/// Consumers that the node keeps.
pub struct Consumers {
    records: Records,
    kept: Arc<Kept>,
    plan: RwLock<Plan>,
    locks: Box<[Mutex<()>]>,
    /// When keys were used last, as the store knows it.
    stored: Mutex<HashMap<Box<str>, u64>>,
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

/// A key that was just drawn: all that is ever told of it.
struct Drawn {
    id: Box<str>,
    secret: String,
    entry: Entry<Key>,
}

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

    async fn commit_ops(&self, ops: impl IntoIterator<Item = Op>) -> Result<u64> {
        let mut transaction = Transaction::new(Durability::Fsync);
        transaction.ops.extend(ops);
        Ok(self.records.store.commit(transaction).await?.seq)
    }

    /// Makes a consumer or, if `change`, gives it other groups; tells whether it was there.
    async fn put(&self, name: &Name, groups: Vec<Name>, change: bool) -> Result<bool> {
        let _turn = self.lock(name).await;
        let texts: Vec<String> = groups.iter().map(ToString::to_string).collect();
        let there = self.records.consumer(name).await?;
        let (created_ms, expect) = match &there {
            Some(there) if there.record.groups == texts => return Ok(true),
            Some(_) if !change => {
                let say = format!("consumer {name} is there with other groups");
                return Err(Error::new(Reason::DefinitionConflict, say));
            }
            Some(there) => (there.record.created_ms, ExpectValue::Version(there.version)),
            None => (now_ms(), ExpectValue::Absent),
        };
        if there.is_none() && self.kept.counts().0 >= self.settings().consumers_max {
            let say = "there are as many consumers as `consumer_registry.consumers_max` allows";
            return Err(Error::new(Reason::Conflict, say));
        }
        let record = Consumer { groups: texts, created_ms };
        self.commit_ops([self.records.put_consumer(name, &record, expect)?]).await?;
        self.kept.put_consumer(name.clone(), groups);
        Ok(there.is_some())
    }

    /// Takes out a consumer and its keys; tells whether there was anything.
    async fn delete(&self, name: &Name) -> Result<bool> {
        let _turn = self.lock(name).await;
        let there = self.records.consumer(name).await?;
        let keys = self.records.keys_of(name, KEYS_MAX).await?;
        if there.is_none() && keys.is_empty() {
            return Ok(false);
        }
        let consumer = there
            .map(|there| self.records.delete_consumer(name, ExpectValue::Version(there.version)));
        // One that has just ended is gone by itself.
        let ops =
            keys.iter().flat_map(|(id, _)| self.records.delete_key(name, id, ExpectValue::Any));
        self.commit_ops(consumer.into_iter().chain(ops)).await?;
        self.kept.remove_consumer(name);
        let mut stored = self.stored.lock().await;
        for (id, entry) in keys {
            stored.remove(&id);
            entry.record.digest().into_iter().for_each(|digest| self.kept.remove(&digest));
        }
        Ok(true)
    }

    fn draw(&self, name: &Name, kind: Kind) -> Result<(Box<str>, String, Digest)> {
        let drawn = key::letters(ID_LETTERS).zip(match kind {
            Kind::ApiKey => key::draw(&self.settings().prefix),
            Kind::Password => key::letters(PASSWORD_LETTERS),
        });
        let (id, secret) =
            drawn.ok_or_else(|| Error::new(Reason::Internal, "the system gives no chance"))?;
        let digest = match kind {
            Kind::ApiKey => Digest::of_api_key(secret.as_bytes()),
            Kind::Password => Digest::of_basic(name.as_str().as_bytes(), secret.as_bytes()),
        };
        Ok((id.into(), secret, digest))
    }

    fn kept(&self, name: &Name, id: &str, expires_ms: u64, used_s: u64) -> Arc<Credential> {
        Arc::new(Credential::new(name.clone(), id, expires_ms, used_s))
    }

    /// Draws a key that is good for so long, or for ever.
    async fn create_key(
        &self,
        name: &Name,
        kind: Kind,
        good_for: Option<Duration>,
    ) -> Result<Drawn> {
        let _turn = self.lock(name).await;
        if self.records.keys_of(name, KEYS_MAX).await?.len() >= KEYS_MAX {
            let say = format!("consumer {name} has {KEYS_MAX} keys: revoke one before");
            return Err(Error::new(Reason::Conflict, say));
        }
        let now = now_ms();
        let expires_ms = good_for.map_or(0, |span| now.saturating_add(millis(span)));
        let (id, secret, digest) = self.draw(name, kind)?;
        let record = Key {
            kind,
            digest: digest.written(),
            last4: secret[secret.len() - 4..].to_owned(),
            created_ms: now,
        };
        let put = self.records.put_key((name, &id), &record, expires_ms, ExpectValue::Absent)?;
        let version = self.commit_ops([put]).await?;
        self.kept.put(digest, self.kept(name, &id, expires_ms, 0));
        Ok(Drawn { id, secret, entry: Entry { record, version, expires_ms } })
    }

    /// Draws a key in place of another, which is good for `overlap` more.
    async fn rotate_key(&self, name: &Name, id: &str, overlap: Duration) -> Result<Drawn> {
        let _turn = self.lock(name).await;
        let old = self.records.key(name, id).await?.ok_or_else(|| no_key(name, id))?;
        let now = now_ms();
        // It is good for as long as the other was to be.
        let lifetime = match old.expires_ms {
            0 => 0,
            ends => ends.saturating_sub(old.record.created_ms),
        };
        let expires_ms = if lifetime == 0 { 0 } else { now.saturating_add(lifetime) };
        let (new_id, secret, digest) = self.draw(name, old.record.kind)?;
        let record = Key {
            kind: old.record.kind,
            digest: digest.written(),
            last4: secret[secret.len() - 4..].to_owned(),
            created_ms: now,
        };
        let mut ops = vec![self.records.put_key(
            (name, &new_id),
            &record,
            expires_ms,
            ExpectValue::Absent,
        )?];
        let expect = ExpectValue::Version(old.version);
        let mut ends = now.saturating_add(millis(overlap));
        if old.expires_ms > 0 {
            ends = ends.min(old.expires_ms);
        }
        let old_digest = old.record.digest();
        let used_s = old_digest
            .and_then(|digest| self.kept.credential(&digest))
            .map_or(0, |credential| credential.used_s());
        if overlap.is_zero() {
            ops.extend(self.records.delete_key(name, id, expect));
        } else {
            ops.push(self.records.put_key((name, id), &old.record, ends, expect)?);
            ops.extend((used_s > 0).then(|| self.records.put_used((name, id), used_s, ends)));
        }
        let version = self.commit_ops(ops).await?;
        self.kept.put(digest, self.kept(name, &new_id, expires_ms, 0));
        if let Some(old_digest) = old_digest {
            match overlap.is_zero() {
                true => self.kept.remove(&old_digest),
                false => self.kept.put(old_digest, self.kept(name, id, ends, used_s)),
            }
        }
        Ok(Drawn { id: new_id, secret, entry: Entry { record, version, expires_ms } })
    }

    /// Ends a key at once.
    async fn revoke_key(&self, name: &Name, id: &str) -> Result<()> {
        let _turn = self.lock(name).await;
        let old = self.records.key(name, id).await?.ok_or_else(|| no_key(name, id))?;
        let expect = ExpectValue::Version(old.version);
        self.commit_ops(self.records.delete_key(name, id, expect)).await?;
        old.record.digest().into_iter().for_each(|digest| self.kept.remove(&digest));
        self.stored.lock().await.remove(id);
        Ok(())
    }

    /// When a key was used last, if it ever was: wall-clock seconds.
    fn used_s(&self, key: &Key) -> Option<u64> {
        let used = self.kept.credential(&key.digest()?)?.used_s();
        (used > 0).then_some(used)
    }

    /// Forgets keys that have ended, and writes when others were used: each at most once an hour.
    async fn sweep(&self) -> Result<()> {
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
        if uses.is_empty() {
            return Ok(());
        }
        let mut transaction = Transaction::new(Durability::Os);
        for of in &uses {
            let key = (&of.consumer, &*of.id);
            transaction.ops.push(self.records.put_used(key, of.used_s(), of.expires_ms));
        }
        self.records.store.commit(transaction).await.map_err(Error::from)?;
        stored.extend(uses.into_iter().map(|of| (of.id.clone(), of.used_s())));
        Ok(())
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn no_key(name: &Name, id: &str) -> Error {
    Error::new(Reason::NotFound, format!("consumer {name} has no key `{id}`"))
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
        said.keep(At { value: KEPT_MAX, place: Place::BUILT_IN });
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
        let (plan, stored) = (RwLock::new(plan.clone()), Mutex::new(stored));
        Ok(Self { records, kept, plan, locks, stored })
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
