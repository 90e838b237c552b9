//! Making transactions of appends and changes, under the order's lock, and handing them to the ledger.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{
    Durability,
    transaction::{Expect, ExpectValue, NewRecord, Op, Receipt, Transaction},
};

use crate::{
    append::{Append, AppendBatch, AppendReceipt, Decision, Known, Written, decide},
    head::{Chunk, Head, Life},
    index::Recent,
    name::StreamName,
    order::Order,
    row::{encode, row_key},
    store::{Change, Inner, StreamInfo},
};

/// What came of trying.
pub(crate) enum Tried {
    Done(AppendReceipt, Option<Receipt>),
    /// A head went out of memory meanwhile.
    Cold,
    /// Too much waits to be written.
    Busy,
    /// The events of an append have to be looked at, from a version on.
    Look(usize, u64),
    Conflict(usize, u64, Arc<Head>),
    /// Whether there are events that a condition does not allow has to be looked up.
    Search(usize),
    /// An event that would be written is refused for what it is.
    Refused,
    Failed(Error),
}

/// What is known of a batch besides what it says: what trying has found out.
pub(crate) struct Knowledge {
    pub(crate) known: Vec<Known>,
    /// From which version on the events of an append are there.
    pub(crate) there: Vec<Option<u64>>,
    /// Before which position there are no events that a condition does not allow.
    pub(crate) clear: Vec<u64>,
    /// Whether an event of it is refused for what it is, if it would be written.
    is_refused: bool,
}

impl Knowledge {
    pub(crate) fn of(batch: &AppendBatch, is_refused: bool) -> Self {
        let clear = |after: Option<u64>| after.map_or(0, |after| after.saturating_add(1));
        Self {
            known: vec![Known::default(); batch.appends.len()],
            there: vec![None; batch.appends.len()],
            clear: batch.conditions.iter().map(|condition| clear(condition.after)).collect(),
            is_refused,
        }
    }
}

impl Inner {
    /// Appends, if all heads are here and as they are expected, and nothing has come that a condition does not allow.
    pub(crate) fn try_append(&self, batch: &AppendBatch, knowledge: &Knowledge) -> Tried {
        let Knowledge { known, there, clear, is_refused } = knowledge;
        let mut order = self.order.lock();
        if let Err(tried) = self.index(&mut order, Recent::is_due) {
            return tried;
        }
        let mut heads: HashMap<&StreamName, Head> = HashMap::new();
        for append in &batch.appends {
            let Some(head) = order.head(&append.stream) else { return Tried::Cold };
            heads.entry(&append.stream).or_insert_with(|| Head::clone(head));
        }
        // A batch that was done already is done, whatever has become of its streams since.
        let is_again = match again(batch, &heads, known, there) {
            Again::Look(at, from) => return Tried::Look(at, from),
            Again::Yes => true,
            Again::No => false,
        };
        let (first, mut next) = (order.next, order.next);
        let mut entries = Vec::new();
        let (mut ops, mut written) = (Vec::new(), Vec::with_capacity(batch.appends.len()));
        for (at, append) in batch.appends.iter().enumerate() {
            let Some(head) = heads.get_mut(&append.stream) else { return Tried::Cold };
            let stream = append.stream.clone();
            let count = append.events.len() as u64;
            if let Some(from) = there[at] {
                written.push(Written { stream, versions: from..from + count, is_known: true });
                continue;
            }
            if is_again {
                written.push(Written { stream, versions: head.next..head.next, is_known: true });
                continue;
            }
            let ids: Vec<u64> = append.events.iter().map(|event| event.hash()).collect();
            match decide(head, append.expected, &ids, known[at]) {
                Decision::Go if *is_refused => return Tried::Refused,
                Decision::Go => {}
                Decision::Look(from) => return Tried::Look(at, from),
                Decision::Conflict(from) => {
                    let head = order.head(&append.stream).cloned().unwrap_or_default();
                    return Tried::Conflict(at, from, head);
                }
            }
            let began = head.next;
            for (event, id) in append.events.iter().zip(ids) {
                let key = Bytes::copy_from_slice(stream.as_str().as_bytes());
                let record = NewRecord::new(event.stored(head.next)).keyed(key);
                let expect = if next == first { Expect::Next(first) } else { Expect::Any };
                ops.push(Op::Append { log: self.log, expect, record });
                if let Some(chunk) = head.push(next, id) {
                    match self.put_chunk(&stream, &chunk) {
                        Ok(op) => ops.push(op),
                        Err(error) => return Tried::Failed(error),
                    }
                }
                entries.push((&append.stream, next, event.keys()));
                next += 1;
            }
            written.push(Written { stream, versions: began..head.next, is_known: false });
        }
        if !is_again && let Some(tried) = held_up(&order, batch, clear) {
            return tried;
        }
        let position = |next: u64| (next > first).then(|| next - 1);
        if is_again || (ops.is_empty() && batch.with.is_empty()) {
            return Tried::Done(AppendReceipt { written, position: None }, None);
        }
        let changed =
            written.iter().filter(|written| !written.is_known && !written.versions.is_empty());
        let mut changed: Vec<&StreamName> = changed.map(|written| &written.stream).collect();
        changed.sort_unstable();
        changed.dedup();
        for name in &changed {
            match self.put_head(name, &heads[name]) {
                Ok(op) => ops.push(op),
                Err(error) => return Tried::Failed(error),
            }
        }
        ops.extend(batch.with.iter().cloned());
        let transaction = Transaction { ops: ops.into(), durability: batch.durability };
        let receipt = match self.submit(transaction) {
            Ok(receipt) => receipt,
            Err(tried) => return tried,
        };
        for name in changed {
            if let Some(head) = heads.remove(name) {
                order.changed(name.clone(), head);
            }
        }
        for (stream, position, keys) in entries {
            order.recent.push(stream, position, keys);
        }
        order.next = next;
        self.tail.send_modify(|tail| {
            tail.next = next;
            tail.seen = tail.seen.and(receipt.seen);
        });
        drop(order);
        Tried::Done(AppendReceipt { written, position: position(next) }, Some(receipt))
    }

