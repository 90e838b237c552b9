//! Maglev: a table whose slots the endpoints claim in turn, each in an order of its own (Eisenbud et
//! al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4).
//!
//! A look-up is one index. The shares are even within a percent, and when one of n endpoints goes,
//! little more than its own keys move.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::mix;

const OFFSET_SEED: u64 = 0x6f66_6673;
const SKIP_SEED: u64 = 0x736b_6970;

/// A table of member indexes.
#[derive(Debug)]
pub struct Maglev {
    slots: Box<[u32]>,
}

fn is_prime(number: u64) -> bool {
    number >= 2 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
}

struct Claimant {
    offset: u64,
    skip: u64,
    next: u64,
    weight: f64,
    claims: f64,
}

impl Maglev {
    /// A table for these (key, weight) with `size` slots, or the next prime above: only with a prime
    /// does each order reach every slot.
    pub fn new(members: &[(&str, u32)], size: u32) -> Self {
        let least = u64::from(size).max(members.len() as u64 * 2).clamp(2, 1 << 26);
        let size = (least..).find(|number| is_prime(*number)).unwrap_or(least);
        let heaviest = members.iter().map(|(_, weight)| *weight).max().unwrap_or(1).max(1);
        let mut claimants: Vec<Claimant> = members
            .iter()
            .map(|(key, weight)| Claimant {
                offset: xxh3_64_with_seed(key.as_bytes(), OFFSET_SEED) % size,
                skip: xxh3_64_with_seed(key.as_bytes(), SKIP_SEED) % (size - 1) + 1,
                next: 0,
                weight: f64::from((*weight).max(1)) / f64::from(heaviest),
                claims: 0.0,
            })
            .collect();
        if claimants.is_empty() {
            return Self { slots: Box::default() };
        }
        let mut slots = vec![u32::MAX; size as usize];
        let mut free = size;
        while free > 0 {
            for (index, claimant) in claimants.iter_mut().enumerate() {
                // A lighter one sits out rounds until its weight has summed up to a turn.
                claimant.claims += claimant.weight;
                if claimant.claims < 1.0 {
                    continue;
                }
                claimant.claims -= 1.0;
                while let Some(slot) = slots
                    .get_mut(((claimant.offset + claimant.next * claimant.skip) % size) as usize)
                {
                    claimant.next += 1;
                    if *slot == u32::MAX {
                        *slot = index as u32;
                        free -= 1;
                        break;
                    }
                }
                if free == 0 {
                    break;
                }
            }
        }
        Self { slots: slots.into() }
    }

    /// The indexes of members for a hash: its own slot first, then slots drawn from the hash, so
    /// that the keys of an endpoint that cannot be used spread over all others.
    pub fn walk(&self, hash: u64) -> impl Iterator<Item = u32> {
        let size = self.slots.len() as u64;
        (0..size).map_while(move |step| {
            let at = if step == 0 { hash } else { mix(hash.wrapping_add(step)) };
            self.slots.get((at % size) as usize).copied()
        })
    }

    /// How many slots it has.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it has no slot.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}
