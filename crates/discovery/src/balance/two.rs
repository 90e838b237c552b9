//! The power of two choices: two members drawn at random, the less loaded one is taken
//! (Mitzenmacher, 2001). It avoids the slow ones without herding towards the fastest.
//!
//! Equal weights draw two different members. Unequal ones draw twice by weight and may meet the
//! same member twice; that is what keeps each one's share to its weight where all are equally
//! loaded.

use weft_kernel::Rng;

use super::{Wish, draw::Draw};
use crate::{endpoint::Usable, set::Member};

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    Latency,
    Crowd,
}

#[derive(Debug)]
pub(crate) struct Two {
    draw: Draw,
    by: By,
}

/// Pairs drawn before everybody is looked at.
const PAIRS: u32 = 3;

/// The second drawn is taken when it is lighter by more than this. Estimates that fall while an
/// endpoint rests differ a little all the time; were that to decide, the lightest weight, which rests
/// longest, would always win.
const CLEARLY: f64 = 0.95;

/// The same while both have as much in flight: latencies within a factor of two are alike then, so
/// that a caller with one request at a time is spread over all, and not kept by the one that happens
/// to be a few microseconds ahead.
const CLEARLY_FASTER: f64 = 0.5;

impl Two {
    pub(crate) fn new(weights: &[u32], by: By) -> Self {
        Self { draw: Draw::new(weights), by }
    }

    pub(crate) fn choose<'a>(
        &self,
        members: &'a [Member],
        wish: &Wish<'_>,
        rng: &mut Rng,
    ) -> Option<&'a Member> {
        for _ in 0..PAIRS {
            let first = self.draw.draw(rng);
            let second = if self.draw.is_even() && members.len() > 1 {
                let other = rng.below(members.len() as u64 - 1) as usize;
                other + usize::from(other >= first)
            } else {
                self.draw.draw(rng)
            };
            let (first, second) = (members.get(first)?, members.get(second)?);
            let left = candidate(first, wish, rng);
            let right = candidate(second, wish, rng);
            if left == Usable::Yes && right == Usable::Yes {
                let alike = matches!(self.by, By::Latency)
                    && first.endpoint.active() == second.endpoint.active();
                let clearly = if alike { CLEARLY_FASTER } else { CLEARLY };
                let better = self.weigh(second, wish) < self.weigh(first, wish) * clearly;
                return Some(if better { second } else { first });
            }
            let chosen = match (left, right) {
                (Usable::Probe, _) if wish.take_probe(first) => first,
                (_, Usable::Probe) if wish.take_probe(second) => second,
                (Usable::Yes, _) => first,
                (_, Usable::Yes) => second,
                _ => continue,
            };
            return Some(chosen);
        }
        None
    }

    fn weigh(&self, member: &Member, wish: &Wish<'_>) -> f64 {
        match self.by {
            By::Latency => member.endpoint.cost(member.share, wish.now),
            By::Crowd => member.endpoint.crowd(member.share, wish.now),
        }
    }
}

fn candidate(member: &Member, wish: &Wish<'_>, rng: &mut Rng) -> Usable {
    match wish.allows(member) {
        Usable::Yes if wish.spares(member, rng) => Usable::No,
        other => other,
    }
}
