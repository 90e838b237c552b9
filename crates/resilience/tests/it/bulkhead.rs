//! The bulkhead's places and its queue.

use std::time::Duration;

use weft_resilience::bulkhead::{Bulkhead, Options, Refused};

use crate::millis;

fn narrow(queue_max: usize) -> Bulkhead {
    let queue_timeout = Duration::from_secs(1);
    Bulkhead::new(Options { in_flight_max: 1, queue_max, queue_timeout })
}

#[tokio::test(start_paused = true)]
async fn places_go_in_order_and_nobody_slips_past_the_queue() {
    let bulkhead = narrow(2);
    let held = bulkhead.acquire(None).await.unwrap();
    let mut first = Box::pin(bulkhead.acquire(None));
    let mut second = Box::pin(bulkhead.acquire(None));
    assert!(futures_pending(&mut first).await && futures_pending(&mut second).await);
    assert_eq!(bulkhead.acquire(None).await.err(), Some(Refused::Full));
    assert_eq!(bulkhead.snapshot().queued, 2);
    drop(held);
    assert_eq!(bulkhead.try_acquire().err(), Some(Refused::Full), "the place is the first one's");
    assert!(futures_pending(&mut second).await);
    let held = first.await.unwrap();
    assert!(futures_pending(&mut second).await);
    drop(held);
    drop(second.await.unwrap());
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.queued, snapshot.full), (0, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_queue_timeout_or_the_earlier_deadline() {
    let bulkhead = narrow(5);
    let _held = bulkhead.try_acquire().unwrap();
    for (deadline, expect) in [(None, 1_000), (Some(300), 300), (Some(5_000), 1_000), (Some(0), 0)]
    {
        let began = tokio::time::Instant::now();
        let refused = bulkhead.acquire(deadline.map(millis)).await.err();
        assert_eq!((refused, began.elapsed().as_millis()), (Some(Refused::TimedOut), expect));
    }
    assert_eq!((bulkhead.snapshot().timed_out, bulkhead.snapshot().queued), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_leaves_the_queue() {
    let bulkhead = narrow(1);
    let held = bulkhead.try_acquire().unwrap();
    let mut given_up = Box::pin(bulkhead.acquire(None));
    assert!(futures_pending(&mut given_up).await);
    drop(given_up);
    let mut next = Box::pin(bulkhead.acquire(None));
    assert!(futures_pending(&mut next).await, "there is room in the queue again");
    drop(held);
    assert!(next.await.is_ok());
}

#[test]
fn runtimes_on_several_threads_share_it() {
    let bulkhead = Bulkhead::new(Options {
        in_flight_max: 2,
        queue_max: 100,
        queue_timeout: Duration::from_secs(60),
    });
    let (now, most) =
        (std::sync::atomic::AtomicUsize::new(0), std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                runtime.unwrap().block_on(async {
                    for _ in 0..200 {
                        let permit = bulkhead.acquire(None).await.unwrap();
                        let inside = now.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                        most.fetch_max(inside, std::sync::atomic::Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        now.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(permit);
                    }
                });
            });
        }
    });
    assert!((1..=2).contains(&most.into_inner()));
    assert_eq!(bulkhead.snapshot().in_flight, 0);
}

/// Polls once; whether it is still pending.
async fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
    })
    .await
}
