//! What an exchange routes by: a table of keys, a list, a trie of words, or a list of matchers.
//!
//! A topic's trie is walked with a set of places, one word after the other, so that a key costs at most
//! its words times the places reached, whatever patterns are bound; walking it by trial would cost
//! exponentially with several `#` in a pattern.

use std::{collections::HashMap, sync::Arc};

use weft_wire::amqp::Table;

use super::{Binding, Destination, Kind, Matcher};

#[derive(Debug)]
pub(super) enum Index {
    Direct(HashMap<Box<str>, Vec<Destination>>),
    Fanout(Vec<Destination>),
    Topic(Trie),
    Headers(Vec<(Binding, Option<Matcher>)>),
}

impl Index {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Direct => Self::Direct(HashMap::new()),
            Kind::Fanout => Self::Fanout(Vec::new()),
            Kind::Topic => Self::Topic(Trie::default()),
            Kind::Headers => Self::Headers(Vec::new()),
        }
    }

    pub(super) fn add(&mut self, binding: &Binding, matcher: Option<Matcher>) {
        match self {
            Self::Direct(keys) => {
                keys.entry(binding.key.clone()).or_default().push(binding.to.clone());
            }
            Self::Fanout(list) => list.push(binding.to.clone()),
            Self::Topic(trie) => trie.add(&binding.key, binding.to.clone()),
            Self::Headers(list) => list.push((binding.clone(), matcher)),
        }
    }

    pub(super) fn remove(&mut self, binding: &Binding) {
        match self {
            Self::Direct(keys) => {
                if let Some(list) = keys.get_mut(&binding.key) {
                    take_one(list, &binding.to);
                    if list.is_empty() {
                        keys.remove(&binding.key);
                    }
                }
            }
            Self::Fanout(list) => take_one(list, &binding.to),
            Self::Topic(trie) => trie.remove(&binding.key, &binding.to),
            Self::Headers(list) => list.retain(|(listed, _)| listed != binding),
        }
    }

    /// Appends the destinations of a message; one may come several times.
    pub(super) fn matches<'a>(
        &'a self,
        key: &str,
        headers: Table<'_>,
        out: &mut Vec<&'a Destination>,
    ) {
        match self {
            Self::Direct(keys) => out.extend(keys.get(key).into_iter().flatten()),
            Self::Fanout(list) => out.extend(list),
            Self::Topic(trie) => trie.matches(key, out),
            Self::Headers(list) => {
                let wanted = list.iter().filter(|(_, matcher)| {
                    matcher.as_ref().is_some_and(|matcher| matcher.takes(headers))
                });
                out.extend(wanted.map(|(binding, _)| &binding.to));
            }
        }
    }
}

/// Two bindings may lead to one place: each goes by itself.
fn take_one(list: &mut Vec<Destination>, destination: &Destination) {
    if let Some(at) = list.iter().position(|listed| listed == destination) {
        list.swap_remove(at);
    }
}

/// Patterns by their words.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    /// Nodes that are in use no more.
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Node {
    words: HashMap<Arc<str>, u32>,
    /// The node behind `*`.
    one: Option<u32>,
    /// The node behind `#`, which stays where it is with any word.
    many: Option<u32>,
    /// Whether it is itself behind `#`.
    stays: bool,
    here: Vec<Destination>,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new() }
    }
}

const ROOT: u32 = 0;

impl Trie {
    fn add(&mut self, pattern: &str, destination: Destination) {
        let mut at = ROOT;
        for word in words(pattern) {
            at = match self.child(at, word) {
                Some(child) => child,
                None => self.grow(at, word),
            };
        }
        self.nodes[at as usize].here.push(destination);
    }

    fn child(&self, at: u32, word: &str) -> Option<u32> {
        let node = &self.nodes[at as usize];
        match word {
            "*" => node.one,
            "#" => node.many,
            word => node.words.get(word).copied(),
        }
    }

    fn grow(&mut self, at: u32, word: &str) -> u32 {
        let fresh = Node { stays: word == "#", ..Node::default() };
        let child = match self.free.pop() {
            Some(free) => {
                self.nodes[free as usize] = fresh;
                free
            }
            None => {
                self.nodes.push(fresh);
                (self.nodes.len() - 1) as u32
            }
        };
        let node = &mut self.nodes[at as usize];
        match word {
            "*" => node.one = Some(child),
            "#" => node.many = Some(child),
            word => {
                node.words.insert(word.into(), child);
            }
        }
        child
    }

    fn remove(&mut self, pattern: &str, destination: &Destination) {
        let mut path = vec![(ROOT, "")];
        for word in words(pattern) {
            let Some((at, _)) = path.last() else { return };
            let Some(child) = self.child(*at, word) else { return };
            path.push((child, word));
        }
        let Some((end, _)) = path.last() else { return };
        take_one(&mut self.nodes[*end as usize].here, destination);
        while let Some((at, word)) = path.pop() {
            let node = &self.nodes[at as usize];
            let used = !node.here.is_empty()
                || !node.words.is_empty()
                || node.one.is_some()
                || node.many.is_some();
            let Some((parent, _)) = path.last() else { break };
            if used {
                break;
            }
            self.free.push(at);
            let parent = &mut self.nodes[*parent as usize];
            match word {
                "*" => parent.one = None,
                "#" => parent.many = None,
                word => {
                    parent.words.remove(word);
                }
            }
        }
    }

    fn matches<'a>(&'a self, key: &str, out: &mut Vec<&'a Destination>) {
        let mut places = Vec::with_capacity(8);
        self.enter(ROOT, &mut places);
        let mut next = Vec::with_capacity(8);
        for word in words(key) {
            next.clear();
            for place in &places {
                let node = &self.nodes[*place as usize];
                if node.stays {
                    self.enter(*place, &mut next);
                }
                if let Some(child) = node.words.get(word) {
                    self.enter(*child, &mut next);
                }
                if let Some(child) = node.one {
                    self.enter(child, &mut next);
                }
            }
            std::mem::swap(&mut places, &mut next);
        }
        for place in places {
            out.extend(&self.nodes[place as usize].here);
        }
    }

    /// Adds a place, and those behind `#`, which stands for no word as well.
    fn enter(&self, place: u32, places: &mut Vec<u32>) {
        let mut at = Some(place);
        while let Some(place) = at {
            if places.contains(&place) {
                return;
            }
            places.push(place);
            at = self.nodes[place as usize].many;
        }
    }

    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}

/// The words of a key or a pattern; an empty one has none.
fn words(text: &str) -> impl Iterator<Item = &str> {
    (!text.is_empty()).then(|| text.split('.')).into_iter().flatten()
}

#[cfg(test)]
impl Index {
    pub(super) fn trie(&self) -> Option<&Trie> {
        match self {
            Self::Topic(trie) => Some(trie),
            _ => None,
        }
    }
}
