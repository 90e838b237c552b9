//! The traits: what the embedded store answers at once, and what it waits for.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use weft_kernel::{Error, Result, Tick};

use super::{Ledger, consume::Begun};
use crate::{
    core::Ended,
    options::{Durability, GroupOptions, LogOptions, MapOptions},
    record::{
        ConsumerId, GroupId, LeasedRecord, Limits, LogId, MapId, ReadItem, Timer, Token, Value,
    },
    store::{
        EmbeddedStore, Exception, GroupConsumer, GroupStats, Joined, LeaseLimits, Leased, LogStats,
        Pending, Stats, Store, StoreAnswer, due_changed, wait_ready,
    },
    transaction::{Op, Receipt, Refused, Transaction},
};

impl Store for Ledger {
    fn namespace(&self, name: &str) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.namespace(name)?))
    }

    fn create_log<'a>(
        &'a self,
        name: &'a str,
        options: LogOptions,
    ) -> StoreAnswer<'a, Result<LogId>> {
        StoreAnswer::later(self.create_log(name, options))
    }

    fn alter_log(&self, log: LogId, options: LogOptions) -> StoreAnswer<'_, Result<()>> {
        StoreAnswer::later(
            self.shared
                .define(move |core, _| core.alter_log(log, options.clone()).map(|seq| ((), seq))),
        )
    }

    fn drop_log(&self, log: LogId) -> StoreAnswer<'_, Result<()>> {
        StoreAnswer::later(self.drop_log(log))
    }

    fn find_log<'a>(
        &'a self,
        name: &'a str,
    ) -> StoreAnswer<'a, Result<Option<(LogId, LogOptions)>>> {
        let found = self.find(name, |core, name| core.find_log(name));
        StoreAnswer::ready(found)
    }

    fn logs<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreAnswer<'a, Result<Vec<(String, LogId, LogOptions)>>> {
        let found =
            self.listed(prefix, after, |core, prefix, after| core.logs(prefix, after, limit));
        StoreAnswer::ready(Ok(found))
    }

    fn create_group<'a>(
        &'a self,
        name: &'a str,
        options: GroupOptions,
    ) -> StoreAnswer<'a, Result<GroupId>> {
        StoreAnswer::later(self.create_group(name, options))
    }

    fn alter_group(&self, group: GroupId, options: GroupOptions) -> StoreAnswer<'_, Result<()>> {
        StoreAnswer::later(self.alter_group(group, options))
    }

    fn drop_group(&self, group: GroupId) -> StoreAnswer<'_, Result<()>> {
        StoreAnswer::later(self.drop_group(group))
    }

    fn find_group<'a>(
        &'a self,
        name: &'a str,
    ) -> StoreAnswer<'a, Result<Option<(GroupId, GroupOptions)>>> {
        let found = self.find(name, |core, name| core.find_group(name));
        StoreAnswer::ready(found)
    }

    fn groups<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreAnswer<'a, Result<Vec<(String, GroupId, GroupOptions)>>> {
        let found =
            self.listed(prefix, after, |core, prefix, after| core.groups(prefix, after, limit));
        StoreAnswer::ready(Ok(found))
    }

    fn create_map<'a>(
        &'a self,
        name: &'a str,
        options: MapOptions,
    ) -> StoreAnswer<'a, Result<MapId>> {
        StoreAnswer::later(self.create_map(name, options))
    }

    fn drop_map(&self, map: MapId) -> StoreAnswer<'_, Result<()>> {
        StoreAnswer::later(
            self.shared.define(move |core, _| core.drop_map(map).map(|seq| ((), seq))),
        )
    }

    fn commit(&self, transaction: Transaction) -> StoreAnswer<'_, Result<Receipt, Refused>> {
        StoreAnswer::later(self.shared.commit(transaction))
    }

    fn read(
        &self,
        log: LogId,
        from: u64,
        limits: Limits,
    ) -> StoreAnswer<'_, Result<Vec<ReadItem>>> {
        StoreAnswer::later(self.read(log, from, limits))
    }

    fn position_at(&self, log: LogId, time_ms: u64) -> StoreAnswer<'_, Result<u64>> {
        StoreAnswer::later(self.position_at(log, time_ms))
    }

    fn peek(
        &self,
        group: GroupId,
        from: u64,
        limits: Limits,
    ) -> StoreAnswer<'_, Result<Vec<(Exception, ReadItem)>>> {
        StoreAnswer::later(self.peek(group, from, limits))
    }

    fn recall(&self, group: GroupId, position: u64) -> StoreAnswer<'_, Result<bool>> {
        StoreAnswer::later(self.recall(group, position))
    }

    fn overdue(&self, limit: usize) -> StoreAnswer<'_, Result<Vec<LeasedRecord>>> {
        StoreAnswer::later(self.shared.overdue(self.space, limit))
    }

    fn take_timers(&self, limit: usize, lease: Duration) -> StoreAnswer<'_, Result<Vec<Timer>>> {
        StoreAnswer::later(self.shared.take_timers(self.space, limit, lease))
    }

    fn get<'a>(&'a self, map: MapId, key: &'a [u8]) -> StoreAnswer<'a, Result<Option<Value>>> {
        self.get(map, key)
    }

    fn scan<'a>(
        &'a self,
        map: MapId,
        prefix: &'a [u8],
        after: Option<Bytes>,
        limit: usize,
    ) -> StoreAnswer<'a, Result<Vec<(Bytes, Value)>>> {
        StoreAnswer::later(self.scan(map, prefix, after, limit))
    }

    fn log_stats(&self, log: LogId) -> StoreAnswer<'_, Result<LogStats>> {
        StoreAnswer::ready(self.log_stats_now(log))
    }

    fn join(&self, group: GroupId, consumer: GroupConsumer) -> StoreAnswer<'_, Result<Joined>> {
        StoreAnswer::ready(self.join_now(group, consumer))
    }

    fn leave(
        &self,
        group: GroupId,
        consumer: ConsumerId,
        requeue: bool,
    ) -> StoreAnswer<'_, Result<()>> {
        self.leave_now(group, consumer, requeue);
        StoreAnswer::ready(Ok(()))
    }

    fn active(&self, group: GroupId, consumer: ConsumerId) -> StoreAnswer<'_, Result<bool>> {
        StoreAnswer::ready(Ok(self.active_now(group, consumer)))
    }

    fn lease(
        &self,
        group: GroupId,
        ask: LeaseLimits,
    ) -> StoreAnswer<'_, Result<Vec<LeasedRecord>>> {
        match self.lease_now(group, ask) {
            Ok(Leased::Now(leased)) => StoreAnswer::ready(Ok(leased)),
            Ok(Leased::Later(reading)) => StoreAnswer::later(reading),
            Err(error) => StoreAnswer::ready(Err(error)),
        }
    }

    fn ready(&self, group: GroupId, consumer: ConsumerId) -> StoreAnswer<'_, Result<()>> {
        let turn = wait_ready(self, group, consumer);
        StoreAnswer::later(async move {
            turn.await;
            Ok(())
        })
    }

    fn renew(
        &self,
        group: GroupId,
        position: u64,
        token: Token,
        span: Duration,
    ) -> StoreAnswer<'_, Result<()>> {
        StoreAnswer::ready(self.renew_now(group, position, token, span))
    }

    fn group_stats(&self, group: GroupId) -> StoreAnswer<'_, Result<GroupStats>> {
        StoreAnswer::ready(self.group_stats_now(group))
    }

    fn holds(&self, group: GroupId, position: u64) -> StoreAnswer<'_, Result<bool>> {
        StoreAnswer::ready(Ok(self.holds_now(group, position)))
    }

    fn pause(&self, group: GroupId, paused: bool) -> StoreAnswer<'_, Result<()>> {
        StoreAnswer::ready(self.pause_now(group, paused))
    }

    fn next_due(&self) -> StoreAnswer<'_, Result<Option<Tick>>> {
        StoreAnswer::ready(Ok(self.next_due_now()))
    }

    fn due_changed(&self) -> StoreAnswer<'_, Result<()>> {
        StoreAnswer::later(async {
            due_changed(self).await;
            Ok(())
        })
    }

    fn stats(&self) -> StoreAnswer<'_, Result<Stats>> {
        StoreAnswer::ready(Ok(self.stats_now()))
    }
}

