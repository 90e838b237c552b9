//! Streams of links: `$ce-CATEGORY` and `$et-TYPE`, which projections of KurrentDB write.
//!
//! Nothing writes them here: they are read from the index of the store, so they are there for every event, at no second
//! copy, and nothing is appended to them. The revision of a link is the position of its event, which goes up and is
//! always the same, with gaps where other events are: one to go on from, and none to count by.

use std::sync::Arc;

use weft_events::{EventQuery, QueryItem, Recorded, StreamName};
use weft_wire::grpc::Status;

use crate::{
    append::is_projected,
    event::{BYTES, derived, id_of, identifier, place, recorded, text_of, uuid_of},
    fault::Fault,
    messages::{
        ReadResponse,
        read_response::{Content, ReadEvent, RecordedEvent},
    },
};

/// The type of a link.
const LINK: &str = "$>";

/// A stream of links.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    name: StreamName,
    query: Arc<EventQuery>,
    is_category: bool,
}

impl Links {
    /// The stream of links of a name; `None` for an ordinary stream.
    ///
    /// # Errors
    /// For one that projections of KurrentDB make and that is not there.
    pub(crate) fn of(stream: &StreamName) -> Result<Option<Self>, Fault> {
        let text = stream.as_str();
        let (item, is_category) = if let Some(category) = text.strip_prefix("$ce-") {
            (QueryItem { category: Some(category.to_owned()), ..QueryItem::default() }, true)
        } else if let Some(kind) = text.strip_prefix("$et-") {
            (QueryItem { types: vec![kind.to_owned()], ..QueryItem::default() }, false)
        } else if is_projected(text) {
            let say = format!(
                "stream `{stream}` is not there: of the streams of projections there are `$ce-CATEGORY` and `$et-TYPE`"
            );
            return Err(Fault::new(Status::Unimplemented, say));
        } else {
            return Ok(None);
        };
        let query = Arc::new(EventQuery::new(vec![item])?);
        Ok(Some(Self { name: stream.clone(), query, is_category }))
    }

    /// What is looked for.
    pub(crate) const fn query(&self) -> &Arc<EventQuery> {
        &self.query
    }

    /// Whether there is a link to an event of the query. A stream without a hyphen is of no category.
    pub(crate) fn has(&self, event: &Recorded) -> bool {
        !self.is_category || event.stream.as_str().contains('-')
    }

    /// The id of the link to an event.
    pub(crate) fn id(&self, event: &Recorded) -> u128 {
        derived(self.name.as_str(), &event.position.to_string())
    }

    fn link(&self, event: &Recorded, is_structured: bool) -> RecordedEvent {
        let position = place(event.position);
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let metadata = serde_json::json!({
            "$o": event.stream.as_str(), "$causedBy": text_of(id_of(event))
        });
        RecordedEvent {
            id: Some(uuid_of(self.id(event), is_structured)),
            stream_identifier: Some(identifier(&self.name)),
            stream_revision: event.position,
            prepare_position: position,
            commit_position: position,
            metadata: [
                of("type", LINK),
                of("content-type", BYTES),
                of("created", &(event.time_ms.saturating_mul(10_000)).to_string()),
            ]
            .into(),
            custom_metadata: metadata.to_string().into_bytes(),
            data: format!("{}@{}", event.version, event.stream).into_bytes(),
        }
    }
}

/// How events are shown to a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// Whether UUIDs are structured.
    pub(crate) is_structured: bool,
    /// The links that are read, if it is not the events themselves.
    pub(crate) links: Option<Links>,
    /// Whether links are shown with the events that they lead to.
    pub(crate) is_resolved: bool,
}

impl Shown {
    /// Whether an event is one of those that are read.
    pub(crate) fn has(&self, event: &Recorded) -> bool {
        self.links.as_ref().is_none_or(|links| links.has(event))
    }

    /// The revision by which an event is known in what is read.
    pub(crate) fn revision(&self, event: &Recorded) -> u64 {
        if self.links.is_some() { event.position } else { event.version }
    }

    /// The id by which a client speaks of an event.
    pub(crate) fn id(&self, event: &Recorded) -> u128 {
        self.links.as_ref().map_or_else(|| id_of(event), |links| links.id(event))
    }

    /// An event as it is answered.
    pub(crate) fn event(&self, event: &Recorded) -> ReadEvent {
        let read = recorded(event, self.is_structured);
        let Some(links) = &self.links else { return read };
        let link = Some(links.link(event, self.is_structured));
        match self.is_resolved {
            true => ReadEvent { link, ..read },
            false => ReadEvent { event: link, ..read },
        }
    }

    /// The same as the answer of a read.
    pub(crate) fn response(&self, event: &Recorded) -> ReadResponse {
        ReadResponse { content: Some(Content::Event(self.event(event))) }
    }
}

#[cfg(test)]
mod tests {
    use weft_broker::{MessageBuilder, message::Value};

    use super::*;

    fn happened(stream: &str) -> Recorded {
        let message = MessageBuilder::event(0)
            .attribute("id", Value::Text("00000000-0000-4000-8000-000000000007"))
            .attribute("source", Value::Text("/shop"))
            .attribute("type", Value::Text("placed"))
            .finish()
            .unwrap();
        let stream = StreamName::new(stream).unwrap();
        Recorded { stream, version: 4, position: 90, time_ms: 5, message }
    }

    #[test]
    fn links_lead_to_their_events() {
        let name = StreamName::new("$ce-order").unwrap();
        let links = Links::of(&name).unwrap();
        let event = happened("order-1");
        let mut shown = Shown { links, ..Shown::default() };
        let link = shown.event(&event).event.unwrap();
        assert_eq!((&link.metadata["type"][..], link.stream_revision), ("$>", 90));
        assert_eq!(link.data, b"4@order-1");
        assert_eq!(link.id, Some(uuid_of(shown.id(&event), false)));
        assert!(String::from_utf8(link.custom_metadata.clone()).unwrap().contains("order-1"));
        shown.is_resolved = true;
        let read = shown.event(&event);
        assert_eq!((read.link, read.event.unwrap().stream_revision), (Some(link), 4));
        assert!(shown.has(&event) && !shown.has(&happened("order")));
    }

    #[test]
    fn which_streams_are_links() {
        for (name, is_links) in [("$et-placed", true), ("$ce-a", true), ("order-1", false)] {
            let name = StreamName::new(name).unwrap();
            assert_eq!(Links::of(&name).unwrap().is_some(), is_links, "{name}");
        }
        for name in ["$streams", "$bc-1", "$category-x", "$et"] {
            let fault = Links::of(&StreamName::new(name).unwrap()).unwrap_err();
            assert_eq!(fault.status, Status::Unimplemented);
        }
    }
}
