//! What is said about projections.

use std::collections::BTreeMap;

use weft_events::projection::{
    Definition, Rule, Source,
    definition::{ITEMS_MAX, KEY},
};
use weft_kernel::Name;

use crate::config::{
    catalogue::{KeyOf, Sections},
    leaf::{Int, Many, Named, Pairs},
    problem::Problem,
    setting::{At, Cx, Field, Setting, Shape, settings},
    tree::{Kind, Node},
};

/// Projections.
pub const PROJECTIONS_SECTION: KeyOf<Named<ProjectionSection>> = KeyOf::new(
    "projections",
    "Projections by name: documents that are folded from the events of streams.",
);

/// All sections of it.
pub(super) const ALL: &[Field] = &[PROJECTIONS_SECTION.field()];

settings! {
    /// Projection: documents that are folded from events.
    pub struct ProjectionSection = "projection" {
        /// Events of which it is folded: of a category, with tags, or of any of several such. Without any, all events.
        from: Many<SourceSection>,
        /// Key of the document that an event is about: CEL over `event`, `headers`, `data` and `stream` that gives a text,
        /// a whole number, or a list of them.
        key: String = "stream.name",
        /// What events of a type do to their documents.
        on: Pairs<String, RuleText>,
    }

    /// Events of which a projection is folded.
    pub struct SourceSection = "projection source", short "category" {
        /// Category of their streams, as `order` of order-1001.
        category: Option<String>,
        /// Tags that each of them has.
        tags: Many<String>,
    }

    /// What an event does to the documents that it is about. Each expression is CEL over `event`, `headers`, `data`,
    /// `stream` and `document`, which is as it was before the event.
    pub struct RuleSection = "projection rule" {
        /// Key of the document, in the place of the projection's.
        key: Option<String>,
        /// Fields that get the value of an expression.
        set: Pairs<String, String>,
        /// Fields that the number of an expression is added to, beginning with nought.
        add: Pairs<String, String>,
        /// Lists that the value of an expression is put behind.
        append: Pairs<String, String>,
        /// Items that each of these lists keeps, the newest.
        max: Option<Int<1, ITEMS_MAX>>,
        /// Fields that are removed.
        remove: Many<String>,
    }
}

/// What an event does: changes, or `delete`.
#[derive(Clone, Debug)]
pub enum RuleText {
    /// The document goes.
    Delete,
    /// It changes.
    Change(Box<RuleSection>),
}

impl Setting for RuleText {
    fn shape() -> Shape {
        const DELETE: &[(&str, &str)] = &[("delete", "the document goes")];
        Shape::Either(vec![Shape::Words(DELETE), RuleSection::shape()])
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        if !matches!(node.kind, Kind::Map(_)) {
            let what = "`delete`, or what changes";
            if cx.text(node, what)? != "delete" {
                cx.expected(node, what);
                return None;
            }
            return Some(Self::Delete);
        }
        RuleSection::read(node, cx).map(|section| Self::Change(Box::new(section)))
    }
}

impl RuleText {
    fn rule(&self) -> Rule {
        let Self::Change(of) = self else { return Rule { delete: true, ..Rule::default() } };
        let map = |pairs: &Pairs<String, String>| pairs.0.iter().cloned().collect();
        Rule {
            key: of.key.clone(),
            set: map(&of.set),
            add: map(&of.add),
            append: map(&of.append),
            max: of.max.as_ref().map(|max| max.0),
            remove: of.remove.to_vec(),
            delete: false,
        }
    }
}

/// The definitions of a configuration.
pub(super) fn build(said: &mut Sections<'_>, cx: &mut Cx) -> BTreeMap<String, Definition> {
    let sections = said.entries(&PROJECTIONS_SECTION, cx);
    sections.iter().filter_map(|(name, section)| definition(name, section, cx)).collect()
}

fn definition(
    name: &At<Name>,
    section: &ProjectionSection,
    cx: &mut Cx,
) -> Option<(String, Definition)> {
    let source =
        |of: &SourceSection| Source { category: of.category.clone(), tags: of.tags.to_vec() };
    let definition = Definition {
        from: section.from.iter().map(source).collect(),
        key: if section.key.is_empty() { KEY.to_owned() } else { section.key.clone() },
        on: section.on.0.iter().map(|(kind, rule)| (kind.clone(), rule.rule())).collect(),
    };
    if let Err(error) = definition.compile() {
        cx.report(Problem::error(section.place, error.detail().to_owned()));
        return None;
    }
    Some((name.value.to_string(), definition))
}
