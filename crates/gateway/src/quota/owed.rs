//! What requests that quotas have let through cost in the end.

use std::{borrow::Cow, cell::Cell, sync::Arc};

use weft_kernel::Name;
use weft_proxy::{Ended, Fact, RequestContext};
use weft_wire::ResponseHead;

use super::{Book, Books, Counted, Held, Quota, now_ms, period::Period, with_key};
use crate::cost::Tab;

/// What is to be settled of a request.
pub(super) struct Owed {
    all: Books,
    counted: Vec<Charged>,
    tab: Tab,
    /// The quota whose charge could not be worked out.
    uncharged: Cell<Option<usize>>,
}

/// What was granted by a quota with a charge.
struct Charged {
    book: Arc<Book>,
    quota: Arc<Quota>,
    key: Box<str>,
    granted: u64,
    period: Period,
}

impl Owed {
    /// What is to be settled; `None` for nothing.
    pub(super) fn new(held: &Held, counted: &[Counted], cx: &RequestContext<'_>) -> Option<Self> {
        let all = held.books.iter().zip(counted);
        // What passes uncounted is not charged either.
        let charged = all.filter(|(_, counted)| {
            let Counted { quota, said, .. } = counted;
            quota.charge.is_some() && said.granted && said.period != Period::default()
        });
        let counted: Vec<_> = charged
            .map(|(book, Counted { quota, cost, said })| Charged {
                book: Arc::clone(book),
                quota: Arc::clone(quota),
                key: with_key(&quota.by, cx.view(), |key| said.counted_under(key).into()),
                granted: *cost,
                period: said.period,
            })
            .collect();
        if counted.is_empty() {
            return None;
        }
        let charges = counted.iter().filter_map(|charged| charged.quota.charge.as_ref());
        let tab = Tab::new(cx, charges);
        Some(Self { all: held.all.clone(), counted, tab, uncharged: Cell::default() })
    }

    pub(super) fn respond(&self, head: &ResponseHead) {
        self.tab.respond(head);
    }

    fn uncharged(&self) -> Option<&Name> {
        self.uncharged.get().map(|at| &self.counted[at].quota.name)
    }
}

impl Fact for Owed {
    /// What could not be charged, since what was counted for it is a guess.
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        Some(("quota_uncharged", Cow::Borrowed(self.uncharged()?.as_str())))
    }

    fn is_counted(&self) -> bool {
        true
    }

    fn ended(&self, how: &Ended) {
        let mut wakes = false;
        for (at, charged) in self.counted.iter().enumerate() {
            let Charged { book, quota, key, granted, period } = charged;
            let Some(charge) = &quota.charge else { continue };
            match self.tab.charge(charge, how) {
                Ok(cost) => {
                    wakes |= book.settle(key, quota, (*granted, *period), cost, now_ms());
                }
                Err(_) => self.uncharged.set(Some(at)),
            }
        }
        if wakes {
            self.all.wake();
        }
    }
}
