//! What a checkpoint has to store: rows of what has changed since the last one.

use super::{Core, dedupe::Chunk, group::Retry, log::Log, rows};
use crate::{
    checkpoint::{Capture, Row, Table},
    format::varint,
};

impl Gone {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Set in the time of a chunk of ids that has the time of each; earlier ones have only that of the first.
pub(super) const TIMED: u64 = 1 << 62;

/// What the key of the row ends with that has the options of a map, behind that of its name.
pub(super) const MAP_OPTIONS: &[u8] = b"o";

/// Keys of rows that go with what was dropped, and maps of which all entries go.
#[derive(Debug, Default)]
pub(super) struct Gone(Vec<(Table, Vec<u8>)>, Vec<u32>);

/// The key of what has a number alone.
pub(super) fn key1(id: u32) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

/// The key of something within what has a number.
pub(super) fn key2(id: u32, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + rest.len());
    key.extend_from_slice(&id.to_be_bytes());
    key.extend_from_slice(rest);
    key
}

fn chunk_key(log: u32, generation: u64, chunk: u32) -> Vec<u8> {
    let mut key = key2(log, &generation.to_be_bytes());
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

impl Gone {
    /// Rows of chunks of ids.
    pub(super) fn dedupe(&mut self, log: u32, generations: Vec<(u64, u32)>) {
        for (generation, chunks) in generations {
            let keys = (0..chunks).map(|chunk| chunk_key(log, generation, chunk));
            self.0.extend(keys.map(|key| (Table::Dedupe, key)));
        }
    }

    /// A log's row, and the chunks of its ids.
    pub(super) fn log(&mut self, id: u32, generations: Vec<(u64, u32)>) {
        self.0.push((Table::Logs, key1(id)));
        self.dedupe(id, generations);
    }

    /// A group's row, and those of its retries.
    pub(super) fn group(&mut self, id: u32, retries: Vec<u64>) {
        self.0.push((Table::Groups, key1(id)));
        let keys = retries.into_iter().map(|position| key2(id, &position.to_be_bytes()));
        self.0.extend(keys.map(|key| (Table::Exceptions, key)));
    }

    /// A map's row, and all of its entries.
    pub(super) fn map(&mut self, id: u32) {
        self.0.push((Table::Maps, key1(id)));
        self.0.push((Table::Maps, key2(id, MAP_OPTIONS)));
        self.1.push(id);
    }
}

impl Core {
    /// Everything that has changed since the last capture, as of the newest transaction.
    pub(crate) fn capture(&mut self) -> Capture {
        let mut rows: Vec<Row> = Vec::new();
        for (table, key) in std::mem::take(&mut self.gone.0) {
            rows.push(Row { table, key, value: None });
        }
        for (&id, log) in &mut self.logs {
            if log.is_memory() {
                continue;
            }
            if let Some(dedupe) = log.dedupe.as_mut().filter(|dedupe| dedupe.dirty()) {
                let (gone, chunks) = dedupe.capture();
                for (generation, count) in gone {
                    for chunk in 0..count {
                        let key = chunk_key(id, generation, chunk);
                        rows.push(Row { table: Table::Dedupe, key, value: None });
                    }
                }
                for chunk in chunks {
                    let key = chunk_key(id, chunk.generation, chunk.number);
                    // What goes and comes back is one row.
                    rows.retain(|row| row.table != Table::Dedupe || row.key != key);
                    rows.push(Row { table: Table::Dedupe, key, value: Some(put_chunk(&chunk)) });
                }
            }
            if std::mem::take(&mut log.dirty) {
                rows.push(Row { table: Table::Logs, key: key1(id), value: Some(put_log(log)) });
            }
        }
        for (&id, queue) in &mut self.queues {
            if queue.memory {
                continue;
            }
            let group = &mut queue.group;
            for position in group.take_dirty_retries() {
                rows.push(Row {
                    table: Table::Exceptions,
                    key: key2(id, &position.to_be_bytes()),
                    value: group.retry(position).map(put_retry),
                });
            }
            if std::mem::take(&mut group.dirty) {
                let mut value = Vec::new();
                rows::put_group(&mut value, &group.options);
                varint::put_counted(&mut value, queue.name.as_bytes());
                varint::put(&mut value, group.low());
                put_runs(&mut value, group.done().iter());
                rows.push(Row { table: Table::Groups, key: key1(id), value: Some(value) });
            }
        }
        let mut maps = Vec::new();
        for (&id, map) in &mut self.maps {
            maps.extend(map.capture().map(|changes| (id, changes)));
            if std::mem::take(&mut map.dirty) {
                let value = Some(map.name.as_bytes().to_vec());
                rows.push(Row { table: Table::Maps, key: key1(id), value });
                let options = rows::put_map(map.options());
                if !options.is_empty() {
                    let key = key2(id, MAP_OPTIONS);
                    rows.push(Row { table: Table::Maps, key, value: Some(options) });
                }
            }
        }
        let mut meta = Vec::new();
        for number in self.made {
            varint::put(&mut meta, u64::from(number));
        }
        varint::put(&mut meta, self.next_global);
        varint::put(&mut meta, u64::from(self.tokens.epoch));
        rows.push(Row { table: Table::Meta, key: CORE.to_vec(), value: Some(meta) });
        let dropped = std::mem::take(&mut self.gone.1);
        Capture { seq: self.seq, rows, maps, dropped }
    }
}

/// The key of the core's own row.
pub(super) const CORE: &[u8] = b"core";

fn put_runs(value: &mut Vec<u8>, runs: impl Iterator<Item = (u64, u64)>) {
    let mut at = 0;
    for (first, last) in runs {
        varint::put(value, first - at);
        varint::put(value, last - first);
        at = last;
    }
}

fn put_log(log: &Log) -> Vec<u8> {
    let mut value = Vec::new();
    rows::put_log(&mut value, &log.options);
    varint::put_counted(&mut value, log.name.as_bytes());
    for number in [log.next, log.first, log.records, log.bytes, log.last_ms] {
        varint::put(&mut value, number);
    }
    varint::put(&mut value, log.extents.len() as u64);
    for extent in &log.extents {
        varint::put(&mut value, u64::from(extent.segment));
        for number in [
            extent.first,
            extent.last,
            extent.records,
            extent.bytes,
            extent.first_ms,
            extent.last_ms,
            extent.expires_ms,
        ] {
            varint::put(&mut value, number);
        }
    }
    put_runs(&mut value, log.removed.iter());
    value
}

fn put_retry(retry: &Retry) -> Vec<u8> {
    let mut value = Vec::with_capacity(retry.note.len() + 16);
    varint::put(&mut value, retry.due_ms);
    varint::put(&mut value, u64::from(retry.failures));
    varint::put(&mut value, u64::from(retry.handouts));
    value.extend_from_slice(&retry.note);
    value
}

fn put_chunk(chunk: &Chunk) -> Vec<u8> {
    let mut value = Vec::with_capacity(chunk.ids.len() * 28 + 10);
    varint::put(&mut value, chunk.began_ms | TIMED);
    for (id, position, at_ms) in &chunk.ids {
        value.extend_from_slice(&id.to_le_bytes());
        value.extend_from_slice(&position.to_le_bytes());
        varint::put(&mut value, at_ms.saturating_sub(chunk.began_ms));
    }
    value
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        core::map::Change,
        options::{GroupOptions, LogOptions, MapOptions, Options, Storage},
        transaction::{ExpectValue, Transaction},
        wal::Cursor,
    };

    /// Tables of the rows of a capture that are not of the core itself.
    fn rows(core: &mut Core) -> usize {
        core.capture().rows.len() - 1
    }

    /// The keys of which the next checkpoint has a change, and whether they are there.
    fn changes(core: &mut Core) -> Vec<String> {
        let captured = core.capture().maps;
        let told = |(key, change): (&Bytes, &Change)| {
            format!("{}: {}", String::from_utf8_lossy(key), change.value.is_some())
        };
        captured.iter().flat_map(|(_, changes)| changes.iter().map(told)).collect()
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing_behind() {
        let mut core = Core::new(Options::default(), Cursor::new(0, 64 << 20, 2), false);
        let (map, _) = core.create_map("schedules", MapOptions::default()).unwrap();
        let now = super::super::Now { wall_ms: 1, ..Default::default() };
        let put = |core: &mut Core, key: &'static [u8]| {
            let put = Transaction::default().put(map, key, Bytes::new(), ExpectValue::Any);
            core.submit(put, &[], now).unwrap().1.wake();
        };
        let delete = |core: &mut Core, key: &'static [u8]| {
            let delete = Transaction::default().delete(map, key, ExpectValue::Present);
            core.submit(delete, &[], now).unwrap().1.wake();
        };
        assert_eq!(rows(&mut core), 1, "the map");
        for _ in 0..1_000 {
            put(&mut core, b"once");
            put(&mut core, b"once");
            delete(&mut core, b"once");
            let memory = LogOptions { storage: Storage::Memory, ..LogOptions::default() };
            let (log, _) = core.create_log("transient", memory).unwrap();
            core.create_group("transient", GroupOptions::owning(log)).unwrap();
            core.drop_log(log).unwrap().1.wake();
        }
        assert_eq!(core.gone.len(), 0);
        assert_eq!(core.stats().map_bytes, 0);
        assert_eq!(rows(&mut core), 0);
        // What a checkpoint has is taken out of it.
        put(&mut core, b"kept");
        assert_eq!(changes(&mut core), ["kept: true"]);
        delete(&mut core, b"kept");
        put(&mut core, b"kept");
        delete(&mut core, b"kept");
        put(&mut core, b"new");
        assert_eq!(changes(&mut core), ["kept: false", "new: true"], "it was not stored yet");
        core.stored().1.wake();
        put(&mut core, b"kept");
        delete(&mut core, b"kept");
        delete(&mut core, b"new");
        assert_eq!(changes(&mut core), ["new: false"], "what was deleted is known to be gone");
        core.stored().1.wake();
        core.drop_map(map).unwrap();
        assert_eq!(core.capture().dropped, [map.0]);
        assert_eq!(core.changed_bytes, 0);
    }
}
