//! A store across a network, as a double: every question goes over a channel to a thread that has the store,
//! and is answered later, or not at all. That the suite for stores passes on it proves that the trait carries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use weft_kernel::{Error, Reason, Result, Rng, Tick};
use weft_ledger::{
    ConsumerId, Durability, EmbeddedStore, Exception, ExpectValue, GroupConsumer, GroupId,
    GroupOptions, GroupStats, Joined, LeaseLimits, LeasedRecord, Limits, LogId, LogOptions,
    LogStats, MapId, MapOptions, Pending, ReadItem, Receipt, Refused, Stats, Store, StoreAnswer,
    Timer, Token, Transaction, Value,
    conformance::{Subject, run},
    disk::SimulatedDisk,
};

use crate::conformance::{Embedded, Place, small};

/// How many questions may be on their way.
const QUESTIONS_MAX: usize = 1024;

/// The way to the store.
struct Line {
    questions: mpsc::Sender<Pending<'static, ()>>,
    /// The way is cut: what is asked then is not heard.
    cut: AtomicBool,
}

impl Line {
    #[allow(
        clippy::disallowed_methods,
        reason = "the runtime at the other end has no worker to drain"
    )]
    fn new() -> Arc<Self> {
        let (questions, mut heard) = mpsc::channel::<Pending<'static, ()>>(QUESTIONS_MAX);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                // In the order of the questions each begins; answers come as they are there.
                while let Some(question) = heard.recv().await {
                    tokio::spawn(question);
                }
            });
        });
        Arc::new(Self { questions, cut: AtomicBool::new(false) })
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

/// A namespace of a store at the other end of a line.
struct Remote {
    line: Arc<Line>,
    there: Arc<dyn EmbeddedStore>,
}

fn unavailable() -> Error {
    Error::new(Reason::StorageUnavailable, "the store cannot be reached")
}

/// Does something when it is dropped before it is done with.
struct Unless<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Unless<F> {
    // Takes the whole: of a field that can be copied a block would take a copy, and leave this to be dropped.
    fn done(mut self) {
        self.0.take();
    }
}

impl<F: FnOnce()> Drop for Unless<F> {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

impl Remote {
    /// Asks at the other end, where the question is given up as soon as nobody waits for its answer.
    fn ask<T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        question: impl AsyncQuestion<Result<T, E>>,
    ) -> StoreAnswer<'static, Result<T, E>> {
        let (answer, mut answered) = oneshot::channel();
        let (mut answer, there, line) = (Some(answer), self.there.clone(), self.line.clone());
        let asked: Pending<'static, ()> = Box::pin(async move {
            let Some(mut answer) = answer.take() else { return };
            let said = tokio::select! {
                said = question.put(there) => said,
                () = answer.closed() => return,
            };
            // Never at once.
            tokio::task::yield_now().await;
            // Who asked may have gone.
            let _ = answer.send(said);
        });
        if line.is_cut() || line.questions.try_send(asked).is_err() {
            answered.close();
        }
        StoreAnswer::later(async move {
            match answered.await {
                // What is answered while the way is cut does not arrive.
                Ok(said) if !line.is_cut() => said,
                _ => Err(unavailable().into()),
            }
        })
    }
}

/// What is asked of the store at the other end.
trait AsyncQuestion<T>: Send + 'static {
    fn put(self, store: Arc<dyn EmbeddedStore>) -> Pending<'static, T>;
}

impl<T, F: FnOnce(Arc<dyn EmbeddedStore>) -> Pending<'static, T> + Send + 'static> AsyncQuestion<T>
    for F
{
    fn put(self, store: Arc<dyn EmbeddedStore>) -> Pending<'static, T> {
        self(store)
    }
}

/// A question of one method, whose arguments go along.
macro_rules! asks {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        $self.ask(move |store: Arc<dyn EmbeddedStore>| {
            Box::pin(async move { store.$method($($argument),*).await }) as Pending<'static, _>
        })
    };
}

impl Store for Remote {
    fn namespace(&self, name: &str) -> Result<Arc<dyn Store>> {
        let there = self.there.embedded_namespace(name)?;
        Ok(Arc::new(Self { line: self.line.clone(), there }))
    }

