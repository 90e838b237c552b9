//! One opening of the ledger: what is done in it, and how it compares with the model.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use weft_kernel::{ManualClock, Rng};
use weft_ledger::{
    ConsumerId, Due, Durability, EmbeddedStore, ExpectValue, GroupConsumer, GroupId, GroupOptions,
    LeaseLimits, LeasedRecord, Ledger, Limits, LogId, LogOptions, MapId, MapOptions, NewRecord, Op,
    Options, ReadItem, Receipt, Recovered, Refused, Settle, Store, Transaction,
    disk::SimulatedDisk,
};

use super::model::{Did, Model, State};

/// Runs a future on a ledger without threads.
pub(crate) fn block<T>(ledger: &Ledger, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        ledger.step();
    }
    panic!("the future never ends");
}

pub(crate) struct Life<'a> {
    pub(crate) ledger: Ledger,
    pub(crate) recovered: Recovered,
    pub(crate) shared_log: LogId,
    queue_log: LogId,
    groups: [GroupId; 2],
    map: MapId,
    model: &'a mut Model,
    state: State,
    clock: Arc<ManualClock>,
    held: [Vec<LeasedRecord>; 2],
    ends: [u64; 2],
}

const ME: ConsumerId = ConsumerId(1);

impl<'a> Life<'a> {
    /// Opens the ledger and finds or makes its logs, groups and map; `None` when the power fails meanwhile.
    pub(crate) fn open(
        disk: &SimulatedDisk,
        options: &Options,
        clock: &Arc<ManualClock>,
        model: &'a mut Model,
    ) -> Option<Self> {
        let opened = Ledger::open(Arc::new(disk.clone()), options.clone(), clock.clone());
        let (ledger, recovered) = match opened {
            Ok(opened) => opened,
            Err(_) if disk.halted() => return None,
            Err(error) => panic!("cannot open: {}", error.detail()),
        };
        let state = model.cut(recovered.seq);
        let make = async {
            let log = ledger.create_log("shared", LogOptions::default()).await?;
            let queue = ledger.create_log("queue", LogOptions::default()).await?;
            let reader = ledger.create_group("reader", GroupOptions::over(log)).await?;
            let owner = ledger.create_group("owner", GroupOptions::owning(queue)).await?;
            let map = ledger.create_map("map", MapOptions::default()).await?;
            weft_kernel::Result::<_>::Ok((log, queue, [reader, owner], map))
        };
        let made = block(&ledger, make);
        let (shared_log, queue_log, groups, map) = match made {
            Ok(made) => made,
            Err(_) if disk.halted() => return None,
            Err(error) => panic!("cannot define: {}", error.detail()),
        };
        for group in groups {
            let me = GroupConsumer { id: ME, priority: 0, exclusive: false };
            ledger.join_now(group, me).unwrap();
        }
        let ends = state.ends;
        let clock = clock.clone();
        Some(Self {
            ledger,
            recovered,
            shared_log,
            queue_log,
            groups,
            map,
            model,
            state,
            clock,
            held: [Vec::new(), Vec::new()],
            ends,
        })
    }

    /// Submits at the level of a sync.
    pub(crate) fn submit(&mut self, ops: Vec<Op>) -> Result<Receipt, Refused> {
        let mut transaction = Transaction::new(Durability::Fsync);
        transaction.ops.extend(ops);
        self.ledger.submit_now(transaction)
    }

    /// Random transactions and steps, until the disk takes nothing more; gives the last transaction that was acknowledged.
    pub(crate) fn run(&mut self, rng: &mut Rng, count: usize) -> u64 {
        for _ in 0..count {
            if self.ledger.stats().poisoned {
                break;
            }
            self.transact(rng);
            if rng.chance(0.5) {
                self.ledger.step();
            }
            if rng.chance(0.02) {
                // Refused on a disk that fails; what was acknowledged must hold all the same.
                let _ = self.ledger.checkpoint();
            }
            self.clock.advance(Duration::from_millis(rng.below(300)));
        }
        self.ledger.durable_now(Durability::Fsync)
    }

