//! The registry of schemas as a component, in a namespace of the store; what topics hold their messages to.

mod payloads;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context as _;
use weft_api::Row;
use weft_broker::engine::Engines;
use weft_broker::{Enforcement, PayloadSchema};
use weft_broker_http::{SCHEMA_OPERATIONS, SCHEMAS, SchemaTargets};
use weft_kernel::{ByteSize, Result};
use weft_net::Stop;
use weft_proxy::Handlers;
use weft_schemas::Registry;
use weft_telemetry::metrics::{Def, Kind, Writer};

use self::payloads::Payloads;
use super::below;
use crate::{
    cli,
    component::{Component, Host, Noun},
    config::{
        catalogue::{KeyOf, Sections, TargetKey},
        leaf::Pairs,
        setting::{At, Cx, Field, settings, words},
        source::Place,
        text::PlainPath,
    },
};

/// The largest of what is kept at once.
const SCHEMA_MAX: ByteSize = ByteSize(1 << 20);

/// Whether there are schemas.
pub const SCHEMAS_SECTION: KeyOf<bool> = KeyOf::new(
    "schemas",
    "Whether the node keeps a registry of schemas; a route that offers it has it keep one too.",
)
.or("false");

/// All sections of it.
const ALL: &[Field] = &[SCHEMAS_SECTION.field(), EVENT_SCHEMAS.field()];

/// What events are held to.
pub const EVENT_SCHEMAS: KeyOf<Pairs<String, EventSchemaSection>> = KeyOf::new(
    "event_schemas",
    "Schemas of the registry that events of streams are held to when they are appended, by the type of the event.",
);

words! {
    /// What becomes of an event that does not fit.
    pub enum Outcome {
        /// Nobody looks.
        Off = "off",
        /// It is taken, counted and logged.
        Warn = "warn",
        /// It is refused.
        Reject = "reject",
    }
}

settings! {
    /// Schema of events of a type.
    pub struct EventSchemaSection = "event schema", short "subject" {
        /// Subject of the registry. A payload is held to its latest version, or to the one whose id it begins with.
        subject: String,
        /// What becomes of an event whose payload does not fit.
        enforce: Outcome = "off",
    }
}

impl EventSchemaSection {
    fn rule(&self) -> PayloadSchema {
        let enforce = match self.enforce {
            Outcome::Off => Enforcement::Off,
            Outcome::Warn => Enforcement::Warn,
            Outcome::Reject => Enforcement::Reject,
        };
        PayloadSchema { subject: self.subject.clone(), enforce }
    }
}

static TARGETS: [TargetKey; 1] = [TargetKey {
    field: KeyOf::<Option<PlainPath>>::new(
        "schemas",
        "Path below which the schema registry is served: the base URL of clients.",
    )
    .field(),
    build: |_, node, cx| below::target(SCHEMAS, node, cx),
}];

/// The registry of a node.
pub struct Schemas {
    registry: Registry,
    payloads: Arc<Payloads>,
    engines: Arc<std::sync::OnceLock<Engines>>,
}

static METRICS: [Def; 2] = [
    Def {
        name: "weft_schema_mismatches_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["outcome"],
        help: "Messages whose payload does not fit the schema of their topic, by outcome: `warned` or `refused`.",
    },
    Def {
        name: "weft_schema_changes_total",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Changes of the schema registry since the start: versions, levels and modes.",
    },
];

/// Time after which topics are looked at again for the subjects that they name.
const LOOK: Duration = Duration::from_secs(1);

impl Schemas {
    /// Reads the subjects that topics hold messages to.
    async fn read_held(&self) {
        let topics = self.engines.get().map(|engines| engines.embedded().topics());
        let named = topics.into_iter().flatten().filter_map(|topic| {
            let schema = topic.options().schema?;
            (schema.enforce != Enforcement::Off).then_some(schema.subject)
        });
        let events = self.payloads.events.load_full();
        let of_events = events.values().filter(|schema| schema.enforce != Enforcement::Off);
        let of_events = of_events.map(|schema| schema.subject.clone());
        let named: HashSet<String> = named.chain(of_events).collect();
        let read = async {
            self.registry.hold_ready(named).await?;
            self.registry.hold_wanted().await
        };
        if let Err(error) = read.await {
            tracing::warn!(%error, "schemas that topics name cannot be read");
        }
    }
}

