//! What is driven: the table of scenarios.

use super::target::Target;
use crate::asked::Choice;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Publishing with so many unconfirmed.
    Publish { window: u64 },
    /// Publishing while a consumer takes and accepts each message.
    EndToEnd { window: u64 },
    /// Reading so many stored messages from the first on, which stay.
    Replay { count: u64 },
    /// Publishing to so many queues in turns.
    Queues { queues: usize, window: u64 },
}

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    /// What `--only` calls it.
    pub(super) name: &'static str,
    pub(super) load: Load,
    /// Bytes of a body.
    pub(super) size: usize,
    /// Part of `--quick`.
    pub(super) quick: bool,
}

const KIB: usize = 1024;
const MILLION: u64 = 1_000_000;

const fn publish(name: &'static str, window: u64, size: usize, quick: bool) -> Scenario {
    Scenario { name, load: Load::Publish { window }, size, quick }
}

#[rustfmt::skip]
pub(super) const ALL: &[Scenario] = &[
    publish("publish_1",       1,     100, true),
    publish("publish_64",      64,    100, true),
    publish("publish_1000",    1_000, 100, true),
    publish("publish_1_1k",    1,     KIB, false),
    publish("publish_64_1k",   64,    KIB, false),
    publish("publish_1000_1k", 1_000, KIB, false),
    Scenario { name: "end_to_end",    load: Load::EndToEnd { window: 256 }, size: 100, quick: true },
    Scenario { name: "end_to_end_1k", load: Load::EndToEnd { window: 256 }, size: KIB, quick: false },
    Scenario { name: "replay",        load: Load::Replay { count: MILLION }, size: 100, quick: false },
    Scenario { name: "queues_1000",   load: Load::Queues { queues: 1_000, window: 256 }, size: 100, quick: false },
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
    /// Whether a target can do it.
    pub(super) fn fits(&self, target: Target) -> bool {
        match self.load {
            Load::Publish { .. } | Load::EndToEnd { .. } => true,
            // AMQP 0-9-1 has no logs but RabbitMQ's streams; reading needs no sync.
            Load::Replay { .. } => {
                matches!(target, Target::WeftHttp | Target::RabbitmqClassic | Target::Nats)
            }
            // A batch goes to one place.
            Load::Queues { .. } => target != Target::WeftHttp,
        }
    }

    /// What it is, in words.
    pub(super) fn says(&self) -> String {
        let size = self.size;
        match self.load {
            Load::Publish { window } => format!("{size} bytes, confirmed, {window} in flight"),
            Load::EndToEnd { window } => {
                format!("{size} bytes, published with {window} in flight, consumed and accepted")
            }
            Load::Replay { count } => {
                format!("{count} stored messages of {size} bytes read again (RabbitMQ: a stream)")
            }
            Load::Queues { queues, window } => {
                format!("{size} bytes to {queues} queues in turns, confirmed, {window} in flight")
            }
        }
    }
}
