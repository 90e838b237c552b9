//! A claim: the key that a request has, from when that is on disk until what came of it is kept.

use std::sync::Arc;

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{Durability, ExpectValue, Op, Transaction, transaction::MAP_VALUE_BYTES_MAX};
use weft_net::Tasks;

use super::{Keys, Phase, Wanted, millis, now_ms};
use crate::idempotency::record::{Answer, Head, Standing};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing is put.
    Looking,
    /// Something is being put, or was and nobody has begun.
    Putting,
    /// It is begun: nobody knows what comes of it until that is said.
    Begun,
    /// All is said.
    Settled,
}

/// A key that a request has. Dropped before it is settled it leaves an entry that says that nobody knows what
/// came of it.
pub(in crate::idempotency) struct Claim {
    pub(super) keys: Arc<Keys>,
    pub(super) tasks: Tasks,
    pub(super) wanted: Wanted,
    pub(super) stage: Stage,
    pub(super) began_ms: u64,
    pub(super) expires_ms: u64,
    /// The expiry and the bytes of the entry that it takes the place of.
    pub(super) replaces: Option<(u64, u64)>,
    /// Whether its entry is counted.
    pub(super) is_counted: bool,
}

impl Claim {
    /// Counts its entry, before that is put so that of many at once none is too many; `false` if a new one has
    /// no room.
    pub(super) fn count(&mut self, is_new: bool) -> bool {
        if self.is_counted {
            return true;
        }
        let owner = self.wanted.key.owner();
        let mut state = self.keys.state.lock();
        let (has, most) = (state.accounts.of(owner, self.began_ms), self.wanted.most);
        if is_new && (has.entries >= most.entries || has.bytes >= most.bytes) {
            return false;
        }
        state.accounts.add(owner, self.expires_ms, 0);
        self.is_counted = true;
        true
    }

    fn discount(&self) {
        if self.is_counted {
            let mut state = self.keys.state.lock();
            state.accounts.remove(self.wanted.key.owner(), self.expires_ms, 0);
        }
    }

    fn head(&self, standing: Standing, status: u16, bytes: usize) -> Head {
        let is_done = standing != Standing::Running;
        Head {
            standing,
            fingerprint: self.wanted.fingerprint,
            nonce: self.wanted.nonce,
            began_ms: self.began_ms,
            done_ms: if is_done { now_ms() } else { 0 },
            status,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        }
    }

    /// Puts the entry that says that it runs, on disk; `false` if there is one already.
    pub(super) async fn put(&mut self, expect: ExpectValue) -> Result<bool> {
        let put = Transaction::new(Durability::Fsync).with(Op::Put {
            map: self.keys.heads,
            key: self.wanted.key.bytes().clone(),
            value: self.head(Standing::Running, 0, 0).write(),
            expires_ms: self.expires_ms,
            expect,
        });
        self.stage = Stage::Putting;
        let store = Arc::clone(&self.keys.store);
        let put = store.commit(put).await;
        match put {
            Ok(_) => {}
            Err(refused) if refused.error.reason() == Reason::VersionConflict => {
                self.stage = Stage::Looking;
                return Ok(false);
            }
            // It may have been written all the same, so what is there is looked at.
            Err(refused) => return Err(refused.error),
        }
        self.stage = Stage::Begun;
        let mut state = self.keys.state.lock();
        let owner = self.wanted.key.owner();
        if let Some((expires_ms, bytes)) = self.replaces {
            state.accounts.remove(owner, expires_ms, bytes);
        }
        if let Some(running) = state.running.get(&self.wanted.key) {
            running.phase.send_replace(Phase::Running);
        }
        Ok(true)
    }

