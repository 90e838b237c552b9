//! Chance as a value: a small seeded generator, for jitter, sampling and load balancing.
//!
//! wyrand (Wang Yi, 2019): one multiplication per draw. It is not for secrets.

/// A seeded generator of pseudo-random numbers; not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of a seed; the same seed gives the same draws.
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator that differs in each process and each call.
    pub fn from_entropy() -> Self {
        use std::hash::{BuildHasher, Hasher};
        let mut hasher = std::hash::RandomState::new().build_hasher();
        hasher.write_u64(0);
        Self(hasher.finish())
    }

    /// A number from the whole range.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        let wide = (self.0 as u128).wrapping_mul((self.0 ^ 0xe703_7ed1_a0b4_28db) as u128);
        ((wide >> 64) as u64) ^ (wide as u64)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// A number in `[0, 1)`.
    pub const fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `share` (0 to 1).
    pub const fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// A duration drawn evenly from `[0, span]` (full jitter).
    pub fn up_to(&mut self, span: std::time::Duration) -> std::time::Duration {
        span.mul_f64(self.unit())
    }

    /// `span` moved by at most `share` of itself in either direction.
    pub fn around(&mut self, span: std::time::Duration, share: f64) -> std::time::Duration {
        span.mul_f64((1.0 + share * (2.0 * self.unit() - 1.0)).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_draws_stay_in_bounds() {
        let (mut a, mut b) = (Rng::seeded(7), Rng::seeded(7));
        for _ in 0..1000 {
            assert_eq!(a.below(10), b.below(10));
            assert!(a.below(3) < 3);
            b.below(3);
            assert!((0.0..1.0).contains(&a.unit()));
            b.unit();
        }
        assert_eq!(a.below(0), 0);
    }

    #[test]
    fn draws_are_spread_evenly_enough() {
        let mut rng = Rng::seeded(1);
        let mut counts = [0u32; 8];
        for _ in 0..80_000 {
            counts[rng.below(8) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}
