//! An endpoint that hangs, lies, fails and comes back, in paused time.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::{FutureExt as _, future::join_all};
use parking_lot::Mutex;
use weft_kernel::{Error, Reason};

use super::*;
use crate::{
    fixture::name,
    oauth::{Answering, ClientAuthentication},
    questions::{ASKED_MAX, WAITING_MAX},
};

/// What an endpoint answers, one after the other; the last again and again. It takes a second each time.
struct Script {
    answers: Mutex<VecDeque<&'static str>>,
    asked: Arc<AtomicUsize>,
}

impl Post for Script {
    fn post<'a>(&'a self, _url: &'a str, form: Form, bytes_max: usize) -> Answering<'a> {
        assert!(form.body.starts_with("token=") && bytes_max == ANSWER_BYTES_MAX);
        assert_eq!(form.authorization.as_deref(), Some("Basic d2VmdDpzZWNyZXQ="));
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() };
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            match answer {
                Some("hang") | None => std::future::pending().await,
                Some("cut") => Err(Error::new(Reason::UpstreamClosed, "it broke off")),
                Some(status @ ("400" | "401" | "413" | "429" | "500")) => {
                    Ok((status.parse().unwrap_or(0), "{}".into()))
                }
                // As oidc-provider of npm answers about a signed token.
                Some(text) if text.contains("\"error\"") => Ok((400, text.into())),
                Some(text) => Ok((200, text.into())),
            }
        })
    }
}

