//! The balancers: each chooses one of the members of a group, given what may not be chosen.
//!
//! Every balancer makes a few cheap attempts of its own and gives up when these meet members that
//! cannot be used; then one look at all members decides, so that a member that can be used is found
//! whenever there is one. Tables are built once for each set.

mod draw;
mod maglev;
mod ring;
mod turns;
mod two;

use weft_kernel::{Rng, Tick};

use crate::{
    endpoint::{Usable, usable},
    options::Algorithm,
    set::Member,
};

pub use maglev::Maglev;
pub use ring::Ring;

/// What a group needs beside its members to choose quickly.
#[derive(Debug)]
pub(crate) enum Table {
    Two(two::Two),
    Turns(turns::Turns),
    Random(draw::Draw),
    Ring(Ring),
    Maglev(Maglev),
}

impl Table {
    pub(crate) fn build(algorithm: Algorithm, members: &[Member]) -> Self {
        let weights = || members.iter().map(|member| member.weight).collect::<Vec<_>>();
        let keyed = || {
            members
                .iter()
                .map(|member| (member.endpoint.label().as_ref(), member.weight))
                .collect::<Vec<_>>()
        };
        match algorithm {
            Algorithm::PeakEwma => Self::Two(two::Two::new(&weights(), two::By::Latency)),
            Algorithm::LeastRequest => Self::Two(two::Two::new(&weights(), two::By::Crowd)),
            Algorithm::WeightedRoundRobin => Self::Turns(turns::Turns::new(&weights())),
            Algorithm::Random => Self::Random(draw::Draw::new(&weights())),
            Algorithm::RingHash { min, max } => Self::Ring(Ring::new(&keyed(), min, max)),
            Algorithm::Maglev { table } => Self::Maglev(Maglev::new(&keyed(), table)),
        }
    }
}

/// How new and recovered endpoints are spared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlowStart {
    pub(crate) span_nanos: u64,
    pub(crate) min: f64,
}

/// How far one endpoint's load may exceed its fair share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) factor: f64,
    /// What is in flight to the whole service.
    pub(crate) active: u64,
}

/// What may be chosen, and what for.
pub(crate) struct Wish<'a> {
    pub(crate) now: Tick,
    pub(crate) tried: &'a [u64],
    /// Flags that rule a member out.
    pub(crate) refuse: u32,
    pub(crate) slow: SlowStart,
    pub(crate) bound: Option<Bound>,
    pub(crate) hash: u64,
}

impl Wish<'_> {
    /// Whether a member may be chosen; taking a probe commits to it.
    pub(crate) fn allows(&self, member: &Member) -> Usable {
        if !self.admits(member) {
            return Usable::No;
        }
        usable(member.ejection.as_deref(), self.now)
    }

    /// Whether nothing but its breaker could speak against a member.
    pub(crate) fn admits(&self, member: &Member) -> bool {
        member.endpoint.flags() & self.refuse == 0
            && (self.tried.is_empty() || !self.tried.contains(&member.endpoint.id()))
    }

    /// Takes the one probe of an ejected member.
    pub(crate) fn take_probe(&self, member: &Member) -> bool {
        member.ejection.as_deref().is_some_and(|ejection| ejection.take_probe(self.now))
    }

    /// Whether a member may be chosen now, its probe taken if it needs one.
    pub(crate) fn claims(&self, member: &Member) -> bool {
        match self.allows(member) {
            Usable::Yes => true,
            Usable::Probe => self.take_probe(member),
            Usable::No => false,
        }
    }

    /// Whether a member in its slow start lets this one pass by.
    pub(crate) fn spares(&self, member: &Member, rng: &mut Rng) -> bool {
        let warmth = member.endpoint.warmth(self.slow.span_nanos, self.slow.min, self.now);
        warmth < 1.0 && !rng.chance(warmth)
    }

    /// Whether a member has more than its bounded share.
    pub(crate) fn is_full(&self, member: &Member, members: usize) -> bool {
        self.bound.is_some_and(|bound| {
            let fair = (bound.active + 1) as f64 * member.share / members as f64;
            f64::from(member.endpoint.active() + 1) > (bound.factor * fair).ceil()
        })
    }
}

/// Chooses a member, or `None` when none can be used.
pub(crate) fn choose<'a>(
    table: &Table,
    members: &'a [Member],
    wish: &Wish<'_>,
    rng: &mut Rng,
) -> Option<&'a Member> {
    let quick = match table {
        Table::Two(two) => two.choose(members, wish, rng),
        Table::Turns(turns) => turns.choose(members, wish, rng),
        Table::Random(draw) => random(draw, members, wish, rng),
        Table::Ring(ring) => return hashed(ring.walk(wish.hash), members, wish),
        Table::Maglev(maglev) => return hashed(maglev.walk(wish.hash), members, wish),
    };
    quick.or_else(|| scan(members, wish, rng))
}

/// Draws before everybody is looked at.
const DRAWS: u32 = 4;

fn random<'a>(
    draw: &draw::Draw,
    members: &'a [Member],
    wish: &Wish<'_>,
    rng: &mut Rng,
) -> Option<&'a Member> {
    for _ in 0..DRAWS {
        let member = members.get(draw.draw(rng))?;
        if !wish.spares(member, rng) && wish.claims(member) {
            return Some(member);
        }
    }
    None
}

/// Looks at every member and draws one of those that can be used, by weight.
fn scan<'a>(members: &'a [Member], wish: &Wish<'_>, rng: &mut Rng) -> Option<&'a Member> {
    let mut best = None;
    let mut total = 0.0;
    for member in members {
        match wish.allows(member) {
            Usable::No => {}
            Usable::Probe => {
                if wish.take_probe(member) {
                    return Some(member);
                }
            }
            Usable::Yes => {
                let warmth = member.endpoint.warmth(wish.slow.span_nanos, wish.slow.min, wish.now);
                let weight = member.share * warmth.max(f64::EPSILON);
                total += weight;
                if rng.unit() * total < weight {
                    best = Some(member);
                }
            }
        }
    }
    best
}

/// Steps along a ring or a table before everybody is looked at.
const STEPS: usize = 256;

/// The first member on the walk that can be used and has room; else one that every process would
/// agree on.
fn hashed<'a>(
    walk: impl Iterator<Item = u32>,
    members: &'a [Member],
    wish: &Wish<'_>,
) -> Option<&'a Member> {
    let mut last = u32::MAX;
    let mut full = None;
    for index in walk.take(STEPS) {
        if index == last {
            continue;
        }
        last = index;
        let Some(member) = members.get(index as usize) else { continue };
        if wish.is_full(member, members.len()) {
            full = full.or(Some(member));
            continue;
        }
        if wish.claims(member) {
            return Some(member);
        }
    }
    // Highest random weight: as stable as the walk that found nobody. A full member comes last.
    let open = |member: &&Member| wish.allows(member) == Usable::Yes;
    members
        .iter()
        .filter(open)
        .filter(|member| !wish.is_full(member, members.len()))
        .max_by_key(|member| mix(wish.hash ^ member.endpoint.hash()))
        .or_else(|| full.filter(open))
        .or_else(|| members.iter().find(open))
        .or_else(|| members.iter().find(|member| wish.claims(member)))
}

/// Spreads a number over all bits (the finaliser of splitmix64).
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
