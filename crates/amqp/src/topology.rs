//! Exchanges and bindings of one virtual host, and which queues a message goes to.
//!
//! Pure: names in, names out. Each exchange keeps its bindings twice: as the set that declarations are
//! compared with, and as the index that its type routes by. What an exchange of the server's own cannot
//! do (be deleted, be redeclared otherwise) is refused by its caller, who knows RabbitMQ's words.

mod headers;
mod index;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use weft_wire::amqp::Table;

pub(crate) use headers::{Matcher, WrongMatch};
use index::Index;

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Fanout,
    Topic,
    Headers,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Direct, Self::Fanout, Self::Topic, Self::Headers];

    pub(crate) fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == text)
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Destination {
    Queue(Arc<str>),
    Exchange(Arc<str>),
}

/// A binding of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Binding {
    pub(crate) to: Destination,
    pub(crate) key: Box<str>,
    /// The arguments as they came; a table of the wire.
    pub(crate) arguments: Box<[u8]>,
}

/// What an exchange was declared as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) kind: Kind,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    /// The arguments as they came; a table of the wire.
    pub(crate) arguments: Box<[u8]>,
}

impl Definition {
    /// A durable exchange without arguments.
    pub(crate) fn durable(kind: Kind) -> Self {
        let arguments = Box::default();
        Self { kind, durable: true, auto_delete: false, internal: false, arguments }
    }

    /// Where messages go that find nothing.
    fn alternate(&self) -> Option<&str> {
        Table::parse(&self.arguments).ok()?.get("alternate-exchange")?.text()
    }
}

#[derive(Debug)]
struct Exchange {
    definition: Definition,
    alternate: Option<Arc<str>>,
    bindings: HashSet<Binding>,
    index: Index,
}

/// What became of removing a binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// The bindings that went, each with its exchange.
    pub(crate) bindings: Vec<(Arc<str>, Binding)>,
    /// Exchanges that went with their last binding.
    pub(crate) exchanges: Vec<Arc<str>>,
}

/// The exchanges of a virtual host.
#[derive(Debug)]
pub(crate) struct Topology {
    exchanges: HashMap<Arc<str>, Exchange>,
    /// Which exchanges lead to a destination, and by how many bindings.
    sources: HashMap<Destination, HashMap<Arc<str>, usize>>,
}

/// The exchanges that every virtual host has.
const PREDECLARED: [(&str, Kind); 6] = [
    ("amq.direct", Kind::Direct),
    ("amq.fanout", Kind::Fanout),
    ("amq.topic", Kind::Topic),
    ("amq.headers", Kind::Headers),
    ("amq.match", Kind::Headers),
    ("amq.rabbitmq.trace", Kind::Topic),
];

impl Default for Topology {
    fn default() -> Self {
        let mut topology = Self { exchanges: HashMap::new(), sources: HashMap::new() };
        for (name, kind) in PREDECLARED {
            let internal = name == "amq.rabbitmq.trace";
            topology.declare(name, Definition { internal, ..Definition::durable(kind) });
        }
        topology
    }
}

impl Topology {
    /// What an exchange was declared as. The default exchange is not in here.
    pub(crate) fn get(&self, name: &str) -> Option<&Definition> {
        self.exchanges.get(name).map(|exchange| &exchange.definition)
    }

    /// Adds an exchange that is not there yet.
    pub(crate) fn declare(&mut self, name: &str, definition: Definition) {
        let exchange = Exchange {
            alternate: definition.alternate().map(Arc::from),
            index: Index::new(definition.kind),
            bindings: HashSet::new(),
            definition,
        };
        self.exchanges.entry(name.into()).or_insert(exchange);
    }

    /// Whether anything is bound to an exchange.
    pub(crate) fn in_use(&self, name: &str) -> bool {
        self.exchanges.get(name).is_some_and(|exchange| !exchange.bindings.is_empty())
    }

    /// Removes an exchange, and each binding from it and to it.
    pub(crate) fn delete(&mut self, name: &str) -> Removed {
        let mut removed = Removed::default();
        self.delete_into(name, &mut removed);
        removed
    }

    fn delete_into(&mut self, name: &str, removed: &mut Removed) {
        let Some((name, exchange)) = self.exchanges.remove_entry(name) else { return };
        removed.exchanges.push(name.clone());
        for binding in exchange.bindings {
            self.forget_source(&binding.to, &name);
            removed.bindings.push((name.clone(), binding));
        }
        self.detach_into(&Destination::Exchange(name), removed);
    }

    /// Adds a binding; `false` if it was there. The exchange exists.
    pub(crate) fn bind(
        &mut self,
        source: &str,
        binding: Binding,
        matcher: Option<Matcher>,
    ) -> bool {
        let Some((name, exchange)) = self.exchanges.get_key_value(source) else { return false };
        if exchange.bindings.contains(&binding) {
            return false;
        }
        let name = name.clone();
        let count = self.sources.entry(binding.to.clone()).or_default().entry(name).or_default();
        *count += 1;
        if let Some(exchange) = self.exchanges.get_mut(source) {
            exchange.index.add(&binding, matcher);
            exchange.bindings.insert(binding);
        }
        true
    }

