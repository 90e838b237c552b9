//! A hash ring: every endpoint has points on a circle, and a key belongs to the next point.
//!
//! The number of points that an endpoint has per unit of weight depends as little as possible on
//! the others, so that the coming and going of one moves hardly more keys than its own.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Points of the lightest endpoint: its share then varies by about 4 %, and two such endpoints make
/// the usual least size, below which the points of all would have to change with their number.
const POINTS: f64 = 512.0;

/// Points of endpoints on the circle of 64-bit numbers.
#[derive(Debug)]
pub struct Ring {
    /// (where, index of the member), in order.
    points: Box<[(u64, u32)]>,
    /// Where the points of each stretch of the circle begin; spares the binary search.
    starts: Box<[u32]>,
    shift: u32,
}

impl Ring {
    /// A ring of these (key, weight), with between `min` and `max` points where that can be.
    pub fn new(members: &[(&str, u32)], min: u32, max: u32) -> Self {
        let total: f64 = members.iter().map(|(_, weight)| f64::from((*weight).max(1))).sum();
        let lightest = members.iter().map(|(_, weight)| (*weight).max(1)).min().unwrap_or(1);
        let max = f64::from(max.max(min).max(1));
        let per_weight =
            (POINTS / f64::from(lightest)).max(f64::from(min) / total).min(max / total);
        let mut points = Vec::new();
        for (index, (key, weight)) in members.iter().enumerate() {
            let count = (f64::from((*weight).max(1)) * per_weight).ceil().max(1.0) as u64;
            for seed in 0..count {
                points.push((xxh3_64_with_seed(key.as_bytes(), seed), index as u32));
            }
        }
        points.sort_unstable();
        let bits = (usize::BITS - points.len().leading_zeros()).clamp(1, 24);
        let shift = 64 - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        let mut next = 0;
        for stretch in 0..1u64 << bits {
            while points.get(next).is_some_and(|(at, _)| at >> shift < stretch) {
                next += 1;
            }
            starts.push(next as u32);
        }
        Self { points: points.into(), starts: starts.into(), shift }
    }

    /// The indexes of members from a hash on, round the ring once; neighbours may repeat.
    pub fn walk(&self, hash: u64) -> impl Iterator<Item = u32> {
        let mut at = self.starts.get((hash >> self.shift) as usize).copied().unwrap_or(0) as usize;
        while self.points.get(at).is_some_and(|(point, _)| *point < hash) {
            at += 1;
        }
        let (before, after) = self.points.split_at(at.min(self.points.len()));
        after.iter().chain(before).map(|(_, index)| *index)
    }

    /// How many points it has.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether it has no point.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}
