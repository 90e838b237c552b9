//! What has happened to the messages of a topic, queue or subscription since the broker was opened.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {
        /// Counters that only grow; one set per topic, queue and subscription.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)+ }

        /// What the counters stood at.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[doc = $doc])+ pub $name: u64,)+ }

        impl Counters {
            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }

        impl Counts {
            /// Adds what another stood at.
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }

            /// Every count with its stable word, for the scrape.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Messages stored.
    published;
    /// Bytes of head and body of messages stored.
    published_bytes;
    /// Publishes of a message that was there already.
    duplicates;
    /// Publishes refused because it was full.
    refused;
    /// Hand-outs.
    delivered;
    /// Deliveries accepted.
    accepted;
    /// Deliveries given back without fault.
    released;
    /// Deliveries that failed, leases that ran out included.
    failed;
    /// Deliveries rejected.
    rejected;
    /// Messages that became dead letters.
    dead_lettered;
    /// Messages given up with nowhere for dead letters, or dropped as the oldest of a full queue.
    dropped;
    /// Messages that expired.
    expired;
    /// Messages that a filter did not take.
    filtered;
    /// Those of them on which its expression failed.
    filter_failed;
    /// Settlements that came too late.
    lost_leases;
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