    /// Removes a binding; nothing happens if it is not there.
    pub(crate) fn unbind(&mut self, source: &str, binding: &Binding) -> Removed {
        let mut removed = Removed::default();
        self.unbind_into(source, binding, &mut removed);
        removed
    }

    fn unbind_into(&mut self, source: &str, binding: &Binding, removed: &mut Removed) {
        let Some(exchange) = self.exchanges.get_mut(source) else { return };
        let Some(binding) = exchange.bindings.take(binding) else { return };
        exchange.index.remove(&binding);
        let goes = exchange.bindings.is_empty() && exchange.definition.auto_delete;
        self.forget_source(&binding.to, source);
        removed.bindings.push((source.into(), binding));
        if goes {
            self.delete_into(source, removed);
        }
    }

    /// Removes every binding that leads to a queue that is gone.
    pub(crate) fn forget_queue(&mut self, queue: &str) -> Removed {
        let mut removed = Removed::default();
        self.detach_into(&Destination::Queue(queue.into()), &mut removed);
        removed
    }

    fn detach_into(&mut self, to: &Destination, removed: &mut Removed) {
        for source in self.sources.remove(to).unwrap_or_default().into_keys() {
            let Some(exchange) = self.exchanges.get(&source) else { continue };
            let gone: Vec<_> =
                exchange.bindings.iter().filter(|binding| binding.to == *to).cloned().collect();
            for binding in gone {
                self.unbind_into(&source, &binding, removed);
            }
        }
    }

    fn forget_source(&mut self, to: &Destination, source: &str) {
        let Some(sources) = self.sources.get_mut(to) else { return };
        if let Some(count) = sources.get_mut(source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(source);
            }
        }
        if sources.is_empty() {
            self.sources.remove(to);
        }
    }

    /// What of something that was removed has not been made anew.
    pub(crate) fn without(&self, removed: &Removed) -> Removed {
        let is_bound = |source: &str, binding: &Binding| {
            self.exchanges.get(source).is_some_and(|exchange| exchange.bindings.contains(binding))
        };
        let bindings = removed.bindings.iter();
        let exchanges = removed.exchanges.iter();
        Removed {
            bindings: bindings.filter(|(source, of)| !is_bound(source, of)).cloned().collect(),
            exchanges: exchanges.filter(|name| self.get(name).is_none()).cloned().collect(),
        }
    }

    /// The queues that something leads to.
    pub(crate) fn bound_queues(&self) -> Vec<Arc<str>> {
        let queue = |destination: &Destination| match destination {
            Destination::Queue(name) => Some(Arc::clone(name)),
            Destination::Exchange(_) => None,
        };
        self.sources.keys().filter_map(queue).collect()
    }

    /// Appends the queues that a message reaches by any of its keys, each once. `false` if the exchange
    /// does not exist. An exchange goes on to its alternate if none of the keys leads anywhere.
    pub(crate) fn route(
        &self,
        exchange: &str,
        keys: &[&str],
        headers: Table<'_>,
        out: &mut Vec<Arc<str>>,
    ) -> bool {
        if !self.exchanges.contains_key(exchange) {
            return false;
        }
        let start = out.len();
        let mut found = Vec::new();
        let (mut seen, mut next) = (Vec::new(), Vec::new());
        self.walk(exchange, &mut seen, &mut next);
        while let Some(exchange) = next.pop() {
            found.clear();
            for key in keys {
                exchange.index.matches(key, headers, &mut found);
            }
            if found.is_empty()
                && let Some(alternate) = &exchange.alternate
            {
                self.walk(alternate, &mut seen, &mut next);
            }
            for destination in &found {
                match destination {
                    Destination::Queue(name) => out.push(name.clone()),
                    Destination::Exchange(name) => self.walk(name, &mut seen, &mut next),
                }
            }
        }
        if out.len() > start + 1 {
            out[start..].sort_unstable();
            let mut last = start;
            for at in start + 1..out.len() {
                if out[at] != out[last] {
                    last += 1;
                    out.swap(last, at);
                }
            }
            out.truncate(last + 1);
        }
        true
    }

    /// Goes on to an exchange that was not seen yet.
    fn walk<'a>(&'a self, name: &str, seen: &mut Vec<&'a str>, next: &mut Vec<&'a Exchange>) {
        if let Some((name, exchange)) = self.exchanges.get_key_value(name)
            && !seen.contains(&&**name)
        {
            seen.push(name);
            next.push(exchange);
        }
    }

    /// Whether routes of an exchange depend on headers, its own or of one that it leads to. Such routes
    /// cannot be remembered by key.
    pub(crate) fn reads_headers(&self, exchange: &str) -> bool {
        let mut seen = vec![exchange];
        let mut at = 0;
        while let Some(name) = seen.get(at).copied() {
            at += 1;
            let Some(exchange) = self.exchanges.get(name) else { continue };
            if exchange.definition.kind == Kind::Headers {
                return true;
            }
            let further = exchange.bindings.iter().filter_map(|binding| match &binding.to {
                Destination::Exchange(name) => Some(&**name),
                Destination::Queue(_) => None,
            });
            for name in further.chain(exchange.alternate.as_deref()) {
                if !seen.contains(&name) {
                    seen.push(name);
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
