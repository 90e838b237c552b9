//! Operations kept, carried out, cancelled, told and forgotten.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use weft_kernel::Rng;
use weft_ledger::{
    MapOptions,
    disk::{SimulatedDisk, simulated::Faults},
};
use weft_proxy::BodyEnd;

use super::{record::Pieces, *};
use crate::{
    fixture::{Fixture, Line, Script},
    handle::Hooks,
};

fn head(callback: Option<&str>) -> Head {
    Head {
        version: 1,
        taken_ms: time::now_ms(),
        keep_ms: 1_000,
        route: "orders".into(),
        method: "POST".into(),
        target: "/orders?x=1".into(),
        fields: vec![("idempotency-key".into(), "\"k\"".into())],
        body: Pieces::default(),
        callback: callback.map(str::to_owned),
        outcome: None,
    }
}

const CREATED: Line = Line::Status(201, &[("content-type", "application/json")], "{\"id\":7}");

#[tokio::test]
async fn an_operation_is_kept_carried_out_and_answered() {
    let fixture = Fixture::new(Hooks::default()).await;
    let deferred = fixture.handle.deferred();
    // Larger than one record holds.
    let body = Bytes::from(vec![7; 1_200_000]);
    let id = deferred.keep(head(None), &body).await.unwrap();
    assert_eq!(tell(deferred, id).await.unwrap().standing, Standing::Waiting);
    let script = Script::new(&[CREATED]);
    let ((), ()) =
        tokio::join!(deferred.over(id), execute::out(&fixture.handle, &script, &fixture.stop, id));
    let sent = script.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].route.as_str(), &*sent[0].head.target), ("orders", "/orders?x=1"));
    assert_eq!(sent[0].body, body);
    assert_eq!(sent[0].head.fields.get_str(Known::IdempotencyKey), Some("\"k\""));
    let response = result(deferred, id).await.unwrap();
    assert_eq!(response.status, 201);
    assert_eq!(response.fields.get_str(Known::ContentType), Some("application/json"));
    assert_eq!(&response.collect().await.unwrap()[..], b"{\"id\":7}");
    // It has begun, and is over.
    let refused = cancel(&fixture.handle, id).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::VersionConflict);
    execute::out(&fixture.handle, &script, &fixture.stop, id).await;
    assert_eq!(script.sent().len(), 1);
}

