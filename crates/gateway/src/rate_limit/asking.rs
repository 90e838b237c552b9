//! How a request goes from limit to limit, until one refuses.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;
use weft_kernel::Tick;
use weft_proxy::RequestContext;
use weft_resilience::{
    concurrency::Permit,
    rate::{Taken, Verdict},
};

use super::{
    Limits, WhenAway,
    counter::{Counter, Place},
    key::Key,
    shared::Shared,
};
use crate::cost::Fault;

/// What a limit has said of a request.
pub(super) struct Verdicted {
    pub(super) at: usize,
    pub(super) verdict: Verdict,
    /// Where it was counted and how much, if it can be given back.
    pub(super) counted: Option<(Place, Taken)>,
}

/// What the limits make of a request.
#[derive(Default)]
pub(super) struct Asked {
    /// The limit that is asked next.
    at: usize,
    /// The limit that refuses, and why.
    pub(super) refused: Option<(usize, Why)>,
    /// The first that would refuse, and only tells.
    pub(super) would: Option<usize>,
    /// One that could not count, and lets the request pass all the same.
    pub(super) uncounted: Option<usize>,
    /// Most routes have one limit.
    pub(super) said: SmallVec<[Verdicted; 1]>,
    pub(super) held: Vec<Permit>,
}

/// Why a limit refuses.
pub(super) enum Why {
    /// There is not enough left before so much time is over; without one there never is.
    Left(Option<Duration>),
    /// Nobody can tell what the request costs.
    Cost(Fault),
    /// The store that counts is away.
    Away,
}

impl Limits {
    /// Asks the limits from where the request is, until one refuses; `false` if a store has to answer first.
    pub(super) fn ask(&self, cx: &RequestContext<'_>, asked: &mut Asked) -> bool {
        while let (Some(limit), None) = (self.limits.get(asked.at), &asked.refused) {
            let by = &limit.settings.by;
            match &limit.counter {
                Counter::Rate { count, cost, .. } => match cost.of(cx) {
                    Ok(cost) => {
                        let Some((verdict, place)) = count.take(by, cx, cost) else {
                            return false;
                        };
                        let taken = Taken::new(cost, &verdict, cx.now());
                        self.judge(asked, verdict, Some((place, taken)), cx.now());
                    }
                    Err(fault) => self.refuse(asked, Why::Cost(fault), cx.now()),
                },
                Counter::Concurrency(most) => {
                    let key = Key::new(by, cx.view());
                    let is_shadow = limit.settings.shadow;
                    let permit = if is_shadow { most.take_beyond(key) } else { most.take(key) };
                    let under_way = permit.as_ref().map_or(u32::MAX, Permit::under_way);
                    let left = most.most().checked_sub(under_way).map(u64::from);
                    asked.held.extend(permit);
                    let (granted, remaining) = (left.is_some(), left.unwrap_or_default());
                    let reset = Duration::ZERO;
                    let retry_after = Some(reset);
                    let verdict = Verdict { granted, remaining, reset, retry_after };
                    self.judge(asked, verdict, None, cx.now());
                }
                Counter::Bandwidth { .. } => asked.at += 1,
            }
        }
        true
    }

    /// Takes down what the next limit says.
    fn judge(
        &self,
        asked: &mut Asked,
        verdict: Verdict,
        counted: Option<(Place, Taken)>,
        now: Tick,
    ) {
        asked.said.push(Verdicted { at: asked.at, verdict, counted });
        match verdict.granted {
            true => asked.at += 1,
            false => self.refuse(asked, Why::Left(verdict.retry_after), now),
        }
    }

    /// The next limit refuses, unless it only tells.
    fn refuse(&self, asked: &mut Asked, why: Why, now: Tick) {
        if self.limits[asked.at].settings.shadow {
            asked.would.get_or_insert(asked.at);
        } else {
            asked.refused = Some((asked.at, why));
            self.give_back(asked, now);
        }
        asked.at += 1;
    }

    /// Gives back what the limits before the one that refuses have counted: it costs nothing to be refused.
    fn give_back(&self, asked: &mut Asked, now: Tick) {
        asked.held.clear();
        for Verdicted { at, verdict, counted } in &mut asked.said {
            match (&self.limits[*at].counter, counted) {
                (Counter::Rate { count, .. }, Some((place, taken))) if verdict.granted => {
                    count.give_back(*place, taken, now);
                    verdict.remaining = verdict.remaining.saturating_add(taken.units);
                }
                (Counter::Concurrency(_), _) if verdict.granted => verdict.remaining += 1,
                _ => {}
            }
        }
    }

    fn next_shared(&self, asked: &Asked) -> Option<&Arc<Shared>> {
        self.limits.get(asked.at)?.shared()
    }

    /// Asks the limits to their end, and waits for stores: for each no longer than its time.
    pub(super) async fn ask_and_wait(&self, cx: &mut RequestContext<'_>, asked: &mut Asked) {
        let (mut at, mut until) = (usize::MAX, cx.now());
        loop {
            let Some(shared) = self.next_shared(asked) else {
                if self.ask(cx, asked) {
                    return;
                }
                continue;
            };
            if at != asked.at {
                (at, until) = (asked.at, cx.now().plus(shared.timeout()));
            }
            let changed = shared.changed();
            tokio::pin!(changed);
            // What is answered between the question and the wait is not missed.
            changed.as_mut().enable();
            if self.ask(cx, asked) {
                return;
            }
            if asked.at != at {
                continue;
            }
            if shared.is_away() || cx.wait_for(until, changed).await.is_none() {
                self.do_without(cx, asked, shared);
            }
        }
    }

    /// What becomes of a request whose next limit cannot be asked.
    fn do_without(&self, cx: &RequestContext<'_>, asked: &mut Asked, shared: &Shared) {
        let limit = &self.limits[asked.at];
        let Counter::Rate { count, cost, .. } = &limit.counter else { return };
        match shared.when_away() {
            WhenAway::Closed if !limit.settings.shadow => self.refuse(asked, Why::Away, cx.now()),
            WhenAway::Closed | WhenAway::Open => {
                asked.uncounted = Some(asked.at);
                asked.at += 1;
            }
            WhenAway::Local => match cost.of(cx) {
                Err(fault) => self.refuse(asked, Why::Cost(fault), cx.now()),
                Ok(cost) => {
                    let Some((verdict, place)) = count.take_here(&limit.settings.by, cx, cost)
                    else {
                        return;
                    };
                    let taken = Taken::new(cost, &verdict, cx.now());
                    self.judge(asked, verdict, Some((place, taken)), cx.now());
                }
            },
        }
    }
}
