//! What events are looked up by beside their stream: category, type, correlation id and tags.
//!
//! A row of the map `index` says at which positions up to its own there are events with one value: the kind of the
//! value, its hash and the last position are its key, the gaps between positions its content. A row for each event
//! and value would be three or more for each append. So events are gathered in memory (`Recent`), and a thousand of
//! them become rows together: one for each value that occurs. Up to where that has been done is a row as well, put in
//! the same transaction, and what comes behind it is read from the log at the start.
//!
//! Correlation ids are the exception: nearly each event has one of its own, so that rows for each would be as many as
//! events. They share rows in 64 groups, which say of each position a part of the hash as well; who looks for one goes
//! through all rows of its group.
//!
//! Rows know hashes and no values: who reads by them looks at the events. So a value has any length, and an event
//! that two values of one hash point at is shown for its own alone.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use weft_broker::Message;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{
    record::MapId,
    transaction::{ExpectValue, Op},
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    name::StreamName,
    row::{decode, encode},
};

/// The attribute that says which events belong together.
pub const CORRELATION: &str = "correlationid";
/// The attribute that says which event or request has caused an event.
pub const CAUSATION: &str = "causationid";
/// The attribute with the tags of an event, with commas between them.
pub const TAGS: &str = "tags";
/// The most tags of an event.
pub const TAGS_MAX: usize = 16;
/// The longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 64;

/// Events that become rows together.
const TOGETHER: usize = 1_024;
/// What correlation ids are distributed over.
const GROUPS: u64 = 64;
/// The most rows of one transaction.
const ROWS_MAX: usize = 4_096;
/// The row that says up to where events are in rows; no row of a value begins so.
pub(crate) const UPTO: &[u8] = &[0];
/// The row of what the history of these events is told apart by.
pub(crate) const EPOCH: &[u8] = &[0, 1];

/// By what events are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Of which there are no rows: the head of a stream knows where its events are.
    Stream = 0,
    Category = 1,
    Type = 2,
    Correlation = 3,
    Tag = 4,
}

/// A value that events are looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    kind: Kind,
    hash: u64,
}

/// The values of an event.
pub(crate) type Keys = SmallVec<[Key; 5]>;

impl Key {
    pub(crate) fn of(kind: Kind, value: &str) -> Self {
        Self { kind, hash: xxh3_64_with_seed(value.as_bytes(), kind as u64) }
    }

    /// What it shares rows with.
    pub(crate) const fn group(self) -> (Kind, u64) {
        match self.kind {
            Kind::Correlation => (self.kind, self.hash % GROUPS),
            kind => (kind, self.hash),
        }
    }

    /// What tells it from others in its rows.
    pub(crate) const fn rest(self) -> u32 {
        match self.kind {
            Kind::Correlation => (self.hash >> 32) as u32,
            _ => 0,
        }
    }

    /// What the keys of its rows begin with.
    pub(crate) fn prefix(self) -> [u8; 9] {
        let mut prefix = [self.kind as u8; 9];
        prefix[1..].copy_from_slice(&self.group().1.to_be_bytes());
        prefix
    }

    /// The key of its row that ends with a position.
    pub(crate) fn row(self, last: u64) -> Bytes {
        [&self.prefix()[..], &last.to_be_bytes()].concat().into()
    }
}

