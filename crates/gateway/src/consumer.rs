//! Consumer: a client that the node knows, and the groups it is in.

use std::{
    borrow::Cow,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock},
};

use weft_kernel::Name;
use weft_proxy::Fact;

/// What is known of a consumer, for all of its requests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: Name,
    pub(crate) groups: Box<[Name]>,
    /// The groups as one field value, so that no request writes it.
    pub(crate) groups_line: Box<str>,
    /// The hash of the name with the chance of this process, so that no request works it out.
    pub(crate) mark: u64,
}

impl Known {
    pub(crate) fn new(name: Name, groups: Vec<Name>) -> Self {
        let groups_line = groups.iter().map(Name::as_str).collect::<Vec<_>>().join(",").into();
        static MARKS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let mark = MARKS.hash_one(name.as_str());
        Self { name, groups: groups.into(), groups_line, mark }
    }
}

/// Consumer that a request comes from. The policy of authentication leaves it as a fact; log, span and
/// metrics tell it under `consumer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    pub(crate) known: Arc<Known>,
    pub(crate) is_anonymous: bool,
}

impl Consumer {
    /// A consumer in groups.
    pub fn new(name: Name, groups: Vec<Name>, is_anonymous: bool) -> Self {
        Self { known: Arc::new(Known::new(name, groups)), is_anonymous }
    }

    /// The name.
    pub fn name(&self) -> &Name {
        &self.known.name
    }

    /// The groups that it is in, in the order of the configuration.
    pub fn groups(&self) -> &[Name] {
        &self.known.groups
    }

    /// Whether it is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.known.groups.iter().any(|of| of.as_str() == group)
    }

    /// Whether it stands in for a client that showed no credentials.
    pub const fn is_anonymous(&self) -> bool {
        self.is_anonymous
    }
}

impl Fact for Consumer {
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        Some(("consumer", self.known.name.as_str().into()))
    }

    fn is_counted(&self) -> bool {
        true
    }
}
