//! Drawing by weight in constant time: Vose's alias method.

use weft_kernel::Rng;

/// A table from which an index is drawn with the chance of its weight.
#[derive(Debug)]
pub(crate) struct Draw {
    /// Empty when all weights are equal. Otherwise: the chance that a column keeps its own index, in
    /// 2^-32, and the index that it stands for otherwise.
    columns: Box<[(u32, u32)]>,
    len: usize,
}

impl Draw {
    pub(crate) fn new(weights: &[u32]) -> Self {
        let len = weights.len();
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self { columns: Box::default(), len };
        }
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let mut left: Vec<f64> =
            weights.iter().map(|weight| f64::from(*weight) * len as f64 / total).collect();
        let mut columns: Vec<(u32, u32)> = (0..len as u32).map(|i| (u32::MAX, i)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..len).partition(|index| left[*index] < 1.0);
        while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
            columns[poor] = ((left[poor] * f64::from(u32::MAX)) as u32, rich as u32);
            left[rich] -= 1.0 - left[poor];
            if left[rich] < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
        Self { columns: columns.into(), len }
    }

    /// Whether all weights are equal.
    pub(crate) fn is_even(&self) -> bool {
        self.columns.is_empty()
    }

    /// An index below the number of weights; 0 if there is none.
    pub(crate) fn draw(&self, rng: &mut Rng) -> usize {
        let wide = u128::from(rng.next_u64()) * self.len as u128;
        let column = (wide >> 64) as usize;
        match self.columns.get(column) {
            None => column,
            // What is left of the product is as good as a second draw.
            Some((keep, other)) => {
                if ((wide as u64) >> 32) as u32 <= *keep {
                    column
                } else {
                    *other as usize
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_weights() {
        for weights in [&[1u32, 1, 1][..], &[1, 2, 3, 4], &[1, 1_000], &[7], &[5, 5, 1, 1, 1]] {
            let draw = Draw::new(weights);
            let mut counts = vec![0u32; weights.len()];
            let mut rng = Rng::seeded(3);
            let rounds = 200_000;
            for _ in 0..rounds {
                counts[draw.draw(&mut rng)] += 1;
            }
            let total: u32 = weights.iter().sum();
            for (weight, count) in weights.iter().zip(&counts) {
                let expected = f64::from(rounds) * f64::from(*weight) / f64::from(total);
                let spread = 5.0 * expected.sqrt() + 5.0;
                assert!((f64::from(*count) - expected).abs() < spread, "{weights:?} {counts:?}");
            }
        }
    }

    #[test]
    fn nothing_to_draw_from_is_no_panic() {
        assert_eq!(Draw::new(&[]).draw(&mut Rng::seeded(1)), 0);
    }
}
