//! Which events are meant: by type, tags, category, stream and correlation id. Pure.
//!
//! The words are those of the dynamic consistency boundary (<https://dcb.events/specification>): a query has items, and
//! an event matches it if it matches one of them; it matches an item if it has one of its types and all of the rest.

use weft_kernel::{Error, Reason, Result};

use crate::{
    event::Recorded,
    index::{CORRELATION, Key, Kind, TAG_BYTES_MAX, TAGS_MAX, tags},
    name::StreamName,
};

/// The most items of a query.
pub const ITEMS_MAX: usize = 32;
/// The most types of an item.
pub const TYPES_MAX: usize = 32;

/// What an event must have to match; what is empty or `None` may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryItem {
    /// One of these types.
    pub types: Vec<String>,
    /// All of these tags.
    pub tags: Vec<String>,
    /// A stream of this category.
    pub category: Option<String>,
    /// This stream.
    pub stream: Option<StreamName>,
    /// This correlation id.
    pub correlation: Option<String>,
}

/// Any of a list of items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQuery {
    items: Vec<(QueryItem, Wanted)>,
}

/// The values of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Each of these is a value of the event, those first that few events have.
    pub(crate) all: Vec<Key>,
    /// One of these is; empty for no matter which.
    pub(crate) any: Vec<Key>,
    /// And its stream is this one.
    pub(crate) stream: Option<(StreamName, Key)>,
}

/// A query of which no event may have come since its caller has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendCondition {
    /// The append fails if events match this.
    pub fail_if_events_match: EventQuery,
    /// The position of the last event that the caller has read of; events up to it are not looked at. `None` for
    /// nothing at all.
    pub after: Option<u64>,
}

impl EventQuery {
    /// Any of these items.
    ///
    /// # Errors
    /// `malformed_request` for none, more than [`ITEMS_MAX`], or one without anything or with too much.
    pub fn new(items: Vec<QueryItem>) -> Result<Self> {
        let wrong = |say: &'static str| Err(Error::new(Reason::MalformedRequest, say));
        if items.is_empty() || items.len() > ITEMS_MAX {
            return wrong("a query has 1 to 32 items");
        }
        for item in &items {
            let Wanted { all, any, stream } = item.wanted();
            if all.is_empty() && any.is_empty() && stream.is_none() {
                return wrong(
                    "an item of a query has types, tags, category, stream or correlation",
                );
            }
            if item.types.len() > TYPES_MAX {
                return wrong("an item of a query has 32 types at most");
            }
            if item.tags.len() > TAGS_MAX {
                return wrong("an item of a query has 16 tags at most, as events have");
            }
            let is_tag = |tag: &String| {
                !tag.is_empty()
                    && tag.len() <= TAG_BYTES_MAX
                    && !tag.contains(',')
                    && tag.trim() == tag
            };
            if !item.tags.iter().all(is_tag) {
                return wrong("a tag has 1 to 64 bytes, no comma, and no space around it");
            }
        }
        let items = items.into_iter().map(|item| {
            let wanted = item.wanted();
            (item, wanted)
        });
        Ok(Self { items: items.collect() })
    }

    /// What is asked for.
    pub fn items(&self) -> impl Iterator<Item = &QueryItem> {
        self.items.iter().map(|(item, _)| item)
    }

    pub(crate) fn wanted(&self) -> impl Iterator<Item = &Wanted> {
        self.items.iter().map(|(_, wanted)| wanted)
    }

    /// Whether an event with these values may match.
    pub(crate) fn may_match(&self, keys: &[Key]) -> bool {
        self.wanted().any(|Wanted { all, any, stream }| {
            all.iter().all(|key| keys.contains(key))
                && (any.is_empty() || any.iter().any(|key| keys.contains(key)))
                && stream.as_ref().is_none_or(|(_, key)| keys.contains(key))
        })
    }

    /// Whether an event matches.
    pub fn matches(&self, event: &Recorded) -> bool {
        self.items().any(|item| item.matches(event))
    }
}

