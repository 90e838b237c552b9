//! An engine across a task boundary: what a driver of one across a network has to deal with.
//!
//! Each call is a message over a channel to a future that its owner runs ([`Server::serve`]), is answered
//! some turns later, and fails with [`Reason::EngineUnavailable`](weft_kernel::Reason) while the engine is away. Nothing but names,
//! options, messages and texts of leases goes across. What stands behind is any other engine.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use weft_kernel::Result;
use weft_ledger::Limits;

use crate::{
    consume::ConsumerOptions,
    engine::{
        Answer, AnyDelivery, AnyLease, Capabilities, Engine, EngineConsumer, From, Skip, To,
        unavailable,
    },
    inspect::{Browsed, Peeked, QueueView, SeekTo, SubscriptionView, TopicView},
    name::{Key, SubscriptionKey},
    options::{QueueOptions, Start, SubscriptionOptions, TopicOptions},
    publish::{Publish, Published},
    redrive::{RedriveOptions, Redriven},
    settle::Verdict,
};

/// How many calls may wait to be taken.
const CALLS_MAX: usize = 64;
/// How many turns of the runtime an answer takes, at least.
const TURNS: usize = 3;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
type Call = Box<dyn FnOnce(Arc<Served>) -> Work + Send>;

/// The engine, as it is used.
pub struct Remote {
    name: String,
    capabilities: Capabilities,
    line: Line,
}

/// The way to the other side.
#[derive(Clone)]
struct Line {
    name: Arc<str>,
    calls: mpsc::Sender<Call>,
    away: watch::Receiver<bool>,
}

/// The other side: what stands behind, and its consumers.
struct Served {
    engine: Arc<dyn Engine>,
    consumers: Mutex<HashMap<u64, Arc<tokio::sync::Mutex<Consumer>>>>,
    next: AtomicU64,
}

struct Consumer {
    inner: Box<dyn EngineConsumer>,
    /// What was taken for a call that was given up before it was answered.
    left: Vec<AnyDelivery>,
}

/// The other side, to be run.
pub struct Server {
    served: Arc<Served>,
    calls: mpsc::Receiver<Call>,
}

/// Whether the engine can be reached.
#[derive(Clone)]
pub struct Switch(watch::Sender<bool>);

impl Switch {
    /// Lets it be away, which ends all calls under way, or come back.
    pub fn set_away(&self, away: bool) {
        self.0.send_replace(away);
    }
}

impl Remote {
    /// An engine with a name and capabilities of its own, in front of another one.
    pub fn new(
        name: &str,
        capabilities: Capabilities,
        behind: Arc<dyn Engine>,
    ) -> (Self, Server, Switch) {
        let (calls, taken) = mpsc::channel(CALLS_MAX);
        let (switch, away) = watch::channel(false);
        let line = Line { name: name.into(), calls, away };
        let served =
            Served { engine: behind, consumers: Mutex::default(), next: AtomicU64::new(1) };
        (
            Self { name: name.to_owned(), capabilities, line },
            Server { served: Arc::new(served), calls: taken },
            Switch(switch),
        )
    }
}

impl Server {
    /// Answers calls until nobody can call any more.
    pub async fn serve(mut self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                call = self.calls.recv() => match call {
                    Some(call) => {
                        let work = call(Arc::clone(&self.served));
                        under_way.push(async {
                            for _ in 0..TURNS {
                                tokio::task::yield_now().await;
                            }
                            work.await;
                        });
                    }
                    None => return,
                },
                Some(()) = under_way.next() => {}
            }
        }
    }
}

impl Line {
    /// Has something done on the other side, and waits for its answer.
    async fn call<T, F>(&self, work: impl FnOnce(Arc<Served>) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let gone = || unavailable(&self.name);
        let mut away = self.away.clone();
        if *away.borrow() {
            return Err(gone());
        }
        let (tell, told) = oneshot::channel();
        let call: Call = Box::new(move |served| {
            let work = work(served);
            Box::pin(async move {
                let _ = tell.send(work.await);
            })
        });
        let answered = async {
            self.calls.send(call).await.map_err(|_closed| gone())?;
            told.await.map_err(|_closed| gone())?
        };
        tokio::select! {
            biased;
            _ = away.wait_for(|away| *away) => Err(gone()),
            answer = answered => answer,
        }
    }
}

/// What is published to, as it goes across.
#[derive(Clone)]
enum PublishTarget {
    Queue(Key),
    Topic(Key),
}

