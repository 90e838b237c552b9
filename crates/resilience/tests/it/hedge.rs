//! Hedges stay within their share, and the delay within what was measured.

use std::time::Duration;

use proptest::prelude::*;
use weft_resilience::hedge::{Delay, Hedger, Options};

proptest! {
    #[test]
    fn hedges_never_exceed_their_share(
        budget in 0.0f64..0.5,
        steps in prop::collection::vec(any::<bool>(), 1..2_000),
    ) {
        let hedger = Hedger::new(Options { budget, ..Options::default() });
        let (mut requests, mut hedges) = (0u32, 0u32);
        for hedge in steps {
            if hedge {
                hedges += u32::from(hedger.allow());
            } else {
                // Answered or not, it earns.
                requests += 1;
                hedger.begin();
            }
            prop_assert!(f64::from(hedges) <= budget * f64::from(requests) + 1e-6);
        }
    }

    #[test]
    fn the_delay_is_near_the_quantile(
        quantile in 0.5f64..0.99,
        mut latencies in prop::collection::vec(1u64..10_000_000, 640..641),
    ) {
        let hedger = Hedger::new(Options { delay: Delay::Quantile(quantile), ..Options::default() });
        for micros in &latencies {
            hedger.record(Duration::from_micros(*micros));
        }
        latencies.sort_unstable();
        let rank = (quantile * latencies.len() as f64).ceil() as usize;
        let exact = Duration::from_micros(latencies[rank - 1]);
        let delay = hedger.delay().unwrap();
        prop_assert!(delay >= exact && delay <= exact.mul_f64(1.26) + Duration::from_micros(1));
    }
}

#[test]
fn many_threads_spend_no_more_than_was_earned() {
    let hedger = Hedger::new(Options { budget: 0.1, ..Options::default() });
    let hedges: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..5_000)
                        .filter(|_| {
                            hedger.begin();
                            hedger.allow()
                        })
                        .count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!((1_990..=2_000).contains(&hedges), "{hedges} of 20,000 requests");
}
