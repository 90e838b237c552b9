//! The token endpoint of a provider (RFC 6749 section 3.2): codes and refresh tokens become tokens.
//!
//! One future asks, on the control runtime; workers leave what they need and read what came of it. Requests of one
//! browser that need a refresh at once have one among them, on whatever worker, since a provider that rotates
//! refresh tokens takes the second use of one for theft. What came of it is remembered for a while, for requests that
//! left the browser before the answer reached it, and a refresh token that was used up is never sent again, however late
//! an old cookie brings it. Who asks need not wait to the end: the question runs on. All of that is bounded.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use weft_kernel::{Name, Tick};
use weft_net::clock;

use super::{granted::Granted, pending::seconds, remembered::Remembered};
use crate::{
    credential::{ByDigest, Digest},
    oauth::{Client, Form, Post, push},
};

/// The most questions that are under way, and the most that are asked or wait.
const ASKED_MAX: usize = 64;
const WAITING_MAX: usize = 1024;
/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// For how long an answer is remembered, that of a refresh longer, and how many are, with how many bytes.
const REMEMBERED: Duration = Duration::from_secs(60);
const REFRESHED: Duration = Duration::from_secs(600);
const REMEMBERED_MAX: usize = 16_384;
const REMEMBERED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// For how long a request waits for a refresh that is under way.
const LATE: Duration = Duration::from_secs(5);
/// For how long nobody asks again what could not be answered.
const FAILED: Duration = Duration::from_secs(5);

/// What came of asking.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// These tokens.
    Granted(Arc<Granted>),
    /// The provider will not, by its word of an error.
    Refused(Arc<str>),
    /// There was no answer, or none that can be understood.
    Failed,
}

/// What tokens are asked for by.
pub(super) enum Grant<'a> {
    /// A code, which was asked for with a verifier, to come back to a URI.
    Code { code: &'a str, verifier: &'a str, redirect_uri: &'a str },
    /// A refresh token.
    Refresh(&'a str),
}

impl Grant<'_> {
    /// What it is known by.
    pub(super) fn digest(&self) -> Digest {
        match self {
            Self::Code { code, verifier, .. } => {
                Digest::of_grant("code", &format!("{verifier} {code}"))
            }
            Self::Refresh(token) => Digest::of_grant("refresh", token),
        }
    }

    fn form(&self) -> String {
        let mut form = String::new();
        match self {
            Self::Code { code, verifier, redirect_uri } => {
                push(&mut form, "grant_type", "authorization_code");
                push(&mut form, "code", code);
                push(&mut form, "redirect_uri", redirect_uri);
                push(&mut form, "code_verifier", verifier);
            }
            Self::Refresh(token) => {
                push(&mut form, "grant_type", "refresh_token");
                push(&mut form, "refresh_token", token);
            }
        }
        form
    }
}

impl Outcome {
    fn bytes(&self) -> usize {
        match self {
            Self::Granted(granted) => granted.bytes(),
            Self::Refused(_) | Self::Failed => 0,
        }
    }
}

struct Question {
    digest: Digest,
    is_refresh: bool,
    url: String,
    form: String,
}

#[derive(Default)]
struct State {
    known: HashMap<Digest, (Outcome, Tick), ByDigest>,
    /// Those that are known, in the order in which they came.
    order: VecDeque<Digest>,
    /// Those that somebody waits for, and since when; the sender goes when it is known.
    waiting: HashMap<Digest, (watch::Sender<()>, Tick), ByDigest>,
    queue: VecDeque<Question>,
    /// Bytes of the tokens that are known.
    bytes: usize,
    /// Refresh tokens that are used up.
    spent: Remembered,
}

