//! Leasing, and the trait: what the embedded store answers at once and what it waits for.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use weft_kernel::{Error, Result, Tick};

use super::{
    Ledger, Shared,
    deliver::{Returning, Sorted},
};
use crate::{
    core::{Fetched, Item, Load, SpaceId, Unfit},
    options::{Durability, GroupOptions, LogOptions, MapOptions},
    record::{
        ConsumerId, GroupId, LeasedRecord, Limits, LogId, MapId, ReadItem, Timer, Token, Told,
        Value,
    },
    store::{
        Exception, GroupConsumer, GroupStats, Joined, LeaseLimits, Leased, LogStats, Pending,
        Stats, Store,
    },
    transaction::{Op, Receipt, Refused, Transaction},
};

/// What a lease gave without waiting.
enum Begun<'a> {
    Done(Vec<LeasedRecord>),
    /// These are leased, and must be read.
    Read(Sorted, Returning<'a>),
    /// This must be read before anything can be leased.
    Load(Loading<'a>),
}

/// Clears a group's mark of being loaded when who loads goes away.
struct Loading<'a> {
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
    /// Leases as far as memory goes.
    fn begin(&self, group: GroupId, ask: &LeaseLimits) -> Result<Begun<'_>> {
        loop {
            let now = self.now();
            let mut items = Vec::new();
            let (load, wakes) = self.core.lock().pick(group, ask, now, &mut items)?;
            wakes.wake();
            if let Some(load) = load {
                let (consumer, load) = (ask.consumer, Some(load));
                return Ok(Begun::Load(Loading { shared: self, group, consumer, load }));
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

    async fn lease_slowly(
        &self,
        group: GroupId,
        ask: LeaseLimits,
        mut begun: Begun<'_>,
    ) -> Result<Vec<LeasedRecord>> {
        loop {
            match begun {
                Begun::Done(deliveries) => return Ok(deliveries),
                Begun::Read(sorted, returning) => {
                    let deliveries = self.thaw(group, sorted, returning).await?;
                    if !deliveries.is_empty() {
                        return Ok(deliveries);
                    }
                }
                Begun::Load(mut loading) => {
                    let wants = loading.load.as_ref().map(|load| load.wants.clone());
                    let wants = wants.unwrap_or_default();
                    let answers = self.cold(wants).await;
                    loading.end(answers)?;
                }
            }
            begun = self.begin(group, &ask)?;
        }
    }

    async fn take_timers(
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

    async fn overdue(&self, space: SpaceId, limit: usize) -> Result<Vec<LeasedRecord>> {
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

impl Store for Ledger {
    fn namespace(&self, name: &str) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.namespace(name)?))
    }

    fn create_log<'a>(&'a self, name: &'a str, options: LogOptions) -> Pending<'a, Result<LogId>> {
        Box::pin(self.create_log(name, options))
    }

    fn alter_log(&self, log: LogId, options: LogOptions) -> Pending<'_, Result<()>> {
        Box::pin(
            self.shared
                .define(move |core, _| core.alter_log(log, options.clone()).map(|seq| ((), seq))),
        )
    }

    fn drop_log(&self, log: LogId) -> Pending<'_, Result<()>> {
        Box::pin(self.drop_log(log))
    }

    fn find_log<'a>(&'a self, name: &'a str) -> Pending<'a, Result<Option<(LogId, LogOptions)>>> {
        let found = self.find(name, |core, name| core.find_log(name));
        Box::pin(std::future::ready(found))
    }

    fn logs<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Pending<'a, Result<Vec<(String, LogId, LogOptions)>>> {
        let found =
            self.listed(prefix, after, |core, prefix, after| core.logs(prefix, after, limit));
        Box::pin(std::future::ready(Ok(found)))
    }

    fn create_group<'a>(
        &'a self,
        name: &'a str,
        options: GroupOptions,
    ) -> Pending<'a, Result<GroupId>> {
        Box::pin(self.create_group(name, options))
    }

    fn alter_group(&self, group: GroupId, options: GroupOptions) -> Pending<'_, Result<()>> {
        Box::pin(self.alter_group(group, options))
    }

    fn drop_group(&self, group: GroupId) -> Pending<'_, Result<()>> {
        Box::pin(self.drop_group(group))
    }

    fn find_group<'a>(
        &'a self,
        name: &'a str,
    ) -> Pending<'a, Result<Option<(GroupId, GroupOptions)>>> {
        let found = self.find(name, |core, name| core.find_group(name));
        Box::pin(std::future::ready(found))
    }

    fn groups<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Pending<'a, Result<Vec<(String, GroupId, GroupOptions)>>> {
        let found =
            self.listed(prefix, after, |core, prefix, after| core.groups(prefix, after, limit));
        Box::pin(std::future::ready(Ok(found)))
    }

    fn create_map<'a>(&'a self, name: &'a str, options: MapOptions) -> Pending<'a, Result<MapId>> {
        Box::pin(self.create_map(name, options))
    }

    fn drop_map(&self, map: MapId) -> Pending<'_, Result<()>> {
        Box::pin(self.shared.define(move |core, _| core.drop_map(map).map(|seq| ((), seq))))
    }

    fn submit(&self, transaction: Transaction) -> Result<Receipt, Refused> {
        self.shared.submit(transaction)
    }

    fn refusals(&self, ops: &[Op], parts: &[u32]) -> Vec<(usize, Error)> {
        let now = self.shared.now();
        match self.shared.lock_with(ops) {
            Ok(mut core) => core.refusals(ops, parts, now),
            // Submitted now, the first of them would be refused with this.
            Err(error) => vec![(0, error)],
        }
    }

    fn commit(&self, transaction: Transaction) -> Pending<'_, Result<Receipt, Refused>> {
        Box::pin(self.shared.commit(transaction))
    }

    fn durable(&self, level: Durability) -> u64 {
        match self.shared.waiters.reached(level) {
            Some(seq) => seq,
            None => self.shared.core.lock().seq(),
        }
    }

    fn poll_durable(
        &self,
        seq: u64,
        level: Durability,
        context: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        self.shared.poll_durable(seq, level, context)
    }

    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        self.shared.poll_room(context)
    }

    fn read(&self, log: LogId, from: u64, limits: Limits) -> Pending<'_, Result<Vec<ReadItem>>> {
        Box::pin(self.read(log, from, limits))
    }

    fn position_at(&self, log: LogId, time_ms: u64) -> Pending<'_, Result<u64>> {
        Box::pin(self.position_at(log, time_ms))
    }

    fn log_stats(&self, log: LogId) -> Result<LogStats> {
        self.shared.core.lock().log_stats(log)
    }

    fn join(&self, group: GroupId, consumer: GroupConsumer) -> Result<Joined> {
        self.shared.core.lock().join(group, consumer)
    }

    fn leave(&self, group: GroupId, consumer: ConsumerId, requeue: bool) {
        let now = self.shared.now();
        let wakes = self.shared.core.lock().leave(group, consumer, requeue, now);
        wakes.wake();
    }

    fn active(&self, group: GroupId, consumer: ConsumerId) -> bool {
        self.shared.core.lock().served(group, consumer)
    }

    fn lease(&self, group: GroupId, ask: LeaseLimits) -> Result<Leased<'_>> {
        Ok(match self.shared.begin(group, &ask)? {
            Begun::Done(deliveries) => Leased::Now(deliveries),
            begun => Leased::Later(Box::pin(self.shared.lease_slowly(group, ask, begun))),
        })
    }

    fn poll_ready(
        &self,
        group: GroupId,
        consumer: ConsumerId,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let (poll, wakes) = self.shared.core.lock().poll_ready(group, consumer, context);
        wakes.wake();
        poll
    }

    fn share(&self, group: GroupId, consumer: ConsumerId) -> u32 {
        self.shared.core.lock().share(group, consumer)
    }

    fn pass_turn(&self, group: GroupId, consumer: ConsumerId) {
        let now = self.shared.now();
        let wakes = self.shared.core.lock().pass_turn(group, consumer, now);
        wakes.wake();
    }

    fn renew(&self, group: GroupId, position: u64, token: Token, span: Duration) -> Result<()> {
        let now = self.shared.now();
        let until = now.tick.plus(span);
        let wakes = self.shared.core.lock().renew(group, position, token, until, now)?;
        wakes.wake();
        Ok(())
    }

    fn group_stats(&self, group: GroupId) -> Result<GroupStats> {
        self.shared.core.lock().group_stats(group)
    }

    fn peek(
        &self,
        group: GroupId,
        from: u64,
        limits: Limits,
    ) -> Pending<'_, Result<Vec<(Exception, ReadItem)>>> {
        Box::pin(self.peek(group, from, limits))
    }

    fn holds(&self, group: GroupId, position: u64) -> bool {
        self.shared.core.lock().holds(group, position)
    }

    fn recall(&self, group: GroupId, position: u64) -> Pending<'_, Result<bool>> {
        Box::pin(self.recall(group, position))
    }

    fn pause(&self, group: GroupId, paused: bool) -> Result<()> {
        let now = self.shared.now();
        let wakes = self.shared.core.lock().pause(group, paused, now)?;
        wakes.wake();
        Ok(())
    }

    fn next_due(&self) -> Option<Tick> {
        let now = self.shared.now();
        self.shared.core.lock().next_due(self.space, now)
    }

    fn poll_due(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.core.lock().poll_due(self.space, context.waker()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn overdue(&self, limit: usize) -> Pending<'_, Result<Vec<LeasedRecord>>> {
        Box::pin(self.shared.overdue(self.space, limit))
    }

    fn take_timers(&self, limit: usize, lease: Duration) -> Pending<'_, Result<Vec<Timer>>> {
        Box::pin(self.shared.take_timers(self.space, limit, lease))
    }

    fn get<'a>(&'a self, map: MapId, key: &'a [u8]) -> Pending<'a, Result<Option<Value>>> {
        Box::pin(self.get(map, key))
    }

    fn scan<'a>(
        &'a self,
        map: MapId,
        prefix: &'a [u8],
        after: Option<Bytes>,
        limit: usize,
    ) -> Pending<'a, Result<Vec<(Bytes, Value)>>> {
        Box::pin(self.scan(map, prefix, after, limit))
    }

    fn damage(&self) -> Vec<String> {
        self.shared.damages.sentences()
    }

    fn poisoned(&self) -> Option<String> {
        self.shared.core.lock().poisoned().map(str::to_owned)
    }

    fn full(&self) -> bool {
        self.shared.core.lock().cursor().is_full()
    }

    fn stats(&self) -> Stats {
        self.stats()
    }
}
