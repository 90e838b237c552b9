//! What is to be appended, and whether it may be: pure.

use std::fmt;

use weft_kernel::{Error, Reason, Result};
use weft_ledger::{Durability, transaction::Op};

use crate::{
    event::{NewEvent, Recorded},
    head::{Head, Life},
    name::StreamName,
    query::AppendCondition,
};

/// The most events of one append, for however many streams.
pub const EVENTS_MAX: usize = 5_000;
/// How much they are together.
pub const BYTES_MAX: usize = 8 << 20;

/// What a stream must be when events are appended to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Expected {
    /// Whatever it is.
    #[default]
    Any,
    /// Not there: never begun, or deleted.
    None,
    /// There.
    Exists,
    /// There, and its last event has this version.
    Version(u64),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::None => f.write_str("none"),
            Self::Exists => f.write_str("exists"),
            Self::Version(version) => version.fmt(f),
        }
    }
}

/// Events for one stream. Without events it is only held to what is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The stream.
    pub stream: StreamName,
    /// What it must be.
    pub expected: Expected,
    /// What is appended, in order.
    pub events: Vec<NewEvent>,
}

/// Appends that happen together or not at all. A later one of the same stream finds what an earlier one has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendBatch {
    /// The appends.
    pub appends: Vec<Append>,
    /// What must not have come meanwhile.
    pub conditions: Vec<AppendCondition>,
    /// What else happens in the same transaction: messages, timers, entries of maps.
    pub with: Vec<Op>,
    /// When it counts as done.
    pub durability: Durability,
}

impl AppendBatch {
    /// Events for one stream, and nothing else.
    pub fn of(stream: StreamName, expected: Expected, events: Vec<NewEvent>) -> Self {
        Self { appends: vec![Append { stream, expected, events }], ..Self::default() }
    }

    /// Holds it to its bounds.
    ///
    /// # Errors
    /// `message_too_large` for more than one append may have.
    pub(crate) fn check(&self) -> Result<()> {
        let events = self.appends.iter().flat_map(|append| &append.events);
        let sizes = events.map(|event| event.message().stored().len());
        let (count, bytes) = sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
        if count > EVENTS_MAX || bytes > BYTES_MAX {
            let say = "an append has 5,000 events and 8 MiB at most";
            return Err(Error::new(Reason::MessageTooLarge, say));
        }
        Ok(())
    }
}

/// What became of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The stream.
    pub stream: StreamName,
    /// The versions of its events, from the first to before the second.
    pub versions: std::ops::Range<u64>,
    /// Whether they were there already.
    pub is_known: bool,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendReceipt {
    /// Of each append, in order.
    pub written: Vec<Written>,
    /// The position of the last event among all; who has read as far has seen them. `None` without any.
    pub position: Option<u64>,
}

/// What was expected of a stream and is not so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The stream.
    pub stream: StreamName,
    /// What was expected.
    pub expected: Expected,
    /// The version of its last event, if it is there.
    pub actual: Option<u64>,
    /// Whether it takes no events any more.
    pub is_ended: bool,
    /// The events that whoever expects this has not seen, the first of them.
    pub events: Vec<Recorded>,
}

/// Events that a condition did not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// Behind which position they were looked for.
    pub after: Option<u64>,
    /// The first of them.
    pub events: Vec<Recorded>,
}

/// Why nothing was appended.
#[derive(Debug)]
pub enum Rejected {
    /// What was expected is not so.
    Conflict(Box<Conflict>),
    /// Events match what must not have come.
    Matched(Box<Matched>),
    /// What the store says, or who appends wrong.
    Failed(Error),
}

impl From<Error> for Rejected {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Failed(error) => error,
            Rejected::Matched(matched) => {
                let count = matched.events.len();
                let after = match matched.after {
                    Some(after) => format!("after position {after}"),
                    None => "already".to_owned(),
                };
                let events = if count == 1 { "event matches" } else { "events match" };
                let say = format!("{count} {events} the condition of the append {after}");
                Self::new(Reason::ConditionConflict, say)
            }
            Rejected::Conflict(conflict) => {
                let Conflict { stream, expected, actual, is_ended, .. } = *conflict;
                let is = match (actual, is_ended) {
                    (_, true) => "has ended".to_owned(),
                    (Some(version), _) => format!("has version {version}"),
                    (None, _) => "is not there".to_owned(),
                };
                let say = format!("stream `{stream}` {is}, and `{expected}` was expected");
                Self::new(Reason::VersionConflict, say)
            }
        }
    }
}

/// What is to be done about an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It may be.
    Go,
    /// It looks as if its events were there from this version on: they have to be looked at.
    Look(u64),
    /// It may not be. Who expects this knows the versions before this one.
    Conflict(u64),
}

/// What is known of an append besides what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Known {
    /// Versions before this one are not its events.
    pub(crate) not_before: u64,
}

/// Whether events with ids of these hashes may be appended to a stream.
pub(crate) fn decide(head: &Head, expected: Expected, ids: &[u64], known: Known) -> Decision {
    if head.life == Life::Ended {
        return Decision::Conflict(head.next);
    }
    match expected {
        Expected::Any => again(head, ids, known).map_or(Decision::Go, Decision::Look),
        Expected::Exists if !head.is_there() => Decision::Conflict(head.next),
        Expected::Exists => again(head, ids, known).map_or(Decision::Go, Decision::Look),
        Expected::None if !head.is_there() => Decision::Go,
        Expected::None => held(head, head.first, ids, known),
        Expected::Version(_) if !head.is_there() => Decision::Conflict(head.next),
        Expected::Version(version) => match version.checked_add(1) {
            Some(next) if next == head.next => Decision::Go,
            Some(next) if next < head.next => held(head, next, ids, known),
            _ => Decision::Conflict(head.next),
        },
    }
}

