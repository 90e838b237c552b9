//! Redrive: dead letters go back to where they came from, or elsewhere, as the very bytes they were.
//!
//! Each batch is one transaction: the dead letter goes and the message comes, or neither. A rate bounds
//! how many go per second; a dry run only counts. A key that is parked is freed by the transaction that
//! sends its first dead letter back; what of it still stands in the queue follows its dead letters first,
//! so that it comes behind them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{Durability, Limits, Op, ReadItem, Refused, Standing};

use crate::{
    broker::Broker,
    consume::open,
    dead::DeadMessage,
    filter::{Filter, FilterOptions},
    history::History,
    message::{Cause, DeadLetterSource, Death, Message},
    name::Key,
    parked::{Dead, places},
    publish::{Publish, PublishTarget},
    source::{MessageSource, Queue},
};

/// How many dead letters, and bytes of them, go back in one transaction.
const AT_ONCE: Limits = Limits { records: 32, bytes: BYTES_AT_ONCE };
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
    /// Sends dead letters of a queue back, or all of them to a target. Dropped, it has sent back what it had sent back.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] for a filter that cannot be read, [`Reason::QueueFull`] when the
    /// target takes no more; what went before has gone.
    pub async fn redrive(
        &self,
        dead: &Arc<Queue>,
        target: Option<&PublishTarget>,
        options: &RedriveOptions,
    ) -> Result<Redriven> {
        let filter = options.filter.compile()?;
        let mut done = Redriven::default();
        let mut from = 0;
        if !options.dry_run && target.is_none() {
            self.gather(dead).await?;
        }
        // Only what is there now, so that what dies again at once does not go round.
        let end = self.store().log_stats_now(dead.log)?.end;
        'pages: loop {
            let page = self.store().peek(dead.group, from, AT_ONCE).await?;
            let Some((last, _)) = page.last() else { break };
            from = last.position + 1;
            let mut moves = Vec::new();
            for (exception, item) in page {
                if exception.position >= end {
                    self.send(dead, moves, options, &mut done).await?;
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
                let Some(death) =
                    message.death().filter(|death| takes(options, &filter, &message, death))
                else {
                    done.left += 1;
                    continue;
                };
                let target = match target {
                    Some(target) => Some(target.clone()),
                    None => self.origin(&death.origin),
                };
                let Some(target) = target else {
                    done.left += 1;
                    continue;
                };
                if options.max.is_some_and(|max| done.redriven + moves.len() as u64 >= max) {
                    done.left += 1;
                    continue;
                }
                let publish = Publish {
                    key: death.key.clone(),
                    priority: death.priority,
                    ..Publish::new(message.revived())
                };
                moves.push(Move { position: exception.position, target, publish });
                let bytes = |moves: &[Move]| -> usize {
                    moves.iter().map(|one| one.publish.message.len()).sum()
                };
                if bytes(&moves) as u64 >= BYTES_AT_ONCE {
                    self.send(dead, std::mem::take(&mut moves), options, &mut done).await?;
                }
            }
            self.send(dead, moves, options, &mut done).await?;
        }
        Ok(done)
    }

    /// Sends dead letters back in one transaction, and keeps to the rate. Those that somebody else has
    /// taken or sent back meanwhile are left.
    async fn send(
        &self,
        dead: &Queue,
        mut moves: Vec<Move>,
        options: &RedriveOptions,
        done: &mut Redriven,
    ) -> Result<()> {
        if options.dry_run {
            done.redriven += moves.len() as u64;
            return Ok(());
        }
        let mut unparked = Unparked::default();
        for one in &moves {
            if let PublishTarget::Queue(queue) = &one.target {
                unparked.unpark(queue, &one.publish.key);
            }
        }
        while !moves.is_empty() {
            let mut batch = self.batch();
            let mut firsts = Vec::with_capacity(moves.len());
            for Move { position, target, publish } in &moves {
                firsts.push(batch.transaction.ops.len());
                let (group, position) = (dead.group, *position);
                batch.op(Op::Discard { group, position, held: false }, Durability::Fsync);
                match target {
                    PublishTarget::Queue(queue) => {
                        batch.queue(queue, publish)?;
                        batch.known_again();
                        if unparked.has(queue, &publish.key) {
                            let source = MessageSource::Queue(Arc::clone(queue));
                            batch.op(self.unparking(&source, &publish.key), Durability::Fsync);
                        }
                    }
                    PublishTarget::Topic(topic) => {
                        batch.topic(topic, publish, None)?;
                        batch.known_again();
                    }
                }
            }
            match self.submit_untouched(batch).await {
                Ok(receipt) => {
                    // From here on it takes place, whoever waits for it.
                    unparked.0.clear();
                    self.until_durable(&receipt).await?;
                    break;
                }
                Err(refused) => match taken_by_others(&refused, &firsts) {
                    Some(at) => {
                        moves.remove(at);
                        done.left += 1;
                    }
                    None => return Err(refused.into()),
                },
            }
        }
        done.redriven += moves.len() as u64;
        if let Some(rate) = options.per_second.filter(|_| !moves.is_empty()) {
            let span = Duration::from_secs_f64(moves.len() as f64 / f64::from(rate.max(1)));
            tokio::time::sleep(span).await;
        }
        Ok(())
    }

    /// Where a dead letter came from, if it is still there. What died in a subscription goes back to a
    /// queue or topic that is named, because on its topic every subscription would see it again.
    fn origin(&self, origin: &DeadLetterSource) -> Option<PublishTarget> {
        match origin {
            DeadLetterSource::Queue(key) => self.queue(key).ok().map(PublishTarget::Queue),
            DeadLetterSource::Subscription(..) => None,
        }
    }

    /// Moves what stands in queues behind dead messages of its key to them, in order.
    async fn gather(&self, dead: &Queue) -> Result<()> {
        for queue in self.queues() {
            let source = MessageSource::Queue(Arc::clone(&queue));
            let parked = queue.parked.lock().keys();
            if parked.is_empty() || self.dead_key(&source)?.as_ref() != Some(&dead.key) {
                continue;
            }
            let mut from = 0;
            loop {
                let page = self.store().peek(queue.group, from, AT_ONCE).await?;
                let Some((last, _)) = page.last() else { break };
                from = last.position + 1;
                let mut dead_messages = Vec::new();
                for (exception, item) in page {
                    let ReadItem::Record(record) = item else { continue };
                    let held = matches!(exception.standing, Standing::Leased { .. });
                    if held || !parked.contains(&record.key) {
                        continue;
                    }
                    let death = Death {
                        cause: Cause::Parked,
                        reason: String::new(),
                        origin: DeadLetterSource::Queue(queue.key.clone()),
                        position: record.position,
                        published_ms: record.time_ms,
                        died_ms: self.now_ms(),
                        failures: exception.failures,
                        handouts: exception.handouts,
                        key: record.key.clone(),
                        priority: record.priority,
                        history: History::from_stored(exception.note),
                    };
                    dead_messages.push(DeadMessage { message: open(&record), death });
                    let bytes: usize =
                        dead_messages.iter().map(|dead_message| dead_message.message.len()).sum();
                    if bytes as u64 >= BYTES_AT_ONCE {
                        self.follow(&source, &queue, std::mem::take(&mut dead_messages)).await?;
                    }
                }
                self.follow(&source, &queue, dead_messages).await?;
            }
        }
        Ok(())
    }

    /// Moves messages of a queue to its dead letters in one transaction, those left out that somebody
    /// else has taken meanwhile.
    async fn follow(
        &self,
        source: &MessageSource,
        queue: &Arc<Queue>,
        mut dead_messages: Vec<DeadMessage>,
    ) -> Result<()> {
        while !dead_messages.is_empty() {
            let mut batch = self.batch();
            let mut firsts = Vec::with_capacity(dead_messages.len());
            for dead_message in &dead_messages {
                firsts.push(batch.transaction.ops.len());
                let (group, position) = (queue.group, dead_message.death.position);
                batch.op(Op::Discard { group, position, held: false }, Durability::Fsync);
                self.dead_letter(source, dead_message.clone(), &mut batch).await?;
            }
            let targets = batch.appends.clone();
            match self.submit_untouched(batch).await {
                Ok(receipt) => {
                    for (at, dead_message) in dead_messages.iter().enumerate() {
                        let places = places(&targets, &receipt.appended, at..at + 1);
                        source.parked().lock().note(&dead_message.death.key, places);
                    }
                    return self.until_durable(&receipt).await;
                }
                Err(refused) => match taken_by_others(&refused, &firsts) {
                    Some(at) => drop(dead_messages.remove(at)),
                    None => return Err(refused.into()),
                },
            }
        }
        Ok(())
    }

    /// The queue of a name that keeps dead letters.
    ///
    /// # Errors
    /// [`Reason::NoQueue`] when none has died yet.
    pub fn dead_letters(&self, source: &MessageSource) -> Result<Arc<Queue>> {
        let key: Option<Key> = self.dead_key(source)?;
        let key =
            key.ok_or_else(|| Error::new(Reason::NoQueue, "no queue keeps its dead letters"))?;
        self.queue(&key)
    }
}