impl State {
    fn end(&mut self, digest: Digest, outcome: Outcome, until: Tick) {
        self.bytes += outcome.bytes();
        match self.known.insert(digest, (outcome, until)) {
            None => self.order.push_back(digest),
            Some((before, _)) => self.bytes -= before.bytes(),
        }
        while (self.order.len() > REMEMBERED_MAX || self.bytes > REMEMBERED_BYTES_MAX)
            && let Some(oldest) = self.order.pop_front()
        {
            let before = self.known.remove(&oldest);
            self.bytes -= before.map_or(0, |(before, _)| before.bytes());
        }
        self.waiting.remove(&digest);
    }
}

/// The token endpoint, and what it has said.
pub(super) struct Tokens {
    login: Name,
    client: Client,
    /// For how long a session may go on, and bring a refresh token again.
    max: Duration,
    post: Box<dyn Post>,
    state: Mutex<State>,
    left: Notify,
}

/// A question under way. Dropped before it has ended, it is taken for failed: it may have been asked.
struct Asking<'a> {
    of: &'a Tokens,
    digest: Option<Digest>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(digest) = self.digest.take() {
            self.of.state.lock().end(digest, Outcome::Failed, clock::now().plus(FAILED));
        }
    }
}

impl Tokens {
    pub(super) fn new(
        login: Name,
        client: Client,
        max: Duration,
        post: impl Post + 'static,
    ) -> Self {
        let (post, state) = (Box::new(post), Mutex::default());
        Self { login, client, max, post, state, left: Notify::new() }
    }

    /// What came of a grant, as far as it is remembered.
    pub(super) fn known(&self, digest: &Digest, now: Tick) -> Option<Outcome> {
        let state = self.state.lock();
        state
            .known
            .get(digest)
            .filter(|(_, until)| now < *until)
            .map(|(outcome, _)| outcome.clone())
    }

    /// Whether a refresh token is used up, as far as that is remembered.
    pub(super) fn is_spent(&self, digest: &Digest, now: i64) -> bool {
        self.state.lock().spent.has(digest, now)
    }

    /// Whether a question has been under way for so long that nobody waits for it any more.
    pub(super) fn is_late(&self, digest: &Digest, now: Tick) -> bool {
        let state = self.state.lock();
        state.waiting.get(digest).is_some_and(|(_, since)| now >= since.plus(LATE))
    }

    /// What came of a code, which counts once: whoever brings it again is told that it is used.
    pub(super) fn take(&self, digest: &Digest, now: Tick) -> Option<Outcome> {
        let outcome = self.known(digest, now)?;
        if matches!(outcome, Outcome::Granted(_)) {
            let used = Outcome::Refused("used".into());
            self.state.lock().end(*digest, used, now.plus(REMEMBERED));
        }
        Some(outcome)
    }

    /// Has tokens asked for at an endpoint; `None` if there are too many who wait.
    pub(super) fn ask(
        &self,
        url: &str,
        grant: &Grant<'_>,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let digest = grant.digest();
        let mut known = {
            let mut state = self.state.lock();
            match state.waiting.get(&digest) {
                Some((known, _)) => known.subscribe(),
                None if state.waiting.len() < WAITING_MAX => {
                    let (sender, known) = watch::channel(());
                    state.waiting.insert(digest, (sender, clock::now()));
                    let (url, form) = (url.to_owned(), grant.form());
                    let is_refresh = matches!(grant, Grant::Refresh(_));
                    state.queue.push_back(Question { digest, is_refresh, url, form });
                    known
                }
                None => return None,
            }
        };
        self.left.notify_one();
        Some(async move {
            // Nothing is ever sent; the sender goes.
            let _ = known.changed().await;
        })
    }

    /// Asks all that is left for it, for ever. Dropped at any point, it can be begun anew.
    pub(super) async fn run(&self) {
        let mut asking = FuturesUnordered::new();
        loop {
            while asking.len() < ASKED_MAX {
                let Some(question) = self.state.lock().queue.pop_front() else { break };
                let under_way = Asking { of: self, digest: Some(question.digest) };
                asking.push(self.carry_out(question, under_way));
            }
            tokio::select! {
                () = self.left.notified() => {}
                Some(()) = asking.next() => {}
            }
        }
    }

