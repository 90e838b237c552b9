//! Reading documents: one, many by key with a filter and an order, and those that change as they do.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::Value;
use weft_expression::{Expression, Kind, Operand, Scope, Variables, Wanted};
use weft_kernel::{Error, Reason, Result};

use super::{
    definition::DOCUMENT,
    document::{Document, split},
    rows::{DOCUMENTS, row},
    service::Projection,
};
use crate::read::PageLimits;

/// The most documents that one question looks at, and how much of them.
const LOOKED_AT: usize = 10_000;
const LOOKED_AT_BYTES: usize = 16 << 20;
/// Rows that are read at once.
const ROWS: usize = 64;
/// Events that are looked at for changes at once.
const EVENTS: usize = 256;

/// A document as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its key.
    pub key: String,
    /// The position of the event that changed it last.
    pub position: u64,
    /// Its fields, as JSON.
    pub json: Bytes,
}

/// Which documents are asked for.
#[derive(Default)]
pub struct Listing {
    /// What their keys begin with.
    pub prefix: String,
    /// The key after which they stand.
    pub after: Option<String>,
    /// What is true of them.
    pub filter: Option<Filter>,
    /// The field by which they are put in order, and whether the largest comes first; by their keys without one.
    pub sort: Option<(String, bool)>,
    /// The most of them.
    pub limit: usize,
}

/// Documents that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The documents.
    pub documents: Vec<Shown>,
    /// The key to go on after, if there may be more.
    pub next: Option<String>,
    /// Whether there were more documents than one question looks at, so that an order is one of a part.
    pub is_cut: bool,
}

static FILTER: Scope = Scope {
    variables: &[("key", Kind::Text), ("document", Kind::Object(&DOCUMENT))],
    budget: 100_000,
};

/// What is to be true of documents: CEL over `document` and `key`. A document on which it fails is left out.
pub struct Filter(Expression);

impl Filter {
    /// Compiles a text.
    ///
    /// # Errors
    /// `malformed_request` with what is wrong with it.
    pub fn new(text: &str) -> Result<Self> {
        let wrong = |why| Error::new(Reason::MalformedRequest, format!("filter: {why}"));
        Expression::compile(text, &FILTER, Wanted::Bool).map(Self).map_err(wrong)
    }

    fn takes(&self, key: &str, document: &Document) -> bool {
        self.0.is_true(&Candidate { key, document }) == Ok(true)
    }
}

struct Candidate<'a> {
    key: &'a str,
    document: &'a Document,
}

impl Variables for Candidate<'_> {
    fn variable(&self, name: &str) -> Option<Operand<'_>> {
        match name {
            "key" => Some(Operand::Text(self.key.into())),
            "document" => Some(Operand::Object(self.document)),
            _ => None,
        }
    }
}

impl Projection {
    /// A document.
    ///
    /// # Errors
    /// What the store says.
    pub async fn document(&self, key: &str) -> Result<Option<Shown>> {
        let found = self.rows(|map| async move {
            self.events.0.store.get(map, &row(DOCUMENTS, key.as_bytes())).await
        });
        found.await?.map(|value| shown(key.to_owned(), &value.data)).transpose()
    }