/// A dead letter on its way back.
struct Move {
    position: u64,
    target: PublishTarget,
    publish: Publish,
}

/// Which part of a transaction was refused because somebody else has what it moves; each part begins
/// with the operation that takes it away.
fn taken_by_others(refused: &Refused, firsts: &[usize]) -> Option<usize> {
    let reason = refused.error.reason();
    let taken = matches!(reason, Reason::NoMessage | Reason::VersionConflict);
    firsts.iter().position(|first| taken && refused.op == Some(*first))
}

/// Keys that are free before the transaction that frees them is submitted; parked again if it never is.
#[derive(Default)]
struct Unparked(Vec<(Arc<Queue>, Bytes, Dead)>);

impl Unparked {
    fn unpark(&mut self, queue: &Arc<Queue>, key: &Bytes) {
        let dead = queue.parked.lock().take(key);
        if let Some(dead) = dead {
            self.0.push((Arc::clone(queue), key.clone(), dead));
        }
    }

    /// Whether the key was parked.
    fn has(&self, queue: &Arc<Queue>, key: &Bytes) -> bool {
        self.0.iter().any(|(of, known, _)| Arc::ptr_eq(of, queue) && known == key)
    }
}

impl Drop for Unparked {
    fn drop(&mut self) {
        for (queue, key, dead) in self.0.drain(..) {
            queue.parked.lock().put_back(key, dead);
        }
    }
}

fn takes(options: &RedriveOptions, filter: &Filter, message: &Message, death: &Death) -> bool {
    options.cause.is_none_or(|cause| cause == death.cause)
        && options.key.as_ref().is_none_or(|key| *key == death.key)
        && filter.takes(message)
}
