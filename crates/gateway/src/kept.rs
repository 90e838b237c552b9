//! Consumers and credentials that the node keeps itself, beside those of the configuration.
//!
//! They change one at a time while requests are under way, so that nothing is made whole for a change: both maps
//! are cut into shards, each immutable and swapped by itself. A request loads a shard, without a lock; a change
//! copies the one that it is in, of a 256th of all. What is taken out is out for every request that begins after,
//! on every worker.
//!
//! A credential names its consumer, which is the configuration's if that has one of the name, and else one of
//! these.

use std::{
    collections::{HashMap, hash_map::RandomState},
    fmt,
    hash::{BuildHasher, Hash},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use weft_kernel::Name;

use crate::{
    consumer::{Consumer, Known},
    credential::{ByDigest, Digest},
    roster::Generation,
};

/// How many shards a map has.
const SHARDS: usize = 256;
/// How exactly it is known when a credential was used last.
const USED_S: u64 = 60;

/// A credential that is kept.
#[derive(Debug)]
pub struct Credential {
    /// The consumer whose it is.
    pub consumer: Name,
    /// What it is called.
    pub id: Box<str>,
    /// When it ends: wall-clock milliseconds, 0 for never.
    pub expires_ms: u64,
    /// When it was used last, to the minute: wall-clock seconds, 0 for never.
    used_s: AtomicU64,
}

impl Credential {
    /// A credential that was last used at a time: wall-clock seconds, 0 for never.
    pub fn new(consumer: Name, id: impl Into<Box<str>>, expires_ms: u64, used_s: u64) -> Self {
        Self { consumer, id: id.into(), expires_ms, used_s: AtomicU64::new(used_s) }
    }

    /// When it was used last, to the minute: wall-clock seconds, 0 for never.
    pub fn used_s(&self) -> u64 {
        self.used_s.load(Ordering::Relaxed)
    }

    /// Whether it has not ended.
    fn is_good(&self, now_ms: u64) -> bool {
        self.expires_ms == 0 || now_ms < self.expires_ms
    }

    /// Notes that it was used. Most requests only read here.
    fn used(&self, now_s: u64) {
        let last = self.used_s();
        if now_s.abs_diff(last) >= USED_S {
            self.used_s.store(now_s, Ordering::Relaxed);
        }
    }
}

type Shard<K, V, S> = ArcSwap<HashMap<K, V, S>>;

/// A map in shards.
struct Shards<K, V, S>(Box<[Shard<K, V, S>]>, AtomicUsize);

impl<K: Eq + Hash + Clone, V: Clone, S: BuildHasher + Clone + Default> Shards<K, V, S> {
    fn new() -> Self {
        let empty = Arc::new(HashMap::with_hasher(S::default()));
        let shards = (0..SHARDS).map(|_| ArcSwap::new(Arc::clone(&empty)));
        Self(shards.collect(), AtomicUsize::new(0))
    }

    fn shard(&self, number: u64) -> &Shard<K, V, S> {
        // Digests are told apart within a shard by their first bytes.
        &self.0[(number >> 56) as usize % SHARDS]
    }

    /// Changes a shard; changes must come one after the other.
    fn change<T>(&self, number: u64, change: impl FnOnce(&mut HashMap<K, V, S>) -> T) -> T {
        let shard = self.shard(number);
        let mut map = HashMap::clone(&shard.load());
        let before = map.len();
        let changed = change(&mut map);
        self.1.store(self.1.load(Ordering::Relaxed) + map.len() - before, Ordering::Relaxed);
        shard.store(Arc::new(map));
        changed
    }

    fn len(&self) -> usize {
        self.1.load(Ordering::Relaxed)
    }
}

/// Consumers and credentials that the node keeps.
pub struct Kept {
    consumers: Shards<Name, Arc<Known>, RandomState>,
    credentials: Shards<Digest, Arc<Credential>, ByDigest>,
    /// Whether they are asked for; else nobody is found here.
    is_open: AtomicBool,
    /// What is advanced when a consumer is gone that a decision may have led to.
    generation: OnceLock<Generation>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            consumers: Shards::new(),
            credentials: Shards::new(),
            is_open: AtomicBool::new(false),
            generation: OnceLock::new(),
        }
    }
}

