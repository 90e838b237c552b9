//! What a dead letter tells about itself in AMQP: the headers `x-death`, `x-first-death-…` and
//! `x-last-death-…`, as RabbitMQ writes them.
//!
//! Clients publish what they were handed, and some make these headers up. What is read here is therefore
//! made sound before it is told on: every row names a queue and a reason and has a count of at least one,
//! rows of one queue and reason are one, and all else has its type. Rows that name neither are dropped, the
//! oldest first where there are too many, so that the story of a message never grows without a bound.

use std::collections::{HashMap, hash_map};

use weft_wire::amqp::{Array, DecodeError, Properties, Table, TableWriter, Value};

/// How many rows are told at most.
const ROWS_MAX: usize = 1000;
/// How many bytes of rows are told at most; a frame of the usual size has room for more.
const ROWS_BYTES_MAX: usize = 64 << 10;

/// A message that died in a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death<'a> {
    /// Where it died.
    pub(crate) queue: &'a str,
    /// `rejected`, `expired`, `maxlen` or `delivery_limit`.
    pub(crate) reason: &'a str,
    /// The exchange it had been published to.
    pub(crate) exchange: &'a str,
    /// The key it had been published with.
    pub(crate) key: &'a str,
    /// Seconds since 1970.
    pub(crate) time: u64,
    /// Whether it gets another key, and so leaves its copies behind.
    pub(crate) rekeyed: bool,
}

/// How much of what happened a dead letter has room to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Story {
    /// All deaths.
    Whole,
    /// The last one.
    Last,
    /// None: its own headers fill what a message may have.
    None,
}

impl Story {
    /// From the most to the least.
    pub(crate) const ALL: [Self; 3] = [Self::Whole, Self::Last, Self::None];
}

const FIRST: [&str; 3] = ["x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"];
const LAST: [&str; 3] = ["x-last-death-exchange", "x-last-death-queue", "x-last-death-reason"];
const ROW: [&str; 7] =
    ["count", "reason", "queue", "time", "exchange", "routing-keys", "original-expiration"];

/// Whether an entry has one of these names.
fn named(name: &[u8], names: &[&str]) -> bool {
    names.iter().any(|known| known.as_bytes() == name)
}

/// A death that is told of.
#[derive(Clone, Copy, Debug)]
struct Row<'a> {
    table: Table<'a>,
    queue: &'a str,
    reason: &'a str,
    count: i64,
}

impl<'a> Row<'a> {
    fn of(table: Table<'a>) -> Option<Self> {
        let text = |name| table.get(name).and_then(|value| value.text());
        let count = table.get("count").and_then(|value| value.integer()).unwrap_or(1).max(1);
        Some(Self { table, queue: text("queue")?, reason: text("reason")?, count })
    }

    /// Appends it with its types made right; `time` stands in for one that is missing.
    fn write(&self, time: u64, out: &mut TableWriter<'_>) {
        let exchange = match self.table.get("exchange") {
            Some(exchange @ Value::Long(_)) => exchange,
            _ => Value::Long(b""),
        };
        let time = match self.table.get("time") {
            Some(time @ Value::Timestamp(_)) => time,
            _ => Value::Timestamp(time),
        };
        out.table_value(|entry| {
            entry
                .entry("count", Value::I64(self.count))
                .text("reason", self.reason)
                .text("queue", self.queue)
                .entry("time", time)
                .entry("exchange", exchange)
                .array("routing-keys", |keys| {
                    let Some(Value::Array(given)) = self.table.get("routing-keys") else { return };
                    for key in given.iter().filter(|key| matches!(key, Value::Long(_))) {
                        keys.value(key);
                    }
                });
            if let Some(expiration @ Value::Long(_)) = self.table.get("original-expiration") {
                entry.entry("original-expiration", expiration);
            }
            for other in self.table.entries().filter(|other| !named(other.name, &ROW)) {
                entry.copy(other);
            }
        });
    }
}

/// The deaths that headers tell of, one for each queue and reason, newest first.
fn rows(headers: Table<'_>) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut known = HashMap::new();
    let mut bytes = 0;
    for row in deaths(headers).filter_map(Row::of) {
        match known.entry((row.queue, row.reason)) {
            hash_map::Entry::Occupied(at) => {
                let at: usize = *at.get();
                rows[at].count = rows[at].count.saturating_add(row.count);
            }
            hash_map::Entry::Vacant(place) => {
                bytes += row.table.bytes().len();
                if rows.len() < ROWS_MAX && bytes <= ROWS_BYTES_MAX {
                    place.insert(rows.len());
                    rows.push(row);
                }
            }
        }
    }
    rows
}