impl QueryItem {
    fn wanted(&self) -> Wanted {
        let mut all = Vec::new();
        all.extend(self.correlation.iter().map(|id| Key::of(Kind::Correlation, id)));
        all.extend(self.tags.iter().map(|tag| Key::of(Kind::Tag, tag)));
        let mut any: Vec<_> = self.types.iter().map(|kind| Key::of(Kind::Type, kind)).collect();
        if any.len() == 1 {
            all.append(&mut any);
        }
        all.extend(self.category.iter().map(|category| Key::of(Kind::Category, category)));
        let key = |name: &StreamName| (name.clone(), Key::of(Kind::Stream, name.as_str()));
        Wanted { all, any, stream: self.stream.as_ref().map(key) }
    }

    fn matches(&self, recorded: &Recorded) -> bool {
        let Some(event) = recorded.message.event() else { return false };
        let correlation = || event.get(CORRELATION).and_then(|value| value.as_text());
        (self.types.is_empty() || self.types.iter().any(|kind| kind == event.kind()))
            && self.category.as_ref().is_none_or(|category| category == recorded.stream.category())
            && self.stream.as_ref().is_none_or(|stream| *stream == recorded.stream)
            && self.correlation.as_ref().is_none_or(|id| correlation() == Some(id))
            && self.tags.iter().all(|tag| tags(&recorded.message).any(|of_event| of_event == tag))
    }
}

#[cfg(test)]
mod tests {
    use weft_broker::{MessageBuilder, message::Value};

    use super::*;
    use crate::index::keys;

    fn recorded(stream: &str, kind: &str, tags: &str, correlation: &str) -> Recorded {
        let message = MessageBuilder::event(64)
            .attribute("id", Value::Text("1"))
            .attribute("source", Value::Text("/test"))
            .attribute("type", Value::Text(kind))
            .attribute("tags", Value::Text(tags))
            .attribute("correlationid", Value::Text(correlation))
            .finish()
            .unwrap();
        let stream = StreamName::new(stream).unwrap();
        Recorded { stream, version: 0, position: 0, time_ms: 0, message }
    }

    fn item(types: &[&str], tags: &[&str]) -> QueryItem {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        QueryItem { types: owned(types), tags: owned(tags), ..QueryItem::default() }
    }

    #[test]
    fn an_event_matches_one_item_with_one_type_and_all_tags() {
        let event = recorded("course-1", "subscribed", "course:1, student:7", "c");
        let all = |kinds: &[&str], tags: &[&str]| vec![item(kinds, tags)];
        let with = |change: fn(&mut QueryItem)| {
            let mut item = item(&["subscribed"], &[]);
            change(&mut item);
            vec![item]
        };
        for (items, is_match) in [
            (all(&["subscribed"], &[]), true),
            (all(&["defined", "subscribed"], &[]), true),
            (all(&["defined"], &[]), false),
            (all(&[], &["student:7"]), true),
            (all(&[], &["student:7", "course:1"]), true),
            (all(&[], &["student:7", "course:2"]), false),
            (all(&["defined"], &["student:7"]), false),
            (vec![item(&["defined"], &[]), item(&[], &["course:1"])], true),
            (with(|item| item.category = Some("course".into())), true),
            (with(|item| item.category = Some("course-1".into())), false),
            (with(|item| item.stream = StreamName::new("course-1").ok()), true),
            (with(|item| item.stream = StreamName::new("course-2").ok()), false),
            (with(|item| item.correlation = Some("c".into())), true),
            (with(|item| item.correlation = Some("d".into())), false),
        ] {
            let query = EventQuery::new(items).unwrap();
            assert_eq!(query.matches(&event), is_match, "{query:?}");
            // What memory knows of it says the same.
            let mut of_event = keys(&event.message);
            of_event.push(Key::of(Kind::Stream, "course-1"));
            of_event.push(Key::of(Kind::Category, "course"));
            assert_eq!(query.may_match(&of_event), is_match, "{query:?}");
        }
    }

    #[test]
    fn queries_have_bounds() {
        let many = |count: usize| vec!["x"; count];
        for items in [
            vec![],
            vec![QueryItem::default()],
            vec![item(&["x"], &[]); 33],
            vec![item(&many(33), &[])],
            vec![item(&[], &many(17))],
            vec![item(&[], &[""])],
            vec![item(&[], &["a,b"])],
            vec![item(&[], &[" a"])],
            vec![item(&[], &[&"x".repeat(65)])],
        ] {
            assert!(EventQuery::new(items).is_err());
        }
    }
}
