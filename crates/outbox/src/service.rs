//! An outbox that runs: connects, holds the server to what is kept, reads, and begins again after a pause.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use weft_broker::Broker;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{ExpectValue, MapId, Op};
use weft_net::client::{Resolver, Tls};

use crate::{
    client::{Client, Failure, Purpose, Way, state},
    event::unix_ms,
    fault::Fault,
    judge::{Next, Server, SlotState, judge},
    kept::Kept,
    lsn::Lsn,
    options::Options,
    reader::Reader,
    setup,
    state::{Counts, Shared, State},
    watch,
};

/// Prefix of the messages of the log by which a slot moves on while nothing is published; each has its slot's name.
pub(crate) const HEARTBEAT: &str = "weft.heartbeat";
/// The shortest and the longest pause before a further attempt.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Pause before an outbox that stands still looks again.
const STOPPED: Duration = Duration::from_secs(15);
/// How long a reset is waited for; it goes on behind that.
const RESET: Duration = Duration::from_secs(45);
/// How long it is waited for that nobody has the slot, when it is to be made anew.
const LET_GO: Duration = Duration::from_secs(10);

/// From where an outbox is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// From now on, with a slot that is made anew. What was committed before and not published is left out.
    Now,
    /// From where the slot is that is there. What was published of that comes again.
    Slot,
    /// From the last transaction that was published, on a server that is another one and has the same log, as after
    /// a failover.
    Kept,
}

/// An outbox.
pub struct Outbox {
    options: Options,
    broker: Broker,
    map: MapId,
    way: Way,
    shared: Shared,
    reset: Mutex<Option<(From, oneshot::Sender<Result<Lsn>>)>>,
    asked: Notify,
    closed: Notify,
}

/// Why reading has ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The connection.
    Failure(Failure),
    /// Nobody but a person can go on.
    Fault(Fault),
    /// The store.
    Store(Error),
}

impl std::convert::From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl std::convert::From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Outbox {
    /// An outbox that stands still until it [runs](Self::run). Its position is kept in `map`; `tls` is asked with each
    /// connection that speaks it.
    pub fn new(
        options: Options,
        broker: Broker,
        map: MapId,
        resolver: Arc<dyn Resolver>,
        tls: Option<Tls>,
    ) -> Self {
        let way = Way { database: options.database.clone(), resolver, tls };
        let shared = Shared::new(now_ms(&broker));
        Self {
            options,
            broker,
            map,
            way,
            shared,
            reset: Mutex::default(),
            asked: Notify::new(),
            closed: Notify::new(),
        }
    }

    /// What it was made of.
    pub fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn way(&self) -> &Way {
        &self.way
    }

    pub(crate) fn now_ms(&self) -> u64 {
        now_ms(&self.broker)
    }

    /// What it does.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// What it has counted.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// How long something may have waited to be published.
    pub fn lag(&self) -> Duration {
        Duration::from_millis(self.shared.lag_ms(self.now_ms()))
    }

    /// Bytes of the server's log that have not come yet, and bytes that it keeps for the slot, as it said last.
    pub fn lag_bytes(&self) -> (u64, u64) {
        self.shared.lag_bytes()
    }

    /// What the server says of the log that it keeps for the slot.
    pub fn wal_status(&self) -> String {
        self.shared.wal_status()
    }

    /// Sets what it does, and tells it where it is news.
    pub(crate) fn set(&self, state: State) {
        let (name, detail) = (&self.options.name, state.detail().unwrap_or_default());
        if !self.shared.set(state.clone()) {
            return;
        }
        match state {
            State::Stopped(fault) => {
                let (word, help) = (fault.word(), fault.help());
                tracing::error!(outbox = %name, fault = word, help, "the outbox stands still: {detail}");
            }
            State::Away(_) | State::Waiting(_) => {
                tracing::warn!(outbox = %name, "the outbox waits: {detail}");
            }
            State::Reading => tracing::info!(outbox = %name, "the outbox reads"),
            State::Connecting | State::Creating => {}
        }
    }

    /// What is kept of it, with its version.
    ///
    /// # Errors
    /// What the store says, and [`Reason::StorageCorrupt`] for what cannot be read.
    pub async fn kept(&self) -> Result<Option<(Kept, u64)>> {
        let value =
            self.broker.store().get(self.map, self.options.name.as_str().as_bytes()).await?;
        let Some(value) = value else { return Ok(None) };
        let kept = serde_json::from_slice(&value.data).map_err(|error| {
            Error::new(Reason::StorageCorrupt, "the position of an outbox cannot be read")
                .because(error)
        })?;
        Ok(Some((kept, value.version)))
    }

