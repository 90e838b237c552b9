//! Looking at records for the first time, in order.

use bytes::Bytes;

use super::{Group, Now};

/// What is at a position of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, up to the given position.
    Hole(u64),
    /// A record.
    Here {
        /// Its level in a prioritized group.
        priority: u8,
        /// Its key, if keys were asked for; empty for none.
        key: Bytes,
    },
    /// Only the disk knows.
    Unknown,
}

/// How a group sees its log.
pub(crate) trait Sight {
    /// What is at a position below [`Sight::end`]; with the key only if asked for.
    fn at(&self, position: u64, key: bool) -> Found;
    /// The bytes of a record as far as known, 0 if not.
    fn size(&self, position: u64) -> u64;
    /// The position after the last visible record.
    fn end(&self) -> u64;
}

/// What a look at the next position gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// A record that can be handed out.
    Ready(u64, u8),
    /// Nothing to hand out here; go on.
    Skipped,
    /// The record must be loaded first.
    Load(u64),
    /// There is nothing further to look at.
    End,
}

impl Group {
    /// Looks at the next position.
    pub(super) fn look(&mut self, sight: &impl Sight, now: Now) -> Looked {
        let position = self.done.next_out(self.cursor);
        if position >= sight.end() {
            self.cursor = self.cursor.max(position.min(sight.end()));
            return Looked::End;
        }
        if self.ahead.remove(&position) {
            self.cursor = position + 1;
            return Looked::Skipped;
        }
        let (level, key) = match sight.at(position, self.keys.is_some()) {
            Found::Unknown => return Looked::Load(position),
            Found::Hole(next) => {
                self.pass(position, next.min(sight.end()));
                return Looked::Skipped;
            }
            Found::Here { priority, key } => (priority, key),
        };
        if let Some(keys) = &mut self.keys
            && !key.is_empty()
        {
            if keys.full() {
                return Looked::End;
            }
            if !keys.hold(key, position) {
                self.cursor = position + 1;
                return Looked::Skipped;
            }
        }
        self.cursor = position + 1;
        self.unlooked.remove(position);
        if let Some(retry) = self.retries.get(&position)
            && retry.due_ms > now.wall_ms
        {
            let size = u32::try_from(sight.size(position)).unwrap_or(u32::MAX);
            self.waiting.insert_tick(position, now.tick_at(retry.due_ms), level, size);
            return Looked::Skipped;
        }
        Looked::Ready(position, level)
    }

    /// Goes past positions at which nothing is. They are not written down as settled: whoever looks
    /// again sees the same.
    fn pass(&mut self, from: u64, to: u64) {
        let to = to.max(from + 1);
        self.done.insert_run(from, to - 1);
        self.low = self.done.swallow(self.low);
        self.cursor = to.max(self.low);
    }
}
