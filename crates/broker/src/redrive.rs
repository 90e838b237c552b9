//! Redrive: dead letters go back to where they came from, or elsewhere, as the very bytes they were.
//!
//! Each batch is one transaction: the dead letter goes and the message comes, or neither. A rate bounds
//! how many go per second; a dry run only counts. A key that is parked is freed by the transaction that
//! sends its first dead letter back; what of it still stands in the queue follows its dead letters first,
//! so that it comes behind them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{Durability, ExpectValue, Op, ReadItem, Standing};

use crate::{
    broker::Broker,
    consume::open,
    dead::Grave,
    filter::{Filter, FilterOptions},
    history::History,
    message::{Burial, Cause, Message, Origin},
    name::Key,
    publish::{Batch, Publish, Target},
    settlement::parked_key,
    source::{Queue, Source},
};

/// How many dead letters, and bytes of them, go back in one transaction.
const AT_ONCE: usize = 32;
const BYTES_AT_ONCE: u64 = 1 << 20;

/// Which dead letters go back, and how.
#[derive(Clone, Debug, Default)]
pub struct RedriveOptions {
    /// Only those whose message this takes.
    pub filter: FilterOptions,
    /// Only those that died of this.
    pub cause: Option<Cause>,
    /// Only those of this ordering key.
    pub key: Option<Bytes>,
    /// At most so many.
    pub max: Option<u64>,
    /// At most so many per second; `None` for no bound.
    pub per_second: Option<u32>,
    /// Only counts.
    pub dry_run: bool,
    /// Where they go; `None` for where each came from.
    pub target: Option<Target>,
}

/// What a redrive did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Dead letters that went back.
    pub redriven: u64,
    /// Dead letters that were left: the filter did not take them, somebody held them, where they came
    /// from is gone, or they are no dead letters.
    pub left: u64,
}

