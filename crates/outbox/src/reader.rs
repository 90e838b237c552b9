//! Reads the stream of changes, and publishes it: each batch of events with the position that is known then.
//!
//! What is read is gathered until nothing more has come or a bound is reached, and goes to topics and into the ledger
//! in one transaction; only once that is durable is the server told. A transaction that is larger than a batch is
//! published in parts, each of which is exactly as certain: none of it was sent before the whole was committed.

use std::{collections::HashMap, pin::pin, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use tokio::time::Instant;
use weft_broker::{Batch, Durability, Key};
use weft_kernel::{Error, Reason};

use crate::{
    client::{Client, Failure, Frame},
    event::{self, Layout, Routed, unix_ms},
    fault::Fault,
    kept::{Kept, Mark, Part},
    lsn::Lsn,
    pgoutput::{self, Logical, Output, Relation},
    refused,
    service::{End, HEARTBEAT, Outbox},
    state::State,
    track::Track,
};

/// Events of one transaction of the ledger.
const EVENTS_MAX: usize = 512;
/// Bytes of events of one transaction of the ledger, beyond which it takes no more.
const BYTES_MAX: u64 = 1 << 20;
/// How often the server is told, whatever happens; it hangs up after `wal_sender_timeout`, a minute.
const TELL: Duration = Duration::from_secs(5);
/// Pause before what the store does not take is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// Tables that are remembered; those of a publication are a few.
const RELATIONS_MAX: usize = 10_000;

/// One stream.
pub(crate) struct Reader<'a> {
    outbox: &'a Outbox,
    client: Client,
    kept: Kept,
    version: u64,
    track: Track,
    /// The tables that were told of; `None` for one that is not the outbox.
    relations: HashMap<u32, Option<Layout>>,
    gathered: Gathered,
    /// Up to where the server has sent.
    received: Lsn,
    /// Up to where it was told that everything was published.
    confirmed: Lsn,
    tell_at: Instant,
}

/// What waits to be published.
struct Gathered {
    batch: Batch,
    refused: u64,
    /// The last whole transaction.
    mark: Option<Mark>,
    /// How much of the next one.
    part: Option<Part>,
}

impl<'a> Reader<'a> {
    /// A stream that begins at a position.
    pub(crate) fn new(
        outbox: &'a Outbox,
        client: Client,
        (kept, version): (Kept, u64),
        from: Lsn,
        proof: bool,
    ) -> Self {
        let track = Track::new(&kept, proof);
        let shared = outbox.shared();
        shared.set_done(kept.done.map(|done| done.end));
        shared.set_received(from);
        shared.proven.store(track.is_proven(), Relaxed);
        Self {
            outbox,
            client,
            kept,
            version,
            track,
            relations: HashMap::new(),
            gathered: Gathered::new(outbox),
            received: from,
            confirmed: from,
            tell_at: Instant::now(),
        }
    }

