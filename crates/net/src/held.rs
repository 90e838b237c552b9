//! Whether a client holds a response up: a service may give up a reader that does not read, and that speaks
//! against the client.

use std::time::Duration;

use weft_kernel::{Reason, Side, Tick};

use crate::clock;

/// For how long at once a client must have taken nothing for what its service then does to be laid to it.
const LONG: Duration = Duration::from_secs(1);

/// How long a client took nothing, though there was something.
#[derive(Debug, Default)]
pub(crate) struct Held {
    since: Option<Tick>,
    longest: Duration,
}

impl Held {
    /// The client takes nothing now.
    pub(crate) fn begins(&mut self) {
        self.since.get_or_insert_with(clock::now);
    }

    /// It takes something again.
    pub(crate) fn ends(&mut self) {
        if let Some(since) = self.since.take() {
            self.longest = self.longest.max(clock::now().since(since));
        }
    }

    /// The reason for which a response ends early, in view of that.
    pub(crate) fn blame(&mut self, reason: Reason) -> Reason {
        self.ends();
        if self.longest >= LONG && reason.side() == Side::Upstream {
            return Reason::CallerSlow;
        }
        reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_hold_is_laid_to_the_client() {
        let long_ago = |span| clock::now().minus(span);
        for (since, reason, blamed) in [
            (None, Reason::UpstreamIncomplete, Reason::UpstreamIncomplete),
            (
                Some(Duration::from_millis(300)),
                Reason::UpstreamIncomplete,
                Reason::UpstreamIncomplete,
            ),
            (Some(Duration::from_secs(2)), Reason::UpstreamIncomplete, Reason::CallerSlow),
            (Some(Duration::from_secs(2)), Reason::StreamIdle, Reason::CallerSlow),
            (Some(Duration::from_secs(2)), Reason::Draining, Reason::Draining),
            (Some(Duration::from_secs(2)), Reason::BodyTooLarge, Reason::BodyTooLarge),
        ] {
            let mut held = Held { since: since.map(long_ago), longest: Duration::ZERO };
            assert_eq!(held.blame(reason), blamed, "{since:?}");
        }
        // What was long before stays known.
        let mut held = Held { since: Some(long_ago(Duration::from_secs(2))), ..Held::default() };
        held.ends();
        held.begins();
        held.ends();
        assert_eq!(held.blame(Reason::UpstreamIncomplete), Reason::CallerSlow);
    }
}