impl PublishTarget {
    fn of(to: To<'_>) -> Self {
        match to {
            To::Queue(key) => Self::Queue(key.clone()),
            To::Topic(key) => Self::Topic(key.clone()),
        }
    }

    fn to(&self) -> To<'_> {
        match self {
            Self::Queue(key) => To::Queue(key),
            Self::Topic(key) => To::Topic(key),
        }
    }
}

/// What is consumed from, as it goes across.
fn source(from: From<'_>) -> super::MessageSource {
    match from {
        From::Queue(key) => super::MessageSource::Queue(key.clone()),
        From::Subscription(key) => super::MessageSource::Subscription(key.clone()),
    }
}

/// A lease as it goes across.
fn text(lease: &AnyLease) -> AnyLease {
    AnyLease::Other(lease.to_text().into())
}

impl Served {
    /// Takes for a consumer that waits, or not; what nobody waits for any more is kept for its next call.
    async fn take(
        &self,
        id: u64,
        max: u32,
        waits: bool,
        mut tell: oneshot::Sender<Result<Vec<AnyDelivery>>>,
    ) {
        let Some(consumer) = self.consumers.lock().get(&id).cloned() else { return };
        let mut consumer = consumer.lock().await;
        if tell.is_closed() {
            return;
        }
        let taken = if !consumer.left.is_empty() {
            Ok(std::mem::take(&mut consumer.left))
        } else if waits {
            tokio::select! {
                taken = consumer.inner.next(max) => taken,
                () = tell.closed() => return,
            }
        } else {
            consumer.inner.now(max).await
        };
        let as_text =
            |delivery: AnyDelivery| AnyDelivery { lease: text(&delivery.lease), ..delivery };
        let taken = taken.map(|taken| taken.into_iter().map(as_text).collect());
        if let Err(Ok(left)) = tell.send(taken) {
            consumer.left = left;
        }
    }
}

/// A consumer, as it is used.
struct Client {
    line: Line,
    id: u64,
    is_detached: bool,
}

impl Client {
    async fn take(&self, max: u32, waits: bool) -> Result<Vec<AnyDelivery>> {
        let id = self.id;
        let (tell, told) = oneshot::channel();
        // The call itself is answered at once: the other side sees from `tell` whether this is given up.
        let call = self.line.call(move |served| async move {
            served.take(id, max, waits, tell).await;
            Ok(())
        });
        let gone = || unavailable(&self.line.name);
        let (taken, _called) =
            tokio::try_join!(async { told.await.map_err(|_closed| gone())? }, call,)?;
        Ok(taken)
    }

    /// Ends the consumer on the other side, without waiting for it.
    fn leave(&self, detach: bool) {
        let id = self.id;
        let call: Call = Box::new(move |served| {
            Box::pin(async move {
                let gone = served.consumers.lock().remove(&id);
                if let Some(Ok(consumer)) = gone.map(Arc::try_unwrap)
                    && detach
                {
                    consumer.into_inner().inner.detach();
                }
            })
        });
        // What does not get across lets the leases run out.
        let _ = self.line.calls.try_send(call);
    }
}

impl EngineConsumer for Client {
    fn next(&mut self, max: u32) -> Answer<'_, Vec<AnyDelivery>> {
        Box::pin(self.take(max, true))
    }

    fn now(&mut self, max: u32) -> Answer<'_, Vec<AnyDelivery>> {
        Box::pin(self.take(max, false))
    }

    fn forgive(&mut self) {}

    fn detach(mut self: Box<Self>) {
        self.is_detached = true;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.leave(self.is_detached);
    }
}

/// A method that goes across as it is, with clones of what it is told.
macro_rules! across {
    ($($name:ident($($arg:ident: $Arg:ty),*) -> $Out:ty;)*) => {$(
        fn $name<'a>(&'a self, $($arg: $Arg),*) -> Answer<'a, $Out> {
            $(let $arg = $arg.clone();)*
            Box::pin(self.line.call(move |served| async move {
                served.engine.$name($(Lent::lent(&$arg)),*).await
            }))
        }
    )*};
}

/// What went across, as the engine behind is told it.
trait Lent<'a, T> {
    fn lent(&'a self) -> T;
}

macro_rules! lent {
    (by reference $($T:ty),*) => {$(
        impl<'a> Lent<'a, &'a $T> for $T {
            fn lent(&'a self) -> &'a $T {
                self
            }
        }
    )*};
    (by value $($T:ty),*) => {$(
        impl<'a> Lent<'a, $T> for $T {
            fn lent(&'a self) -> $T {
                self.clone()
            }
        }
    )*};
}

