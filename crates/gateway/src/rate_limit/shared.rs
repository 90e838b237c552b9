//! A limit that several nodes share: what a node has of it in stock, and how it asks the store for more.

use std::{cell::RefCell, collections::HashMap, fmt::Write as _, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;
use tokio::sync::{Notify, futures::Notified};
use weft_kernel::{Name, Tick};
use weft_net::clock;
use weft_proxy::RequestContext;
use weft_resilience::rate::{
    Limiter, Rate,
    shared::{Answer, Ask, Key, Question, Reply, Stock, Store, Taken, Terms},
};

use super::{Limit, Part};
use crate::quota;

/// Parts of the table of keys, each with a lock of its own.
const SHARDS: usize = 16;

/// How a limit is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// The store that counts.
    pub store: Name,
    /// Units that a node takes ahead; a small share of the limit unless it is said.
    pub slice: Option<u64>,
    /// What becomes of requests while the store is away.
    pub when_away: WhenAway,
}

/// What becomes of requests while the store of a limit is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAway {
    /// They are refused.
    Closed,
    /// They pass uncounted.
    Open,
    /// Each node counts for itself, up to the whole limit.
    Local,
}

/// The stores of a node, by name; a clone is a handle to the same.
#[derive(Clone, Default)]
pub struct Stores(Arc<Mutex<HashMap<Name, Arc<Slot>>>>);

/// The place of a store, which may be empty.
type Slot = ArcSwapOption<Arc<dyn Store>>;

impl Stores {
    fn slot(&self, name: &Name) -> Arc<Slot> {
        Arc::clone(self.0.lock().entry(name.clone()).or_default())
    }

    /// Puts these in force, and none besides.
    pub fn replace(&self, stores: impl IntoIterator<Item = (Name, Arc<dyn Store>)>) {
        let mut gone: HashMap<Name, Arc<Slot>> = self.0.lock().clone();
        for (name, store) in stores {
            gone.remove(&name);
            self.slot(&name).store(Some(Arc::new(store)));
        }
        gone.values().for_each(|slot| slot.store(None));
    }
}

/// A limit over several nodes, on one of them.
pub(super) struct Shared {
    name: Box<str>,
    slot: Arc<Slot>,
    terms: Terms,
    when_away: WhenAway,
    /// Counts while the store is away, if nodes count for themselves then.
    local: Option<Limiter>,
    stocks: [Mutex<HashMap<Key, Stock>>; SHARDS],
    keys_max: usize,
    changed: Notify,
}

impl Shared {
    pub(super) fn new(limit: &Limit, rate: Rate, sharing: &Sharing, stores: &Stores) -> Self {
        let is_local = sharing.when_away == WhenAway::Local;
        Self {
            name: limit.name.clone(),
            slot: stores.slot(&sharing.store),
            terms: Terms::new(rate, sharing.slice),
            when_away: sharing.when_away,
            local: is_local.then(|| Limiter::new(rate, limit.keys_max)),
            stocks: Default::default(),
            keys_max: limit.keys_max.div_ceil(SHARDS),
            changed: Notify::new(),
        }
    }

    /// The key of a request, the same on every node whose route and limit are called the same.
    pub(super) fn key(&self, by: &[Part], cx: &RequestContext<'_>) -> Key {
        thread_local! {
            static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
        }
        TEXT.with_borrow_mut(|text| {
            text.clear();
            let Rate { units, per, burst, .. } = self.terms.rate;
            for part in [cx.route().as_str(), &self.name] {
                text.push_str(part);
                text.push('\0');
            }
            for number in [u128::from(units.get()), per.as_nanos(), u128::from(burst.get())] {
                // Writing to a string cannot fail.
                let _ = write!(text, "{number}\0");
            }
            quota::key::write(by, cx.view(), text);
            let mut key = Key::default();
            key.copy_from_slice(&digest(&SHA256, text.as_bytes()).as_ref()[..16]);
            key
        })
    }

    pub(super) const fn when_away(&self) -> WhenAway {
        self.when_away
    }

    /// What counts while the store is away, if this node does.
    pub(super) const fn local(&self) -> Option<&Limiter> {
        self.local.as_ref()
    }

    /// Whether the store is known not to answer.
    pub(super) fn is_away(&self) -> bool {
        self.slot.load().as_ref().is_none_or(|store| store.is_away())
    }

