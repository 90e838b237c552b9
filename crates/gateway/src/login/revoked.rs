//! Sessions that were ended before their time: by their browser, or by the provider (back-channel logout).
//!
//! A session is in its cookies, and a copy of them would outlive its end; so its end is remembered for as long as it
//! could have lasted. The memory is of this node, and bounded: when it is full, the oldest goes.

use std::collections::{HashMap, VecDeque};

use parking_lot::RwLock;

use crate::credential::{ByDigest, Digest};

/// The most ends that are remembered.
const REVOKED_MAX: usize = 65_536;

#[derive(Default)]
struct Ends {
    /// The second of the end: what began no later is over.
    at: HashMap<Digest, i64, ByDigest>,
    /// Each with its end and when that may be forgotten, in the order in which they came.
    order: VecDeque<(Digest, i64, i64)>,
}

/// Ends of sessions.
#[derive(Default)]
pub(super) struct Revoked(RwLock<Ends>);

impl Revoked {
    /// Ends the sessions of a name that began until `at`, and remembers that until then.
    pub(super) fn end(&self, name: Digest, at: i64, now: i64, until: i64) {
        let mut ends = self.0.write();
        while let Some((oldest, was, over)) = ends.order.front().copied() {
            if over > now && ends.order.len() < REVOKED_MAX {
                break;
            }
            ends.order.pop_front();
            // One that was ended again since stands further behind, too.
            if ends.at.get(&oldest) == Some(&was) {
                ends.at.remove(&oldest);
            }
        }
        // An end that is told late takes none back that was later.
        let at = ends.at.get(&name).map_or(at, |was| at.max(*was));
        ends.at.insert(name, at);
        ends.order.push_back((name, at, until));
    }

    /// Whether a session was ended by one of its names, each with when it began for that.
    pub(super) fn is_over(&self, names: impl Iterator<Item = (Digest, i64)>) -> bool {
        let ends = self.0.read();
        if ends.at.is_empty() {
            return false;
        }
        let mut names = names;
        names.any(|(name, began)| ends.at.get(&name).is_some_and(|at| began <= *at))
    }
}

#[cfg(test)]
mod tests {
    use std::iter::once;

    use super::*;

    #[test]
    fn an_end_counts_for_what_began_before_and_memory_is_bounded() {
        let (revoked, of) = (Revoked::default(), |name: &str| Digest::of_session("id", name));
        let is_over = |name: &str, began| revoked.is_over(once((of(name), began)));
        assert!(!is_over("a", 5));
        revoked.end(of("a"), 10, 12, 100);
        assert!(is_over("a", 5) && is_over("a", 10));
        assert!(!is_over("a", 11), "it began after");
        assert!(!is_over("b", 5));
        revoked.end(of("a"), 7, 13, 100);
        assert!(is_over("a", 10), "an older end takes none back");
        for number in 0..REVOKED_MAX + 10 {
            revoked.end(of(&number.to_string()), 20, 20, 200);
        }
        assert!(
            revoked.0.read().at.len() <= REVOKED_MAX && revoked.0.read().order.len() <= REVOKED_MAX
        );
        assert!(is_over("65540", 20) && !is_over("a", 5));
        revoked.end(of("last"), 201, 201, 300);
        assert_eq!(revoked.0.read().at.len(), 1, "what is over is forgotten");
    }
}