impl Death<'_> {
    /// The properties (flags and list) that the dead letter gets in place of `raw`.
    pub(crate) fn properties(&self, raw: &[u8], story: Story) -> Result<Vec<u8>, DecodeError> {
        let properties = Properties::parse(raw)?;
        let headers = properties.headers.unwrap_or_default();
        let mut table = Vec::with_capacity(headers.bytes().len() + 512);
        {
            let mut table = TableWriter::new(&mut table);
            if story == Story::None {
                for entry in headers.entries().filter(|entry| self.stays(entry.name)) {
                    table.copy(entry);
                }
            } else {
                self.tell(&properties, headers, story, &mut table);
            }
        }
        let headers = Table::parse(&table[4..])?;
        let mut out = Vec::with_capacity(table.len() + 64);
        // The time to live was spent; in the next queue it would be spent at once.
        Properties { headers: Some(headers), expiration: None, ..properties }.write(&mut out);
        Ok(out)
    }

    /// Whether a header is passed on.
    fn stays(&self, name: &[u8]) -> bool {
        !(self.rekeyed && name == b"CC")
    }

    /// Appends all headers of the dead letter.
    fn tell(
        &self,
        properties: &Properties<'_>,
        headers: Table<'_>,
        story: Story,
        table: &mut TableWriter<'_>,
    ) {
        let earlier = rows(headers);
        let told = if story == Story::Whole { &earlier[..] } else { &[] };
        table.array("x-death", |array| self.entries(properties, headers, &earlier, told, array));
        for entry in headers.entries() {
            let ours =
                entry.name == b"x-death" || named(entry.name, &FIRST) || named(entry.name, &LAST);
            if !ours && self.stays(entry.name) {
                table.copy(entry);
            }
        }
        let this = [self.exchange, self.queue, self.reason];
        // What was published with a story has the first death of it; what was made up has not died yet.
        let first = earlier.last().map_or(this, |row| {
            let exchange = row.table.get("exchange").and_then(|value| value.text());
            [exchange.unwrap_or(""), row.queue, row.reason]
        });
        for (name, first) in FIRST.into_iter().zip(first) {
            let said = headers.get(name).and_then(|value| value.text());
            table.text(name, said.filter(|_| !earlier.is_empty()).unwrap_or(first));
        }
        for (name, value) in LAST.into_iter().zip(this) {
            table.text(name, value);
        }
    }

    /// The newest death first; dying again of the same in the same queue counts up.
    fn entries(
        &self,
        properties: &Properties<'_>,
        headers: Table<'_>,
        earlier: &[Row<'_>],
        told: &[Row<'_>],
        out: &mut TableWriter<'_>,
    ) {
        match earlier.iter().find(|row| self.is(row)) {
            Some(again) => {
                Row { count: again.count.saturating_add(1), ..*again }.write(self.time, out);
            }
            None => {
                out.table_value(|entry| {
                    entry
                        .entry("count", Value::I64(1))
                        .text("reason", self.reason)
                        .text("queue", self.queue)
                        .entry("time", Value::Timestamp(self.time))
                        .text("exchange", self.exchange)
                        .array("routing-keys", |keys| {
                            keys.value(Value::Long(self.key.as_bytes()));
                            for copy in copies(headers, "CC") {
                                keys.value(Value::Long(copy.as_bytes()));
                            }
                        });
                    if let Some(expiration) = properties.expiration {
                        entry.text("original-expiration", expiration);
                    }
                });
            }
        }
        for row in told.iter().filter(|row| !self.is(row)).take(ROWS_MAX - 1) {
            row.write(self.time, out);
        }
    }

    fn is(&self, row: &Row<'_>) -> bool {
        row.queue == self.queue && row.reason == self.reason
    }
}

/// Whether a dead letter would go round for ever: it has been in the queue before, and nobody has
/// rejected it since. A row that no broker writes is a client's: with one in between nothing is automatic.
pub(crate) fn is_cycle(headers: Table<'_>, queue: &str) -> bool {
    let Some(Value::Array(array)) = headers.get("x-death") else { return false };
    for value in array.iter() {
        let Value::Table(entry) = value else { return false };
        let text = |name| entry.get(name).and_then(|value| value.text());
        if text("reason") == Some("rejected") {
            return false;
        }
        if text("queue") == Some(queue) {
            return true;
        }
    }
    false
}

/// The rows of `x-death` that are rows.
fn deaths<'a>(headers: Table<'a>) -> impl Iterator<Item = Table<'a>> {
    array(headers, "x-death").filter_map(|value| match value {
        Value::Table(table) => Some(table),
        _ => None,
    })
}

fn array<'a>(headers: Table<'a>, name: &str) -> impl Iterator<Item = Value<'a>> {
    let array = match headers.get(name) {
        Some(Value::Array(array)) => array,
        _ => Array::default(),
    };
    array.iter()
}

/// The further routing keys that a header names.
pub(crate) fn copies<'a>(headers: Table<'a>, name: &str) -> impl Iterator<Item = &'a str> {
    array(headers, name).filter_map(|value| value.text())
}

#[cfg(test)]
mod tests;
