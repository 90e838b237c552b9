//! Stop signals only move forward and reach everybody; tasks are counted however they end.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use weft_kernel::Tick;
use weft_net::{Phase, Stop, Tasks};

use crate::stage::{soon, until};

fn at(seconds: u64) -> Tick {
    Tick::ZERO.plus(Duration::from_secs(seconds))
}

#[test]
fn phases_only_move_forward_and_a_deadline_only_comes_closer() {
    let stop = Stop::new();
    assert_eq!((stop.phase(), stop.is_draining()), (Phase::Running, false));
    stop.drain(at(10));
    stop.drain(at(20));
    assert_eq!(stop.phase(), Phase::Draining { deadline: at(10) });
    stop.drain(at(5));
    assert_eq!(stop.phase(), Phase::Draining { deadline: at(5) });
    assert!(stop.is_draining() && !stop.is_closed());
    stop.close();
    stop.drain(at(1));
    assert_eq!(stop.phase(), Phase::Closed);
    assert!(stop.is_draining() && stop.is_closed());
}

#[test]
fn a_child_follows_its_parent_and_not_the_other_way_round() {
    let parent = Stop::new();
    let (first, second) = (parent.child(), parent.child());
    let grandchild = first.child();
    first.drain(at(30));
    assert_eq!(grandchild.phase(), Phase::Draining { deadline: at(30) });
    assert_eq!((parent.phase(), second.phase()), (Phase::Running, Phase::Running));
    parent.drain(at(10));
    for stop in [&first, &second, &grandchild] {
        assert_eq!(stop.phase(), Phase::Draining { deadline: at(10) });
    }
    assert_eq!(parent.child().phase(), Phase::Draining { deadline: at(10) });
    parent.close();
    assert!(grandchild.is_closed() && parent.child().is_closed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_who_waits_on_any_thread_hears_of_it() {
    for _ in 0..50 {
        let stop = Stop::new();
        let tasks = Tasks::new(Stop::new());
        let heard = Arc::new(AtomicUsize::new(0));
        for index in 0..20 {
            let stop = if index % 2 == 0 { stop.clone() } else { stop.child() };
            let heard = Arc::clone(&heard);
            tasks.spawn(async move {
                stop.draining().await;
                heard.fetch_add(1, Ordering::Relaxed);
                stop.closed().await;
                heard.fetch_add(1, Ordering::Relaxed);
            });
        }
        stop.drain(at(1));
        stop.close();
        soon(tasks.idle()).await;
        assert_eq!(heard.load(Ordering::Relaxed), 40);
    }
}

#[tokio::test]
async fn a_wait_that_is_dropped_or_moves_to_another_task_leaves_no_trace() {
    let stop = Stop::new();
    let mut wait = Box::pin(stop.draining());
    assert!((&mut wait).now_or_never().is_none());
    drop(stop.closed());
    let tasks = Tasks::new(Stop::new());
    tasks.spawn(wait);
    until(|| tasks.count() == 1).await;
    tokio::task::yield_now().await;
    stop.drain(at(1));
    soon(tasks.idle()).await;
}

#[tokio::test]
async fn tasks_are_counted_whether_they_end_panic_or_are_cut() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let stop = Stop::new();
            let tasks = Tasks::new(stop.clone());
            soon(tasks.idle()).await;
            tasks.spawn_local(async {});
            tasks.spawn_local(async { panic!("on purpose") });
            tasks.spawn_local(pending());
            let part = stop.child();
            tasks.spawn_local_until(&part, pending());
            // Part of the one that is cut last.
            tasks.spawn_part(pending());
            assert_eq!(tasks.count(), 5, "counted before they are first polled");
            until(|| tasks.count() == 3).await;
            assert_eq!((tasks.panics(), tasks.cut()), (1, 0));
            part.close();
            until(|| tasks.count() == 2).await;
            stop.drain(at(1));
            assert!(tasks.idle().now_or_never().is_none());
            stop.close();
            soon(tasks.idle()).await;
            assert_eq!((tasks.panics(), tasks.cut()), (1, 2));
        })
        .await;
}