    /// The operation that puts down what is kept, in the place of a version; 0 for none.
    pub(crate) fn put(&self, kept: &Kept, version: u64) -> Result<Op, End> {
        let value = serde_json::to_vec(kept).map_err(|error| {
            let say = "the position of an outbox cannot be written";
            End::Store(Error::new(Reason::Internal, say).because(error))
        })?;
        Ok(Op::Put {
            map: self.map,
            key: Bytes::copy_from_slice(self.options.name.as_str().as_bytes()),
            value: value.into(),
            expires_ms: 0,
            expect: match version {
                0 => ExpectValue::Absent,
                version => ExpectValue::Version(version),
            },
        })
    }

    async fn keep(&self, kept: &Kept, version: u64) -> Result<u64, End> {
        let mut batch = self.broker.batch();
        batch.with(self.put(kept, version)?, weft_broker::Durability::Fsync);
        Ok(self.broker.commit(batch).await.map_err(End::Store)?.seq)
    }

    /// Reads and publishes, until it is closed.
    pub async fn run(&self) {
        let work = async {
            let mut pause = PAUSES.0;
            loop {
                tokio::select! {
                    () = self.asked.notified() => self.answer_reset().await,
                    () = self.attempt(&mut pause) => {}
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = self.closed.notified() => {}
        }
    }

    /// Has [`run`](Self::run) end.
    pub fn close(&self) {
        self.closed.notify_one();
    }

    /// Reads until it cannot, and pauses then.
    async fn attempt(&self, pause: &mut Duration) {
        let before = self.counts();
        let end = match self.read().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.shared.lost_sight(self.now_ms());
        if self.counts().published != before.published {
            *pause = PAUSES.0;
        }
        let wait = match end {
            End::Fault(fault) => {
                self.set(State::Stopped(fault));
                STOPPED
            }
            End::Failure(failure) => {
                self.set(State::Away(failure.to_string()));
                *pause
            }
            End::Store(error) => {
                self.set(State::Waiting(error.detail()));
                *pause
            }
        };
        *pause = (*pause * 2).min(PAUSES.1);
        tokio::time::sleep(wait).await;
    }

    async fn read(&self) -> Result<std::convert::Infallible, End> {
        let (mut client, server, slot) = self.look().await?;
        setup::publication(&mut client, &self.options).await?;
        let kept = self.kept().await.map_err(End::Store)?;
        let (kept, from, proof) = self.begin(&mut client, server, slot, kept).await?;
        match client.stream(&setup::stream(&self.options, from)).await {
            Ok(()) => {}
            Err(failure) if failure.is(state::NOT_IN_STATE) => {
                return Err(Fault::SlotLost(failure.to_string()).into());
            }
            Err(failure) if failure.is(state::OBJECT_IN_USE) => {
                let say = format!("somebody else reads the slot: {failure}");
                return Err(Failure::Away(say).into());
            }
            Err(failure) => return Err(failure.into()),
        }
        self.shared.connected();
        let reader = Reader::new(self, client, kept, from, proof);
        self.set(State::Reading);
        tokio::select! {
            end = reader.run() => Err(end),
            end = watch::run(self) => Err(end),
        }
    }

    /// Connects, and asks who the server is and how the slot stands.
    async fn look(&self) -> Result<(Client, Server, Option<SlotState>), End> {
        if !matches!(self.state(), State::Stopped(_) | State::Away(_)) {
            self.set(State::Connecting);
        }
        let client = self.way.open(Purpose::Replication, &self.options.slot).await;
        let mut client = match client {
            Err(failure) if failure.is(state::NOT_PRIVILEGED) => {
                let user = &self.options.database.user;
                let say = format!(
                    "the role may not replicate ({failure}): ALTER ROLE {user} REPLICATION"
                );
                return Err(Fault::Setup(say).into());
            }
            client => client?,
        };
        let server = setup::server(&mut client).await?;
        let slot = setup::slot(&mut client, &self.options.slot).await?;
        Ok((client, server, slot))
    }

    /// Decides where to begin, and makes the slot with the first beginning.
    async fn begin(
        &self,
        client: &mut Client,
        server: Server,
        slot: Option<SlotState>,
        kept: Option<(Kept, u64)>,
    ) -> Result<((Kept, u64), Lsn, bool), End> {
        if let Some((kept, _)) = kept.as_ref().filter(|(kept, _)| !kept.making)
            && kept.slot != self.options.slot
        {
            let say = format!(
                "it reads slot {}, and its position is of slot {}",
                self.options.slot, kept.slot
            );
            return Err(Fault::OtherName(say).into());
        }
        let known = kept.as_ref().map(|(kept, _)| kept);
        let known = known.filter(|kept| kept.slot == self.options.slot);
        match judge(known, &server, slot.as_ref())? {
            Next::Read { from, proof } => {
                let unknown = || End::Fault(Fault::SlotUnknown(from));
                Ok((kept.ok_or_else(unknown)?, from, proof))
            }
            Next::Adopt(start) => {
                let version = kept.map_or(0, |(_, version)| version);
                let kept = self.fresh(server, start);
                let version = self.keep(&kept, version).await?;
                Ok(((kept, version), start, false))
            }
            Next::Create => {
                let version = kept.map_or(0, |(_, version)| version);
                let (kept, version) = self.make(client, server, version).await?;
                let start = kept.start;
                Ok(((kept, version), start, false))
            }
        }
    }

    /// Makes the slot; that it is being made is put down before, so that it is known after a crash.
    async fn make(
        &self,
        client: &mut Client,
        server: Server,
        version: u64,
    ) -> Result<(Kept, u64), End> {
        self.set(State::Creating);
        let mut kept = Kept { making: true, ..self.fresh(server, Lsn(0)) };
        let version = self.keep(&kept, version).await?;
        let start = setup::create_slot(client, &self.options).await?;
        kept = Kept { making: false, start, ..kept };
        let version = self.keep(&kept, version).await?;
        Ok((kept, version))
    }

    fn fresh(&self, server: Server, start: Lsn) -> Kept {
        let Server { system, timeline, database, .. } = server;
        let slot = self.options.slot.clone();
        let (done, part, told) = (None, None, None);
        Kept { system, timeline, database, slot, making: false, start, done, part, told }
    }

    /// Has it go on from somewhere else. Answers where that is.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn reset(&self, from: From) -> Result<Lsn> {
        let (answer, answered) = oneshot::channel();
        *self.reset.lock() = Some((from, answer));
        self.asked.notify_one();
        let conflict = |say| Err(Error::new(Reason::Conflict, say));
        match tokio::time::timeout(RESET, answered).await {
            Ok(Ok(done)) => done,
            Ok(Err(_gone)) => conflict("somebody else resets it at the same time"),
            Err(_elapsed) => {
                conflict("it is still being reset: the server waits for transactions that run")
            }
        }
    }

    async fn answer_reset(&self) {
        let Some((from, answer)) = self.reset.lock().take() else { return };
        let done = match self.look().await {
            Ok((mut client, server, slot)) => {
                let done = self.start_anew(&mut client, server, slot, from).await;
                client.close().await;
                done
            }
            Err(end) => Err(end),
        };
        let done = done.map_err(|end| {
            let say = match end {
                End::Failure(failure) => failure.to_string(),
                End::Fault(fault) => fault.to_string(),
                End::Store(error) => error.detail(),
            };
            Error::new(Reason::Conflict, format!("it could not be reset: {say}"))
        });
        if let Ok(at) = &done {
            tracing::warn!(outbox = %self.options.name, ?from, %at, "the outbox goes on from somewhere else");
            self.shared.set(State::Connecting);
        }
        let _ = answer.send(done);
    }

    async fn start_anew(
        &self,
        client: &mut Client,
        server: Server,
        slot: Option<SlotState>,
        from: From,
    ) -> Result<Lsn, End> {
        setup::publication(client, &self.options).await?;
        let kept = self.kept().await.map_err(End::Store)?;
        let version = kept.as_ref().map_or(0, |(_, version)| *version);
        let fault = |say: &str| End::Fault(Fault::Setup(say.into()));
        let confirmed = slot.and_then(|slot| slot.confirmed);
        match from {
            From::Now => {
                self.let_go_of_slot(client).await?;
                let (kept, _) = self.make(client, server, version).await?;
                Ok(kept.start)
            }
            From::Slot => {
                let start = confirmed.ok_or_else(|| fault("there is no slot of its name"))?;
                self.keep(&self.fresh(server, start), version).await?;
                Ok(start)
            }
            From::Kept => {
                let (kept, _) = kept.ok_or_else(|| fault("nothing was published yet"))?;
                let confirmed = confirmed.ok_or_else(|| fault("there is no slot of its name"))?;
                let start = kept.done.map_or(kept.start, |done| done.end);
                let told = kept.told.unwrap_or_default();
                if server.end < start || confirmed > start.max(told) {
                    return Err(fault(
                        "the slot is further than what was published, or the log ends before it",
                    ));
                }
                let start = start.max(confirmed);
                let next = Kept { part: kept.part, ..self.fresh(server, start) };
                self.keep(&next, version).await?;
                Ok(start)
            }
        }
    }

    /// Removes the slot, which the connection that has just ended may still have for a moment.
    async fn let_go_of_slot(&self, client: &mut Client) -> Result<(), End> {
        let until = tokio::time::Instant::now() + LET_GO;
        loop {
            match setup::drop_slot(client, &self.options).await {
                Err(End::Failure(failure))
                    if failure.is(state::OBJECT_IN_USE) && tokio::time::Instant::now() < until =>
                {
                    tokio::time::sleep(PAUSES.0).await;
                }
                dropped => return dropped,
            }
        }
    }
}

fn now_ms(broker: &Broker) -> u64 {
    let since = broker.clock().wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Wall-clock milliseconds at which a transaction was committed.
pub fn committed_ms(of: &crate::kept::Mark) -> u64 {
    unix_ms(of.at)
}