impl EmbeddedStore for Ledger {
    fn embedded_namespace(&self, name: &str) -> Result<Arc<dyn EmbeddedStore>> {
        Ok(Arc::new(self.namespace(name)?))
    }

    fn submit_now(&self, transaction: Transaction) -> Result<Receipt, Refused> {
        self.shared.submit(transaction)
    }

    fn refusals_now(&self, ops: &[Op], parts: &[u32]) -> Vec<(usize, Error)> {
        let now = self.shared.now();
        match self.shared.lock_with(ops) {
            Ok(mut core) => core.refusals(ops, parts, now),
            // Submitted now, the first of them would be refused with this.
            Err(error) => vec![(0, error)],
        }
    }

    fn durable_now(&self, level: Durability) -> u64 {
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

    fn log_stats_now(&self, log: LogId) -> Result<LogStats> {
        self.shared.core.lock().log_stats(log)
    }

    fn join_now(&self, group: GroupId, consumer: GroupConsumer) -> Result<Joined> {
        self.shared.core.lock().join(group, consumer)
    }

    fn leave_now(&self, group: GroupId, consumer: ConsumerId, requeue: bool) {
        let now = self.shared.now();
        let wakes = self.shared.core.lock().leave(group, consumer, requeue, now);
        wakes.wake();
    }

    fn active_now(&self, group: GroupId, consumer: ConsumerId) -> bool {
        self.shared.core.lock().served(group, consumer)
    }

    fn lease_now(&self, group: GroupId, ask: LeaseLimits) -> Result<Leased<'_>> {
        Ok(match self.shared.begin(group, &ask, true)? {
            Begun::Done(deliveries) => Leased::Now(deliveries),
            Begun::Busy => Leased::Now(Vec::new()),
            begun => Leased::Later(Box::pin(self.shared.lease_slowly(group, ask, begun))),
        })
    }

