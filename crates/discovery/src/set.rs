//! The endpoints of a service at one time: immutable, with the tables that balancing needs.
//!
//! Building a set may take milliseconds (a ring, a table) and is never done on the request path. A
//! set is a list of tiers by priority; a tier has a group of all its members and, where zones are
//! told apart, one group per zone.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

use weft_resilience::ejection::Ejection;

use crate::{
    balance::Table,
    endpoint::{Endpoint, NEVER, UNWELL},
    options::ServiceOptions,
    source::Metadata,
};

/// An endpoint with what it weighs in this set.
#[derive(Clone, Debug)]
pub struct Member {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its weight beside the others; at least 1.
    pub weight: u32,
    /// Its tier: a higher number is used only when no lower one can be.
    pub priority: u16,
    /// What its source says of it beside.
    pub metadata: Arc<Metadata>,
    /// Its breaker, so that a pick need not follow the endpoint's own reference.
    pub(crate) ejection: Option<Arc<Ejection>>,
    /// Its weight relative to the mean of its group.
    pub(crate) share: f64,
}

impl Member {
    /// An endpoint in a set; a weight of 0 counts as 1.
    pub(crate) fn new(
        endpoint: Arc<Endpoint>,
        weight: u32,
        priority: u16,
        metadata: Arc<Metadata>,
    ) -> Self {
        let ejection = endpoint.ejection();
        Self { endpoint, weight: weight.max(1), priority, metadata, ejection, share: 1.0 }
    }
}

/// Members among which one table chooses.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) members: Box<[Member]>,
    pub(crate) table: Table,
    /// Members that were well, neither drained nor unhealthy, when last counted.
    well: AtomicU32,
}

impl Group {
    fn new(mut members: Box<[Member]>, options: &ServiceOptions) -> Self {
        let total: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
        let mean = total / members.len().max(1) as f64;
        for member in &mut members {
            member.share = f64::from(member.weight) / mean;
        }
        let table = Table::build(options.algorithm, &members);
        let group = Self { members, table, well: AtomicU32::new(0) };
        group.count();
        group
    }

    /// Counts again who is well; (serving, well).
    fn count(&self) -> (usize, usize) {
        let flags = || self.members.iter().map(|member| member.endpoint.flags());
        let serving = flags().filter(|flags| flags & NEVER == 0).count();
        let well = flags().filter(|flags| flags & UNWELL == 0).count();
        self.well.store(u32::try_from(well).unwrap_or(u32::MAX), Relaxed);
        (serving, well)
    }

    /// Whether at least `share` of it can be used, ejected ones not counted.
    fn holds(&self, share: f64) -> bool {
        let held = self.members.first().map_or(0, |member| member.endpoint.zone_held());
        let left = self.well.load(Relaxed).saturating_sub(held);
        left > 0 && f64::from(left) >= share * self.members.len() as f64
    }
}

/// All members of one priority.
#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) all: Group,
    zones: Box<[(Arc<str>, Group)]>,
    panicking: AtomicBool,
}

impl Tier {
    fn new(members: Vec<Member>, options: &ServiceOptions) -> Self {
        let mut names: Vec<Arc<str>> =
            members.iter().filter_map(|member| member.endpoint.zone().cloned()).collect();
        names.sort_unstable();
        names.dedup();
        // One zone alone, with everybody in it, is the group of all.
        let apart = !options.algorithm.hashes()
            && (names.len() > 1 || members.iter().any(|member| member.endpoint.zone().is_none()));
        let zones = if apart { names } else { Vec::new() }
            .into_iter()
            .map(|name| {
                let here = members.iter().filter(|m| m.endpoint.zone() == Some(&name)).cloned();
                let group = Group::new(here.collect(), options);
                (name, group)
            })
            .collect();
        let all = Group::new(members.into(), options);
        Self { all, zones, panicking: AtomicBool::new(false) }
    }

    /// Whether so few are well that the verdicts are not believed.
    pub(crate) fn panicking(&self) -> bool {
        self.panicking.load(Relaxed)
    }

    /// The group of the caller's zone, while enough of it can be used.
    pub(crate) fn near(&self, zone: Option<&str>, share: f64) -> Option<&Group> {
        let zone = zone?;
        let (_, group) = self.zones.iter().find(|(name, _)| **name == *zone)?;
        group.holds(share).then_some(group)
    }
}

/// The endpoints of a service at one time.
#[derive(Debug, Default)]
pub struct EndpointSet {
    pub(crate) tiers: Box<[Tier]>,
    members: Box<[Member]>,
}

impl EndpointSet {
    /// Builds the tables for these members; costly, and so never on the request path.
    pub(crate) fn build(mut members: Vec<Member>, options: &ServiceOptions) -> Self {
        // One order for every process that knows the same members, whoever came first.
        members.sort_by(|a, b| {
            (a.priority, a.endpoint.address()).cmp(&(b.priority, b.endpoint.address()))
        });
        let tiers = members
            .chunk_by(|a, b| a.priority == b.priority)
            .map(|tier| Tier::new(tier.to_vec(), options))
            .collect();
        let set = Self { tiers, members: members.into() };
        set.refresh(options.panic_threshold);
        set
    }

    /// Every member, by priority and address.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether some tier does not believe its verdicts.
    pub fn panicking(&self) -> bool {
        self.tiers.iter().any(Tier::panicking)
    }

    /// Members that are neither drained nor gone.
    pub fn serving(&self) -> usize {
        self.members.iter().filter(|member| member.endpoint.flags() & NEVER == 0).count()
    }

    /// Counts again who is well, after a verdict or a drain changed.
    pub(crate) fn refresh(&self, panic_threshold: f64) {
        for tier in &self.tiers {
            let (serving, well) = tier.all.count();
            for (_, group) in &tier.zones {
                group.count();
            }
            let panicking = serving > 0 && (well as f64) < panic_threshold * serving as f64;
            tier.panicking.store(panicking, Relaxed);
        }
    }
}
