//! What a dead letter tells about itself in AMQP: the headers `x-death` and `x-first-death-…`, as
//! RabbitMQ writes them.

use weft_wire::amqp::{DecodeError, Properties, Table, TableWriter, Value};

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

const FIRST: [&str; 3] = ["x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"];

impl Death<'_> {
    /// The properties (flags and list) that the dead letter gets in place of `raw`.
    pub(crate) fn properties(&self, raw: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let properties = Properties::parse(raw)?;
        let headers = properties.headers.unwrap_or_default();
        let mut table = Vec::with_capacity(headers.bytes().len() + 256);
        {
            let mut table = TableWriter::new(&mut table);
            table.array("x-death", |array| self.entries(&properties, headers, array));
            for (name, value) in headers.iter() {
                if name != "x-death" && !(self.rekeyed && name == "CC") {
                    table.entry(name, value);
                }
            }
            for (name, value) in FIRST.into_iter().zip([self.exchange, self.queue, self.reason]) {
                if headers.get(name).is_none() {
                    table.text(name, value);
                }
            }
        }
        let headers = Table::parse(&table[4..])?;
        let mut out = Vec::with_capacity(table.len() + 64);
        // The time to live was spent; in the next queue it would be spent at once.
        Properties { headers: Some(headers), expiration: None, ..properties }.write(&mut out);
        Ok(out)
    }

    /// The newest death first; dying again of the same in the same queue counts up.
    fn entries(&self, properties: &Properties<'_>, headers: Table<'_>, out: &mut TableWriter<'_>) {
        let earlier = || deaths(headers).filter(|table| !self.is(*table));
        match deaths(headers).find(|table| self.is(*table)) {
            Some(again) => out.table_value(|entry| {
                for (name, value) in again.iter() {
                    match (name, value.integer()) {
                        ("count", Some(count)) => {
                            entry.entry(name, Value::I64(count.saturating_add(1)))
                        }
                        _ => entry.entry(name, value),
                    };
                }
            }),
            None => out.table_value(|entry| {
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
            }),
        };
        for table in earlier() {
            out.value(Value::Table(table));
        }
    }

    fn is(&self, entry: Table<'_>) -> bool {
        let is = |name, text: &str| entry.get(name).and_then(|value| value.text()) == Some(text);
        is("queue", self.queue) && is("reason", self.reason)
    }
}

/// Whether a dead letter would go round for ever: it has been in the queue before, and nobody has
/// rejected it since.
pub(crate) fn is_cycle(headers: Table<'_>, queue: &str) -> bool {
    for entry in deaths(headers) {
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

fn deaths<'a>(headers: Table<'a>) -> impl Iterator<Item = Table<'a>> {
    let array = match headers.get("x-death") {
        Some(Value::Array(array)) => Some(array),
        _ => None,
    };
    array.into_iter().flat_map(|array| array.iter()).filter_map(|value| match value {
        Value::Table(table) => Some(table),
        _ => None,
    })
}

/// The further routing keys that a header names.
pub(crate) fn copies<'a>(headers: Table<'a>, name: &str) -> impl Iterator<Item = &'a str> {
    let array = match headers.get(name) {
        Some(Value::Array(array)) => Some(array),
        _ => None,
    };
    array.into_iter().flat_map(|array| array.iter()).filter_map(|value| value.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn died(queue: &str, reason: &str, raw: &[u8], rekeyed: bool) -> Vec<u8> {
        Death { queue, reason, exchange: "x", key: "k", time: 1_700_000_000, rekeyed }
            .properties(raw)
            .unwrap()
    }

    fn counts(raw: &[u8]) -> Vec<(String, String, i64)> {
        let headers = Properties::parse(raw).unwrap().headers.unwrap();
        let text = |table: Table<'_>, name| table.get(name).unwrap().text().unwrap().to_owned();
        deaths(headers)
            .map(|entry| {
                let count = entry.get("count").unwrap().integer().unwrap();
                (text(entry, "queue"), text(entry, "reason"), count)
            })
            .collect()
    }

    #[test]
    fn deaths_are_counted_by_queue_and_reason_newest_first() {
        let mut headers = Vec::new();
        TableWriter::new(&mut headers).text("mine", "kept").array("CC", |array| {
            array.value(Value::Long(b"copy"));
        });
        let mut raw = Vec::new();
        Properties {
            headers: Some(Table::parse(&headers[4..]).unwrap()),
            expiration: Some("200"),
            message_id: Some("m"),
            ..Properties::default()
        }
        .write(&mut raw);
        let once = died("q", "expired", &raw, false);
        let properties = Properties::parse(&once).unwrap();
        assert_eq!((properties.expiration, properties.message_id), (None, Some("m")));
        let found = properties.headers.unwrap();
        assert_eq!(found.get("mine"), Some(Value::Long(b"kept")));
        assert_eq!(copies(found, "CC").collect::<Vec<_>>(), ["copy"]);
        let entry = deaths(found).next().unwrap();
        assert_eq!(entry.get("original-expiration"), Some(Value::Long(b"200")));
        let Some(Value::Array(keys)) = entry.get("routing-keys") else { panic!("{entry:?}") };
        assert_eq!(keys.iter().count(), 2);

        let twice = died("p", "rejected", &once, true);
        let thrice = died("q", "expired", &twice, false);
        assert_eq!(
            counts(&thrice),
            [("q".into(), "expired".into(), 2), ("p".into(), "rejected".into(), 1)]
        );
        let found = Properties::parse(&thrice).unwrap().headers.unwrap();
        assert_eq!(found.get("x-first-death-queue"), Some(Value::Long(b"q")));
        assert_eq!(found.get("x-first-death-reason"), Some(Value::Long(b"expired")));
        assert_eq!(copies(found, "CC").count(), 0, "a new key leaves the copies behind");
    }

    #[test]
    fn a_circle_without_a_rejection_ends() {
        let mut raw = vec![0, 0];
        for (queue, reason) in [("a", "expired"), ("b", "maxlen")] {
            raw = died(queue, reason, &raw, false);
        }
        let headers = |raw: &'static [u8]| Properties::parse(raw).unwrap().headers.unwrap();
        let table = headers(raw.clone().leak());
        assert!(is_cycle(table, "a") && is_cycle(table, "b") && !is_cycle(table, "c"));
        let rejected = headers(died("c", "rejected", &raw, false).leak());
        assert!(!is_cycle(rejected, "a"));
        assert!(!is_cycle(Table::EMPTY, "a"));
    }
}