    /// Everything is written, synced and proven.
    pub(crate) fn settle_down(&mut self) {
        while self.ledger.step() {}
    }

    fn lease(&mut self, which: usize, rng: &mut Rng) {
        let records = 1 + rng.below(8) as u32;
        let ask = LeaseLimits { consumer: ME, records, bytes: 1 << 20, lease: None };
        let Ok(leased) = self.ledger.lease_now(self.groups[which], ask) else { return };
        if let Ok(deliveries) = block(&self.ledger, leased.wait()) {
            self.held[which].extend(deliveries);
        }
    }

    fn transact(&mut self, rng: &mut Rng) {
        let (mut ops, mut did) = (Vec::new(), Vec::new());
        let mut ends = self.ends;
        for _ in 0..1 + rng.below(4) {
            match rng.below(12) {
                0..=4 => {
                    let log = rng.below(2) as usize;
                    let size = if rng.chance(0.1) { rng.below(6000) } else { rng.below(300) };
                    let mut data = vec![rng.next_u64() as u8; size as usize];
                    data.extend_from_slice(&ends[log].to_le_bytes());
                    did.push(Did::Append(log, ends[log], data.clone()));
                    let id = [self.shared_log, self.queue_log][log];
                    let expect = weft_ledger::Expect::Next(ends[log]);
                    ops.push(Op::Append { log: id, expect, record: NewRecord::new(data) });
                    ends[log] += 1;
                }
                5..=8 => {
                    let which = rng.below(2) as usize;
                    if self.held[which].is_empty() {
                        self.lease(which, rng);
                    }
                    let Some(delivery) = self.held[which].pop() else { continue };
                    let (group, position, token) =
                        (self.groups[which], delivery.position, delivery.token);
                    let how = if rng.chance(0.7) {
                        did.push(Did::Done(which, position));
                        Settle::Done
                    } else {
                        let failed = rng.chance(0.5);
                        let note = vec![b'n'; rng.below(20) as usize];
                        did.push(Did::Retry(which, position, failed, note.clone()));
                        let due = Due::After(Duration::from_millis(rng.below(2000)));
                        Settle::Retry { due, failed, note: note.into() }
                    };
                    ops.push(Op::Settle { group, position, token, how });
                }
                9 if rng.chance(0.2) => {
                    let before = rng.below(self.ends[0] + 1);
                    ops.push(Op::Trim { log: self.shared_log, before });
                    did.push(Did::Trim(before));
                }
                9 if rng.chance(0.05) => {
                    // What is held of the group is void from here on.
                    if ops.is_empty() {
                        let to = rng.below(self.ends[0] + 1);
                        ops.push(Op::Seek { group: self.groups[0], to });
                        did.push(Did::Seek(to));
                        self.held[0].clear();
                        break;
                    }
                }
                10 => {
                    let key = vec![b'a' + rng.below(20) as u8];
                    did.push(Did::Delete(key.clone()));
                    let expect = ExpectValue::Any;
                    ops.push(Op::Delete { map: self.map, key: key.into(), expect });
                }
                _ => {
                    let key = vec![b'a' + rng.below(20) as u8];
                    let value = vec![rng.next_u64() as u8; rng.below(100) as usize];
                    did.push(Did::Put(key.clone(), value.clone()));
                    ops.push(Op::Put {
                        map: self.map,
                        key: key.into(),
                        value: value.into(),
                        expires_ms: 0,
                        expect: ExpectValue::Any,
                    });
                }
            }
        }
        if ops.is_empty() {
            return;
        }
        // A lease that a trim in the same or an earlier transaction made void is refused as a whole.
        if let Ok(receipt) = self.submit(ops) {
            self.ends = ends;
            self.model.transactions.insert(receipt.seq, did);
        }
    }