    fn lease_fully(
        &self,
        group: GroupId,
        ask: LeaseLimits,
    ) -> Pending<'_, Result<Vec<LeasedRecord>>> {
        Box::pin(self.shared.lease_fully(group, ask))
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

    fn share_now(&self, group: GroupId, consumer: ConsumerId) -> u32 {
        self.shared.core.lock().share(group, consumer)
    }

    fn pass_turn(&self, group: GroupId, consumer: ConsumerId) {
        let now = self.shared.now();
        let wakes = self.shared.core.lock().pass_turn(group, consumer, now);
        wakes.wake();
    }

    fn renew_now(&self, group: GroupId, position: u64, token: Token, span: Duration) -> Result<()> {
        let now = self.shared.now();
        let until = now.tick.plus(span);
        let wakes = self.shared.core.lock().renew(group, position, token, until, now)?;
        wakes.wake();
        Ok(())
    }

    fn group_stats_now(&self, group: GroupId) -> Result<GroupStats> {
        self.shared.core.lock().group_stats(group)
    }

    fn holds_now(&self, group: GroupId, position: u64) -> bool {
        self.shared.core.lock().holds(group, position)
    }

    fn pause_now(&self, group: GroupId, paused: bool) -> Result<()> {
        let now = self.shared.now();
        let wakes = self.shared.core.lock().pause(group, paused, now)?;
        wakes.wake();
        Ok(())
    }

    fn next_due_now(&self) -> Option<Tick> {
        let now = self.shared.now();
        self.shared.core.lock().next_due(self.space, now)
    }

    fn waits_for_wall_now(&self) -> bool {
        self.shared.core.lock().waits_for_wall(self.space)
    }

    fn poll_due(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.core.lock().poll_due(self.space, context.waker()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn damage_now(&self) -> Vec<String> {
        self.shared.damages.sentences()
    }

    fn ended_now(&self) -> Option<Error> {
        self.shared.core.lock().ended().map(Ended::error)
    }

    fn full_now(&self) -> bool {
        self.shared.core.lock().cursor().is_full()
    }

    fn stats_now(&self) -> Stats {
        self.stats()
    }
}