/// The values of a message beside its stream and category.
pub(crate) fn keys(message: &Message) -> Keys {
    let mut keys = Keys::new();
    let Some(event) = message.event() else { return keys };
    keys.push(Key::of(Kind::Type, event.kind()));
    if let Some(id) = event.get(CORRELATION).and_then(|value| value.as_text()) {
        keys.push(Key::of(Kind::Correlation, id));
    }
    for tag in tags(message).take(TAGS_MAX) {
        let key = Key::of(Kind::Tag, tag);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// The tags of a message.
pub(crate) fn tags(message: &Message) -> impl Iterator<Item = &str> {
    let text = message.event().and_then(|event| event.get(TAGS)?.as_text());
    text.into_iter().flat_map(|text| text.split(',')).map(str::trim).filter(|tag| !tag.is_empty())
}

/// Holds the tags of a message to their bounds.
pub(crate) fn check_tags(message: &Message) -> Result<()> {
    let wrong = |say: &'static str| Err(Error::new(Reason::MalformedMessage, say));
    if message
        .event()
        .and_then(|event| event.get(TAGS))
        .is_some_and(|tags| tags.as_text().is_none())
    {
        return wrong("`tags` of an event is a text: tags with commas between them");
    }
    if tags(message).count() > TAGS_MAX {
        return wrong("an event has 16 tags at most");
    }
    if tags(message).any(|tag| tag.len() > TAG_BYTES_MAX) {
        return wrong("a tag of an event has 64 bytes at most");
    }
    Ok(())
}

/// Where an event of a row is, and what tells its value from others of the row.
pub(crate) type Place = (u64, u32);

/// A row as it is stored: the gaps before its positions, from the last one back and beginning with that to the end of
/// the row, and what tells their values apart, if anything does.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    gaps: Vec<u64>,
    rests: Vec<u32>,
}

/// A row of places, ascending, as it is stored.
pub(crate) fn write_row(last: u64, places: &[Place]) -> Result<Bytes> {
    let mut behind = last;
    let gap = |(position, _): &Place| std::mem::replace(&mut behind, *position) - position;
    let gaps = places.iter().rev().map(gap).collect();
    let is_told_apart = places.iter().any(|(_, rest)| *rest != 0);
    let rests = places.iter().rev().map(|(_, rest)| *rest).filter(|_| is_told_apart).collect();
    encode(&Row { gaps, rests })
}

/// The end of a row and its places, ascending.
pub(crate) fn read_row(key: &[u8], value: &[u8]) -> Result<(u64, Vec<Place>)> {
    let corrupt = || Error::new(Reason::StorageCorrupt, "a row of the index cannot be read");
    let last = key.last_chunk().map(|last| u64::from_be_bytes(*last)).ok_or_else(corrupt)?;
    let Row { gaps, rests } = decode(value)?;
    if !rests.is_empty() && rests.len() != gaps.len() {
        return Err(corrupt());
    }
    let mut behind = last;
    let mut places = Vec::with_capacity(gaps.len());
    for (at, gap) in gaps.into_iter().enumerate() {
        behind = behind.checked_sub(gap).ok_or_else(corrupt)?;
        places.push((behind, rests.get(at).copied().unwrap_or(0)));
    }
    places.reverse();
    Ok((last, places))
}

/// An event that was appended, with its values.
#[derive(Debug)]
struct Entry {
    position: u64,
    keys: Keys,
}

/// The newest events: all that are not in rows yet, and some that are.
#[derive(Debug)]
pub(crate) struct Recent {
    /// By position.
    entries: VecDeque<Entry>,
    /// Every event from here on is an entry.
    start: u64,
    /// Every event before is in rows.
    upto: u64,
}

impl Recent {
    /// Of a log of which the events before a position are in rows.
    pub(crate) const fn behind(upto: u64) -> Self {
        Self { entries: VecDeque::new(), start: upto, upto }
    }

    /// The position from which on all are here.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    /// The position before which all are in rows.
    pub(crate) const fn upto(&self) -> u64 {
        self.upto
    }

    /// Takes in an event behind all others.
    pub(crate) fn push(&mut self, stream: &StreamName, position: u64, of_event: &Keys) {
        let mut keys = Keys::with_capacity(of_event.len() + 2);
        keys.push(Key::of(Kind::Stream, stream.as_str()));
        keys.push(Key::of(Kind::Category, stream.category()));
        keys.extend_from_slice(of_event);
        self.entries.push_back(Entry { position, keys });
    }

    /// Positions from one on of events whose values fit, in order.
    pub(crate) fn matching(
        &self,
        from: u64,
        fits: impl Fn(&[Key]) -> bool,
    ) -> impl Iterator<Item = u64> {
        let first = self.entries.partition_point(|entry| entry.position < from);
        let entries = self.entries.range(first..).filter(move |entry| fits(&entry.keys));
        entries.map(|entry| entry.position)
    }

    /// Whether enough are here that are in no rows.
    pub(crate) fn is_due(&self) -> bool {
        self.waiting() >= TOGETHER
    }

    /// Whether an event at a position or before is in no row.
    pub(crate) fn waits(&self, position: u64) -> bool {
        let first = self.entries.partition_point(|entry| entry.position < self.upto);
        self.entries.get(first).is_some_and(|entry| entry.position <= position)
    }

    fn waiting(&self) -> usize {
        self.entries.len() - self.entries.partition_point(|entry| entry.position < self.upto)
    }

    /// Rows of the oldest that are in none, and the position before which all are then in rows.
    pub(crate) fn rows(&self, map: MapId) -> Result<(Vec<Op>, u64)> {
        let first = self.entries.partition_point(|entry| entry.position < self.upto);
        let (mut values, mut upto) = (Vec::with_capacity(TOGETHER * 4), self.upto);
        for entry in self.entries.range(first..).take(TOGETHER) {
            if values.len() + entry.keys.len() > ROWS_MAX {
                break;
            }
            let keys = entry.keys.iter().filter(|key| key.kind != Kind::Stream);
            values.extend(keys.map(|key| (key.group(), entry.position, *key)));
            upto = entry.position + 1;
        }
        values.sort_unstable();
        let put = |key, value| Op::Put { map, key, value, expires_ms: 0, expect: ExpectValue::Any };
        let (mut ops, mut places) = (Vec::with_capacity(values.len() / 2), Vec::new());
        for of_group in values.chunk_by(|one, other| one.0 == other.0) {
            places.clear();
            places.extend(of_group.iter().map(|(_, position, key)| (*position, key.rest())));
            let (_, last, key) = of_group[of_group.len() - 1];
            ops.push(put(key.row(last), write_row(last, &places)?));
        }
        ops.push(put(Bytes::from_static(UPTO), encode(&upto)?));
        Ok((ops, upto))
    }

    /// Rows were made of all before a position. Those of before the last time are forgotten.
    pub(crate) fn in_rows(&mut self, upto: u64) {
        self.start = std::mem::replace(&mut self.upto, upto);
        while self.entries.front().is_some_and(|entry| entry.position < self.start) {
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_say_what_they_were_told(gaps in prop::collection::vec(1_u64..300, 0..300), behind in 0_u64..9) {
            let mut at = 0;
            let positions: Vec<Place> = gaps.iter().map(|gap| { at += gap; (at, (at % 3) as u32 * 70_000) }).collect();
            let key = Key::of(Kind::Type, "x");
            let last = at + behind;
            let row = write_row(last, &positions).unwrap();
            prop_assert_eq!(read_row(&key.row(last), &row).unwrap(), (last, positions));
        }
    }

    #[test]
    fn a_row_that_makes_no_sense_is_corrupt() {
        let row = encode(&Row { gaps: vec![3, 5], rests: Vec::new() }).unwrap();
        assert!(read_row(&Key::of(Kind::Tag, "x").row(7), &row).is_err());
        assert!(read_row(b"short", &row).is_err());
    }

    #[test]
    fn values_of_one_text_are_not_those_of_another_kind() {
        assert_ne!(Key::of(Kind::Tag, "x").hash, Key::of(Kind::Type, "x").hash);
    }

    #[test]
    fn a_thousand_events_become_few_rows() {
        let (mut recent, name) = (Recent::behind(0), StreamName::new("order-1").unwrap());
        let keys = |number: u64| -> Keys {
            [Key::of(Kind::Type, "t"), Key::of(Kind::Correlation, &number.to_string())]
                .into_iter()
                .collect()
        };
        for position in 0..3_000 {
            recent.push(&name, position, &keys(position));
        }
        let mut made = Vec::new();
        while recent.is_due() {
            let (ops, upto) = recent.rows(MapId(1)).unwrap();
            made.push((ops.len(), upto));
            recent.in_rows(upto);
        }
        // Category, type and end beside one for each group of correlation ids.
        assert_eq!(made, [(67, 1_024), (67, 2_048)]);
        // Those that are in rows stay a while, for who asks what came last.
        assert_eq!((recent.start(), recent.upto(), recent.entries.len()), (1_024, 2_048, 1_976));
        let fit = |keys: &[Key]| keys.contains(&Key::of(Kind::Correlation, "2500"));
        assert_eq!(recent.matching(0, fit).collect::<Vec<_>>(), [2_500]);
    }
}