    fn create_log<'a>(
        &'a self,
        name: &'a str,
        options: LogOptions,
    ) -> StoreAnswer<'a, Result<LogId>> {
        let name = name.to_owned();
        asks!(self.create_log(&name, options.clone()))
    }

    fn alter_log(&self, log: LogId, options: LogOptions) -> StoreAnswer<'_, Result<()>> {
        asks!(self.alter_log(log, options.clone()))
    }

    fn drop_log(&self, log: LogId) -> StoreAnswer<'_, Result<()>> {
        asks!(self.drop_log(log))
    }

    fn find_log<'a>(
        &'a self,
        name: &'a str,
    ) -> StoreAnswer<'a, Result<Option<(LogId, LogOptions)>>> {
        let name = name.to_owned();
        asks!(self.find_log(&name))
    }

    fn logs<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreAnswer<'a, Result<Vec<(String, LogId, LogOptions)>>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        asks!(self.logs(&prefix, after.as_deref(), limit))
    }

    fn create_group<'a>(
        &'a self,
        name: &'a str,
        options: GroupOptions,
    ) -> StoreAnswer<'a, Result<GroupId>> {
        let name = name.to_owned();
        asks!(self.create_group(&name, options.clone()))
    }

    fn alter_group(&self, group: GroupId, options: GroupOptions) -> StoreAnswer<'_, Result<()>> {
        asks!(self.alter_group(group, options.clone()))
    }

    fn drop_group(&self, group: GroupId) -> StoreAnswer<'_, Result<()>> {
        asks!(self.drop_group(group))
    }

    fn find_group<'a>(
        &'a self,
        name: &'a str,
    ) -> StoreAnswer<'a, Result<Option<(GroupId, GroupOptions)>>> {
        let name = name.to_owned();
        asks!(self.find_group(&name))
    }

    fn groups<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreAnswer<'a, Result<Vec<(String, GroupId, GroupOptions)>>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        asks!(self.groups(&prefix, after.as_deref(), limit))
    }

    fn create_map<'a>(
        &'a self,
        name: &'a str,
        options: MapOptions,
    ) -> StoreAnswer<'a, Result<MapId>> {
        let name = name.to_owned();
        asks!(self.create_map(&name, options))
    }

    fn drop_map(&self, map: MapId) -> StoreAnswer<'_, Result<()>> {
        asks!(self.drop_map(map))
    }

    fn commit(&self, transaction: Transaction) -> StoreAnswer<'_, Result<Receipt, Refused>> {
        asks!(self.commit(transaction))
    }

    fn read(
        &self,
        log: LogId,
        from: u64,
        limits: Limits,
    ) -> StoreAnswer<'_, Result<Vec<ReadItem>>> {
        asks!(self.read(log, from, limits))
    }

    fn position_at(&self, log: LogId, time_ms: u64) -> StoreAnswer<'_, Result<u64>> {
        asks!(self.position_at(log, time_ms))
    }

    fn log_stats(&self, log: LogId) -> StoreAnswer<'_, Result<LogStats>> {
        asks!(self.log_stats(log))
    }

    fn join(&self, group: GroupId, consumer: GroupConsumer) -> StoreAnswer<'_, Result<Joined>> {
        asks!(self.join(group, consumer))
    }

    fn leave(
        &self,
        group: GroupId,
        consumer: ConsumerId,
        requeue: bool,
    ) -> StoreAnswer<'_, Result<()>> {
        asks!(self.leave(group, consumer, requeue))
    }

    fn active(&self, group: GroupId, consumer: ConsumerId) -> StoreAnswer<'_, Result<bool>> {
        asks!(self.active(group, consumer))
    }

    fn lease(
        &self,
        group: GroupId,
        ask: LeaseLimits,
    ) -> StoreAnswer<'_, Result<Vec<LeasedRecord>>> {
        asks!(self.lease(group, ask))
    }

    fn ready(&self, group: GroupId, consumer: ConsumerId) -> StoreAnswer<'_, Result<()>> {
        let answer = asks!(self.ready(group, consumer));
        // A turn whose news was on its way when nobody waited for it any more goes to the next.
        let pass = move || {
            drop(self.ask::<(), Error>(move |store: Arc<dyn EmbeddedStore>| {
                store.pass_turn(group, consumer);
                Box::pin(std::future::ready(Ok(()))) as Pending<'static, _>
            }));
        };
        let unseen = Unless(Some(pass));
        StoreAnswer::later(async move {
            let told = answer.await;
            unseen.done();
            told
        })
    }

    fn renew(
        &self,
        group: GroupId,
        position: u64,
        token: Token,
        span: Duration,
    ) -> StoreAnswer<'_, Result<()>> {
        asks!(self.renew(group, position, token, span))
    }

    fn group_stats(&self, group: GroupId) -> StoreAnswer<'_, Result<GroupStats>> {
        asks!(self.group_stats(group))
    }

    fn peek(
        &self,
        group: GroupId,
        from: u64,
        limits: Limits,
    ) -> StoreAnswer<'_, Result<Vec<(Exception, ReadItem)>>> {
        asks!(self.peek(group, from, limits))
    }

    fn holds(&self, group: GroupId, position: u64) -> StoreAnswer<'_, Result<bool>> {
        asks!(self.holds(group, position))
    }

    fn recall(&self, group: GroupId, position: u64) -> StoreAnswer<'_, Result<bool>> {
        asks!(self.recall(group, position))
    }

    fn pause(&self, group: GroupId, paused: bool) -> StoreAnswer<'_, Result<()>> {
        asks!(self.pause(group, paused))
    }

    fn next_due(&self) -> StoreAnswer<'_, Result<Option<Tick>>> {
        asks!(self.next_due())
    }

    fn due_changed(&self) -> StoreAnswer<'_, Result<()>> {
        asks!(self.due_changed())
    }

    fn overdue(&self, limit: usize) -> StoreAnswer<'_, Result<Vec<LeasedRecord>>> {
        asks!(self.overdue(limit))
    }

    fn take_timers(&self, limit: usize, lease: Duration) -> StoreAnswer<'_, Result<Vec<Timer>>> {
        asks!(self.take_timers(limit, lease))
    }

    fn get<'a>(&'a self, map: MapId, key: &'a [u8]) -> StoreAnswer<'a, Result<Option<Value>>> {
        let key = key.to_vec();
        asks!(self.get(map, &key))
    }

    fn scan<'a>(
        &'a self,
        map: MapId,
        prefix: &'a [u8],
        after: Option<Bytes>,
        limit: usize,
    ) -> StoreAnswer<'a, Result<Vec<(Bytes, Value)>>> {
        let prefix = prefix.to_vec();
        asks!(self.scan(map, &prefix, after.clone(), limit))
    }

    fn stats(&self) -> StoreAnswer<'_, Result<Stats>> {
        asks!(self.stats())
    }
}