    /// Keeps an answer, or that there was one of this status.
    pub(in crate::idempotency) async fn finish(mut self, status: u16, answer: Option<Answer>) {
        let mut written = answer.map(|answer| answer.write());
        let owner = self.wanted.key.owner();
        let length = |written: &Option<Bytes>| written.as_ref().map_or(0, Bytes::len);
        {
            let mut state = self.keys.state.lock();
            let has = state.accounts.of(owner, self.began_ms).bytes;
            let too_much = has.saturating_add(length(&written) as u64) > self.wanted.most.bytes;
            if too_much || length(&written) > MAP_VALUE_BYTES_MAX {
                written = None;
            }
        }
        let bytes = length(&written);
        let standing = if written.is_some() { Standing::Kept } else { Standing::NotKept };
        let expires_ms = now_ms().saturating_add(millis(self.wanted.keep));
        let mut done = Transaction::new(Durability::Os).with(Op::Put {
            map: self.keys.heads,
            key: self.wanted.key.bytes().clone(),
            value: self.head(standing, status, bytes).write(),
            expires_ms,
            // It is this request's as long as it runs, whatever has become of the entry.
            expect: ExpectValue::Any,
        });
        if let Some(value) = written {
            done = done.with(Op::Put {
                map: self.keys.answers,
                key: self.wanted.key.bytes().clone(),
                value,
                expires_ms,
                expect: ExpectValue::Any,
            });
        }
        match self.keys.store.commit(done).await {
            Ok(_) => {
                let mut state = self.keys.state.lock();
                state.accounts.remove(self.wanted.key.owner(), self.expires_ms, 0);
                state.accounts.add(self.wanted.key.owner(), expires_ms, bytes as u64);
            }
            Err(refused) => {
                let [route, ..] = self.wanted.key.parts();
                let error = refused.error.detail();
                tracing::error!(%route, %error, "the answer under an idempotency key was not kept");
            }
        }
        self.stage = Stage::Settled;
    }

    /// Leaves that nobody knows what came of it, for as long as an answer would be kept.
    pub(in crate::idempotency) async fn leave(self) {
        let expires_ms = now_ms().saturating_add(millis(self.wanted.keep));
        let unknown = Transaction::new(Durability::Os).with(Op::Put {
            map: self.keys.heads,
            key: self.wanted.key.bytes().clone(),
            value: self.head(Standing::Running, 0, 0).write(),
            expires_ms,
            expect: ExpectValue::Any,
        });
        // What is there if this fails says the same.
        if self.keys.store.commit(unknown).await.is_ok() {
            self.discount();
            let mut state = self.keys.state.lock();
            state.accounts.add(self.wanted.key.owner(), expires_ms, 0);
        }
    }

    /// Frees the key: nothing was done that must not be done again.
    pub(in crate::idempotency) async fn forget(mut self) {
        if let Err(error) = self.delete().await {
            let [route, ..] = self.wanted.key.parts();
            let error = error.detail();
            tracing::warn!(%route, %error, "an idempotency key was not freed");
        }
        self.stage = Stage::Settled;
    }

    async fn delete(&self) -> Result<()> {
        let key = self.wanted.key.bytes();
        let value = self.keys.store.get(self.keys.heads, key).await?;
        // What is there may be of somebody else, from before.
        let Some(value) = value else {
            self.discount();
            return Ok(());
        };
        if Head::read(&value.data)?.nonce != self.wanted.nonce {
            self.discount();
            return Ok(());
        }
        let version = ExpectValue::Version(value.version);
        let gone = Transaction::new(Durability::Os).delete(self.keys.heads, key.clone(), version);
        self.keys.store.commit(gone).await.map_err(Error::from)?;
        self.discount();
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.stage != Stage::Putting || self.tasks.stop().is_closed() {
            if self.stage == Stage::Looking {
                self.discount();
            }
            self.keys.release(&self.wanted.key);
            return;
        }
        // Whoever asked has left, or the store has failed, before it was known whether the entry is there.
        // Nobody has begun, so it must not say that somebody has.
        let rest = Self {
            keys: Arc::clone(&self.keys),
            tasks: self.tasks.clone(),
            wanted: self.wanted.clone(),
            stage: Stage::Settled,
            began_ms: self.began_ms,
            expires_ms: self.expires_ms,
            replaces: None,
            is_counted: self.is_counted,
        };
        self.tasks.spawn_part(async move {
            if let Err(error) = rest.delete().await {
                rest.discount();
                tracing::debug!(error = %error.detail(), "an idempotency key was not freed");
            }
        });
    }
}