    pub(crate) fn try_change(
        &self,
        append: &Append,
        change: Change,
    ) -> Result<(StreamInfo, Receipt), Tried> {
        let mut order = self.order.lock();
        let Some(head) = order.head(&append.stream) else { return Err(Tried::Cold) };
        if let Decision::Conflict(from) | Decision::Look(from) =
            decide(head, append.expected, &[], Known::default())
        {
            return Err(Tried::Conflict(0, from, Arc::clone(head)));
        }
        let mut head = Head::clone(head);
        let before = head.first;
        match change {
            Change::Truncate(before) if before > head.next => {
                let say =
                    format!("the stream has {} events, and cannot begin with {before}", head.next);
                return Err(Tried::Failed(Error::new(Reason::MalformedRequest, say)));
            }
            Change::Truncate(before) => head.first = head.first.max(before),
            Change::Delete => (head.first, head.life) = (head.next, Life::Deleted),
            Change::End => (head.first, head.life) = (head.next, Life::Ended),
        }
        let put = self.put_head(&append.stream, &head).map_err(Tried::Failed)?;
        let mut transaction = Transaction::new(Durability::Fsync).with(put);
        if head.first > before {
            transaction
                .ops
                .push(self.put_waste(&append.stream, before, head.first).map_err(Tried::Failed)?);
        }
        let receipt = self.submit(transaction)?;
        let info = StreamInfo::from(&head);
        order.changed(append.stream.clone(), head);
        drop(order);
        Ok((info, receipt))
    }

    /// Makes rows of the newest events as long as that is `due`. Nobody has to wait for them: what a start does not
    /// find in rows it reads from the log.
    pub(crate) fn index(
        &self,
        order: &mut Order,
        due: impl Fn(&Recent) -> bool,
    ) -> Result<(), Tried> {
        while due(&order.recent) {
            let (ops, upto) = order.recent.rows(self.index).map_err(Tried::Failed)?;
            self.submit(Transaction { ops: ops.into(), durability: Durability::Fsync })?;
            order.recent.in_rows(upto);
        }
        Ok(())
    }

    fn submit(&self, transaction: Transaction) -> Result<Receipt, Tried> {
        self.store.submit_now(transaction).map_err(|refused| match refused.error.reason() {
            Reason::StorageBusy => Tried::Busy,
            _ => Tried::Failed(refused.error),
        })
    }

    fn put_head(&self, name: &StreamName, head: &Head) -> Result<Op> {
        let (map, key) = (self.heads, Bytes::copy_from_slice(name.as_str().as_bytes()));
        Ok(Op::Put { map, key, value: encode(head)?, expires_ms: 0, expect: ExpectValue::Any })
    }

    fn put_chunk(&self, name: &StreamName, chunk: &Chunk) -> Result<Op> {
        let (map, key) = (self.chunks, row_key(name, chunk.end));
        Ok(Op::Put { map, key, value: encode(chunk)?, expires_ms: 0, expect: ExpectValue::Any })
    }
}

/// What a condition has to wait for, or is refused for, of what memory knows.
fn held_up(order: &Order, batch: &AppendBatch, clear: &[u64]) -> Option<Tried> {
    for (at, (condition, clear)) in batch.conditions.iter().zip(clear).enumerate() {
        if let Some(after) = condition.after.filter(|after| *after >= order.next) {
            let say = format!(
                "`after` is {after}, and the next event has position {}: events were restored or made anew, so read \
                 again",
                order.next
            );
            return Some(Tried::Failed(Error::new(Reason::PositionConflict, say)));
        }
        let fits = |keys: &[_]| condition.fail_if_events_match.may_match(keys);
        if *clear < order.recent.start() || order.recent.matching(*clear, fits).next().is_some() {
            return Some(Tried::Search(at));
        }
    }
    None
}

/// Whether a batch was done already.
enum Again {
    Yes,
    No,
    /// It looks so: these events have to be looked at.
    Look(usize, u64),
}

/// Whether all events of a batch are there already, as far as that is known.
fn again(
    batch: &AppendBatch,
    heads: &HashMap<&StreamName, Head>,
    known: &[Known],
    there: &[Option<u64>],
) -> Again {
    if let ([_], [there]) = (&*batch.appends, there) {
        return if there.is_some() { Again::Yes } else { Again::No };
    }
    let mut look = Again::No;
    for (at, append) in batch.appends.iter().enumerate().filter(|(_, of)| !of.events.is_empty()) {
        if there[at].is_some() {
            look = if matches!(look, Again::No) { Again::Yes } else { look };
            continue;
        }
        let ids: Vec<u64> = append.events.iter().map(|event| event.hash()).collect();
        match decide(&heads[&append.stream], append.expected, &ids, known[at]) {
            Decision::Look(from) if !matches!(look, Again::Look(..)) => {
                look = Again::Look(at, from)
            }
            Decision::Look(_) => {}
            Decision::Go | Decision::Conflict(_) => return Again::No,
        }
    }
    look
}
