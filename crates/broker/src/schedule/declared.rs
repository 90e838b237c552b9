//! Schedules that a configuration declares, as part of the transaction of all that it declares.
//!
//! What was declared is marked as such where it is kept, so that one that is declared no more is removed, at
//! a start too, and none that was made otherwise. Until a set is dropped nobody else makes, changes, fires or
//! cancels a schedule, so that what was staged holds when it is committed: no schedule that fires meanwhile
//! has a reload refused.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use tokio::sync::OwnedRwLockWriteGuard;
use weft_kernel::Result;
use weft_ledger::{ExpectValue, Op};

use super::{
    DeclaredSchedule,
    index::Due,
    stored::{Stored, is_same},
};
use crate::{
    broker::Broker,
    name::{Key, stored},
};

/// A set of schedules that is to be in force.
#[derive(Debug)]
pub(crate) struct StagedSchedules {
    /// What is to be removed.
    pub(crate) removals: Vec<Op>,
    /// What is new or otherwise than it was.
    pub(crate) changes: Vec<Op>,
    /// The ids of those that are removed.
    pub(crate) removed: Vec<Key>,
    /// When each of the set is due, and no time for those that are removed.
    due: Vec<(Bytes, Option<u64>)>,
    _alone: OwnedRwLockWriteGuard<()>,
}

impl Broker {
    /// Finds out what has to be written for a set of schedules to be those that the configuration declares.
    ///
    /// # Errors
    /// What the store says, or a schedule that can be no more what it was checked to be.
    pub(crate) async fn stage_schedules(
        &self,
        all: &[DeclaredSchedule],
    ) -> Result<StagedSchedules> {
        let alone = Arc::clone(&self.inner().scheduling).write_owned().await;
        let (map, now_ms, mut rng) = (self.inner().maps.schedules, self.now_ms(), self.rng());
        let mut staged = StagedSchedules {
            removals: Vec::new(),
            changes: Vec::new(),
            removed: Vec::new(),
            due: Vec::new(),
            _alone: alone,
        };
        let mut wanted = HashSet::with_capacity(all.len());
        for (id, target, when, publish) in all {
            let entry = Bytes::from(stored::schedule(id));
            let mut schedule = Stored::new(id, target, when, publish, now_ms, &mut rng)?;
            schedule.declared = true;
            let value = self.store().get(map, &entry).await?;
            let had = value.map(|value| Stored::decode(&value.data)).transpose()?;
            let mut stays = false;
            if let Some((had, message)) = &had {
                schedule.go_on_from(had, &mut rng);
                stays = schedule == *had && is_same(message, &publish.message);
            }
            if !stays {
                let value = schedule.encode(&publish.message)?;
                let (key, expect) = (entry.clone(), ExpectValue::Any);
                staged.changes.push(Op::Put { map, key, value, expires_ms: 0, expect });
            }
            staged.due.push((entry.clone(), Some(schedule.due_ms)));
            wanted.insert(entry);
        }
        let before = self.inner().schedules.lock().declared();
        for entry in before.into_iter().filter(|entry| !wanted.contains(entry)) {
            let value = self.store().get(map, &entry).await?;
            if let Some(value) = value {
                staged.removed.push(Stored::decode(&value.data)?.0.id()?);
            }
            let (key, expect) = (entry.clone(), ExpectValue::Any);
            staged.removals.push(Op::Delete { map, key, expect });
            staged.due.push((entry, None));
        }
        Ok(staged)
    }

    /// Notes a set that is kept by now, and lets others change schedules again.
    pub(crate) fn enter_schedules(&self, staged: StagedSchedules) {
        {
            let mut schedules = self.inner().schedules.lock();
            // Nobody else has changed any since.
            let seq = schedules.seq() + 1;
            for (entry, due_ms) in staged.due {
                schedules.declare(&entry, due_ms.is_some());
                match due_ms {
                    Some(ms) => schedules.set(entry, Due { ms, seq }),
                    None => schedules.forget(&entry, seq),
                }
            }
        }
        self.inner().stir.notify_one();
    }
}
