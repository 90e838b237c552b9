//! Streams of events as a component, in a namespace of the store: the API on them, and KurrentDB's protocol.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use weft_api::{Row, time::now_ms};
use weft_broker_http::{STREAM_OPERATIONS, STREAMS, StreamTargets, Streams as Operated};
use weft_events::{Direction, EventStore, PageLimits, shared::SharedSubscriptions};
use weft_kernel::{ByteSize, Name, Result};
use weft_kurrent::{KURRENT, Kurrent, KurrentTargets};
use weft_ledger::EmbeddedStore as _;
use weft_net::Stop;
use weft_proxy::{Handlers, plan::Binding};
use weft_telemetry::metrics::{Def, Kind, Writer};

use super::{
    below,
    projections::{self, sections::PROJECTIONS_SECTION},
    storage::described,
};
use crate::{
    cli,
    component::{Component, Host, Noun},
    config::{
        catalogue::{Bound, KeyOf, Sections, TargetKey},
        leaf::{Pairs, Span},
        problem::Problem,
        setting::{At, Cx, Field, Setting as _},
        source::Place,
        text::PlainPath,
        tree::Node,
    },
};

/// The largest of what is kept at once.
const EVENT_MAX: ByteSize = ByteSize(1 << 20);
/// How often events are looked for that are too old.
const SWEEP: Duration = Duration::from_secs(5);

/// By how much the last event may be ahead of the clock without a word.
const AHEAD: Duration = Duration::from_secs(60);

/// Whether there are streams.
pub const STREAMS_SECTION: KeyOf<bool> = KeyOf::new(
    "streams",
    "Whether the node keeps streams of events; a route that offers them has it keep them too.",
)
.or("false");

/// How long events stay.
pub const EVENT_RETENTION: KeyOf<Pairs<String, Span>> = KeyOf::new(
    "event_retention",
    "Retention of events of streams by category: the age at which they are removed. Those of other categories stay. The node keeps streams then.",
);

/// All sections of it.
const ALL: &[Field] = &[STREAMS_SECTION.field(), EVENT_RETENTION.field()];

static TARGETS: [TargetKey; 2] = [
    TargetKey {
        field: KeyOf::<Option<PlainPath>>::new(
            "streams",
            "Path below which the API of streams is served, as `/v1/…`.",
        )
        .field(),
        build: |_, node, cx| below::target(STREAMS, node, cx),
    },
    TargetKey {
        field: KeyOf::<Option<bool>>::new(
            "kurrent",
            "`true` to speak KurrentDB's gRPC protocol on the streams of the node.",
        )
        .field(),
        build: kurrent,
    },
];

/// KurrentDB's protocol, whose paths are its own.
fn kurrent(_route: &Name, node: &Node, cx: &mut Cx) -> Option<Bound> {
    let asked = At::<bool>::read(node, cx)?;
    if !asked.value {
        let say = "`kurrent` at a route is `true`";
        cx.report(
            Problem::error(asked.place, say).help("leave it out, and say where the route leads"),
        );
        return None;
    }
    Some(Bound { binding: Binding::new(KURRENT, "KurrentDB's protocol"), place: asked.place })
}

/// What of streams routes can name.
#[derive(Default)]
pub struct Locals {
    api: StreamTargets,
    kurrent: KurrentTargets,
}

/// The streams of a node.
pub struct Streams {
    operated: Operated,
    retention: Mutex<Retention>,
    expired: AtomicU64,
}

static METRICS: [Def; 2] = [
    Def {
        name: "weft_stream_events",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Position of the next event of a stream among all: as many as were ever appended.",
    },
    Def {
        name: "weft_stream_events_expired_total",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Events of streams that were removed because of their age.",
    },
];

/// The age at which events of a category go.
type Retention = Vec<(String, Duration)>;

/// That streams are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    retention: Retention,
}

impl Component for Streams {
    type Plan = Asked;
    type Ready = Retention;
    type Fixed = ();
    type Locals = Locals;
    type Api = Operated;
    type Noun = Nouns;

    /// They stand in the store.
    const EXCLUSIVE: bool = true;
    const ABSENT: &'static str = "this node keeps no streams: its configuration has no `streams`";

