//! Conditions of appends: a query that no event may match that came after what the caller has read.

use serde::Deserialize;
use weft_api::schema::{Member, Object, Shape, text};
use weft_events::{AppendCondition, EventQuery, QueryItem, StreamName, index, query};
use weft_kernel::Result;

/// A condition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Condition {
    fail_if_events_match: Items,
    after: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Items {
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    category: Option<String>,
    stream: Option<String>,
    correlation: Option<String>,
}

/// Its shape.
pub(super) const CONDITION: Shape = Shape::Object(&Object::of(&[
    Member::must("fail_if_events_match", ITEMS),
    Member::may("after", Shape::Int(0, u64::MAX)),
]));
const ITEMS: Shape =
    Shape::Object(&Object::of(&[Member::must("items", Shape::List(&ITEM, 1, query::ITEMS_MAX))]));
const ITEM: Shape = Shape::Object(&Object::of(&[
    Member::may("types", Shape::List(&Shape::Text(&text::EVENT_TYPE), 0, query::TYPES_MAX)),
    Member::may("tags", Shape::List(&Shape::Text(&text::TAG), 0, index::TAGS_MAX)),
    Member::may("category", Shape::Text(&text::SPACE)),
    Member::may("stream", Shape::Text(&text::NAME)),
    Member::may("correlation", Shape::Text(&text::ANY)),
]));

impl Condition {
    pub(super) fn read(self) -> Result<AppendCondition> {
        let item = |item: Item| {
            let Item { types, tags, category, stream, correlation } = item;
            let stream = stream.map(|name| StreamName::new(&name)).transpose()?;
            Ok(QueryItem { types, tags, category, stream, correlation })
        };
        let items = self.fail_if_events_match.items.into_iter().map(item);
        let fail_if_events_match = EventQuery::new(items.collect::<Result<_>>()?)?;
        Ok(AppendCondition { fail_if_events_match, after: self.after })
    }
}
