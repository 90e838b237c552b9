//! Changes of consumers and of their keys: on the disk first, then in memory.
//!
//! Whoever asks for one may leave at any moment, and the change goes on (the admin API sees to that). What the store
//! does not answer for is looked at again ([`Consumers::settle_doubted`]), so that memory never says anything else than
//! the disk for long.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use weft_api::time::now_ms;
use weft_gateway::{Digest, kept::Credential, key};
use weft_kernel::{Error, Name, Reason, Result};
use weft_ledger::{Durability, ExpectValue, Op, Transaction};

use super::{
    Consumers, KEYS_MAX,
    records::{Consumer, Entry, Key, Kind},
};
use crate::admin::no;

/// How often it is looked what became of a change that the store did not answer for.
const LOOKS: u32 = 10;
/// Letters of the id of a key.
const ID_LETTERS: usize = 12;
/// Letters of a password.
const PASSWORD_LETTERS: usize = 32;

/// A key that was just drawn: all that is ever told of it.
pub(super) struct Drawn {
    pub(super) id: Box<str>,
    pub(super) secret: String,
    pub(super) entry: Entry<Key>,
}

impl Consumers {
    /// Stores what becomes of a consumer. Where the store does not say whether it has, memory is held to it later.
    async fn commit_ops(&self, name: &Name, ops: impl IntoIterator<Item = Op>) -> Result<u64> {
        let mut transaction = Transaction::new(Durability::Fsync);
        transaction.ops.extend(ops);
        match self.records.store.commit(transaction).await {
            Ok(committed) => Ok(committed.seq),
            Err(error) => {
                self.doubted.lock().await.insert(name.clone(), LOOKS);
                Err(error.into())
            }
        }
    }

    /// Holds memory to what the store has of a consumer; its turn is held.
    async fn settle(&self, name: &Name) -> Result<()> {
        let there = self.records.consumer(name).await?;
        let keys = self.records.keys_of(name, usize::MAX).await?;
        match there {
            Some(there) => {
                let groups = there.record.groups.iter().filter_map(|it| Name::new(it).ok());
                self.kept.put_consumer(name.clone(), groups.collect());
            }
            None => self.kept.remove_consumer(name),
        }
        let mut good = HashMap::new();
        for (id, entry) in keys {
            let Some(digest) = entry.record.digest() else { continue };
            good.insert(digest, self.kept(name, &id, entry.expires_ms, 0));
        }
        for (digest, of) in self.kept.credentials().filter(|(_, of)| of.consumer == *name) {
            match good.remove(&digest) {
                None => self.kept.remove(&digest),
                Some(now) if now.expires_ms != of.expires_ms => {
                    let now = self.kept(name, &of.id, now.expires_ms, of.used_s());
                    self.kept.put(digest, now);
                }
                Some(_) => {}
            }
        }
        good.into_iter().for_each(|(digest, of)| self.kept.put(digest, of));
        Ok(())
    }

    /// Looks again at consumers that are in doubt: what was not stored at once may be by now.
    pub(super) async fn settle_doubted(&self) -> Result<()> {
        let names: Vec<Name> = self.doubted.lock().await.keys().cloned().collect();
        for name in names {
            let _turn = self.lock(&name).await;
            self.settle(&name).await?;
            let mut doubted = self.doubted.lock().await;
            if let Some(left) = doubted.get_mut(&name) {
                *left -= 1;
                if *left == 0 {
                    doubted.remove(&name);
                }
            }
        }
        Ok(())
    }