/// That schemas are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// What events are held to, by their types.
    events: HashMap<String, PayloadSchema>,
}

impl Component for Schemas {
    type Plan = Asked;
    type Ready = HashMap<String, PayloadSchema>;
    type Fixed = ();
    type Locals = SchemaTargets;
    type Api = Registry;
    type Noun = Nouns;

    /// They stand in the store.
    const EXCLUSIVE: bool = true;
    const ABSENT: &'static str = "this node keeps no schemas: its configuration has no `schemas`";

    fn sections() -> &'static [Field] {
        ALL
    }

    fn targets() -> &'static [TargetKey] {
        &TARGETS
    }

    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<Asked> {
        let is_asked = said.read(&SCHEMAS_SECTION, cx)?;
        let events = said.read(&EVENT_SCHEMAS, cx)?;
        let events: HashMap<String, PayloadSchema> =
            events.0.iter().map(|(kind, section)| (kind.clone(), section.rule())).collect();
        if !is_asked && events.is_empty() && !below::is_offered(said, &[SCHEMAS]) {
            return None;
        }
        let place = said.place(&SCHEMAS_SECTION).unwrap_or(Place::BUILT_IN);
        said.keep(At { value: SCHEMA_MAX, place });
        Some(Asked { events })
    }

    async fn open(_plan: &Asked, host: &Host, locals: &SchemaTargets) -> anyhow::Result<Self> {
        let registry = Registry::open(host.store("schemas")?).await.context("schemas")?;
        locals.open(registry.clone());
        let payloads = Payloads::new(registry.clone());
        // Messages are opened before.
        let engines = Arc::clone(&host.engines);
        if let Some(engines) = engines.get() {
            engines.embedded().check_payloads_by(Arc::clone(&payloads) as _);
        }
        let _ = host.event_check.set(Arc::clone(&payloads) as _);
        if let Some(events) = host.events.get() {
            events.check_by(Arc::clone(&payloads) as _);
        }
        let it = Self { registry, payloads, engines };
        it.read_held().await;
        Ok(it)
    }

    fn register(locals: &SchemaTargets, handlers: Handlers) -> Handlers {
        locals.register(handlers)
    }

    fn fixed(_plan: Option<&Asked>) {}

    fn awaits_restart((): &(), _plan: Option<&Asked>) -> Vec<&'static str> {
        Vec::new()
    }

    async fn prepare(&self, plan: Option<&Asked>) -> Result<Self::Ready, Vec<String>> {
        Ok(plan.map(|plan| plan.events.clone()).unwrap_or_default())
    }

    async fn commit(&self, events: Self::Ready) {
        self.payloads.events.store(Arc::new(events));
        self.read_held().await;
    }

    /// Keeps subjects read that topics name, those of topics too that are declared while it runs.
    async fn run(self: Arc<Self>, stop: Stop) {
        loop {
            self.read_held().await;
            tokio::select! {
                () = self.registry.hold_asked() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = stop.closed() => return,
            }
        }
    }

    fn metrics() -> &'static [Def] {
        &METRICS
    }

    fn measure(&self, to: &mut Writer) {
        let count = |outcome, count: u64, to: &mut Writer| {
            to.counter(&METRICS[0], &[("outcome", outcome)], count);
        };
        count("warned", self.payloads.warned.load(Relaxed), to);
        count("refused", self.payloads.refused.load(Relaxed), to);
        to.counter(&METRICS[1], &[], *self.registry.changes().borrow());
    }

    fn operations() -> &'static [Row<Registry>] {
        SCHEMA_OPERATIONS
    }

    fn api(self: &std::sync::Arc<Self>, _node: &std::sync::Arc<crate::node::Node>) -> Registry {
        self.registry.clone()
    }
}

/// Its nouns.
#[derive(Debug, clap::Subcommand)]
pub enum Nouns {
    /// Subjects: names under which schemas have versions.
    Subject(cli::subject::Subject),
}

impl Noun for Nouns {
    fn run(self) -> anyhow::Result<std::process::ExitCode> {
        match self {
            Self::Subject(subject) => subject.run(),
        }
    }
}
