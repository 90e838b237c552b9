//! Idempotency as a component: the keys of requests that are carried out once, with their answers, in a namespace
//! of the store.

mod api;
pub mod policies;

use std::sync::Arc;

use anyhow::Context as _;
use weft_api::Row;
use weft_gateway::{IDEMPOTENCY, IdempotencyMaker, idempotency::Keys};
use weft_kernel::ByteSize;
use weft_proxy::Handlers;
use weft_telemetry::metrics::{Def, Kind, Writer};

use super::storage::described;
use crate::{
    cli::verbs::OfTable,
    component::{Component, Host},
    config::{
        catalogue::{PolicyKey, Sections},
        setting::{At, Cx},
        source::Place,
    },
    node::Node,
};

/// The largest of what is kept at once.
const VALUE_MAX: ByteSize = ByteSize(1 << 20);

/// The idempotency keys of a node.
pub struct Idempotency {
    keys: Arc<Keys>,
}

static METRICS: [Def; 3] = [
    Def {
        name: "weft_idempotency_keys",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Idempotency keys that are kept.",
    },
    Def {
        name: "weft_idempotency_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: &[],
        help: "Bytes of idempotency keys and the answers under them, about.",
    },
    Def {
        name: "weft_idempotency_requests",
        kind: Kind::Gauge,
        unit: "",
        labels: &["state"],
        help: "Requests with an idempotency key that are under way, by state: `running` or `waiting` for another \
               with the same key.",
    },
];

/// That a route asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked;

impl Component for Idempotency {
    type Plan = Asked;
    type Ready = ();
    type Fixed = ();
    type Locals = IdempotencyMaker;
    type Api = Arc<Keys>;
    type Noun = OfTable<Self>;

    /// It keeps something in the store.
    const EXCLUSIVE: bool = true;
    const ABSENT: &'static str =
        "this node keeps no idempotency keys: no route of its configuration has `idempotency`";

    fn policies() -> &'static [PolicyKey] {
        &policies::ALL
    }

    fn build(said: &mut Sections<'_>, _cx: &mut Cx) -> Option<Asked> {
        let asks = |route: &weft_proxy::plan::Route| {
            route.policy.policies.iter().any(|of| of.handler == IDEMPOTENCY)
        };
        if !said.proxy.routes.iter().any(|route| asks(route)) {
            return None;
        }
        said.keep(At { value: VALUE_MAX, place: Place::BUILT_IN });
        Some(Asked)
    }

    async fn open(_plan: &Asked, host: &Host, locals: &IdempotencyMaker) -> anyhow::Result<Self> {
        let store = host.store("idempotency")?;
        let keys = Keys::open(store).await.map_err(described).context("idempotency keys")?;
        let keys = Arc::new(keys);
        locals.open(Arc::clone(&keys));
        Ok(Self { keys })
    }

    fn register(locals: &IdempotencyMaker, handlers: Handlers) -> Handlers {
        handlers.with_policy(IDEMPOTENCY, locals.clone())
    }

    fn fixed(_plan: Option<&Asked>) {}

    fn awaits_restart((): &(), _plan: Option<&Asked>) -> Vec<&'static str> {
        Vec::new()
    }

    async fn prepare(&self, _plan: Option<&Asked>) -> Result<(), Vec<String>> {
        Ok(())
    }

    async fn commit(&self, (): ()) {}

    fn metrics() -> &'static [Def] {
        &METRICS
    }

    fn measure(&self, to: &mut Writer) {
        let counts = self.keys.counts();
        to.gauge(&METRICS[0], &[], counts.kept.entries as f64);
        to.gauge(&METRICS[1], &[], counts.kept.bytes as f64);
        to.gauge(&METRICS[2], &[("state", "running")], counts.running as f64);
        to.gauge(&METRICS[2], &[("state", "waiting")], counts.waiting as f64);
    }

    fn operations() -> &'static [Row<Arc<Keys>>] {
        api::OPERATIONS
    }

    fn api(self: &Arc<Self>, _node: &Arc<Node>) -> Arc<Keys> {
        Arc::clone(&self.keys)
    }
}
