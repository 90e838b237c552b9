//! Tokens that the node fetches for itself: from the token endpoint of an authorization server, as a client of it
//! (RFC 6749 section 4.4), or in exchange for a token that a request has shown (RFC 8693).
//!
//! A token is asked for once for all workers and used until shortly before its end; a new one is fetched before that,
//! while the old one is used still. How that is asked, and how little a flood costs, is the affair of `questions`.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::Value;
use weft_identity::token::TOKEN_BYTES_MAX;
use weft_kernel::{Name, Tick};
use weft_net::clock;

pub use crate::questions::Counts;
use crate::{
    credential::Digest,
    oauth::{Client, Form, Post, push},
    questions::{Endpoint, Known, Questions, Said, Unanswered},
};

/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long before its end a token is fetched anew, if it lives long enough.
const AHEAD: Duration = Duration::from_secs(30);
/// The time for which a token that was not taken in exchange is not offered again.
const REFUSED: Duration = Duration::from_secs(10);
/// How often, at most, a token is fetched anew because a service does not take it.
const DOUBT: Duration = Duration::from_secs(10);
/// The longest time for which a token is used, whatever its server says.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Whom to ask for tokens, as whom, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The name of the client in the configuration.
    pub name: Name,
    /// The URL of the token endpoint.
    pub url: String,
    /// The authority that its certificate must be of; those of the system without one.
    pub ca_file: Option<PathBuf>,
    /// What the endpoint knows Weft as.
    pub client: Client,
    /// The scopes that a token is to have.
    pub scopes: Vec<String>,
    /// Whom a token is to be for, as `audience` says it.
    pub audiences: Vec<String>,
    /// Whom a token is to be for, as `resource` says it (RFC 8707).
    pub resources: Vec<String>,
    /// The type of the tokens that are offered in exchange (RFC 8693 section 3).
    pub subject_type: String,
    /// The time for which a token is used whose end its server does not tell.
    pub life: Duration,
}

/// What an authorization server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Granted {
    /// A token, as it stands in `Authorization`.
    Token(Arc<str>),
    /// It takes the client, but gives nothing for the token that is offered.
    Refused(Arc<str>),
}

/// A client of an authorization server, with the tokens that it has been given.
pub struct TokenClient {
    questions: Questions<Asked>,
    doubted: Mutex<Option<Tick>>,
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClient").field("options", self.options()).finish_non_exhaustive()
    }
}

impl TokenClient {
    /// One that has not asked yet.
    pub fn new(options: Options, post: impl Post + 'static) -> Self {
        let questions = Questions::new(Asked { options, post: Box::new(post) });
        Self { questions, doubted: Mutex::default() }
    }

    /// Whom it asks.
    pub const fn options(&self) -> &Options {
        &self.questions.endpoint().options
    }

    /// How often it has asked.
    pub fn counts(&self) -> Counts {
        self.questions.counts()
    }

    /// What a token is found by: the one that it was given for, or nothing.
    pub(crate) fn digest(&self, subject: &[u8]) -> Digest {
        Digest::of_opaque(self.options().name.as_str(), subject)
    }

    /// What is known of the token for a subject.
    pub(crate) fn known(&self, digest: &Digest, now: Tick) -> Option<Known<Granted>> {
        self.questions.known(digest, now)
    }

    /// Has a token fetched; `None` if that may not be now.
    pub(crate) fn ask(
        &self,
        digest: Digest,
        subject: &[u8],
        now: Tick,
    ) -> Option<impl Future<Output = ()> + use<>> {
        self.questions.ask(digest, subject, now)
    }

    /// Forgets a token that a service has not taken, if none was forgotten a moment ago.
    pub(crate) fn doubt(&self, digest: &Digest, now: Tick) {
        let mut doubted = self.doubted.lock();
        if doubted.is_none_or(|last| now >= last.plus(DOUBT)) {
            *doubted = Some(now);
            self.questions.forget(digest);
        }
    }

    /// Fetches all that is asked for, for ever. Dropped at any point, it can be begun anew.
    pub async fn run(&self) {
        self.questions.run().await;
    }
}

/// The token endpoint.
struct Asked {
    options: Options,
    post: Box<dyn Post>,
}

impl Endpoint for Asked {
    type Answer = Granted;

    async fn ask(&self, subject: &[u8]) -> Result<Said<Granted>, Unanswered> {
        self.put(subject).await.map_err(|(why, unanswered)| {
            let Options { name, url, .. } = &self.options;
            tracing::warn!("OAuth client {name}: {url} gives no token: {why}");
            unanswered
        })
    }

