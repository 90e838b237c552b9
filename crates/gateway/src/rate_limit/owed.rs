//! What requests that have been let through still owe, or are owed, when their responses have ended.

use std::{borrow::Cow, cell::Cell, sync::Arc};

use weft_proxy::{Ended, Fact, RequestContext};
use weft_resilience::rate::Taken;
use weft_wire::ResponseHead;

use super::{
    asking::Verdicted,
    counter::{Counted, Counter, Place},
};
use crate::cost::Tab;

/// What is to be settled of a request.
pub(super) struct Owed {
    limits: Arc<[Counted]>,
    counted: Vec<(usize, Place, Taken)>,
    tab: Tab,
    /// The limit whose charge could not be worked out.
    uncharged: Cell<Option<usize>>,
}

impl Owed {
    pub(super) fn new(
        limits: &Arc<[Counted]>,
        said: &[Verdicted],
        cx: &RequestContext<'_>,
    ) -> Self {
        let granted = said.iter().filter(|said| said.verdict.granted);
        let charged = granted.filter(|said| limits[said.at].charge().is_some());
        let counted: Vec<_> = charged
            .filter_map(|said| said.counted.map(|(place, taken)| (said.at, place, taken)))
            .collect();
        let tab = Tab::new(cx, counted.iter().filter_map(|(at, ..)| limits[*at].charge()));
        Self { limits: Arc::clone(limits), counted, tab, uncharged: Cell::default() }
    }

    pub(super) fn respond(&self, head: &ResponseHead) {
        self.tab.respond(head);
    }
}

impl Fact for Owed {
    /// What could not be charged, since what was counted for it is a guess.
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        let at = self.uncharged.get()?;
        Some(("uncharged", Cow::Borrowed(&self.limits[at].settings.name)))
    }

    fn is_counted(&self) -> bool {
        true
    }

    fn ended(&self, how: &Ended) {
        for (at, place, taken) in &self.counted {
            let Counter::Rate { count, charge: Some(charge), .. } = &self.limits[*at].counter
            else {
                continue;
            };
            match self.tab.charge(charge, how) {
                Ok(cost) => count.settle(*place, taken, cost, how.now),
                Err(_) => self.uncharged.set(Some(*at)),
            }
        }
    }
}
