//! Consumers and keys as the ledger has them: two maps, and a third for when keys were used.
//!
//! `consumers` has a record by name, `keys` one by name, NUL and id, so that those of a consumer stand together.
//! Keys end with their entries: the ledger lets them go when their time is over.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use weft_gateway::Digest;
use weft_kernel::{Error, Name, Reason, Result};
use weft_ledger::{ExpectValue, MapId, MapOptions, Op, Store, Value};

/// How many entries are read at once.
const PAGE: usize = 1_000;

/// What a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// An API key.
    ApiKey,
    /// A password of a user that is called as the consumer.
    Password,
}

/// A consumer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Consumer {
    pub(super) groups: Vec<String>,
    pub(super) created_ms: u64,
}

/// A key of a consumer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) kind: Kind,
    /// Its digest, as it is written.
    pub(super) digest: String,
    /// Its last letters, by which people know it.
    pub(super) last4: String,
    pub(super) created_ms: u64,
}

impl Key {
    pub(super) fn digest(&self) -> Option<Digest> {
        match self.kind {
            Kind::ApiKey => Digest::parse_api_key(&self.digest),
            Kind::Password => Digest::parse_basic(&self.digest),
        }
    }
}

/// A record with the version and the end of its entry.
#[derive(Clone, Debug)]
pub(super) struct Entry<T> {
    pub(super) record: T,
    pub(super) version: u64,
    pub(super) expires_ms: u64,
}

/// The maps.
#[derive(Clone)]
pub(super) struct Records {
    pub(super) store: Arc<dyn Store>,
    consumers: MapId,
    keys: MapId,
    used: MapId,
}

fn read<T: for<'de> Deserialize<'de>>(key: &[u8], value: &Value) -> Result<Entry<T>> {
    let record = serde_json::from_slice(&value.data).map_err(|error| {
        let name = String::from_utf8_lossy(key).replace('\0', " key ");
        let say = format!("what is kept of consumer {name} cannot be read");
        Error::new(Reason::StorageCorrupt, say).because(error)
    })?;
    Ok(Entry { record, version: value.version, expires_ms: value.expires_ms })
}

fn json(record: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(record)
        .map(Into::into)
        .map_err(|error| Error::new(Reason::Internal, "a record cannot be written").because(error))
}

/// The key of a key.
fn place(consumer: &Name, id: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(consumer.as_str().len() + 1 + id.len());
    key.put_slice(consumer.as_str().as_bytes());
    key.put_u8(0);
    key.put_slice(id.as_bytes());
    key.freeze()
}

/// The consumer and the id of the key of a key.
fn of_place(key: &[u8]) -> Option<(Name, Box<str>)> {
    let text = std::str::from_utf8(key).ok()?;
    let (consumer, id) = text.split_once('\0')?;
    Some((Name::new(consumer).ok()?, id.into()))
}

impl Records {
    pub(super) async fn open(store: Arc<dyn Store>) -> Result<Self> {
        let consumers = store.create_map("consumers", MapOptions::default()).await?;
        let keys = store.create_map("keys", MapOptions::default()).await?;
        let used = store.create_map("used", MapOptions::default()).await?;
        Ok(Self { store, consumers, keys, used })
    }

    pub(super) async fn consumer(&self, name: &Name) -> Result<Option<Entry<Consumer>>> {
        let key = name.as_str().as_bytes();
        let value = self.store.get(self.consumers, key).await?;
        value.map(|value| read(key, &value)).transpose()
    }

    /// Consumers whose name stands after another, in order.
    pub(super) async fn consumers(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Name, Entry<Consumer>)>> {
        let after = after.map(|name| Bytes::copy_from_slice(name.as_bytes()));
        let found = self.store.scan(self.consumers, b"", after, limit).await?;
        let named = |(key, value): &(Bytes, Value)| {
            let name = std::str::from_utf8(key).ok().and_then(|name| Name::new(name).ok());
            name.map(|name| Ok((name, read(key, value)?)))
        };
        found.iter().filter_map(named).collect()
    }