    /// All records of a log, or what failed.
    pub(crate) fn read_all(&self, log: LogId) -> weft_kernel::Result<Vec<ReadItem>> {
        let mut items: Vec<ReadItem> = Vec::new();
        let mut from = 0;
        loop {
            let limits = Limits { records: 50, bytes: 20_000 };
            let read = block(&self.ledger, self.ledger.read(log, from, limits))?;
            let last = read.last().map(|item| match item {
                ReadItem::Record(record) => record.position,
                ReadItem::Lost { position, .. } => *position,
            });
            let Some(last) = last else { return Ok(items) };
            assert!(last >= from, "a read goes on");
            items.extend(read);
            from = last + 1;
        }
    }

    fn records(&self, log: LogId) -> BTreeMap<u64, Vec<u8>> {
        let items = self.read_all(log).unwrap();
        let record = |item| match item {
            ReadItem::Record(record) => (record.position, record.data.to_vec()),
            ReadItem::Lost { position, why, .. } => panic!("position {position} is lost: {why}"),
        };
        items.into_iter().map(record).collect()
    }

    /// The ledger, right after a recovery, is what the model says.
    pub(crate) fn compare(&mut self) {
        let state = &self.state;
        for (which, log) in [self.shared_log, self.queue_log].into_iter().enumerate() {
            assert_eq!(
                self.ledger.log_stats_now(log).unwrap().end,
                state.ends[which],
                "end {which}"
            );
            let found = self.records(log);
            let (found_at, expected_at): (Vec<_>, Vec<_>) =
                (found.keys().collect(), state.logs[which].keys().collect());
            assert_eq!(found_at, expected_at, "positions of log {which}");
            assert_eq!(found, state.logs[which], "log {which}");
        }
        for which in 0..2 {
            let mut found = BTreeMap::new();
            let mut from = 0;
            loop {
                let peek = self.ledger.peek(self.groups[which], from, Limits::default());
                let peeked = block(&self.ledger, peek).unwrap();
                let Some((last, _)) = peeked.last() else { break };
                from = last.position + 1;
                for (exception, _) in peeked {
                    let note = exception.note.to_vec();
                    found.insert(exception.position, (exception.failures, note));
                }
            }
            let open = state.logs[which].keys().filter(|at| which == 1 || !state.done.contains(at));
            let expected: BTreeMap<u64, (u32, Vec<u8>)> = open
                .map(|at| (*at, state.retries[which].get(at).cloned().unwrap_or_default()))
                .collect();
            assert_eq!(found, expected, "group {which}");
        }
        let scan = self.ledger.scan(self.map, b"", None, 1000);
        let found: BTreeMap<Vec<u8>, Vec<u8>> = block(&self.ledger, scan)
            .unwrap()
            .into_iter()
            .map(|(key, value)| (key.to_vec(), value.data.to_vec()))
            .collect();
        assert_eq!(found, state.map, "map");
    }

    /// After bits were flipped: what is handed out is what was stored, and what is missing was told. Whether anything was.
    pub(crate) fn check_rot(&mut self) -> bool {
        let told = !self.recovered.damage.is_empty();
        let mut lost = 0;
        for (which, log) in [self.shared_log, self.queue_log].into_iter().enumerate() {
            let mut found = BTreeMap::new();
            for item in self.read_all(log).unwrap() {
                match item {
                    ReadItem::Record(record) => {
                        found.insert(record.position, record.data.to_vec());
                    }
                    ReadItem::Lost { .. } => lost += 1,
                }
            }
            for (position, data) in &found {
                let stored = self.model.transactions.values().flatten().any(|did| {
                    matches!(did, Did::Append(log, at, stored)
                        if (*log, at, stored) == (which, position, data))
                });
                assert!(stored, "position {position} of log {which} was never stored so");
            }
            let missing =
                self.state.logs[which].keys().filter(|at| !found.contains_key(at)).count();
            assert!(
                missing == 0 || told || lost > 0,
                "{missing} of log {which} are missing untold"
            );
        }
        told || lost > 0
    }
}
