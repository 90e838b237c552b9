//! Notes: all that a component can have, in one folder.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use weft_api::{Ask, Noun, Permission, Response, Row, Verb, get};
use weft_kernel::Name;
use weft_proxy::plan::{Binding, Target};
use weft_telemetry::metrics::{Def, Kind, Writer};

use crate::{
    cli::verbs::OfTable,
    component::{Component, Host},
    components::messages,
    config::{
        catalogue::{Bound, Checked, KeyOf, PolicyKey, Sections, TargetKey},
        leaf::{Int, Named},
        problem::Problem,
        setting::{At, Cx, Field, Setting as _, settings},
    },
    node::Node,
};

/// How notes are kept.
const NOTES: KeyOf<Settings> = KeyOf::new("notes", "Keeping of notes.");
/// Pages of notes.
pub(super) const PAGES: KeyOf<Named<Page>> =
    KeyOf::new("pages", "Pages by name: sheets with notes.");

settings! {
    /// Keeping of notes.
    pub struct Settings = "notes" {
        /// Topic of which notes are taken.
        topic: Option<At<Name>>,
        /// Maximum number of pages.
        pages_max: At<Int<1, 100>> = "2",
    }

    /// Sheet with notes.
    pub struct Page = "page", short "title" {
        /// Title.
        title: String,
    }
}

/// What is asked for of notes.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    topic: Option<At<Name>>,
    pub(super) titles: Vec<String>,
}

/// The notes of a node.
#[derive(Default)]
pub struct Notes {
    pub(super) pages: AtomicUsize,
}

/// A route that takes notes.
static TARGETS: [TargetKey; 1] = [TargetKey {
    field: KeyOf::<Option<String>>::new("note", "Title of the page that requests are noted on.")
        .field(),
    build: |_route, node, cx| {
        let title = String::read(node, cx)?;
        Some(Bound { binding: Binding::new("note", title), place: node.place })
    },
}];

/// Whether requests are noted.
const NOTED: KeyOf<bool> = KeyOf::new("noted", "Whether requests are noted.").or("false");
static POLICIES: [PolicyKey; 1] = [PolicyKey {
    field: NOTED.field(),
    build: |policy, cx| NOTED.read(policy, cx)?.then(|| Binding::new("noted", true)),
}];

static NOUN: Noun = Noun { name: "note", about: "what was noted" };
static ROWS: &[Row<Arc<Notes>>] =
    &[get("notes", "/v1/notes", "How many pages there are.", Permission::Read, |ask| {
        Box::pin(show(ask))
    })
    .verb(&NOUN, Verb::Show { help: "How many pages there are" })];

async fn show(ask: Ask<'_, Arc<Notes>>) -> weft_kernel::Result<Response> {
    Response::json(200, &ask.state.pages.load(Ordering::Relaxed))
}

static METRICS: [Def; 1] = [Def {
    name: "weft_note_pages",
    kind: Kind::Gauge,
    unit: "",
    labels: &[],
    help: "Pages of notes.",
}];

impl Component for Notes {
    type Plan = Asked;
    type Ready = usize;
    type Fixed = Option<At<Name>>;
    type Locals = ();
    type Api = Arc<Self>;
    type Noun = OfTable<Self>;

    fn sections() -> &'static [Field] {
        const ALL: &[Field] = &[NOTES.field(), PAGES.field()];
        ALL
    }

    fn targets() -> &'static [TargetKey] {
        &TARGETS
    }

    fn policies() -> &'static [PolicyKey] {
        &POLICIES
    }

    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<Asked> {
        let pages = said.entries(&PAGES, cx);
        let section = said.read(&NOTES, cx)?;
        if pages.len() > section.pages_max.usize() {
            let what = format!("{} pages are more than `pages_max`", pages.len());
            cx.report(Problem::error(section.pages_max.place, what).help("tear one out"));
        }
        let is_asked = !pages.is_empty() || said.place(&NOTES).is_some();
        let titles = pages.into_iter().map(|(_, page)| page.title).collect();
        is_asked.then_some(Asked { topic: section.topic, titles })
    }

    fn check(whole: &Checked<'_>, cx: &mut Cx) {
        let topic = Self::plan(whole.plan).and_then(|asked| asked.topic.as_ref());
        if let Some(topic) = topic {
            let topics = whole.names(&messages::sections::TOPICS);
            topics.require("topic", topic.as_str(), topic.place, cx);
        }
        let titles = Self::plan(whole.plan).map_or(&[][..], |asked| &asked.titles);
        for (route, place) in whole.routes() {
            if let Target::Local(binding) = &route.target
                && binding.handler == "note"
                && let Ok(title) = binding.settings::<String>()
                && !titles.contains(&title)
            {
                cx.report(Problem::error(place, format!("no page is titled `{title}`")));
            }
        }
    }

    async fn open(_asked: &Asked, _host: &Host, (): &()) -> anyhow::Result<Self> {
        Ok(Self::default())
    }

    fn fixed(asked: Option<&Asked>) -> Self::Fixed {
        asked.and_then(|asked| asked.topic.clone())
    }

    fn awaits_restart(fixed: &Self::Fixed, asked: Option<&Asked>) -> Vec<&'static str> {
        let now = Self::fixed(asked);
        let name = |topic: &Self::Fixed| topic.as_ref().map(|topic| topic.value.clone());
        if name(fixed) == name(&now) { Vec::new() } else { vec!["notes.topic"] }
    }

    async fn prepare(&self, asked: Option<&Asked>) -> Result<usize, Vec<String>> {
        let titles = asked.map_or(&[][..], |asked| &asked.titles);
        match titles.iter().find(|title| title.contains("secret")) {
            Some(title) => Err(vec![format!("nobody may note `{title}`")]),
            None => Ok(titles.len()),
        }
    }

    async fn commit(&self, pages: usize) {
        self.pages.store(pages, Ordering::Relaxed);
    }

    fn metrics() -> &'static [Def] {
        &METRICS
    }

    fn measure(&self, to: &mut Writer) {
        to.gauge(&METRICS[0], &[], self.pages.load(Ordering::Relaxed) as f64);
    }

    fn operations() -> &'static [Row<Arc<Self>>] {
        ROWS
    }

    fn api(self: &Arc<Self>, _node: &Arc<Node>) -> Arc<Self> {
        self.clone()
    }
}
