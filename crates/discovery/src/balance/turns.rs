//! In turns by weight, interleaved evenly: the order that nginx's smooth weighted round robin takes,
//! laid down once in a table, so that a pick is one step of a shared cursor instead of a lock.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use weft_kernel::Rng;

use super::Wish;
use crate::set::Member;

/// The longest round; weights that need more are rounded.
const ROUND_MAX: u64 = 8_192;
/// Turns that are passed on before everybody is looked at.
const SKIPS: usize = 8;

/// On a cache line of its own: every worker writes it.
#[repr(align(64))]
#[derive(Debug)]
struct Cursor(AtomicUsize);

#[derive(Debug)]
pub(crate) struct Turns {
    cursor: Cursor,
    order: Box<[u32]>,
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One whole round, each index as often as it weighs.
fn round(weights: &[u32]) -> Box<[u32]> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let sum: u64 = weights.iter().map(|weight| u64::from(weight / divisor)).sum();
    // Each member has at least one turn, so that the round may exceed the bound by their number.
    let scale = (ROUND_MAX as f64 / sum.max(1) as f64).min(1.0);
    let turns: Vec<i64> = weights
        .iter()
        .map(|weight| ((f64::from(weight / divisor) * scale).round() as i64).max(1))
        .collect();
    let total: i64 = turns.iter().sum();
    if turns.iter().all(|turns| *turns == 1) {
        return (0..weights.len() as u32).collect();
    }
    let mut credit = vec![0i64; turns.len()];
    (0..total)
        .map(|_| {
            let mut best = 0;
            for index in 0..credit.len() {
                credit[index] += turns[index];
                if credit[index] > credit[best] {
                    best = index;
                }
            }
            credit[best] -= total;
            best as u32
        })
        .collect()
}

impl Turns {
    pub(crate) fn new(weights: &[u32]) -> Self {
        // Not from the first: else each reload would favour it, on every node at once.
        let start = Rng::from_entropy().below(weights.len().max(1) as u64) as usize;
        Self { cursor: Cursor(AtomicUsize::new(start)), order: round(weights) }
    }

    pub(crate) fn choose<'a>(
        &self,
        members: &'a [Member],
        wish: &Wish<'_>,
        rng: &mut Rng,
    ) -> Option<&'a Member> {
        if self.order.is_empty() {
            return None;
        }
        for _ in 0..SKIPS {
            let turn = self.cursor.0.fetch_add(1, Relaxed) % self.order.len();
            let member = members.get(*self.order.get(turn)? as usize)?;
            if !wish.spares(member, rng) && wish.claims(member) {
                return Some(member);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_smooth() {
        for (weights, expect) in [
            (&[5u32, 1, 1][..], &[0u32, 0, 1, 0, 2, 0, 0][..]),
            (&[1, 1, 1], &[0, 1, 2]),
            (&[100, 100], &[0, 1]),
            (&[20, 10], &[0, 1, 0]),
            (&[], &[]),
        ] {
            assert_eq!(&*round(weights), expect, "{weights:?}");
        }
    }

    #[test]
    fn a_round_is_bounded_and_nobody_is_left_out() {
        let order = round(&[u32::MAX, 1, 1_000_003, 77]);
        assert!(order.len() as u64 <= ROUND_MAX + 4);
        for index in 0..4 {
            assert!(order.contains(&index));
        }
    }
}