    /// The time for an answer.
    pub(super) fn timeout(&self) -> Duration {
        self.slot.load().as_ref().map(|store| store.timeout()).unwrap_or_default()
    }

    /// Completes when the store has answered, or has not.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Asks for so many units of a key, and the store for more of them if there are few.
    pub(super) fn take(self: &Arc<Self>, key: Key, cost: u64, now: Tick) -> Taken {
        self.with(key, now, |stock, terms| stock.take(cost, terms, now))
    }

    /// Gives back what was granted right before.
    pub(super) fn give_back(self: &Arc<Self>, key: Key, cost: u64, now: Tick) {
        self.with(key, now, |stock, _terms| stock.give_back(cost));
    }

    /// Tells a key what that costs which it was granted before.
    pub(super) fn settle(self: &Arc<Self>, key: Key, granted: u64, cost: u64, now: Tick) {
        self.with(key, now, |stock, terms| stock.settle(granted, cost, terms, now));
    }

    fn with<T>(
        self: &Arc<Self>,
        key: Key,
        now: Tick,
        what: impl FnOnce(&mut Stock, &Terms) -> T,
    ) -> T {
        let (said, ask) = {
            let mut stocks = self.stocks[usize::from(key[0]) % SHARDS].lock();
            if !stocks.contains_key(&key) && stocks.len() >= self.keys_max {
                make_room(&mut stocks, now);
            }
            let stock = stocks.entry(key).or_default();
            (what(stock, &self.terms), stock.ask(&self.terms, now))
        };
        if let Some(ask) = ask {
            self.put(key, ask);
        }
        said
    }

    /// Asks the store.
    fn put(self: &Arc<Self>, key: Key, ask: Ask) {
        let reply = Box::new(Asked { shared: Arc::clone(self), key, ask: Some(ask) });
        // A question that nobody takes is dropped, by which the stock learns it.
        if let Some(store) = self.slot.load_full() {
            store.ask(Question::new(key, self.terms.rate, ask, reply));
        }
    }

    /// Forgets the keys of which nothing is in stock. To be called now and then.
    pub(super) fn trim(&self, now: Tick) {
        for stocks in &self.stocks {
            let mut stocks = stocks.lock();
            stocks.retain(|_, stock| !stock.is_idle(now));
            if stocks.capacity() > 64 && stocks.len() * 4 < stocks.capacity() {
                stocks.shrink_to_fit();
            }
        }
    }
}

/// Forgets keys that are not in use, of a few that are looked at, or else one of them: it loses what it has in stock,
/// which is a slice, or is spared what it owed.
fn make_room(stocks: &mut HashMap<Key, Stock>, now: Tick) {
    const LOOKED_AT: usize = 16;
    let few: Vec<(Key, bool)> =
        stocks.iter().take(LOOKED_AT).map(|(key, stock)| (*key, stock.is_idle(now))).collect();
    let idle = few.iter().filter(|(_, is_idle)| *is_idle);
    let before = stocks.len();
    for (key, _) in idle {
        stocks.remove(key);
    }
    if let (true, Some((key, _))) = (stocks.len() == before, few.first()) {
        stocks.remove(key);
    }
}

/// A question that is under way.
struct Asked {
    shared: Arc<Shared>,
    key: Key,
    /// What is asked for, until it is answered.
    ask: Option<Ask>,
}

impl Asked {
    fn end(&mut self, answer: Option<Answer>) {
        let Some(ask) = self.ask.take() else { return };
        let Self { shared, key, .. } = self;
        let now = clock::now();
        let further = {
            let mut stocks = shared.stocks[usize::from(key[0]) % SHARDS].lock();
            stocks.get_mut(key).and_then(|stock| match answer {
                Some(answer) => {
                    stock.answered(&ask, &answer, &shared.terms, now);
                    stock.ask(&shared.terms, now)
                }
                None => {
                    stock.failed();
                    None
                }
            })
        };
        if let Some(ask) = further {
            shared.put(*key, ask);
        }
        shared.changed.notify_waiters();
    }
}

impl Reply for Asked {
    fn answered(mut self: Box<Self>, answer: Answer) {
        self.end(Some(answer));
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.end(None);
    }
}