fn endpoint(answers: &[&'static str]) -> (Arc<Introspection>, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let answers = Mutex::new(answers.iter().copied().collect());
    let options = Options {
        issuer: name("corp"),
        url: "https://id.example/introspect".into(),
        ca_file: None,
        client: Client {
            id: "weft".into(),
            secret: Some("secret".into()),
            authentication: ClientAuthentication::Basic,
        },
        cache: Duration::from_secs(60),
        refused: Duration::from_secs(10),
    };
    let script = Script { answers, asked: Arc::clone(&asked) };
    (Arc::new(Introspection::new(options, script)), asked)
}

/// Works for so long.
async fn work(endpoint: &Introspection, seconds: f64) {
    let _ = tokio::time::timeout(Duration::from_secs_f64(seconds), endpoint.run()).await;
}

fn of(number: usize) -> Digest {
    Digest::of_opaque("corp", &number.to_le_bytes())
}

const ACTIVE: &str = r#"{"active":true,"sub":"ada"}"#;

#[tokio::test(start_paused = true)]
async fn a_token_is_asked_about_once_and_remembered_for_a_while() {
    let (endpoint, asked) = endpoint(&[ACTIVE, r#"{"active":false}"#]);
    let waiting = (0..100).map(|_| endpoint.ask(of(0), b"t", clock::now()));
    let all: Vec<_> = waiting.map(|one| one.unwrap_or_else(|| panic!("it may ask"))).collect();
    tokio::select! { _ = join_all(all) => {}, () = endpoint.run() => {} }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let began = clock::now();
    let known = |after: u64| endpoint.known(&of(0), began.plus(Duration::from_secs(after)));
    assert!(matches!(known(59), Some(Known::Said(Token::Active(..)))) && known(61).is_none());
    // One that is no good is remembered as well.
    assert!(endpoint.ask(of(1), b"u", clock::now()).is_some());
    work(&endpoint, 2.0).await;
    let known = |after: u64| endpoint.known(&of(1), began.plus(Duration::from_secs(after)));
    assert!(matches!(known(9), Some(Known::Said(Token::Inactive))) && known(12).is_none());
    let counts = Counts { good: 1, bad: 1, failed: 0, waiting: 0 };
    assert_eq!(endpoint.counts(), counts);
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_ends_with_the_token() {
    let wall = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let text = format!(r#"{{"active":true,"exp":{}}}"#, wall.as_secs() + 20);
    let (endpoint, _asked) = endpoint(&[Box::leak(text.into_boxed_str())]);
    assert!(endpoint.ask(of(0), b"t", clock::now()).is_some());
    work(&endpoint, 2.0).await;
    let known = |after: u64| endpoint.known(&of(0), clock::now().plus(Duration::from_secs(after)));
    assert!(matches!(known(10), Some(Known::Said(Token::Active(..)))) && known(21).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_lies_or_fails_says_nothing_and_is_left_alone_for_a_while() {
    for bad in ["cut", "401", "429", "500", "{}", r#"{"active":"true"}"#, "<html>", "[]", ""] {
        let (endpoint, asked) = endpoint(&[bad]);
        for number in 0..3 {
            assert!(endpoint.ask(of(number), b"t", clock::now()).is_some(), "{bad}");
            work(&endpoint, 1.5).await;
            assert!(
                matches!(endpoint.known(&of(number), clock::now()), Some(Known::Failed)),
                "{bad}"
            );
        }
        assert!(endpoint.ask(of(3), b"t", clock::now()).is_none(), "{bad}: left alone");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(endpoint.ask(of(3), b"t", clock::now()).is_some(), "{bad}: tried again");
        assert_eq!((asked.load(Ordering::Relaxed), endpoint.counts().failed), (3, 3), "{bad}");
    }
    // It comes back, and all is as before.
    let (endpoint, _asked) = endpoint(&["cut", "cut", "cut", ACTIVE]);
    for number in 0..4 {
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(endpoint.ask(of(number), b"t", clock::now()).is_some());
        work(&endpoint, 2.0).await;
    }
    assert!(matches!(endpoint.known(&of(3), clock::now()), Some(Known::Said(Token::Active(..)))));
    assert_eq!(endpoint.0.troubles().0, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_of_one_token_ends_no_other() {
    for refusal in ["400", "413"] {
        let (endpoint, _asked) = endpoint(&[refusal]);
        for number in 0..20 {
            assert!(endpoint.ask(of(number), b"t", clock::now()).is_some(), "{refusal} {number}");
            work(&endpoint, 1.5).await;
            let known = endpoint.known(&of(number), clock::now());
            assert!(matches!(known, Some(Known::Failed)), "{refusal} {number}");
        }
        assert_eq!((endpoint.0.troubles().0, endpoint.counts().failed), (0, 20));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_kind_that_the_issuer_does_not_have_is_no_good() {
    let (endpoint, _asked) =
        endpoint(&[r#"{"error":"unsupported_token_type"}"#, r#"{"error":"invalid_request"}"#]);
    for (number, is_known) in [(0, true), (1, false)] {
        assert!(endpoint.ask(of(number), b"t", clock::now()).is_some());
        work(&endpoint, 1.5).await;
        let known = endpoint.known(&of(number), clock::now());
        let inactive = matches!(known, Some(Known::Said(Token::Inactive)));
        assert_eq!(inactive, is_known, "{number}: {known:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_bounded_and_what_is_cut_short_is_begun_anew() {
    let (endpoint, asked) = endpoint(&["hang"]);
    for number in 0..5_000 {
        let may = endpoint.ask(of(number), b"t", clock::now()).is_some();
        assert_eq!(may, number < WAITING_MAX, "{number}");
    }
    // One that waits already is waited for by any number.
    let waits = endpoint.ask(of(1), b"t", clock::now()).unwrap_or_else(|| panic!("it waits"));
    work(&endpoint, 5.0).await;
    assert_eq!(asked.load(Ordering::Relaxed), ASKED_MAX);
    assert_eq!(endpoint.counts().waiting, WAITING_MAX);
    assert_eq!(endpoint.0.troubles().1, WAITING_MAX, "all are put back");
    let mut waits = Box::pin(waits);
    assert!(waits.as_mut().now_or_never().is_none());
    // Whoever waits for an endpoint that is gone is let go.
    drop(endpoint);
    waits.await;
}