/// A number of a name, by which its shard is found. It need not be hard to guess: those who make consumers may
/// do worse.
fn number(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Kept {
    /// Lets them be found from now on, or not any more.
    pub fn set_open(&self, is_open: bool) {
        if self.is_open.swap(is_open, Ordering::AcqRel) != is_open {
            self.forget();
        }
    }

    /// Has what was decided be forgotten when a consumer changes or goes.
    pub fn tell(&self, generation: Generation) {
        // The first is that of the node.
        let _ = self.generation.set(generation);
    }

    fn forget(&self) {
        self.generation.get().into_iter().for_each(Generation::advance);
    }

    /// Adds a consumer, or changes its groups.
    pub fn put_consumer(&self, name: Name, groups: Vec<Name>) {
        let known = Arc::new(Known::new(name.clone(), groups));
        let former = self.consumers.change(number(name.as_str()), |map| map.insert(name, known));
        if former.is_some() {
            self.forget();
        }
    }

    /// Takes a consumer out; its credentials lead to nobody then, unless the configuration has one of the name.
    pub fn remove_consumer(&self, name: &Name) {
        self.consumers.change(number(name.as_str()), |map| map.remove(name));
        self.forget();
    }

    /// Adds a credential, or changes it.
    pub fn put(&self, digest: Digest, credential: Arc<Credential>) {
        self.credentials.change(digest.number(), |map| map.insert(digest, credential));
    }

    /// Takes a credential out.
    pub fn remove(&self, digest: &Digest) {
        self.credentials.change(digest.number(), |map| map.remove(digest));
    }

    /// A credential, whether it is still good or not.
    pub fn credential(&self, digest: &Digest) -> Option<Arc<Credential>> {
        self.credentials.shard(digest.number()).load().get(digest).cloned()
    }

    /// All credentials, of each shard as it was at one moment.
    pub fn credentials(&self) -> impl Iterator<Item = (Digest, Arc<Credential>)> {
        self.credentials.0.iter().flat_map(|shard| {
            let map = shard.load_full();
            let all: Vec<_> = map.iter().map(|(digest, of)| (*digest, Arc::clone(of))).collect();
            all
        })
    }

    /// How many consumers and how many credentials there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.consumers.len(), self.credentials.len())
    }

    /// The consumer of a name.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Known>> {
        if !self.is_open.load(Ordering::Acquire) {
            return None;
        }
        self.consumers.shard(number(name)).load().get(name).map(Arc::clone)
    }

    /// The consumer that a credential leads to now, `of` being those of the configuration.
    pub(crate) fn holder(
        &self,
        digest: &Digest,
        of: impl FnOnce(&str) -> Option<Consumer>,
        wall: SystemTime,
    ) -> Option<Consumer> {
        if !self.is_open.load(Ordering::Acquire) {
            return None;
        }
        let map = self.credentials.shard(digest.number()).load();
        let credential = map.get(digest)?;
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        if !credential.is_good(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)) {
            return None;
        }
        let consumer = of(credential.consumer.as_str())?;
        credential.used(since.as_secs());
        Some(consumer)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (consumers, credentials) = self.counts();
        f.debug_struct("Kept")
            .field("consumers", &consumers)
            .field("credentials", &credentials)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Directory, fixture::name};

    fn key(text: &str) -> Digest {
        Digest::of_api_key(text.as_bytes())
    }

    fn credential(consumer: &str, expires_ms: u64) -> Arc<Credential> {
        Arc::new(Credential::new(name(consumer), "id", expires_ms, 0))
    }

    #[test]
    fn a_key_leads_to_its_consumer_until_it_is_taken_out() {
        let kept = Arc::new(Kept::default());
        let mut directory = Directory::default();
        directory.add(name("of-the-file"), vec![name("staff")]);
        directory.attach(Arc::clone(&kept));
        kept.put_consumer(name("ada"), vec![name("partners")]);
        kept.put(key("one"), credential("ada", 0));
        kept.put(key("two"), credential("of-the-file", 0));
        kept.put(key("three"), credential("nobody", 0));
        let groups = |text: &str| {
            let consumer = directory.holder(&key(text))?;
            Some((consumer.name().to_string(), consumer.known.groups_line.to_string()))
        };
        assert_eq!(groups("one"), None, "they are not asked for");
        assert!(directory.named("ada").is_none());
        kept.set_open(true);
        assert_eq!(groups("one"), Some(("ada".into(), "partners".into())));
        assert_eq!(groups("two"), Some(("of-the-file".into(), "staff".into())));
        assert_eq!(groups("three"), None);
        assert_eq!(kept.counts(), (1, 3));
        assert!(directory.named("ada").is_some() && directory.anonymous("ada").is_some());
        kept.put_consumer(name("ada"), Vec::new());
        assert_eq!(groups("one"), Some(("ada".into(), String::new())));
        kept.remove(&key("one"));
        assert_eq!(groups("one"), None);
        kept.remove_consumer(&name("ada"));
        assert!(directory.named("ada").is_none());
        assert_eq!(kept.counts(), (0, 2));
    }

    #[test]
    fn a_key_ends_in_time_and_its_use_is_noted_to_the_minute() {
        let kept = Kept::default();
        kept.set_open(true);
        let ends = UNIX_EPOCH + Duration::from_secs(1_000);
        kept.put(key("one"), credential("ada", 1_000_000));
        let known = Arc::new(Known::new(name("ada"), Vec::new()));
        let look = |at: SystemTime| {
            let of = |_: &str| Some(Consumer { known: Arc::clone(&known), is_anonymous: false });
            kept.holder(&key("one"), of, at).is_some()
        };
        let used = || kept.credential(&key("one")).map(|it| it.used_s());
        assert_eq!(used(), Some(0));
        assert!(look(ends - Duration::from_secs(500)));
        assert_eq!(used(), Some(500));
        assert!(look(ends - Duration::from_secs(450)));
        assert_eq!(used(), Some(500));
        assert!(look(ends - Duration::from_millis(1)));
        assert_eq!(used(), Some(999));
        assert!(!look(ends) && !look(ends + Duration::from_secs(9_999)));
        // Somebody sets the clock back.
        assert!(look(ends - Duration::from_secs(900)));
        assert_eq!(used(), Some(100));
    }

    #[test]
    fn what_was_decided_is_forgotten_when_a_consumer_goes() {
        let (kept, generation) = (Kept::default(), Generation::default());
        kept.tell(generation.clone());
        kept.set_open(true);
        let opened = generation.number();
        kept.put_consumer(name("ada"), Vec::new());
        kept.put(key("one"), credential("ada", 0));
        kept.remove(&key("one"));
        assert_eq!(generation.number(), opened, "a new consumer and its keys change no decision");
        kept.put_consumer(name("ada"), vec![name("staff")]);
        let changed = generation.number();
        assert_ne!(changed, opened);
        kept.remove_consumer(&name("ada"));
        assert_ne!(generation.number(), changed);
    }
}