    pub(super) async fn key(&self, consumer: &Name, id: &str) -> Result<Option<Entry<Key>>> {
        let key = place(consumer, id);
        let value = self.store.get(self.keys, &key).await?;
        value.map(|value| read(&key, &value)).transpose()
    }

    /// The keys of a consumer.
    pub(super) async fn keys_of(
        &self,
        consumer: &Name,
        limit: usize,
    ) -> Result<Vec<(Box<str>, Entry<Key>)>> {
        let found = self.store.scan(self.keys, &place(consumer, ""), None, limit).await?;
        let named = |(key, value): &(Bytes, Value)| {
            of_place(key).map(|(_, id)| Ok((id, read(key, value)?)))
        };
        found.iter().filter_map(named).collect()
    }

    /// Hands out all that is kept, a page at a time; what cannot be read is told and passed over, and lets
    /// nobody in.
    pub(super) async fn each(
        &self,
        mut consumer: impl FnMut(Name, Consumer),
        mut key: impl FnMut(Name, Box<str>, Entry<Key>),
        mut used: impl FnMut(Name, Box<str>, u64),
    ) -> Result<()> {
        let tell = |error: Error| tracing::error!("{}", error.detail());
        for map in [self.consumers, self.keys, self.used] {
            let mut after = None;
            loop {
                let page = self.store.scan(map, b"", after.take(), PAGE).await?;
                for (at, value) in &page {
                    if map == self.consumers {
                        let name = std::str::from_utf8(at).ok().and_then(|it| Name::new(it).ok());
                        match (name, read::<Consumer>(at, value)) {
                            (Some(name), Ok(entry)) => consumer(name, entry.record),
                            (_, Err(error)) => tell(error),
                            (None, Ok(_)) => {}
                        }
                    } else if let Some((name, id)) = of_place(at) {
                        if map == self.used {
                            used(name, id, number(&value.data));
                        } else {
                            match read(at, value) {
                                Ok(entry) => key(name, id, entry),
                                Err(error) => tell(error),
                            }
                        }
                    }
                }
                match page.last() {
                    Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    pub(super) fn put_consumer(
        &self,
        name: &Name,
        record: &Consumer,
        expect: ExpectValue,
    ) -> Result<Op> {
        let key = Bytes::copy_from_slice(name.as_str().as_bytes());
        Ok(Op::Put { map: self.consumers, key, value: json(record)?, expires_ms: 0, expect })
    }

    pub(super) fn delete_consumer(&self, name: &Name, expect: ExpectValue) -> Op {
        let key = Bytes::copy_from_slice(name.as_str().as_bytes());
        Op::Delete { map: self.consumers, key, expect }
    }

    pub(super) fn put_key(
        &self,
        (consumer, id): (&Name, &str),
        record: &Key,
        expires_ms: u64,
        expect: ExpectValue,
    ) -> Result<Op> {
        let key = place(consumer, id);
        Ok(Op::Put { map: self.keys, key, value: json(record)?, expires_ms, expect })
    }

    /// Takes out a key, with when it was used.
    pub(super) fn delete_key(&self, consumer: &Name, id: &str, expect: ExpectValue) -> [Op; 2] {
        let key = place(consumer, id);
        let used = Op::Delete { map: self.used, key: key.clone(), expect: ExpectValue::Any };
        [Op::Delete { map: self.keys, key, expect }, used]
    }

    /// Notes when a key was used: wall-clock seconds.
    pub(super) fn put_used(
        &self,
        (consumer, id): (&Name, &str),
        used_s: u64,
        expires_ms: u64,
    ) -> Op {
        let (key, value) = (place(consumer, id), Bytes::copy_from_slice(&used_s.to_be_bytes()));
        Op::Put { map: self.used, key, value, expires_ms, expect: ExpectValue::Any }
    }
}

fn number(data: &[u8]) -> u64 {
    data.try_into().map_or(0, u64::from_be_bytes)
}
