//! Sets of keys whose host hangs, lies, changes its keys and comes back, in paused time.

use std::{collections::VecDeque, sync::Mutex};

use futures_util::{FutureExt as _, future::join};
use weft_kernel::{Error, Reason};

use super::*;
use crate::fixture::name;

const ONE: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
const TWO: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"two","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// What a host answers, one after the other; the last again and again.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<(VecDeque<&'static str>, Vec<Tick>)>>);

impl Script {
    fn of(answers: &[&'static str]) -> Self {
        Self(Arc::new(Mutex::new((answers.iter().copied().collect(), Vec::new()))))
    }

    /// The seconds at which it was asked, from the first on.
    fn asked(&self) -> Vec<u64> {
        let asked = self.0.lock().map(|inner| inner.1.clone()).unwrap_or_default();
        asked.iter().map(|at| at.since(asked[0]).as_secs()).collect()
    }
}

impl Fetch for Script {
    fn get<'a>(
        &'a self,
        _url: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes>> + Send + 'a>> {
        let answer = self.0.lock().ok().and_then(|mut inner| {
            inner.1.push(clock::now());
            let (answers, _) = &mut *inner;
            if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() }
        });
        Box::pin(async move {
            match answer {
                Some("hang") | None => std::future::pending().await,
                Some("500") => Err(Error::new(Reason::UpstreamMalformed, "status 500")),
                Some(text) => Ok(Bytes::from_static(text.as_bytes())),
            }
        })
    }
}

fn remote(script: &Script) -> Remote {
    let options = Options {
        issuer: name("corp"),
        url: "https://issuer.example/keys".into(),
        ca_file: None,
        algorithms: vec![Algorithm::EdDsa],
        cache: Duration::from_secs(600),
        stale: Duration::from_secs(3600),
    };
    Remote::new(options, script.clone(), Generation::default())
}

/// Refreshes for so many seconds.
async fn within(remote: &Remote, seconds: u64) {
    let _ = tokio::time::timeout(Duration::from_secs(seconds), remote.refresh()).await;
}

#[tokio::test(start_paused = true)]
async fn a_set_is_refreshed_ahead_and_what_is_decided_by_it_stays() {
    let script = Script::of(&[ONE, ONE, TWO]);
    let remote = remote(&script);
    assert!(remote.keys(clock::now()).is_none());
    within(&remote, 1).await;
    let first = remote.generation.number();
    assert!(remote.keys(clock::now()).is_some() && first > 0);
    within(&remote, 480).await;
    assert_eq!(script.asked(), [0, 480]);
    assert_eq!(remote.generation.number(), first, "the same keys change nothing");
    within(&remote, 480).await;
    assert_eq!(script.asked(), [0, 480, 960]);
    assert!(remote.generation.number() > first);
    assert_eq!(remote.counts(clock::now()).0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_fails_is_asked_less_and_less_and_its_keys_are_used_for_a_while() {
    let script = Script::of(&[ONE, "500", "{}", "not even json", r#"{"keys":[]}"#, "500"]);
    let remote = remote(&script);
    within(&remote, 550).await;
    assert_eq!(script.asked(), [0, 480, 481, 483, 487, 495, 511, 543]);
    assert!(remote.keys(clock::now()).is_some());
    within(&remote, 3600 + 600 - 551).await;
    assert!(remote.keys(clock::now()).is_some(), "stale, and in use");
    within(&remote, 2).await;
    assert!(remote.keys(clock::now()).is_none(), "too old");
    let asked = script.asked();
    assert!(asked.len() < 75 && asked.is_sorted(), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_has_keys_fetched_now_and_then_and_one_fetch_serves_all() {
    let script = Script::of(&[ONE, TWO]);
    let remote = remote(&script);
    let (one, other) = (remote.ask(clock::now()), remote.ask(clock::now()));
    let both =
        async { join(one.unwrap_or_else(|| panic!()), other.unwrap_or_else(|| panic!())).await };
    tokio::select! { () = remote.refresh() => {}, _ = both => {} }
    assert_eq!(script.asked(), [0]);
    // No sooner than after a while, however many ask.
    for _ in 0..100 {
        assert!(remote.ask(clock::now()).is_none());
    }
    within(&remote, 9).await;
    assert!(remote.ask(clock::now()).is_none());
    within(&remote, 2).await;
    let asked = remote.ask(clock::now()).unwrap_or_else(|| panic!("it may be asked again"));
    tokio::select! { () = remote.refresh() => {}, () = asked => {} }
    assert_eq!(script.asked(), [0, 11]);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_while_it_is_fetched_waits_for_that() {
    let script = Script::of(&["hang", ONE]);
    let remote = remote(&script);
    within(&remote, 1).await;
    // What was cut short is begun anew.
    let asked = remote.ask(clock::now()).unwrap_or_else(|| panic!("a fetch is under way"));
    let mut asked = pin_boxed(asked);
    assert!(asked.as_mut().now_or_never().is_none());
    tokio::select! { () = remote.refresh() => {}, () = asked => {} }
    assert!(remote.keys(clock::now()).is_some());
}

fn pin_boxed(future: impl Future<Output = ()>) -> Pin<Box<impl Future<Output = ()>>> {
    Box::pin(future)
}