    fn sections() -> &'static [Field] {
        ALL
    }

    fn targets() -> &'static [TargetKey] {
        &TARGETS
    }

    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<Asked> {
        let is_asked = said.read(&STREAMS_SECTION, cx)?;
        let is_kept = said.place(&EVENT_RETENTION).is_some();
        let is_folded =
            said.place(&PROJECTIONS_SECTION).is_some() || projections::is_on_a_route(said);
        if !is_asked && !is_kept && !is_folded && !below::is_offered(said, &[STREAMS, KURRENT]) {
            return None;
        }
        let place = said.place(&STREAMS_SECTION).unwrap_or(Place::BUILT_IN);
        said.keep(At { value: EVENT_MAX, place });
        let Pairs(retention) = said.read(&EVENT_RETENTION, cx)?;
        let retention = retention.into_iter().map(|(category, Span(age))| (category, age));
        Some(Asked { retention: retention.collect() })
    }

    async fn open(_plan: &Asked, host: &Host, locals: &Locals) -> anyhow::Result<Self> {
        let store = host.root()?.embedded_namespace("events")?;
        let events = EventStore::open(store).await.map_err(described).context("streams")?;
        if let Some(check) = host.event_check.get() {
            events.check_by(Arc::clone(check));
        }
        warn_of_times(&events).await.map_err(described).context("streams")?;
        // A node opens them once.
        let _ = host.events.set(events.clone());
        let operated = Operated { events, stop: host.stop.clone() };
        let Operated { events, stop } = operated.clone();
        let shared = SharedSubscriptions::open(events.clone()).await.map_err(described)?;
        locals.kurrent.open(Kurrent { events, shared, stop });
        locals.api.open(operated.clone());
        Ok(Self { operated, retention: Mutex::default(), expired: AtomicU64::new(0) })
    }

    fn register(locals: &Locals, handlers: Handlers) -> Handlers {
        locals.kurrent.register(locals.api.register(handlers))
    }

    fn fixed(_plan: Option<&Asked>) {}

    fn awaits_restart((): &(), _plan: Option<&Asked>) -> Vec<&'static str> {
        Vec::new()
    }

    async fn prepare(&self, plan: Option<&Asked>) -> Result<Retention, Vec<String>> {
        Ok(plan.map(|plan| plan.retention.clone()).unwrap_or_default())
    }

    async fn commit(&self, retention: Retention) {
        *self.retention.lock() = retention;
    }

    /// Removes what is too old.
    async fn run(self: Arc<Self>, stop: Stop) {
        let sweep = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                self.sweep().await;
            }
        };
        tokio::select! {
            () = sweep => {}
            () = stop.closed() => {}
        }
    }

    fn metrics() -> &'static [Def] {
        &METRICS
    }

    fn measure(&self, to: &mut Writer) {
        to.gauge(&METRICS[0], &[], self.operated.events.next_position() as f64);
        to.counter(&METRICS[1], &[], self.expired.load(Relaxed));
    }

    fn operations() -> &'static [Row<Operated>] {
        STREAM_OPERATIONS
    }

    fn api(self: &Arc<Self>, _node: &Arc<crate::node::Node>) -> Operated {
        self.operated.clone()
    }
}

impl Streams {
    async fn sweep(&self) {
        let retention = self.retention.lock().clone();
        for (category, age) in retention {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let before_ms = now_ms().saturating_sub(age_ms);
            match self.operated.events.expire(&category, before_ms).await {
                Ok(0) => {}
                Ok(events) => {
                    self.expired.fetch_add(events, Relaxed);
                    tracing::info!(category, events, "events were removed because of their age");
                }
                Err(error) => tracing::warn!(
                    category,
                    "events that are too old could not be removed: {}",
                    error.detail()
                ),
            }
        }
    }
}

/// Says if events are of a time that has not come: those that follow will have it too, until the clock has caught up.
async fn warn_of_times(events: &EventStore) -> Result<()> {
    let limits = PageLimits { events: 1, ..PageLimits::default() };
    let page = events.read_all(u64::MAX, Direction::Backward, limits).await?;
    let ahead_ms = page.events.first().map_or(0, |last| last.time_ms.saturating_sub(now_ms()));
    if ahead_ms > AHEAD.as_millis() as u64 {
        let ahead = Duration::from_millis(ahead_ms);
        tracing::warn!(
            ?ahead,
            "the last event is of a time that has not come by the clock of this machine, and events that follow \
             will have that time until it has"
        );
    }
    Ok(())
}

/// Its nouns.
#[derive(Debug, clap::Subcommand)]
pub enum Nouns {
    /// The noun of streams.
    #[command(about = weft_broker_http::STREAM.title())]
    Stream(cli::stream::Stream),
}

impl Noun for Nouns {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Stream(stream) => stream.run(),
        }
    }
}