    /// Makes a consumer or, if `change`, gives it other groups; tells whether it was there.
    pub(super) async fn put(&self, name: &Name, groups: Vec<Name>, change: bool) -> Result<bool> {
        let _turn = self.lock(name).await;
        let texts: Vec<String> = groups.iter().map(ToString::to_string).collect();
        let there = self.records.consumer(name).await?;
        let (created_ms, expect) = match &there {
            Some(there) if there.record.groups == texts => return Ok(true),
            Some(_) if !change => {
                let say = format!("consumer {name} is there with other groups");
                return Err(Error::new(Reason::DefinitionConflict, say));
            }
            Some(there) => (there.record.created_ms, ExpectValue::Version(there.version)),
            None => (now_ms(), ExpectValue::Absent),
        };
        let _place = match &there {
            Some(_) => None,
            None => {
                // Nobody inherits what another was given.
                if !self.records.keys_of(name, 1).await?.is_empty() {
                    let say = format!("keys of a former consumer {name} are left: delete it first");
                    return Err(Error::new(Reason::Conflict, say));
                }
                let place = Place::of(&self.making);
                if self.kept.counts().0 + place.taken() > self.settings().consumers_max {
                    let say =
                        "there are as many consumers as `consumer_registry.consumers_max` allows";
                    return Err(Error::new(Reason::Conflict, say));
                }
                Some(place)
            }
        };
        let record = Consumer { groups: texts, created_ms };
        self.commit_ops(name, [self.records.put_consumer(name, &record, expect)?]).await?;
        self.kept.put_consumer(name.clone(), groups);
        Ok(there.is_some())
    }

    /// Takes out a consumer and its keys; tells whether there was anything.
    pub(super) async fn delete(&self, name: &Name) -> Result<bool> {
        let _turn = self.lock(name).await;
        let there = self.records.consumer(name).await?;
        let keys = self.records.keys_of(name, usize::MAX).await?;
        if there.is_none() && keys.is_empty() {
            return Ok(false);
        }
        let consumer = there
            .map(|there| self.records.delete_consumer(name, ExpectValue::Version(there.version)));
        // One that has just ended is gone by itself.
        let ops =
            keys.iter().flat_map(|(id, _)| self.records.delete_key(name, id, ExpectValue::Any));
        self.commit_ops(name, consumer.into_iter().chain(ops)).await?;
        self.kept.remove_consumer(name);
        let mut stored = self.stored.lock().await;
        for (id, entry) in keys {
            stored.remove(&id);
            entry.record.digest().into_iter().for_each(|digest| self.kept.remove(&digest));
        }
        Ok(true)
    }

    fn draw(&self, name: &Name, kind: Kind) -> Result<(Box<str>, String, Digest)> {
        let drawn = key::letters(ID_LETTERS).zip(match kind {
            Kind::ApiKey => key::draw(&self.settings().prefix),
            Kind::Password => key::letters(PASSWORD_LETTERS),
        });
        let (id, secret) =
            drawn.ok_or_else(|| Error::new(Reason::Internal, "the system gives no chance"))?;
        let digest = match kind {
            Kind::ApiKey => Digest::of_api_key(secret.as_bytes()),
            Kind::Password => Digest::of_basic(name.as_str().as_bytes(), secret.as_bytes()),
        };
        Ok((id.into(), secret, digest))
    }

    fn kept(&self, name: &Name, id: &str, expires_ms: u64, used_s: u64) -> Arc<Credential> {
        Arc::new(Credential::new(name.clone(), id, expires_ms, used_s))
    }

    /// Draws a key that is good for so long, or for ever.
    pub(super) async fn create_key(
        &self,
        name: &Name,
        kind: Kind,
        good_for: Option<Duration>,
        is_configured: impl FnOnce() -> bool,
    ) -> Result<Drawn> {
        let _turn = self.lock(name).await;
        // Draws nothing for whom nobody knows.
        if !is_configured() && self.records.consumer(name).await?.is_none() {
            return Err(no("consumer", name.as_str()));
        }
        self.has_room(name).await?;
        let now = now_ms();
        let expires_ms = good_for.map_or(0, |span| now.saturating_add(millis(span)));
        let (id, secret, digest) = self.draw(name, kind)?;
        let record = Key {
            kind,
            digest: digest.written(),
            last4: secret[secret.len() - 4..].to_owned(),
            created_ms: now,
        };
        let put = self.records.put_key((name, &id), &record, expires_ms, ExpectValue::Absent)?;
        let version = self.commit_ops(name, [put]).await?;
        self.kept.put(digest, self.kept(name, &id, expires_ms, 0));
        Ok(Drawn { id, secret, entry: Entry { record, version, expires_ms } })
    }