    async fn carry_out(&self, question: Question, mut under_way: Asking<'_>) {
        let Question { digest, is_refresh, url, form } = question;
        let said = self.put(&url, is_refresh, form).await;
        let now = clock::now();
        let (outcome, until) = match said {
            Ok(outcome) if is_refresh => (outcome, now.plus(REFRESHED)),
            Ok(outcome) => (outcome, now.plus(REMEMBERED)),
            Err(why) => {
                tracing::warn!("login {}: {url} could not be asked for tokens: {why}", self.login);
                (Outcome::Failed, now.plus(FAILED))
            }
        };
        under_way.digest = None;
        let is_spent = is_refresh
            && match &outcome {
                Outcome::Granted(granted) => {
                    let next = granted.refresh_token.as_deref();
                    next.is_some_and(|next| Grant::Refresh(next).digest() != digest)
                }
                Outcome::Refused(_) => true,
                Outcome::Failed => false,
            };
        let mut state = self.state.lock();
        if is_spent {
            let (now, max) = (seconds(clock::wall()), self.max.as_secs());
            let until = now.saturating_add(i64::try_from(max).unwrap_or(i64::MAX));
            state.spent.insert(digest, now, until);
        }
        state.end(digest, outcome, until);
    }

    async fn put(&self, url: &str, is_refresh: bool, mut body: String) -> Result<Outcome, String> {
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        let authorization = self.client.sign(&mut body, url, clock::wall());
        let form = Form { body, authorization };
        let asked = self.post.post(url, form, ANSWER_BYTES_MAX).await;
        let (status, body) = asked.map_err(|error| error.detail())?;
        match status {
            200 => serde_json::from_slice(&body)
                .map(|granted| {
                    let at = seconds(clock::wall());
                    Outcome::Granted(Arc::new(Granted { at, ..granted }))
                })
                .map_err(|_error| "the answer is not understood".to_owned()),
            400 | 401 => {
                let word = serde_json::from_slice(&body).map(|Refusal { error }| error);
                let word = word.map_err(|_error| format!("status {status} without an error"))?;
                match &*word {
                    // Nothing that another request could change.
                    "invalid_client" | "unauthorized_client" | "unsupported_grant_type" => {
                        Err(format!("it does not take the client: {word:.64}"))
                    }
                    // Only this says that a refresh token is no good (RFC 6749 section 5.2).
                    _ if is_refresh && word != "invalid_grant" => {
                        Err(format!("it does not refresh: {word:.64}"))
                    }
                    _ => Ok(Outcome::Refused(word.chars().take(64).collect::<String>().into())),
                }
            }
            _ => Err(format!("the answer has status {status}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{
        fixture::name,
        oauth::{Answering, ClientAuthentication},
    };

    /// Answers by what the form holds, and counts.
    struct Endpoint(Arc<AtomicUsize>);

    impl Post for Endpoint {
        fn post<'a>(&'a self, _url: &'a str, form: Form, _bytes_max: usize) -> Answering<'a> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let (status, text) = match &*form.body {
                of if of.contains("refresh_token=gone") => (400, r#"{"error":"invalid_grant"}"#),
                of if of.contains("refresh_token=away") => (503, ""),
                of if of.contains("refresh_token=wrong") => (401, r#"{"error":"invalid_client"}"#),
                of if of.contains("refresh_token=slow") => (400, r#"{"error":"slow_down"}"#),
                of if of.contains("refresh_token=kept") => (200, r#"{"access_token":"a"}"#),
                of if of.contains("refresh_token=odd") => (200, "<html>"),
                _ => (200, r#"{"access_token":"a","refresh_token":"next","expires_in":300}"#),
            };
            Box::pin(async move {
                tokio::task::yield_now().await;
                Ok((status, text.into()))
            })
        }
    }

    #[tokio::test]
    async fn what_many_ask_for_at_once_is_asked_once_and_remembered() {
        let asked = Arc::new(AtomicUsize::new(0));
        let client = Client {
            id: "weft".into(),
            secret: Some("s".into()),
            authentication: ClientAuthentication::Basic,
        };
        let max = Duration::from_secs(3_600);
        let tokens = Tokens::new(name("shop"), client, max, Endpoint(Arc::clone(&asked)));
        let work = async {
            for (token, expected) in [
                ("good", "granted"),
                ("gone", "refused invalid_grant"),
                ("away", "failed"),
                ("wrong", "failed"),
                ("odd", "failed"),
                ("slow", "failed"),
            ] {
                let before = asked.load(Ordering::Relaxed);
                let grant = Grant::Refresh(token);
                let of = || tokens.ask("https://id.example/token", &grant).unwrap();
                futures_util::future::join3(of(), of(), of()).await;
                assert_eq!(asked.load(Ordering::Relaxed), before + 1, "{token}");
                let found = match tokens.known(&grant.digest(), clock::now()) {
                    Some(Outcome::Granted(granted)) => {
                        assert_eq!(granted.refresh_token.as_deref(), Some("next"));
                        "granted".to_owned()
                    }
                    Some(Outcome::Refused(word)) => format!("refused {word}"),
                    Some(Outcome::Failed) => "failed".to_owned(),
                    None => "unknown".to_owned(),
                };
                assert_eq!(found, expected, "{token}");
                let later = clock::now().plus(REFRESHED);
                assert!(tokens.known(&grant.digest(), later).is_none(), "{token}");
                // It is known for longer that it was used up.
                let (is_spent, wall) = (["good", "gone"].contains(&token), seconds(clock::wall()));
                for (after, expected) in [(3_590, is_spent), (3_610, false)] {
                    let found = tokens.is_spent(&grant.digest(), wall + after);
                    assert_eq!(found, expected, "{token} {after}");
                }
            }
            // One that the provider goes on with is not used up.
            let kept = Grant::Refresh("kept");
            tokens.ask("https://id.example/token", &kept).unwrap().await;
            assert!(!tokens.is_spent(&kept.digest(), seconds(clock::wall())));
        };
        tokio::select! { () = work => {}, () = tokens.run() => {} }
    }

    #[tokio::test]
    async fn a_code_counts_once() {
        let client =
            Client { id: "weft".into(), secret: None, authentication: ClientAuthentication::Post };
        let tokens = Tokens::new(name("shop"), client, Duration::ZERO, Endpoint(Arc::default()));
        let grant = Grant::Code { code: "c", verifier: "v", redirect_uri: "https://a.example/" };
        let work = async {
            tokens.ask("https://id.example/token", &grant).unwrap().await;
        };
        tokio::select! { () = work => {}, () = tokens.run() => {} }
        let take = || tokens.take(&grant.digest(), clock::now());
        assert!(matches!(take(), Some(Outcome::Granted(_))));
        for _ in 0..2 {
            assert!(matches!(take(), Some(Outcome::Refused(word)) if &*word == "used"));
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut state = State::default();
        for number in 0..REMEMBERED_MAX * 2 {
            let digest = Digest::of_grant("code", &number.to_string());
            state.end(digest, Outcome::Failed, Tick::NEVER);
            state.end(digest, Outcome::Failed, Tick::NEVER);
        }
        assert!(state.known.len() <= REMEMBERED_MAX && state.order.len() <= REMEMBERED_MAX);
        let token = "t".repeat(REMEMBERED_BYTES_MAX / 4);
        for number in 0..10 {
            let granted = Granted { access_token: Some(token.clone()), ..Granted::default() };
            let digest = Digest::of_grant("refresh", &number.to_string());
            for _ in 0..2 {
                let outcome = Outcome::Granted(Arc::new(granted.clone()));
                state.end(digest, outcome, Tick::NEVER);
            }
        }
        assert_eq!(state.bytes, REMEMBERED_BYTES_MAX);
        assert_eq!(state.known.len(), 4);
    }
}
