//! What is driven: the table of scenarios, each on a server of its own with what it is filled with.

use super::target::Target;
use crate::asked::Choice;

/// Bytes of an event's body.
pub(super) const SIZE: usize = 200;
/// Who appends at the same time, each on a connection of its own.
pub(super) const WRITERS: usize = 64;

/// What is there before anything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filling {
    pub(super) streams: u64,
    /// Events of each stream. All streams get one before any gets the next, so that those of one are spread.
    pub(super) events: u64,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Transactions of so many events for one stream of all, each when the writer's last one is on the disk.
    Append { events: u64 },
    /// Reading one stream after the other, each whole.
    ReadStream,
    /// Reading all events from the first on.
    CatchUp,
    /// Folding all events from the first on into a document for each stream, with a counter and a field that is set.
    Project,
}

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    /// What `--only` calls it.
    pub(super) name: &'static str,
    pub(super) filling: Filling,
    pub(super) load: Load,
    /// Part of `--quick`.
    pub(super) quick: bool,
}

#[rustfmt::skip]
pub(super) const ALL: &[Scenario] = &[
    Scenario { name: "append_100k",  filling: Filling { streams: 100_000, events: 1 },    load: Load::Append { events: 1 },   quick: true },
    Scenario { name: "append_batch", filling: Filling { streams: 100_000, events: 1 },    load: Load::Append { events: 100 }, quick: true },
    Scenario { name: "read_stream",  filling: Filling { streams: 100, events: 1_000 },    load: Load::ReadStream,             quick: true },
    Scenario { name: "catch_up",     filling: Filling { streams: 50_000, events: 10 },    load: Load::CatchUp,                quick: true },
    Scenario { name: "project",      filling: Filling { streams: 50_000, events: 10 },    load: Load::Project,                quick: true },
    Scenario { name: "append_10m",   filling: Filling { streams: 10_000_000, events: 1 }, load: Load::Append { events: 1 },   quick: false },
];

/// The scenario of a name.
#[cfg(test)]
pub(super) fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

impl Choice for Scenario {
    fn name(&self) -> &'static str {
        self.name
    }

    fn quick(&self) -> bool {
        self.quick
    }
}

impl Scenario {
    /// Who works at the same time.
    pub(super) fn clients(&self) -> usize {
        match self.load {
            Load::Append { .. } => WRITERS,
            Load::ReadStream | Load::CatchUp | Load::Project => 1,
        }
    }

    /// Whether a target can do it: projections are the store's own, and as a library alone they are seen by themselves.
    pub(super) fn is_for(&self, target: Target) -> bool {
        self.load != Load::Project || target == Target::WeftStore
    }

    /// What it is, in words.
    pub(super) fn says(&self) -> String {
        let Filling { streams, events } = self.filling;
        match self.load {
            Load::Append { events: 1 } => format!(
                "an event of {SIZE} bytes a transaction, at the version that is expected, {WRITERS} writers, \
                 {streams} streams"
            ),
            Load::Append { events } => format!(
                "{events} events of {SIZE} bytes a transaction, at the version that is expected, \
                 {WRITERS} writers, {streams} streams"
            ),
            Load::ReadStream => format!("one stream of {events} events after the other, whole"),
            Load::CatchUp => format!("all {} events in their order", streams * events),
            Load::Project => {
                format!("all {} events into {streams} documents of a projection", streams * events)
            }
        }
    }
}

/// The name of a stream; neighbours are far from one another in any index.
pub(super) fn stream(number: u64) -> String {
    format!("order-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_differ() {
        let names: HashSet<String> = (0..10_000).map(stream).collect();
        assert_eq!(names.len(), 10_000);
    }

    #[test]
    fn every_writer_has_streams_of_its_own() {
        for scenario in ALL {
            assert!(scenario.filling.streams >= scenario.clients() as u64, "{}", scenario.name);
        }
    }
}
