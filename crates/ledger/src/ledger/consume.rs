//! Leasing: what is answered at once, and what is read first.

use std::{future::poll_fn, time::Duration};

use weft_kernel::Result;

use super::{
    Shared,
    deliver::{Returning, Sorted},
};
use crate::{
    core::{Ahead, Fetched, Item, Load, SpaceId, Unfit},
    options::Durability,
    record::{ConsumerId, GroupId, LeasedRecord, Timer, Told},
    store::LeaseLimits,
};

/// What a lease gave without waiting.
pub(super) enum Begun<'a> {
    Done(Vec<LeasedRecord>),
    /// These are leased, and must be read.
    Read(Sorted, Returning<'a>),
    /// This must be read before anything can be leased.
    Load(Loading<'a>),
    /// Another consumer reads what comes next.
    Busy,
}

/// Clears a group's mark of being loaded when who loads goes away.
pub(super) struct Loading<'a> {
    shared: &'a Shared,
    group: GroupId,
    consumer: ConsumerId,
    load: Option<Load>,
}

impl Loading<'_> {
    fn end(&mut self, answers: Vec<Result<Told>>) -> Result<()> {
        let Some(load) = self.load.take() else { return Ok(()) };
        let now = self.shared.now();
        let mut core = self.shared.core.lock();
        let (done, wakes, lost) = core.loaded(self.group, self.consumer, &load, answers, now);
        drop(core);
        wakes.wake();
        lost.iter().for_each(|lost| self.shared.damages.tell_record(lost));
        done
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        // With no answers there is nothing that could fail.
        let _ = self.end(Vec::new());
    }
}