    /// Documents, of a bounded number that is looked at.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list(&self, listing: &Listing) -> Result<Listed> {
        let prefix = row(DOCUMENTS, listing.prefix.as_bytes());
        let mut after = listing.after.as_ref().map(|after| row(DOCUMENTS, after.as_bytes()));
        let (mut found, mut looked_at, mut bytes) = (Vec::new(), 0, 0);
        let (mut is_cut, mut next) = (false, None);
        'all: loop {
            let from = after.take();
            let (from, prefix) = (&from, &prefix);
            let rows = self.rows(|map| async move {
                self.events.0.store.scan(map, prefix, from.clone(), ROWS).await
            });
            let rows = rows.await?;
            let is_last = rows.len() < ROWS;
            for (key, value) in rows {
                let name = String::from_utf8_lossy(&key[1..]).into_owned();
                (looked_at, bytes) = (looked_at + 1, bytes + value.data.len());
                let document = Document::read(&value.data)?;
                if listing.filter.as_ref().is_none_or(|of| of.takes(&name, &document)) {
                    let by = listing.sort.as_ref();
                    let by = by.and_then(|(field, _)| document.fields().get(field).cloned());
                    found.push((by, shown(name.clone(), &value.data)?));
                }
                if listing.sort.is_none() && found.len() >= listing.limit {
                    next = Some(name);
                    break 'all;
                }
                if looked_at >= LOOKED_AT || bytes >= LOOKED_AT_BYTES {
                    (is_cut, next) = (true, Some(name));
                    break 'all;
                }
                after = Some(key);
            }
            if is_last {
                break;
            }
        }
        if let Some((_, is_reverse)) = &listing.sort {
            found.sort_by(|(one, _), (other, _)| {
                let order = rank(one.as_ref()).partial_cmp(&rank(other.as_ref()));
                let order = order.unwrap_or(std::cmp::Ordering::Equal);
                if *is_reverse { order.reverse() } else { order }
            });
            found.truncate(listing.limit);
            next = None;
        }
        Ok(Listed { documents: found.into_iter().map(|(_, shown)| shown).collect(), next, is_cut })
    }

    /// Asks the build that answers; once more, if another has taken its place meanwhile.
    async fn rows<T, F: Future<Output = Result<T>>>(
        &self,
        ask: impl Fn(weft_ledger::MapId) -> F,
    ) -> Result<T> {
        loop {
            let map = self.answers.lock().map;
            match ask(map).await {
                Err(_) if self.answers.lock().map != map => {}
                answer => return answer,
            }
        }
    }

    /// Documents that are changed by events from a position on, as they are by then.
    pub fn changes(&self, from: u64) -> Changes {
        let build = self.status().build;
        Changes { projection: self.clone(), from, build, ready: VecDeque::new() }
    }
}

/// What stands first: nothing, then truth, numbers, and texts.
#[derive(PartialEq, PartialOrd)]
enum Rank<'a> {
    Nothing,
    Truth(bool),
    Number(f64),
    Text(&'a str),
    Other,
}

fn rank(value: Option<&Value>) -> Rank<'_> {
    match value {
        None | Some(Value::Null) => Rank::Nothing,
        Some(Value::Bool(truth)) => Rank::Truth(*truth),
        Some(Value::Number(number)) => Rank::Number(number.as_f64().unwrap_or(0.0)),
        Some(Value::String(text)) => Rank::Text(text),
        Some(_) => Rank::Other,
    }
}

pub(super) fn shown(key: String, stored: &Bytes) -> Result<Shown> {
    let (position, json) = split(stored)?;
    let json = stored.slice_ref(json);
    Ok(Shown { key, position, json })
}

/// What has become of a document, each with the position behind which who comes again goes on; `None` while more is to
/// be told of the same event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is so now.
    Document(Option<u64>, Shown),
    /// It is not there now.
    Gone(Option<u64>, String),
    /// Another build answers: what was read before may be otherwise.
    Rebuilt,
}

/// Tells documents that change. Nothing is kept for it: the events say which these are.
pub struct Changes {
    projection: Projection,
    from: u64,
    build: u64,
    ready: VecDeque<(u64, String)>,
}

impl Changes {
    /// The next change; cancel-safe.
    ///
    /// # Errors
    /// What the store says.
    pub async fn next(&mut self) -> Result<Changed> {
        loop {
            if let Some((position, key)) = self.ready.front().cloned() {
                let document = self.projection.document(&key).await?;
                self.ready.pop_front();
                let is_last = self.ready.front().is_none_or(|(next, _)| *next != position);
                let position = is_last.then_some(position);
                return Ok(match document {
                    Some(shown) => Changed::Document(position, shown),
                    None => Changed::Gone(position, key),
                });
            }
            let status = self.projection.beyond(self.from, self.build).await;
            if status.build != self.build {
                self.build = status.build;
                return Ok(Changed::Rebuilt);
            }
            let definition = self.projection.answers.lock().definition.clone();
            let limits =
                PageLimits { events: EVENTS, before: status.position, ..PageLimits::default() };
            let (events, upto) =
                self.projection.events.page(definition.query(), self.from, limits).await?;
            for event in &events {
                for key in definition.keys(event).unwrap_or_default() {
                    // Told once, for its last event.
                    self.ready.retain(|(_, of)| *of != key);
                    self.ready.push_back((event.position, key));
                }
            }
            self.from = upto;
        }
    }
}