    /// Reads until something ends it.
    pub(crate) async fn run(mut self) -> End {
        match self.read().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn read(&mut self) -> Result<std::convert::Infallible, End> {
        loop {
            if self.is_due() {
                self.flush().await?;
            }
            let frame = tokio::select! {
                frame = self.client.next() => frame?,
                () = tokio::time::sleep_until(self.tell_at) => {
                    self.tell().await?;
                    continue;
                }
            };
            match frame {
                Frame::Data(data) => self.take(data).await?,
                Frame::Ended => return Err(Failure::Away("it has ended the stream".into()).into()),
            }
        }
    }

    /// Whether what was gathered is to be published now.
    fn is_due(&self) -> bool {
        let Gathered { batch, refused, mark, .. } = &self.gathered;
        // What goes to the queue for what topics refuse goes alone, so that its last place is enough for it.
        if batch.len() >= EVENTS_MAX || batch.bytes() >= BYTES_MAX || *refused > 0 {
            return true;
        }
        let is_whole = !self.track.is_open() && (mark.is_some() || !batch.is_empty());
        is_whole && !self.client.has_frame()
    }

    async fn take(&mut self, mut data: Bytes) -> Result<(), End> {
        const CHANGE_HEAD: usize = 24;
        const KEEPALIVE: usize = 17;
        let malformed = || Failure::Protocol("a message of the stream cannot be read".into());
        match data.first() {
            Some(b'w') if data.len() > CHANGE_HEAD + 1 => {
                data.advance(1);
                let at = Lsn(data.get_u64());
                data.advance(CHANGE_HEAD - 8);
                let output = pgoutput::read(&data).map_err(|_malformed| malformed())?;
                self.output(at, output).await
            }
            Some(b'k') if data.len() == KEEPALIVE + 1 => {
                data.advance(1);
                let end = Lsn(data.get_u64());
                data.advance(8);
                self.keepalive(end, data.get_u8() == 1).await
            }
            _ => Err(malformed().into()),
        }
    }

    async fn output(&mut self, at: Lsn, output: Output) -> Result<(), End> {
        self.heard(at);
        match output {
            Output::Begin(begin) => {
                if let Err(fault) = self.track.begin(begin) {
                    return self.stop(fault).await;
                }
                self.outbox.shared().behind(unix_ms(begin.at));
            }
            Output::Commit(commit) => {
                self.heard(commit.end);
                let unordered =
                    || Failure::Protocol("a transaction ends that has not begun".into());
                if let Some(mark) = self.track.commit(commit).map_err(|_unordered| unordered())? {
                    (self.gathered.mark, self.gathered.part) = (Some(mark), None);
                } else if self.gathered.is_empty() && !self.client.has_frame() {
                    self.outbox.shared().caught_up();
                }
                self.outbox.shared().proven.store(self.track.is_proven(), Relaxed);
            }
            Output::Relation(relation) => return self.relation(relation).await,
            Output::Insert { relation, values } => {
                let options = self.outbox.options();
                let unknown = || Failure::Protocol("a row is of a table that was not told".into());
                let layout = self.relations.get(&relation).ok_or_else(unknown)?;
                let (Some(layout), Some(table)) = (layout, &options.table) else { return Ok(()) };
                if self.track.change(at) {
                    let time = self.track.begun().map_or(0, |begin| begin.at);
                    let routed = layout.event(&values, table, &options.source, time);
                    let raw = if routed.is_err() { layout.shown(&values) } else { Bytes::new() };
                    return self.add(routed, raw).await;
                }
            }
            Output::Message(message) => return self.message(at, message).await,
            Output::Other => {}
        }
        Ok(())
    }

    async fn relation(&mut self, relation: Relation) -> Result<(), End> {
        let table = self.outbox.options().table.as_ref();
        let table = table.filter(|of| of.schema == relation.schema && of.name == relation.name);
        let id = relation.id;
        let layout = match table.map(|table| Layout::of(relation, table)).transpose() {
            Ok(layout) => layout,
            Err(missing) => return self.stop(Fault::Setup(missing)).await,
        };
        if self.relations.len() >= RELATIONS_MAX && !self.relations.contains_key(&id) {
            return Err(Failure::Protocol("the publication has too many tables".into()).into());
        }
        self.relations.insert(id, layout);
        Ok(())
    }

    async fn message(&mut self, at: Lsn, message: Logical) -> Result<(), End> {
        let options = self.outbox.options();
        if message.prefix == HEARTBEAT {
            if message.content == options.slot && self.track.change(at) {
                self.gathered.part = self.track.so_far();
            }
            return Ok(());
        }
        let Some(of) = options.messages.as_ref().filter(|of| of.prefix == message.prefix) else {
            return Ok(());
        };
        if !message.transactional {
            self.outbox.shared().ignored();
            return Ok(());
        }
        if self.track.change(at) {
            let time = self.track.begun().map_or(0, |begin| begin.at);
            let routed = event::message(&message.content, of, time);
            return self.add(routed, message.content).await;
        }
        Ok(())
    }

    /// Adds an event, of which `raw` is what there was if it is none, to what is published next.
    async fn add(&mut self, routed: Result<Routed, Error>, raw: Bytes) -> Result<(), End> {
        let bytes = routed.as_ref().map_or(raw.len(), |of| of.publish.message.len()) as u64;
        let batch = &self.gathered.batch;
        if !batch.is_empty() && batch.bytes().saturating_add(bytes) > BYTES_MAX {
            self.flush().await?;
        }
        match self.gathered.add(self.outbox, routed, raw, &self.track) {
            Ok(()) => Ok(()),
            Err(error) => self.stop(Fault::Refused(error.detail())).await,
        }
    }

    /// Publishes what was gathered before something that stops it.
    async fn stop(&mut self, fault: Fault) -> Result<(), End> {
        if !self.gathered.is_empty() {
            self.flush().await?;
        }
        Err(fault.into())
    }

    async fn keepalive(&mut self, end: Lsn, reply: bool) -> Result<(), End> {
        if let Err(fault) = self.track.sent(end) {
            return self.stop(fault).await;
        }
        self.heard(end);
        if self.track.is_open() {
            return if reply { self.tell().await } else { Ok(()) };
        }
        if reply && !self.gathered.is_empty() {
            self.flush().await?;
        }
        if self.gathered.is_empty() && self.track.is_proven() {
            self.outbox.shared().caught_up();
            if reply && end > self.confirmed {
                self.farewell(end).await?;
            }
        }
        if reply { self.tell().await } else { Ok(()) }
    }

    /// A server that shuts down waits until everything was confirmed that it has sent, and until then was nothing to be
    /// published. That is put down before it is told, since the slot is then further than the last transaction.
    async fn farewell(&mut self, end: Lsn) -> Result<(), End> {
        let next = Kept { told: Some(end), ..self.kept.clone() };
        let mut batch = self.outbox.broker().batch();
        batch.with(self.outbox.put(&next, self.version)?, Durability::Fsync);
        self.commit(batch).await?;
        self.kept = next;
        self.confirmed = end;
        Ok(())
    }

    fn heard(&mut self, at: Lsn) {
        if at > self.received {
            self.received = at;
            self.outbox.shared().set_received(at);
        }
    }

    /// Publishes what was gathered, together with what is known then, and tells the server once it is durable.
    async fn flush(&mut self) -> Result<(), End> {
        let gathered = std::mem::replace(&mut self.gathered, Gathered::new(self.outbox));
        let Gathered { mut batch, refused, mark, part } = gathered;
        let mut next = self.kept.clone();
        if let Some(mark) = mark {
            (next.done, next.part, next.told) = (Some(mark), None, None);
        }
        if part.is_some() {
            next.part = part;
        }
        let events = batch.len() as u64;
        batch.with(self.outbox.put(&next, self.version)?, Durability::Fsync);
        self.commit(batch).await?;
        let shared = self.outbox.shared();
        shared.published(events.saturating_sub(refused), refused);
        self.kept = next;
        if let Some(mark) = mark {
            shared.set_done(Some(mark.end));
            self.confirmed = self.confirmed.max(mark.commit);
            if !self.track.is_open() && !self.client.has_frame() {
                shared.caught_up();
            }
            self.tell().await?;
        }
        Ok(())
    }

    /// Commits to the ledger; waits for as long as it takes nothing, and keeps the connection meanwhile.
    async fn commit(&mut self, batch: Batch) -> Result<(), End> {
        loop {
            let mut commit = pin!(self.outbox.broker().commit(batch.clone()));
            let committed = loop {
                tokio::select! {
                    committed = &mut commit => break committed,
                    () = tokio::time::sleep_until(self.tell_at) => {
                        self.tell_at = Instant::now() + TELL;
                        let status = status(self.received, self.confirmed, self.outbox.now_ms());
                        self.client.tell(&status).await?;
                    }
                }
            };
            let error = match committed {
                Ok(receipt) => {
                    self.version = receipt.seq;
                    self.outbox.set(State::Reading);
                    return Ok(());
                }
                Err(error) => error,
            };
            match error.reason() {
                Reason::StorageFull
                | Reason::StorageBusy
                | Reason::StorageUnavailable
                | Reason::QueueFull => {
                    self.outbox.set(State::Waiting(error.detail()));
                    tokio::time::sleep(AGAIN).await;
                }
                _ => return Err(End::Store(error)),
            }
        }
    }

    /// Tells the server up to where everything was published.
    async fn tell(&mut self) -> Result<(), End> {
        self.tell_at = Instant::now() + TELL;
        let status = status(self.received, self.confirmed, self.outbox.now_ms());
        Ok(self.client.tell(&status).await?)
    }
}

impl Gathered {
    fn new(outbox: &Outbox) -> Self {
        Self { batch: outbox.broker().batch(), refused: 0, mark: None, part: None }
    }

    fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.mark.is_none() && self.part.is_none()
    }

    /// Adds an event. With an error it is as it was.
    fn add(
        &mut self,
        outbox: &Outbox,
        routed: Result<Routed, Error>,
        raw: Bytes,
        track: &Track,
    ) -> Result<(), Error> {
        let broker = outbox.broker();
        let (routed, error) = match routed {
            Ok(routed) => {
                let topic = Key::plain(&routed.topic).and_then(|key| broker.topic(&key));
                match topic.and_then(|topic| self.batch.topic(&topic, &routed.publish, None)) {
                    Ok(()) => (None, None),
                    Err(error) => (Some(routed), Some(error)),
                }
            }
            Err(error) => (None, Some(error)),
        };
        if let Some(error) = error {
            let Some(queue) = &outbox.options().refused_to else { return Err(error) };
            let publish = refused::publish(outbox.options(), routed, &error, raw, track.so_far())?;
            self.batch.queue(&broker.queue(queue)?, &publish)?;
            self.refused += 1;
        }
        self.part = track.so_far();
        Ok(())
    }
}

/// The message that tells a server up to where everything was received and published.
fn status(received: Lsn, confirmed: Lsn, now_ms: u64) -> Vec<u8> {
    /// Milliseconds from 1970 to 2000.
    const EPOCH_MS: u64 = 946_684_800_000;
    let mut message = Vec::with_capacity(34);
    message.put_u8(b'r');
    for at in [received.max(confirmed), confirmed, confirmed] {
        message.put_u64(at.0);
    }
    message.put_u64(now_ms.saturating_sub(EPOCH_MS).saturating_mul(1_000));
    message.put_u8(0);
    message
}