impl Shared {
    /// Leases as far as memory goes, with `one` at least one record whatever its size.
    pub(super) fn begin(&self, group: GroupId, ask: &LeaseLimits, one: bool) -> Result<Begun<'_>> {
        loop {
            let now = self.now();
            let mut items = Vec::new();
            let (ahead, wakes) = self.core.lock().pick(group, ask, one, now, &mut items)?;
            wakes.wake();
            match ahead {
                Ahead::Nothing => {}
                Ahead::Load(load) => {
                    let (consumer, load) = (ask.consumer, Some(load));
                    return Ok(Begun::Load(Loading { shared: self, group, consumer, load }));
                }
                Ahead::Busy => return Ok(Begun::Busy),
            }
            if items.is_empty() {
                return Ok(Begun::Done(Vec::new()));
            }
            let mut sorted = Sorted::sort(group, items, now);
            self.set_aside(group, &mut sorted);
            if !sorted.cold.is_empty() {
                let returning = self.returning(group, &sorted);
                return Ok(Begun::Read(sorted, returning));
            }
            // What was picked may all have been due later, or expired: there may be more behind it.
            if !sorted.deliveries.is_empty() {
                return Ok(Begun::Done(sorted.deliveries));
            }
        }
    }

    fn set_aside(&self, group: GroupId, sorted: &mut Sorted) {
        if !sorted.unfit.is_empty() {
            let now = self.now();
            let wakes = self.core.lock().unfit(group, &sorted.unfit, now);
            wakes.wake();
            sorted.unfit.clear();
        }
        for (log, position, why) in std::mem::take(&mut sorted.lost) {
            self.tell_lost(log, position, why);
        }
    }

    /// Gives all of it back, unless it is cleared before.
    fn returning(&self, group: GroupId, sorted: &Sorted) -> Returning<'_> {
        let cold = sorted.cold.iter().map(|(item, _)| (item.picked.position, item.picked.token));
        let leases = cold
            .chain(sorted.deliveries.iter().map(|delivery| (delivery.position, delivery.token)))
            .map(|(position, token)| (position, token, Unfit::Returned))
            .collect();
        Returning { shared: self, group, leases }
    }

    /// Reads what was leased and is not in memory. Given up, it gives everything back.
    ///
    /// # Errors
    /// What the disk says, if nothing could be read; what could not be is given back.
    async fn thaw(
        &self,
        group: GroupId,
        mut sorted: Sorted,
        mut returning: Returning<'_>,
    ) -> Result<Vec<LeasedRecord>> {
        let cold = std::mem::take(&mut sorted.cold);
        let (items, wants): (Vec<Item>, Vec<_>) = cold.into_iter().unzip();
        let read = self.cold(wants).await;
        returning.leases.clear();
        let failed = sorted.thaw(group, items, read, self.now());
        self.set_aside(group, &mut sorted);
        sorted.deliveries.sort_by_key(|delivery| delivery.token.lease);
        match failed {
            Some(error) if sorted.deliveries.is_empty() => Err(error),
            _ => Ok(sorted.deliveries),
        }
    }

    pub(super) async fn lease_slowly(
        &self,
        group: GroupId,
        ask: LeaseLimits,
        mut begun: Begun<'_>,
    ) -> Result<Vec<LeasedRecord>> {
        loop {
            match begun {
                Begun::Done(deliveries) => return Ok(deliveries),
                // Its turn comes when that is read.
                Begun::Busy => return Ok(Vec::new()),
                Begun::Read(sorted, returning) => {
                    let deliveries = self.thaw(group, sorted, returning).await?;
                    if !deliveries.is_empty() {
                        return Ok(deliveries);
                    }
                }
                Begun::Load(loading) => self.load(loading).await?,
            }
            begun = self.begin(group, &ask, true)?;
        }
    }

    async fn load(&self, mut loading: Loading<'_>) -> Result<()> {
        let wants = loading.load.as_ref().map(|load| load.wants.clone()).unwrap_or_default();
        let answers = self.cold(wants).await;
        loading.end(answers)
    }

    /// Leases what is ready, as far as the limits go and wherever it is. What another consumer reads is
    /// waited for while there is nothing yet. Given up, it gives everything back.
    ///
    /// # Errors
    /// What the disk says, if nothing could be read.
    pub(super) async fn lease_fully(
        &self,
        group: GroupId,
        ask: LeaseLimits,
    ) -> Result<Vec<LeasedRecord>> {
        let mut taken = Vec::new();
        let mut returning = Returning { shared: self, group, leases: Vec::new() };
        let mut left = ask;
        while left.records > 0 {
            let more = match self.begin(group, &left, taken.is_empty()) {
                Ok(Begun::Done(deliveries)) if deliveries.is_empty() => break,
                Ok(Begun::Done(deliveries)) => Ok(deliveries),
                Ok(Begun::Busy) if taken.is_empty() => {
                    poll_fn(|context| self.core.lock().poll_loaded(group, context)).await;
                    continue;
                }
                Ok(Begun::Busy) => break,
                Ok(Begun::Read(sorted, returning)) => self.thaw(group, sorted, returning).await,
                Ok(Begun::Load(loading)) => self.load(loading).await.map(|()| Vec::new()),
                Err(error) => Err(error),
            };
            let more = match more {
                Ok(more) => more,
                // What was read before is handed out, and who comes for the rest is told why.
                Err(_) if !taken.is_empty() => break,
                Err(error) => return Err(error),
            };
            for delivery in more {
                let bytes = delivery.record.key.len() + delivery.record.data.len();
                left.records -= 1;
                left.bytes = left.bytes.saturating_sub(bytes as u64);
                returning.leases.push((delivery.position, delivery.token, Unfit::Returned));
                taken.push(delivery);
            }
        }
        returning.leases.clear();
        Ok(taken)
    }

    pub(super) async fn take_timers(
        &self,
        space: SpaceId,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<Timer>> {
        let (mut fetched, mut generation) = (Fetched::default(), 0);
        let (mut timers, mut seq) = (Vec::new(), 0);
        loop {
            let now = self.now();
            let handed = {
                let mut core = self.core.lock();
                core.take_in(generation, fetched, false);
                generation = core.generation();
                core.take_timers(space, limit - timers.len(), lease, now)
            };
            timers.extend(handed.timers);
            seq = handed.seq.max(seq);
            if timers.len() >= limit || handed.missing.is_empty() {
                break;
            }
            fetched = match self.fetch(handed.missing).await {
                Ok(fetched) => fetched,
                // What was taken is handed out, and who comes for the rest is told why there is none.
                Err(_) if !timers.is_empty() => break,
                Err(error) => return Err(error),
            };
        }
        self.until(seq, Durability::Fsync).await?;
        Ok(timers)
    }

    pub(super) async fn overdue(&self, space: SpaceId, limit: usize) -> Result<Vec<LeasedRecord>> {
        let now = self.now();
        let (items, wakes) = self.core.lock().overdue(space, now, limit);
        wakes.wake();
        let mut deliveries = Vec::with_capacity(items.len());
        let mut items = items.into_iter().peekable();
        while let Some((group, first)) = items.next() {
            let mut of_group = vec![first];
            while let Some((_, item)) = items.next_if(|(other, _)| *other == group) {
                of_group.push(item);
            }
            let mut sorted = Sorted::sort(group, of_group, now);
            self.set_aside(group, &mut sorted);
            if sorted.cold.is_empty() {
                deliveries.extend(sorted.deliveries);
            } else {
                let returning = self.returning(group, &sorted);
                // What cannot be read now is given back, and comes again.
                deliveries.extend(self.thaw(group, sorted, returning).await.unwrap_or_else(
                    |error| {
                        tracing::warn!(%group, error = %error.detail(), "records cannot be read");
                        Vec::new()
                    },
                ));
            }
        }
        Ok(deliveries)
    }
}
