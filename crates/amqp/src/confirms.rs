//! Confirms of a channel: which publishes were taken, told in as few frames as may be.
//!
//! Publishes are numbered as they come and settled in that order, because the ledger makes them durable
//! in that order; so everything up to a number is confirmed by one frame, but for those that were
//! refused, which are told one by one in their places.

use std::collections::VecDeque;

/// The confirms of one channel.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    published: u64,
    told: u64,
    /// Refused and not told, in order.
    refused: VecDeque<u64>,
}

/// A frame to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirm {
    /// Taken: this one, or all up to it that were not told yet.
    Ack { tag: u64, multiple: bool },
    /// Refused: this one.
    Nack { tag: u64 },
}

impl Confirms {
    /// Numbers a publish.
    pub(crate) fn next(&mut self) -> u64 {
        self.published += 1;
        self.published
    }

    /// Notes that a publish was refused; in the order of their numbers.
    pub(crate) fn refuse(&mut self, tag: u64) {
        self.refused.push_back(tag);
    }

    /// All up to `tag` are settled: hands out the frames that say so.
    pub(crate) fn settle(&mut self, tag: u64, mut send: impl FnMut(Confirm)) {
        let mut told = self.told;
        // Acks and nacks take turns, so that no ack of several speaks for a refused one.
        while let Some(refused) = self.refused.front().copied().filter(|refused| *refused <= tag) {
            self.refused.pop_front();
            if refused > told + 1 {
                send(Confirm::Ack { tag: refused - 1, multiple: refused > told + 2 });
            }
            send(Confirm::Nack { tag: refused });
            told = refused;
        }
        if tag > told {
            send(Confirm::Ack { tag, multiple: tag > told + 1 });
        }
        self.told = told.max(tag);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_publish_is_told_once_and_rightly(
            refused in proptest::collection::btree_set(1u64..60, 0..20),
            steps in proptest::collection::vec(0u64..20, 1..10),
        ) {
            let mut confirms = Confirms::default();
            let mut told = std::collections::BTreeMap::new();
            let (mut open, mut sent) = (1u64, 0u64);
            for step in steps {
                for _ in 0..step {
                    sent = confirms.next();
                    if refused.contains(&sent) {
                        confirms.refuse(sent);
                    }
                }
                confirms.settle(sent, |confirm| match confirm {
                    Confirm::Nack { tag } => {
                        assert_eq!(told.insert(tag, false), None);
                        open = tag + 1;
                    }
                    Confirm::Ack { tag, multiple } => {
                        assert_eq!(multiple, tag > open, "several are told by one frame");
                        for tag in open..=tag {
                            assert_eq!(told.insert(tag, true), None);
                        }
                        open = tag + 1;
                    }
                });
                prop_assert_eq!(told.len() as u64, sent);
            }
            for (tag, taken) in told {
                prop_assert_eq!(taken, !refused.contains(&tag));
            }
        }
    }
}
