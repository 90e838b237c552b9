//! The age at which a connection is ended: each has its own, so that those that were opened together are not
//! all opened anew together.

use std::time::Duration;

use weft_kernel::Tick;

/// When a connection has reached its age, within 10 % of the limit.
pub(crate) fn retires(opened: Tick, age_max: Option<Duration>) -> Tick {
    age_max.map_or(Tick::NEVER, |age| {
        let share = 0.9 + 0.2 * ((opened.nanos() >> 10) % 1024) as f64 / 1024.0;
        opened.plus(age.mul_f64(share))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_were_opened_together_end_apart() {
        const AGE: Duration = Duration::from_secs(100);
        let opened = (0..1000).map(|number| Tick::ZERO.plus(Duration::from_micros(number)));
        let ages: Vec<u64> = opened.map(|at| retires(at, Some(AGE)).since(at).as_secs()).collect();
        assert!(ages.iter().all(|age| (90..=110).contains(age)), "{ages:?}");
        assert!((90..110).all(|age| ages.contains(&age)), "{ages:?}");
        assert_eq!(retires(Tick::ZERO, None), Tick::NEVER);
    }
}
