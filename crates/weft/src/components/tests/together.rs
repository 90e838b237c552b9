//! What several components keep is one transaction: with a double beside messages, all of it is changed or
//! nothing is.

#![allow(dead_code, unreachable_pub, reason = "the list makes more than is tried here")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use weft_ledger::{ExpectValue, MapId, MapOptions, Store};

use super::super::*;
use crate::config::{Loader, plan};

components! {
    messages: Messages,
    keeping: Keeping,
    storage: Storage,
}

/// Keeps where the admin API listens, in a namespace of its own.
pub struct Keeping {
    store: Arc<dyn Store>,
    map: MapId,
    /// Expects what is not there, so that the store refuses.
    refused: AtomicBool,
    committed: AtomicUsize,
}

const KEY: &[u8] = b"listen";

impl Component for Keeping {
    type Plan = plan::Admin;
    type Ready = String;
    type Fixed = ();
    type Locals = ();
    type Api = ();
    type Noun = crate::cli::verbs::OfTable<Self>;

    /// It needs the store, which is opened late.
    const EXCLUSIVE: bool = true;

    fn plan(plan: &Plan) -> Option<&plan::Admin> {
        plan.admin.as_ref()
    }

    async fn open(_plan: &plan::Admin, host: &Host, (): &()) -> anyhow::Result<Self> {
        let store = host.store("keeping")?;
        let map = store.create_map("said", MapOptions::default()).await?;
        let (refused, committed) = (AtomicBool::new(false), AtomicUsize::new(0));
        Ok(Self { store, map, refused, committed })
    }

    fn fixed(_plan: Option<&plan::Admin>) {}

    fn awaits_restart(_fixed: &(), _plan: Option<&plan::Admin>) -> Vec<&'static str> {
        Vec::new()
    }

    async fn prepare(&self, plan: Option<&plan::Admin>) -> Result<String, Vec<String>> {
        Ok(plan.map(|plan| plan.listen.to_string()).unwrap_or_default())
    }

    async fn stage(&self, ready: &mut String, to: &mut Transaction) -> anyhow::Result<()> {
        let never = ExpectValue::Version(u64::MAX);
        let expect = if self.refused.load(Ordering::Relaxed) { never } else { ExpectValue::Any };
        let (key, value) = (Bytes::from_static(KEY), Bytes::from(ready.clone()));
        *to = std::mem::take(to).put(self.map, key, value, expect);
        Ok(())
    }

    async fn commit(&self, _ready: String) {
        self.committed.fetch_add(1, Ordering::Relaxed);
    }

    fn api(self: &Arc<Self>, _node: &Arc<Node>) {}
}

impl Keeping {
    async fn said(&self) -> Option<Bytes> {
        self.store.get(self.map, KEY).await.unwrap().map(|value| value.data)
    }
}

/// A plan with its topics, and with the admin API at a port.
fn plan(folder: &Path, port: u16, topics: &str) -> Plan {
    let yaml = format!(
        "admin: 127.0.0.1:{port}\nledger: {{ path: '{}', wal_file: 1MiB }}\ntopics: {{ {topics} }}\n",
        folder.join("data").display()
    );
    let path = Path::new("weft.yaml");
    Loader::default().load_text(path, &yaml, &|_name| None).unwrap().plan
}

async fn opened(plan: &Plan) -> Components {
    let host = Host::idle().unwrap();
    let components = Components::new(plan);
    for exclusive in [false, true] {
        components.open(plan, &host, exclusive).await.unwrap();
    }
    components
}

/// The topics that there are, each with what it keeps.
fn topics(components: &Components) -> Vec<String> {
    let broker = &components.messages.get().unwrap().broker;
    broker.topics().iter().map(|topic| format!("{}: {:?}", topic.key(), topic.options())).collect()
}

async fn put_in_force(components: &Components, plan: &Plan) -> anyhow::Result<()> {
    let mut faults = Vec::new();
    let ready = components.prepare(plan, &mut faults).await;
    assert!(faults.is_empty(), "{faults:?}");
    components.commit(ready).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_components_keep_is_changed_together_or_not_at_all() {
    weft_identity::install_provider();
    let folder = tempfile::tempdir().unwrap();
    let first = plan(folder.path(), 1, "a: { retention: { age: 30d } }");
    let second = plan(folder.path(), 2, "a: { retention: { age: 1d } }, b: {}");
    let components = opened(&first).await;
    let keeping = components.keeping.get().unwrap();
    put_in_force(&components, &first).await.unwrap();
    let before = topics(&components);
    assert_eq!(before.len(), 1);
    assert_eq!(keeping.said().await.unwrap(), "127.0.0.1:1");

    keeping.refused.store(true, Ordering::Relaxed);
    let refused = put_in_force(&components, &second).await.unwrap_err();
    let told = format!("{refused:#}");
    assert!(told.starts_with("keeping: "), "whose it is: {told}");
    assert_eq!(keeping.committed.load(Ordering::Relaxed), 1);
    assert_eq!(keeping.said().await.unwrap(), "127.0.0.1:1");
    assert_eq!(topics(&components), before);
    // Nor is it there after a restart.
    components.close();
    let components = opened(&first).await;
    let keeping = components.keeping.get().unwrap();
    assert_eq!(topics(&components), before);
    assert_eq!(keeping.said().await.unwrap(), "127.0.0.1:1");

    put_in_force(&components, &second).await.unwrap();
    assert_eq!(keeping.committed.load(Ordering::Relaxed), 1);
    assert_eq!(keeping.said().await.unwrap(), "127.0.0.1:2");
    let after = topics(&components);
    assert!(after.len() == 2 && after[0] != before[0], "{after:?}");

    // A store that takes nothing refuses all of it, and says so.
    components.storage.close();
    let told = format!("{:#}", put_in_force(&components, &first).await.unwrap_err());
    assert_eq!(topics(&components), after, "{told}");
    assert_eq!(keeping.committed.load(Ordering::Relaxed), 1);
}