#[tokio::test]
async fn what_has_no_outcome_is_carried_out_after_a_crash() {
    let disk = SimulatedDisk::new();
    let (kept, done) = {
        let fixture = Fixture::on(disk.clone(), Hooks::default()).await;
        let deferred = fixture.handle.deferred();
        let kept = deferred.keep(head(None), &Bytes::from_static(b"one")).await.unwrap();
        let done = deferred.keep(head(None), &Bytes::from_static(b"two")).await.unwrap();
        execute::out(&fixture.handle, &Script::new(&[CREATED]), &fixture.stop, done).await;
        // It begins, and the power fails before an answer.
        let silent = Script::new(&[Line::Silent]);
        tokio::select! {
            () = execute::out(&fixture.handle, &silent, &fixture.stop, kept) => panic!("it cannot end"),
            () = silent.until_sent(1) => {}
        }
        disk.halt();
        (kept, done)
    };
    disk.restart(&mut Rng::seeded(1));
    let fixture = Fixture::on(disk, Hooks::default()).await;
    let deferred = fixture.handle.deferred();
    let (_, left) = DeferredResponses::open(fixture.broker.shared_store()).await.unwrap();
    assert_eq!(left, [kept]);
    let script = Script::new(&[CREATED]);
    execute::all(&fixture.handle, &script, &fixture.stop, left).await;
    assert_eq!(&script.sent()[0].body[..], b"one");
    for id in [kept, done] {
        assert_eq!(tell(deferred, id).await.unwrap().response.unwrap().0, 201);
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_reached_nobody_is_tried_again_and_can_be_cancelled() {
    let fixture = Fixture::new(Hooks::default()).await;
    let deferred = fixture.handle.deferred();
    let id = deferred.keep(head(None), &Bytes::new()).await.unwrap();
    let lines = [
        Line::Weft(Reason::NoHealthyEndpoint),
        Line::Weft(Reason::ConnectRefused),
        // A reload has taken its route away, and another brings it back.
        Line::Nowhere(Reason::Misconfigured),
        CREATED,
    ];
    let script = Script::new(&lines);
    execute::out(&fixture.handle, &script, &fixture.stop, id).await;
    assert_eq!(script.sent().len(), 4);
    assert_eq!(tell(deferred, id).await.unwrap().response.unwrap().0, 201);

    let id = deferred.keep(head(None), &Bytes::new()).await.unwrap();
    let script = Script::new(&[Line::Weft(Reason::NoHealthyEndpoint)]);
    let cancelled = async {
        script.until_sent(1).await;
        while cancel(&fixture.handle, id).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::join!(execute::out(&fixture.handle, &script, &fixture.stop, id), cancelled);
    assert!(tell(deferred, id).await.unwrap().response.is_none());
    assert_eq!(result(deferred, id).await.unwrap_err().reason(), Reason::NoMessage);
}

#[tokio::test]
async fn a_request_whose_client_leaves_while_it_is_kept_is_carried_out() {
    let fixture = Fixture::new(Hooks::default()).await;
    let tasks = Tasks::new(fixture.stop.clone());
    let script = Rc::new(Script::new(&[CREATED]));
    let work = async {
        let (stop, body) = (fixture.stop.clone(), Bytes::from_static(b"one"));
        let asked = take(&fixture.handle, &tasks, Rc::clone(&script), stop, head(None), body);
        tokio::select! {
            biased;
            _ = asked => panic!("it cannot be durable at once"),
            () = std::future::ready(()) => {}
        }
        tasks.idle().await;
    };
    tokio::task::LocalSet::new().run_until(work).await;
    assert_eq!(&script.sent()[0].body[..], b"one");
    let (_, left) = DeferredResponses::open(fixture.broker.shared_store()).await.unwrap();
    assert_eq!(left, []);
}

#[tokio::test]
async fn an_operation_is_cancelled_even_if_the_client_leaves() {
    let fixture = Fixture::new(Hooks::default()).await;
    let deferred = fixture.handle.deferred();
    let id = deferred.keep(head(None), &Bytes::new()).await.unwrap();
    {
        let mut leaving = Box::pin(cancel(&fixture.handle, id));
        while deferred.standing(id) == Standing::Waiting {
            tokio::select! {
                biased;
                _ = &mut leaving => panic!("it cannot be durable at once"),
                () = std::future::ready(()) => {}
            }
            tokio::task::yield_now().await;
        }
    }
    deferred.over(id).await;
    assert!(tell(deferred, id).await.unwrap().response.is_none());
}

#[tokio::test]
async fn a_cancellation_that_is_not_stored_leaves_the_operation_to_who_carries_it() {
    let fixture = Fixture::new(Hooks::default()).await;
    let deferred = fixture.handle.deferred();
    let id = deferred.keep(head(None), &Bytes::new()).await.unwrap();
    assert!(deferred.begin(id));
    let script = Script::new(&[CREATED]);
    let carried = execute::out(&fixture.handle, &script, &fixture.stop, id);
    let put_back = async {
        tokio::task::yield_now().await;
        deferred.put_back(id);
    };
    tokio::join!(carried, put_back);
    assert_eq!(tell(deferred, id).await.unwrap().response.unwrap().0, 201);
}

#[tokio::test]
async fn an_answer_that_may_have_had_an_effect_is_the_answer() {
    let fixture = Fixture::new(Hooks::default()).await;
    let deferred = fixture.handle.deferred();
    for (line, status) in [
        (Line::Weft(Reason::RequestTimeout), 504),
        (Line::Ends(200, BodyEnd::Broken(Reason::UpstreamIncomplete)), 502),
        (Line::Ends(200, BodyEnd::Broken(Reason::RequestTimeout)), 504),
        // It is the service's fault, and not the client's, who sent what was taken.
        (Line::Ends(200, BodyEnd::Cut), 502),
        (Line::Status(503, &[("content-length", "9")], "too much!"), 503),
    ] {
        let id = deferred.keep(head(None), &Bytes::new()).await.unwrap();
        let script = Script::new(&[line]);
        execute::out(&fixture.handle, &script, &fixture.stop, id).await;
        assert_eq!(script.sent().len(), 1);
        let response = result(deferred, id).await.unwrap();
        assert_eq!(response.status, status);
        assert!(!response.fields.has(Known::ContentLength));
    }
}

#[tokio::test]
async fn an_outcome_that_finds_no_room_is_kept_once_there_is_some() {
    let disk = SimulatedDisk::new();
    let fixture = Fixture::on(disk.clone(), Hooks::default()).await;
    let deferred = fixture.handle.deferred();
    let id = deferred.keep(head(None), &Bytes::new()).await.unwrap();
    let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
    disk.set_faults(Faults { bytes_max: Some(used + 20_000), ..Faults::default() });
    let fill = Bytes::from(vec![0; 1 << 20]);
    loop {
        // What was taken before the disk was known to be full waits for room.
        let kept = tokio::time::timeout(Duration::from_secs(5), deferred.keep(head(None), &fill));
        match kept.await {
            Ok(Ok(_id)) => {}
            Ok(Err(full)) => break assert_eq!(full.reason(), Reason::StorageFull),
            Err(_waits) => break,
        }
    }
    let answer = "x".repeat(1 << 20).leak();
    let script = Script::new(&[Line::Status(201, &[], answer)]);
    let room = async {
        script.until_sent(1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(deferred.standing(id), Standing::Running);
        disk.set_faults(Faults::default());
    };
    tokio::join!(execute::out(&fixture.handle, &script, &fixture.stop, id), room);
    assert_eq!(script.sent().len(), 1);
    assert_eq!(result(deferred, id).await.unwrap().status, 201);
}

#[tokio::test]
async fn a_drain_leaves_it_for_the_next_process() {
    let fixture = Fixture::new(Hooks::default()).await;
    let deferred = fixture.handle.deferred();
    let id = deferred.keep(head(None), &Bytes::new()).await.unwrap();
    let script = Script::new(&[Line::Weft(Reason::Draining)]);
    execute::out(&fixture.handle, &script, &fixture.stop, id).await;
    assert_eq!(tell(deferred, id).await.unwrap().standing, Standing::Waiting);
    fixture.stop.drain(weft_kernel::Tick::NEVER);
    execute::out(&fixture.handle, &script, &fixture.stop, id).await;
    assert_eq!(script.sent().len(), 1);
}

#[tokio::test]
async fn answers_are_forgotten_in_time_and_their_bodies_with_them() {
    let fixture = Fixture::new(Hooks::default()).await;
    let deferred = fixture.handle.deferred();
    let id = deferred.keep(head(None), &Bytes::from_static(b"x")).await.unwrap();
    execute::out(&fixture.handle, &Script::new(&[CREATED]), &fixture.stop, id).await;
    let now = time::now_ms();
    deferred.sweep(now).await.unwrap();
    assert_eq!(result(deferred, id).await.unwrap().status, 201);
    deferred.sweep(now + 2_000).await.unwrap();
    assert_eq!(result(deferred, id).await.unwrap_err().reason(), Reason::NoMessage);
    let (log, _) =
        fixture.broker.store().find_log("messages/operation-bodies").await.unwrap().unwrap();
    assert_eq!(fixture.broker.store().log_stats_now(log).unwrap().records, 0);
}

#[tokio::test]
async fn many_answers_are_forgotten_in_few_transactions() {
    let fixture = Fixture::new(Hooks::default()).await;
    let deferred = fixture.handle.deferred();
    let script = Script::new(&[CREATED]);
    let one = async || {
        let id = deferred.keep(head(None), &Bytes::from_static(b"x")).await.unwrap();
        execute::out(&fixture.handle, &script, &fixture.stop, id).await;
    };
    futures_util::future::join_all((0..600).map(|_| one())).await;
    let later = time::now_ms() + 2_000;
    let mut batches = 1;
    while deferred.sweep(later).await.unwrap() {
        batches += 1;
    }
    assert_eq!(batches, 3);
    assert_eq!(deferred.next_expiry(), None);
    let store = fixture.broker.store();
    let heads = store.create_map("messages/operations", MapOptions::default()).await.unwrap();
    assert_eq!(store.scan(heads, b"", None, 10).await.unwrap().len(), 0);
    let (log, _) = store.find_log("messages/operation-bodies").await.unwrap().unwrap();
    assert_eq!(store.log_stats_now(log).unwrap().records, 0);
}

#[tokio::test]
async fn a_drain_does_not_wait_for_answers_to_be_forgotten() {
    let disk = SimulatedDisk::new();
    let fixture = Fixture::on(disk.clone(), Hooks::default()).await;
    let deferred = fixture.handle.deferred();
    let short = Head { keep_ms: 0, ..head(None) };
    let id = deferred.keep(short, &Bytes::from_static(b"x")).await.unwrap();
    execute::out(&fixture.handle, &Script::new(&[CREATED]), &fixture.stop, id).await;
    fixture.stop.drain(weft_kernel::Tick::NEVER);
    let swept = tokio::time::timeout(Duration::from_secs(30), sweep(deferred, &fixture.stop));
    swept.await.unwrap();
}

/// Takes what it is posted, and answers by a list.
#[derive(Default)]
struct Hook {
    answers: Mutex<Vec<u16>>,
    posted: Mutex<Vec<(String, Fields, Bytes)>>,
}

impl Outside for Hook {
    fn post<'a>(
        &'a self,
        url: &'a str,
        fields: Fields,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Result<u16>> + Send + 'a>> {
        self.posted.lock().unwrap().push((url.to_owned(), fields, body));
        let answer = self.answers.lock().unwrap().pop();
        Box::pin(async move {
            answer.ok_or_else(|| Error::new(Reason::ConnectRefused, "nobody is there"))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_is_told_until_it_answers() {
    let hook = Arc::new(Hook::default());
    *hook.answers.lock().unwrap() = vec![200, 503];
    let hooks = Hooks { outside: Some(hook.clone()) };
    let fixture = Fixture::new(hooks).await;
    let deferred = fixture.handle.deferred();
    let url = "https://hooks.example.com/in";
    let id = deferred.keep(head(Some(url)), &Bytes::new()).await.unwrap();
    execute::out(&fixture.handle, &Script::new(&[CREATED]), &fixture.stop, id).await;
    let posted = hook.posted.lock().unwrap().clone();
    assert_eq!(posted.len(), 2);
    let (to, fields, body) = &posted[1];
    assert_eq!((&**to, &body[..]), (url, &b"{\"id\":7}"[..]));
    assert_eq!(fields.named("weft-status"), Some(&b"201"[..]));
    assert_eq!(fields.named("weft-operation"), Some(id.to_string().as_bytes()));
    let (_, left) = DeferredResponses::open(fixture.broker.shared_store()).await.unwrap();
    assert_eq!(left, []);
}

#[test]
fn a_callback_is_allowed_or_refused() {
    let how = RespondAsync {
        wait_max: Duration::from_secs(1),
        keep: Duration::from_secs(1),
        callbacks: vec!["https://hooks.example.com/in".into()],
    };
    let mut fields = Fields::new();
    assert_eq!(callback::of(&fields, &how).unwrap(), None);
    fields.append(CALLBACK, b"https://hooks.example.com/in/7");
    assert!(callback::of(&fields, &how).unwrap().is_some());
    fields.set_named(CALLBACK, b"http://169.254.169.254/latest");
    assert_eq!(callback::of(&fields, &how).unwrap_err().reason(), Reason::MalformedRequest);
}