/// What comes of events that are behind: they may be there from a version on.
fn held(head: &Head, from: u64, ids: &[u64], known: Known) -> Decision {
    let count = ids.len() as u64;
    let conflict = Decision::Conflict(from);
    if count == 0 || from < head.first.max(known.not_before) || head.next - from < count {
        return conflict;
    }
    // What the head remembers of them must be the same.
    let remembered = head.next - head.ids().len() as u64;
    let same = (from..from + count).zip(ids).all(|(version, id)| {
        version.checked_sub(remembered).is_none_or(|at| head.ids()[at as usize] == *id)
    });
    if same { Decision::Look(from) } else { conflict }
}

/// The version from which on events may be there that expect none in particular.
fn again(head: &Head, ids: &[u64], known: Known) -> Option<u64> {
    let (remembered, count) = (head.ids(), ids.len());
    if count == 0 || remembered.is_empty() {
        return None;
    }
    let first = head.next - remembered.len() as u64;
    let from = if count <= remembered.len() {
        first + remembered.windows(count).rposition(|window| window == ids)? as u64
    } else {
        let tail = &ids[count - remembered.len()..];
        (tail == remembered).then(|| head.next.checked_sub(count as u64))??
    };
    (from >= head.first.max(known.not_before)).then_some(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(events: u64) -> Head {
        let mut head = Head::default();
        for version in 0..events {
            head.push(version, 100 + version);
        }
        head
    }

    fn said(events: u64, expected: Expected, ids: &[u64]) -> Decision {
        decide(&head(events), expected, ids, Known::default())
    }

    #[test]
    fn what_is_expected_decides() {
        use Decision::{Conflict, Go, Look};
        for (events, expected, ids, decision) in [
            (0, Expected::Any, &[1][..], Go),
            (0, Expected::None, &[1], Go),
            (0, Expected::Exists, &[1], Conflict(0)),
            (0, Expected::Version(0), &[1], Conflict(0)),
            (3, Expected::Version(2), &[1], Go),
            (3, Expected::Version(3), &[1], Conflict(3)),
            (3, Expected::Version(u64::MAX), &[1], Conflict(3)),
            (3, Expected::Exists, &[1], Go),
            (3, Expected::None, &[1], Conflict(0)),
            (3, Expected::Version(0), &[1], Conflict(1)),
            (3, Expected::Version(0), &[], Conflict(1)),
            // They may be there already.
            (3, Expected::Version(0), &[101, 102], Look(1)),
            (3, Expected::Version(0), &[101], Look(1)),
            (3, Expected::Version(0), &[101, 102, 103], Conflict(1)),
            (3, Expected::None, &[100, 101, 102], Look(0)),
            (3, Expected::Any, &[101, 102], Look(1)),
            (3, Expected::Any, &[102, 101], Go),
            (3, Expected::Exists, &[102], Look(2)),
            // Of many events the head remembers the last alone.
            (100, Expected::Version(0), &[101, 102], Look(1)),
            (100, Expected::Any, &[101, 102], Go),
            (100, Expected::Any, &[199], Look(99)),
        ] {
            assert_eq!(said(events, expected, ids), decision, "{events} {expected:?} {ids:?}");
        }
        let many: Vec<u64> = (150..200).collect();
        assert_eq!(said(100, Expected::Any, &many), Look(50));
        assert_eq!(said(100, Expected::Version(49), &many), Look(50));
    }

    #[test]
    fn what_was_looked_at_is_not_looked_at_again() {
        let known = Known { not_before: 3 };
        assert_eq!(decide(&head(3), Expected::Any, &[102], known), Decision::Go);
        assert_eq!(decide(&head(3), Expected::Version(0), &[101], known), Decision::Conflict(1));
    }

    #[test]
    fn a_stream_of_which_all_was_truncated_is_there() {
        let mut head = head(3);
        head.first = 3;
        let said = |expected| decide(&head, expected, &[102], Known::default());
        assert_eq!(said(Expected::None), Decision::Conflict(3));
        assert_eq!(
            (said(Expected::Exists), said(Expected::Version(2))),
            (Decision::Go, Decision::Go)
        );
        assert_eq!(said(Expected::Version(1)), Decision::Conflict(2));
    }

    #[test]
    fn streams_that_were_deleted_begin_again_and_those_that_have_ended_do_not() {
        let mut head = head(3);
        (head.life, head.first) = (Life::Deleted, 3);
        let said = |head: &Head, expected| decide(head, expected, &[102], Known::default());
        assert_eq!(said(&head, Expected::None), Decision::Go);
        assert_eq!(said(&head, Expected::Any), Decision::Go);
        assert_eq!(said(&head, Expected::Exists), Decision::Conflict(3));
        assert_eq!(said(&head, Expected::Version(2)), Decision::Conflict(3));
        head.life = Life::Ended;
        assert_eq!(said(&head, Expected::Any), Decision::Conflict(3));
    }
}
