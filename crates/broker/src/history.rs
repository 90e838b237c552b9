//! The attempts that failed, as they are kept in the note of a retry and in a dead letter.
//!
//! ```text
//! version u8 = 1 | how many there were varint | per kept attempt: at ms varint, what u8, reason
//! ```
//!
//! A note is bounded, so the first attempts and the last are kept and the ones between are counted:
//! the first tells what went wrong, the last what still does.

use bytes::Bytes;

use crate::varint;

/// The longest reason that is kept of one attempt, in bytes.
pub const REASON_BYTES_MAX: usize = 240;
/// The most attempts that are kept.
const KEPT_MAX: usize = 15;
/// How many of the first stay when more come.
const FIRST: usize = 3;
const VERSION: u8 = 1;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The consumer said that it failed.
    Failed,
    /// The consumer let its lease run out.
    LeaseExpired,
    /// The consumer rejected it.
    Rejected,
    /// The consumer went away without a word.
    ConsumerLost,
}

impl Ended {
    /// The stable word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::LeaseExpired => "lease_expired",
            Self::Rejected => "rejected",
            Self::ConsumerLost => "consumer_lost",
        }
    }
}

/// One attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// When, in wall milliseconds.
    pub at_ms: u64,
    /// How it ended.
    pub ended: Ended,
    /// What the consumer said, cut to [`REASON_BYTES_MAX`].
    pub reason: &'a str,
}

/// The attempts of a message that failed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct History(Bytes);

impl History {
    /// The history of a note; what is not one counts as none.
    pub fn from_stored(note: Bytes) -> Self {
        Self(note)
    }

    /// The bytes that are stored.
    pub fn stored(&self) -> &Bytes {
        &self.0
    }

    /// How many attempts there were, kept or not.
    pub fn count(&self) -> u64 {
        self.parts().map_or(0, |(count, _)| count)
    }

    fn parts(&self) -> Option<(u64, &[u8])> {
        let (&version, mut rest) = self.0.split_first()?;
        if version != VERSION {
            return None;
        }
        let count = varint::take(&mut rest)?;
        Some((count, rest))
    }

    /// The attempts that are kept, oldest first.
    pub fn attempts(&self) -> impl Iterator<Item = Attempt<'_>> {
        let mut rest = self.parts().map_or(&[][..], |(_, rest)| rest);
        std::iter::from_fn(move || {
            let attempt = read(&mut rest);
            if attempt.is_none() {
                rest = &[];
            }
            attempt
        })
    }

    /// This history and one more attempt.
    #[must_use]
    pub fn with(&self, attempt: Attempt<'_>) -> Self {
        let mut kept: Vec<Attempt<'_>> = self.attempts().take(KEPT_MAX).collect();
        if kept.len() == KEPT_MAX {
            kept.remove(FIRST);
        }
        kept.push(Attempt { reason: cut(attempt.reason), ..attempt });
        let mut bytes = Vec::with_capacity(16 + kept.len() * 32);
        bytes.push(VERSION);
        varint::put(&mut bytes, self.count().saturating_add(1));
        for attempt in kept {
            varint::put(&mut bytes, attempt.at_ms);
            bytes.push(match attempt.ended {
                Ended::Failed => 1,
                Ended::LeaseExpired => 2,
                Ended::Rejected => 3,
                Ended::ConsumerLost => 4,
            });
            varint::put_bytes(&mut bytes, attempt.reason.as_bytes());
        }
        Self(bytes.into())
    }
}

fn read<'a>(from: &mut &'a [u8]) -> Option<Attempt<'a>> {
    let at_ms = varint::take(from)?;
    let (&ended, rest) = from.split_first()?;
    *from = rest;
    let ended = match ended {
        1 => Ended::Failed,
        2 => Ended::LeaseExpired,
        3 => Ended::Rejected,
        4 => Ended::ConsumerLost,
        _ => return None,
    };
    Some(Attempt { at_ms, ended, reason: varint::take_text(from)? })
}

/// At most [`REASON_BYTES_MAX`] bytes of a text, cut between characters.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn failed(at_ms: u64, reason: &str) -> Attempt<'_> {
        Attempt { at_ms, ended: Ended::Failed, reason }
    }

    #[test]
    fn the_first_and_the_last_attempts_are_kept_within_a_note() {
        let long = "é".repeat(400);
        let mut history = History::default();
        for at in 0..100 {
            history = history.with(failed(at, &long));
        }
        assert_eq!(history.count(), 100);
        assert!(history.stored().len() <= weft_ledger::transaction::NOTE_BYTES_MAX);
        let times: Vec<u64> = history.attempts().map(|attempt| attempt.at_ms).collect();
        assert_eq!(times.len(), KEPT_MAX);
        assert_eq!(&times[..4], &[0, 1, 2, 88]);
        assert_eq!(times.last(), Some(&99));
        assert!(history.attempts().all(|attempt| attempt.reason.len() == REASON_BYTES_MAX));
    }

    #[test]
    fn what_is_said_comes_back() {
        let history = History::default().with(failed(7, "no stock")).with(Attempt {
            at_ms: 9,
            ended: Ended::LeaseExpired,
            reason: "",
        });
        let kept: Vec<_> = history.attempts().collect();
        assert_eq!(kept[0], failed(7, "no stock"));
        assert_eq!(kept[1].ended, Ended::LeaseExpired);
        assert_eq!(History::default().count(), 0);
    }

    proptest! {
        #[test]
        fn a_foreign_note_is_no_history_and_no_panic(note: Vec<u8>) {
            let history = History::from_stored(note.into());
            let kept = history.attempts().count();
            prop_assert!(history.with(failed(1, "x")).attempts().count() <= kept + 1);
        }
    }
}
