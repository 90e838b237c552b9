//! A runtime's thread at rest.

use std::{convert::Infallible, time::Duration};

use tokio::{runtime::Handle, time::sleep};
use weft_kernel::memory::{self, REST};

/// Of [`REST`], what a thread that rests may be busy for: a tick here and there.
const BUSY: Duration = Duration::from_millis(50);

/// Watches the runtime of the thread that polls it, which must be its only one, and gives back the memory
/// that is kept for the thread, once after each stretch of work.
pub async fn watch_rest() -> Infallible {
    let metrics = Handle::current().metrics();
    let (mut worked, mut before) = (false, Duration::ZERO);
    loop {
        sleep(REST).await;
        let busy = metrics.worker_total_busy_duration(0);
        let rests = busy.saturating_sub(before) <= BUSY;
        if rests && worked {
            memory::give_back();
        }
        (worked, before) = (!rests, busy);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Instant,
    };

    use super::*;

    static GIVEN: AtomicU32 = AtomicU32::new(0);

    async fn work(time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            std::hint::black_box(0);
        }
        tokio::task::yield_now().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_comes_to_rest_gives_back_once() {
        memory::give_back_by(|| {
            GIVEN.fetch_add(1, Ordering::Relaxed);
        });
        let given = || GIVEN.load(Ordering::Relaxed);
        let watched = async {
            for round in 0..2 {
                sleep(REST * 3).await;
                assert_eq!(given(), round, "nothing was done");
                work(BUSY * 2).await;
                sleep(REST / 2).await;
                assert_eq!(given(), round, "it may go on");
                sleep(REST * 3).await;
                assert_eq!(given(), round + 1);
            }
        };
        tokio::select! {
            () = watched => {}
            never = watch_rest() => match never {},
        }
    }
}