    /// That a consumer may have one more key.
    async fn has_room(&self, name: &Name) -> Result<()> {
        if self.records.keys_of(name, KEYS_MAX).await?.len() >= KEYS_MAX {
            let say = format!("consumer {name} has {KEYS_MAX} keys: revoke one before");
            return Err(Error::new(Reason::Conflict, say));
        }
        Ok(())
    }

    /// Draws a key in place of another, which is good for `overlap` more.
    pub(super) async fn rotate_key(
        &self,
        name: &Name,
        id: &str,
        overlap: Duration,
    ) -> Result<Drawn> {
        let _turn = self.lock(name).await;
        let old = self.records.key(name, id).await?.ok_or_else(|| no_key(name, id))?;
        if !overlap.is_zero() {
            self.has_room(name).await?;
        }
        let now = now_ms();
        // It is good for as long as the other was to be.
        let lifetime = match old.expires_ms {
            0 => 0,
            ends => ends.saturating_sub(old.record.created_ms),
        };
        let expires_ms = if lifetime == 0 { 0 } else { now.saturating_add(lifetime) };
        let (new_id, secret, digest) = self.draw(name, old.record.kind)?;
        let record = Key {
            kind: old.record.kind,
            digest: digest.written(),
            last4: secret[secret.len() - 4..].to_owned(),
            created_ms: now,
        };
        let mut ops = vec![self.records.put_key(
            (name, &new_id),
            &record,
            expires_ms,
            ExpectValue::Absent,
        )?];
        let expect = ExpectValue::Version(old.version);
        let mut ends = now.saturating_add(millis(overlap));
        if old.expires_ms > 0 {
            ends = ends.min(old.expires_ms);
        }
        let old_digest = old.record.digest();
        let used_s = old_digest
            .and_then(|digest| self.kept.credential(&digest))
            .map_or(0, |credential| credential.used_s());
        if overlap.is_zero() {
            ops.extend(self.records.delete_key(name, id, expect));
        } else {
            ops.push(self.records.put_key((name, id), &old.record, ends, expect)?);
            ops.extend((used_s > 0).then(|| self.records.put_used((name, id), used_s, ends)));
        }
        let version = self.commit_ops(name, ops).await?;
        self.kept.put(digest, self.kept(name, &new_id, expires_ms, 0));
        if let Some(old_digest) = old_digest {
            match overlap.is_zero() {
                true => self.kept.remove(&old_digest),
                false => self.kept.put(old_digest, self.kept(name, id, ends, used_s)),
            }
        }
        Ok(Drawn { id: new_id, secret, entry: Entry { record, version, expires_ms } })
    }

    /// Ends a key at once.
    pub(super) async fn revoke_key(&self, name: &Name, id: &str) -> Result<()> {
        let _turn = self.lock(name).await;
        let old = self.records.key(name, id).await?.ok_or_else(|| no_key(name, id))?;
        let expect = ExpectValue::Version(old.version);
        self.commit_ops(name, self.records.delete_key(name, id, expect)).await?;
        old.record.digest().into_iter().for_each(|digest| self.kept.remove(&digest));
        self.stored.lock().await.remove(id);
        Ok(())
    }
}

/// A place among those that are being made at once.
struct Place<'a>(&'a AtomicUsize, usize);

impl<'a> Place<'a> {
    fn of(making: &'a AtomicUsize) -> Self {
        Self(making, making.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// How many were taken when it was, itself included.
    const fn taken(&self) -> usize {
        self.1
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn no_key(name: &Name, id: &str) -> Error {
    Error::new(Reason::NotFound, format!("consumer {name} has no key `{id}`"))
}