impl Broker {
    /// Sends dead letters of a queue back. Dropped, it has sent back what it had sent back.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] for a filter that cannot be read, [`Reason::QueueFull`] when the
    /// target takes no more; what went before has gone.
    pub async fn redrive(&self, dead: &Arc<Queue>, options: &RedriveOptions) -> Result<Redriven> {
        let filter = options.filter.compile()?;
        let mut done = Redriven::default();
        let mut from = 0;
        if !options.dry_run && options.target.is_none() {
            self.gather(dead).await?;
        }
        // Only what is there now, so that what dies again at once does not go round.
        let end = self.store().log_stats(dead.log)?.end;
        'pages: loop {
            let page = self.store().peek(dead.group, from, AT_ONCE).await?;
            let Some((last, _)) = page.last() else { break };
            from = last.position + 1;
            let mut batch = self.batch();
            let mut moved = 0u64;
            let mut unparked = Unparked::default();
            for (exception, item) in page {
                if exception.position >= end {
                    self.send(batch, moved, &mut unparked, options, &mut done).await?;
                    break 'pages;
                }
                let held = matches!(exception.standing, Standing::Leased { .. });
                let record = match item {
                    ReadItem::Record(record) if !held => record,
                    _ => {
                        done.left += 1;
                        continue;
                    }
                };
                let message = open(&record);
                let Some(burial) =
                    message.burial().filter(|burial| takes(options, &filter, &message, burial))
                else {
                    done.left += 1;
                    continue;
                };
                let target = match &options.target {
                    Some(target) => Some(target.clone()),
                    None => self.origin(&burial.origin),
                };
                let Some(target) = target else {
                    done.left += 1;
                    continue;
                };
                if options.max.is_some_and(|max| done.redriven + moved >= max) {
                    done.left += 1;
                    continue;
                }
                moved += 1;
                if options.dry_run {
                    continue;
                }
                let publish = Publish {
                    key: burial.key.clone(),
                    priority: burial.priority,
                    ..Publish::new(message.revived())
                };
                batch.op(
                    Op::Remove { log: dead.log, position: exception.position },
                    Durability::Fsync,
                );
                match &target {
                    Target::Queue(queue) => {
                        batch.queue(queue, &publish)?;
                        batch.known_again();
                        if unparked.unpark(queue, &burial.key) {
                            let source = Source::Queue(Arc::clone(queue));
                            batch.op(self.unparking(&source, &burial.key), Durability::Fsync);
                        }
                    }
                    Target::Topic(topic) => {
                        batch.topic(topic, &publish, None)?;
                        batch.known_again();
                    }
                }
                if batch.bytes() >= BYTES_AT_ONCE {
                    let full = std::mem::replace(&mut batch, self.batch());
                    self.send(full, moved, &mut unparked, options, &mut done).await?;
                    moved = 0;
                }
            }
            self.send(batch, moved, &mut unparked, options, &mut done).await?;
        }
        Ok(done)
    }

    /// Commits one batch, and keeps to the rate.
    async fn send(
        &self,
        batch: Batch,
        moved: u64,
        unparked: &mut Unparked,
        options: &RedriveOptions,
        done: &mut Redriven,
    ) -> Result<()> {
        if !batch.is_empty() {
            let receipt = self.submit_with_room(batch).await?;
            // From here on it takes place, whoever waits for it.
            unparked.0.clear();
            self.until_durable(&receipt).await?;
        }
        done.redriven += moved;
        if let Some(rate) = options.per_second.filter(|_| moved > 0 && !options.dry_run) {
            let span = Duration::from_secs_f64(moved as f64 / f64::from(rate.max(1)));
            tokio::time::sleep(span).await;
        }
        Ok(())
    }

    /// Where a dead letter came from, if it is still there. What died in a subscription goes back to a
    /// queue or topic that is named, because on its topic every subscription would see it again.
    fn origin(&self, origin: &Origin) -> Option<Target> {
        match origin {
            Origin::Queue(key) => self.queue(key).ok().map(Target::Queue),
            Origin::Subscription(..) => None,
        }
    }

    /// Moves what stands in queues behind dead messages of its key to them, in order.
    async fn gather(&self, dead: &Queue) -> Result<()> {
        for queue in self.queues() {
            let source = Source::Queue(Arc::clone(&queue));
            let parked = queue.parked.lock().clone();
            if parked.is_empty() || self.dead_key(&source)?.as_ref() != Some(&dead.key) {
                continue;
            }
            let mut from = 0;
            loop {
                let page = self.store().peek(queue.group, from, AT_ONCE).await?;
                let Some((last, _)) = page.last() else { break };
                from = last.position + 1;
                let mut batch = self.batch();
                for (exception, item) in page {
                    let ReadItem::Record(record) = item else { continue };
                    let held = matches!(exception.standing, Standing::Leased { .. });
                    if held || !parked.contains(&record.key) {
                        continue;
                    }
                    let burial = Burial {
                        cause: Cause::Parked,
                        reason: String::new(),
                        origin: Origin::Queue(queue.key.clone()),
                        position: record.position,
                        published_ms: record.time_ms,
                        died_ms: self.now_ms(),
                        failures: exception.failures,
                        handouts: exception.handouts,
                        key: record.key.clone(),
                        priority: record.priority,
                        history: History::from_stored(exception.note),
                    };
                    let remove = Op::Remove { log: queue.log, position: record.position };
                    batch.op(remove, Durability::Fsync);
                    let grave = Grave { message: open(&record), burial };
                    self.bury(&source, grave, &[], &mut batch).await?;
                    if batch.bytes() >= BYTES_AT_ONCE {
                        self.commit(std::mem::replace(&mut batch, self.batch())).await?;
                    }
                }
                if !batch.is_empty() {
                    self.commit(batch).await?;
                }
            }
        }
        Ok(())
    }

    fn unparking(&self, source: &Source, key: &[u8]) -> Op {
        Op::Delete {
            map: self.inner().maps.parked,
            key: parked_key(source, key),
            expect: ExpectValue::Any,
        }
    }

    /// Frees a parked key without its dead letters: what comes of it is handed out again.
    ///
    /// # Errors
    /// What the store says.
    pub async fn unpark(&self, source: &Source, key: &[u8]) -> Result<()> {
        let mut batch = self.batch();
        batch.op(self.unparking(source, key), Durability::Fsync);
        self.commit(batch).await?;
        source.parked().lock().remove(key);
        Ok(())
    }

    /// The queue of a name that keeps dead letters.
    ///
    /// # Errors
    /// [`Reason::NoQueue`] when none has died yet.
    pub fn dead_letters(&self, source: &Source) -> Result<Arc<Queue>> {
        let key: Option<Key> = self.dead_key(source)?;
        let key =
            key.ok_or_else(|| Error::new(Reason::NoQueue, "no queue keeps its dead letters"))?;
        self.queue(&key)
    }
}

/// Keys that are free before the transaction that frees them is submitted; parked again if it never is.
#[derive(Default)]
struct Unparked(Vec<(Arc<Queue>, Bytes)>);

impl Unparked {
    /// Whether the key was parked.
    fn unpark(&mut self, queue: &Arc<Queue>, key: &Bytes) -> bool {
        let was = queue.parked.lock().remove(key);
        if was {
            self.0.push((Arc::clone(queue), key.clone()));
        }
        was
    }
}

impl Drop for Unparked {
    fn drop(&mut self) {
        for (queue, key) in self.0.drain(..) {
            queue.parked.lock().insert(key);
        }
    }
}

fn takes(options: &RedriveOptions, filter: &Filter, message: &Message, burial: &Burial) -> bool {
    options.cause.is_none_or(|cause| cause == burial.cause)
        && options.key.as_ref().is_none_or(|key| *key == burial.key)
        && filter.takes(message)
}