lent!(by reference Key, SubscriptionKey);
lent!(by value QueueOptions, TopicOptions, SubscriptionOptions, Limits, Start, SeekTo, Skip, u64);

impl Engine for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    across! {
        declare_queue(key: &'a Key, options: QueueOptions) -> ();
        declare_topic(key: &'a Key, options: TopicOptions) -> ();
        declare_subscription(key: &'a SubscriptionKey, options: SubscriptionOptions) -> ();
        alter_queue(key: &'a Key, options: QueueOptions) -> ();
        alter_topic(key: &'a Key, options: TopicOptions) -> ();
        alter_subscription(key: &'a SubscriptionKey, options: SubscriptionOptions) -> ();
        delete_queue(key: &'a Key) -> ();
        delete_topic(key: &'a Key) -> ();
        delete_subscription(key: &'a SubscriptionKey) -> ();
        inspect_queue(key: &'a Key) -> QueueView;
        inspect_topic(key: &'a Key) -> TopicView;
        inspect_subscription(key: &'a SubscriptionKey) -> SubscriptionView;
        peek(key: &'a Key, from: u64, limits: Limits) -> Vec<Peeked>;
        purge(key: &'a Key) -> u64;
        browse(key: &'a Key, from: u64, limits: Limits) -> Vec<Browsed>;
        position(key: &'a Key, start: Start) -> u64;
        until_beyond(key: &'a Key, position: u64) -> ();
        seek(key: &'a SubscriptionKey, to: SeekTo) -> ();
        skip(key: &'a SubscriptionKey, skip: Skip) -> ();
    }

    fn publish<'a>(
        &'a self,
        to: To<'a>,
        messages: &'a [Publish],
        expect: Option<u64>,
    ) -> Answer<'a, Published> {
        let (target, messages) = (PublishTarget::of(to), messages.to_vec());
        Box::pin(self.line.call(move |served| async move {
            served.engine.publish(target.to(), &messages, expect).await
        }))
    }

    fn consume<'a>(
        &'a self,
        from: From<'a>,
        options: ConsumerOptions,
    ) -> Answer<'a, Box<dyn EngineConsumer>> {
        let source = source(from);
        Box::pin(async move {
            let joined = self.line.call(move |served| async move {
                let inner = served.engine.consume(source.from(), options).await?;
                let id = served.next.fetch_add(1, Ordering::Relaxed);
                let consumer = Consumer { inner, left: Vec::new() };
                let consumer = Arc::new(tokio::sync::Mutex::new(consumer));
                served.consumers.lock().insert(id, consumer);
                Ok(id)
            });
            let id = joined.await?;
            let line = self.line.clone();
            Ok(Box::new(Client { line, id, is_detached: false }) as Box<dyn EngineConsumer>)
        })
    }

    fn settle<'a>(
        &'a self,
        from: From<'a>,
        verdicts: Vec<(AnyLease, Verdict)>,
    ) -> Answer<'a, Vec<Result<()>>> {
        let source = source(from);
        let verdicts =
            verdicts.into_iter().map(|(lease, verdict)| (text(&lease), verdict)).collect();
        Box::pin(
            self.line.call(move |served| async move {
                served.engine.settle(source.from(), verdicts).await
            }),
        )
    }

    fn renew<'a>(&'a self, from: From<'a>, lease: &'a AnyLease, span: Duration) -> Answer<'a, ()> {
        let (source, lease) = (source(from), text(lease));
        Box::pin(self.line.call(move |served| async move {
            served.engine.renew(source.from(), &lease, span).await
        }))
    }

    fn redrive<'a>(
        &'a self,
        dead: &'a Key,
        to: Option<To<'a>>,
        options: RedriveOptions,
    ) -> Answer<'a, Redriven> {
        let (dead, to) = (dead.clone(), to.map(PublishTarget::of));
        Box::pin(self.line.call(move |served| async move {
            served.engine.redrive(&dead, to.as_ref().map(PublishTarget::to), options).await
        }))
    }

    fn last<'a>(&'a self, key: &'a Key, of: &'a [u8]) -> Answer<'a, Option<Browsed>> {
        let (key, of) = (key.clone(), of.to_vec());
        Box::pin(self.line.call(move |served| async move { served.engine.last(&key, &of).await }))
    }
}