    fn is_good(answer: &Granted) -> bool {
        matches!(answer, Granted::Token(_))
    }
}

impl Asked {
    fn form(&self, subject: &str) -> Form {
        let Options { url, client, scopes, audiences, resources, subject_type, .. } = &self.options;
        let mut body = String::with_capacity(subject.len() + 256);
        if subject.is_empty() {
            push(&mut body, "grant_type", "client_credentials");
        } else {
            push(&mut body, "grant_type", EXCHANGE);
            push(&mut body, "subject_token", subject);
            push(&mut body, "subject_token_type", subject_type);
        }
        if !scopes.is_empty() {
            push(&mut body, "scope", &scopes.join(" "));
        }
        audiences.iter().for_each(|audience| push(&mut body, "audience", audience));
        resources.iter().for_each(|resource| push(&mut body, "resource", resource));
        let authorization = client.sign(&mut body, url, clock::wall());
        Form { body, authorization }
    }

    async fn put(&self, subject: &[u8]) -> Result<Said<Granted>, (String, Unanswered)> {
        let failed = |why: String| (why, Unanswered::Failed);
        let refused = |code: &str| {
            let until = clock::now().plus(REFUSED);
            Said { answer: Granted::Refused(code.into()), renew: until, until, bytes: code.len() }
        };
        let Ok(text) = std::str::from_utf8(subject) else { return Ok(refused("invalid_request")) };
        let form = self.form(text);
        let asked = self.post.post(&self.options.url, form, ANSWER_BYTES_MAX).await;
        let (status, body) = asked.map_err(|error| failed(error.detail()))?;
        let said: Option<Value> = serde_json::from_slice(&body).ok();
        let text_of = |key: &str| said.as_ref().and_then(|said| said.get(key)?.as_str());
        match (status, text_of("error")) {
            (200, _) => {}
            // What it says of the token is the caller's affair; what it says of the client is not.
            (400, Some(code @ ("invalid_request" | "invalid_grant" | "invalid_target")))
                if !subject.is_empty() =>
            {
                return Ok(refused(code));
            }
            (_, Some(code)) => {
                let about = text_of("error_description").unwrap_or_default();
                let why = format!("status {status}, {:?} {:?}", cut(code), cut(about));
                return Err(failed(why));
            }
            // Of what clients show, something may be wrong that is said without a code.
            _ => {
                let why = format!("the answer has status {status}");
                let of_all = subject.is_empty();
                let unanswered =
                    if of_all { Unanswered::Failed } else { Unanswered::of_status(status) };
                return Err((why, unanswered));
            }
        }
        let (Some(token), Some(kind)) = (text_of("access_token"), text_of("token_type")) else {
            return Err(failed("the answer has no `access_token` with its `token_type`".into()));
        };
        if !kind.eq_ignore_ascii_case("bearer") {
            let why = format!("the token is of type {:?}, which is no bearer token", cut(kind));
            return Err(failed(why));
        }
        let fits = !token.is_empty() && token.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
        if !fits || token.len() > TOKEN_BYTES_MAX {
            return Err(failed("the token cannot stand in `Authorization`".into()));
        }
        let life = life(said.as_ref().and_then(|said| said.get("expires_in"))).map_err(failed)?;
        let life = life.unwrap_or(self.options.life).min(LIFE_MAX);
        if life.is_zero() {
            return Err(failed("the token has ended already".into()));
        }
        let (line, now) = (format!("Bearer {token}"), clock::now());
        Ok(Said {
            // What is long in keeping is the subject's digest and this.
            bytes: line.len(),
            answer: Granted::Token(line.into()),
            renew: now.plus(life.saturating_sub(AHEAD).max(life / 2)),
            // It is on its way for a while, and no clock is exact.
            until: now.plus(life - (life / 10).min(Duration::from_secs(5))),
        })
    }
}

/// What `expires_in` says, which some servers write as text.
fn life(said: Option<&Value>) -> Result<Option<Duration>, String> {
    let seconds = match said {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    let seconds = seconds.filter(|seconds: &f64| seconds.is_finite());
    let seconds = seconds.ok_or("`expires_in` is no number of seconds")?;
    Ok(Some(Duration::from_secs_f64(seconds.clamp(0.0, LIFE_MAX.as_secs_f64()))))
}

/// The beginning of what somebody else says.
fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(100).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

#[cfg(test)]
mod tests;
