//! Namespaces: the names within each are its own, and so is what is due.
//!
//! On disk a namespace is a prefix of names: NUL, its name, NUL, and then the name within it. Names of the
//! root have no prefix, as they had before there were others. Ids are of the whole ledger, so that one
//! transaction may span namespaces. In memory each has its own order of what is due, so that one that
//! nobody asks for keeps nothing from the others.

use std::{
    borrow::Cow,
    collections::{BTreeSet, BinaryHeap},
    sync::Arc,
    task::Waker,
};

use weft_kernel::{Error, Reason, Result, Tick};

use super::{Core, due::Timer};

/// The longest name of a namespace, in bytes.
pub(crate) const NAMESPACE_BYTES_MAX: usize = 64;
/// Stands around the name of a namespace, and begins no other name.
const MARK: char = '\0';

/// A namespace, for as long as the ledger is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct SpaceId(pub(crate) usize);

impl SpaceId {
    /// The namespace without a name.
    pub(crate) const ROOT: Self = Self(0);
}

/// Checks the name of a namespace.
pub(crate) fn check_namespace(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if name.is_empty() || name.len() > NAMESPACE_BYTES_MAX || !name.chars().all(plain) {
        let say = format!(
            "the name of a namespace has 1 to {NAMESPACE_BYTES_MAX} characters of a-z, 0-9, `-`, `_` and `.`"
        );
        return Err(Error::new(Reason::MalformedRequest, say));
    }
    Ok(())
}

/// A name within a namespace as the ledger has it.
pub(crate) fn scoped<'a>(namespace: &str, name: &'a str) -> Result<Cow<'a, str>> {
    if name.starts_with(MARK) {
        return Err(Error::new(Reason::MalformedRequest, "a name does not begin with NUL"));
    }
    Ok(prefixed(namespace, name))
}

/// A beginning of names within a namespace as the ledger has it.
pub(crate) fn prefixed<'a>(namespace: &str, name: &'a str) -> Cow<'a, str> {
    match namespace {
        "" => Cow::Borrowed(name),
        _ => Cow::Owned(format!("{MARK}{namespace}{MARK}{name}")),
    }
}

/// The namespace of a name, and the name within it.
pub(crate) fn split(full: &str) -> (&str, &str) {
    full.strip_prefix(MARK).and_then(|rest| rest.split_once(MARK)).unwrap_or(("", full))
}

/// A name as people are told it: behind its namespace, if it is in one.
pub(crate) fn shown(full: &str) -> String {
    match split(full) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}: {name}"),
    }
}

/// What is due in a namespace.
#[derive(Debug)]
pub(super) struct Space {
    name: Arc<str>,
    /// When which group has to be looked at.
    pub(super) looks: BinaryHeap<Timer>,
    /// The groups that wait for a time of the wall clock.
    pub(super) on_wall: BTreeSet<u32>,
    /// By how many milliseconds the wall clock is ahead of the monotonic one, as far as `looks` reckons
    /// with it.
    pub(super) ahead_ms: Option<i64>,
    /// Its maps of timers.
    pub(super) timer_maps: Vec<u32>,
    /// What was told when it was last asked.
    asked: Tick,
    /// The earliest that was entered since, if it is earlier than that.
    sooner: Tick,
    waker: Option<Waker>,
}

impl Space {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            looks: BinaryHeap::new(),
            on_wall: BTreeSet::new(),
            ahead_ms: None,
            timer_maps: Vec::new(),
            asked: Tick::NEVER,
            sooner: Tick::NEVER,
            waker: None,
        }
    }

    /// Something is due at `at`; whom to wake because of it.
    pub(super) fn tell(&mut self, at: Tick) -> Option<Waker> {
        if at >= self.asked {
            return None;
        }
        self.sooner = self.sooner.min(at);
        self.waker.take()
    }

    /// Notes what was told.
    pub(super) fn told(&mut self, next: Option<Tick>) {
        self.asked = next.unwrap_or(Tick::NEVER);
        self.sooner = Tick::NEVER;
    }

    /// Whether something is due earlier than was told; else the task is woken when it is.
    pub(super) fn poll(&mut self, waker: &Waker) -> bool {
        if self.sooner < self.asked {
            return true;
        }
        self.waker = Some(waker.clone());
        false
    }
}

/// All namespaces that were asked for or have a name in the ledger.
#[derive(Debug)]
pub(super) struct Spaces(Vec<Space>);

impl Default for Spaces {
    fn default() -> Self {
        Self(vec![Space::new("")])
    }
}

impl Spaces {
    /// The namespace of a name, made if it is new.
    pub(super) fn named(&mut self, name: &str) -> SpaceId {
        let found = self.0.iter().position(|space| *space.name == *name);
        SpaceId(found.unwrap_or_else(|| {
            self.0.push(Space::new(name));
            self.0.len() - 1
        }))
    }

    /// The namespace of the name of a log, group or map.
    pub(super) fn of(&mut self, full: &str) -> SpaceId {
        self.named(split(full).0)
    }

    /// A namespace.
    pub(super) fn get(&mut self, id: SpaceId) -> &mut Space {
        &mut self.0[id.0]
    }
}

impl Core {
    /// The namespace of a name.
    pub(crate) fn namespace(&mut self, name: &str) -> SpaceId {
        self.spaces.named(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_scoped_and_split_again() {
        for (namespace, name) in [("", "q/orders"), ("sagas", "q/orders"), ("a.b", "x\0y")] {
            let full = scoped(namespace, name).unwrap();
            assert_eq!(split(&full), (namespace, name));
        }
        assert_eq!(shown(&scoped("sagas", "orders").unwrap()), "sagas: orders");
        assert!(scoped("", "\0sagas\0orders").is_err(), "no name reaches into a namespace");
        for name in ["", "A", "a b", "a\0", &"x".repeat(65)] {
            assert!(check_namespace(name).is_err(), "{name:?}");
        }
    }
}