/// A store on a disk that loses power, at the other end of a line.
struct Far {
    embedded: Embedded,
    line: Arc<Line>,
}

impl Far {
    fn new(seed: u64) -> Self {
        let rng = parking_lot::Mutex::new(Rng::seeded(seed));
        let place = Place::Simulated(SimulatedDisk::new(), rng);
        Self { embedded: Embedded::new(place, small()), line: Line::new() }
    }
}

impl Subject for Far {
    fn store(&self) -> Arc<dyn Store> {
        let there = self.embedded.embedded().unwrap();
        Arc::new(Remote { line: self.line.clone(), there })
    }

    fn pass(&self, span: Duration) -> Pending<'_, ()> {
        self.embedded.pass(span)
    }

    fn restart(&self) -> Pending<'_, ()> {
        self.embedded.restart()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes_across_a_network() {
    let far = Far::new(1);
    let suite = run(&far, |name| println!("{name}"));
    tokio::time::timeout(Duration::from_secs(120), suite).await.expect("a case hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_reached_says_so_and_is_as_it_was_when_it_is_back() {
    let far = Far::new(2);
    let store = far.store();
    let map = store.create_map("m", MapOptions::default()).await.unwrap();
    let log = store.create_log("l", LogOptions::default()).await.unwrap();
    let group = store.create_group("l", GroupOptions::owning(log)).await.unwrap();
    let put = |key: &'static str| {
        Transaction::new(Durability::Fsync).put(map, key, key, ExpectValue::Absent)
    };
    store.commit(put("before")).await.unwrap();
    let waiting = store.ready(group, ConsumerId::SYSTEM);

    far.line.cut.store(true, Ordering::Relaxed);
    let reason = |error: Error| assert_eq!(error.reason(), Reason::StorageUnavailable);
    let refused = store.commit(put("lost")).await.unwrap_err();
    assert!(refused.op.is_none());
    reason(refused.error);
    reason(store.get(map, b"before").await.unwrap_err());
    reason(store.scan(map, b"", None, 9).await.unwrap_err());
    reason(store.log_stats(log).await.unwrap_err());
    reason(store.next_due().await.unwrap_err());
    reason(store.take_timers(9, Duration::from_secs(1)).await.unwrap_err());
    reason(store.stats().await.unwrap_err());
    let ask = LeaseLimits { consumer: ConsumerId::SYSTEM, records: 1, bytes: 1, lease: None };
    reason(store.lease(group, ask).await.unwrap_err());
    drop(waiting);

    far.line.cut.store(false, Ordering::Relaxed);
    assert_eq!(store.get(map, b"before").await.unwrap().unwrap().data, "before");
    assert!(store.get(map, b"lost").await.unwrap().is_none());
    store.commit(put("lost")).await.unwrap();
    assert_eq!(store.scan(map, b"", None, 9).await.unwrap().len(), 2);
}
