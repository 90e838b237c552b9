//! Introspection: the issuer is asked what a token is (RFC 7662), and its answers are remembered for a while, which
//! ends with the token, and no later than [`Options::cache`]; that a token is no good is remembered too, for a shorter
//! time. How it is asked, and how little a flood of tokens costs, is the affair of `questions`.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use weft_identity::token::Claims;
use weft_kernel::{Name, Tick};
use weft_net::clock;

pub use crate::questions::Counts;
use crate::{
    credential::Digest,
    oauth::{Client, Form, Post, push},
    questions::{self, Endpoint, FAILED, Questions, Said, Unanswered},
};

/// The longest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024;

/// Whom to ask, and for how long what it says counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The name of the issuer.
    pub issuer: Name,
    /// The URL of the endpoint.
    pub url: String,
    /// The authority that its certificate must be of; those of the system without one.
    pub ca_file: Option<PathBuf>,
    /// What the endpoint knows Weft as.
    pub client: Client,
    /// The longest time for which a good token is believed without asking again.
    pub cache: Duration,
    /// The time for which a token that is no good is refused without asking again.
    pub refused: Duration,
}

/// What an issuer says of a token.
#[derive(Clone, Debug)]
pub(crate) enum Token {
    /// It is good, says this, and must be asked about again by then.
    Active(Arc<Claims>, Tick),
    /// It is not good.
    Inactive,
}

pub(crate) type Known = questions::Known<Token>;

/// The endpoint of an issuer, and what it has said.
pub struct Introspection(Questions<Asked>);

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection").field("options", self.options()).finish_non_exhaustive()
    }
}

impl Introspection {
    /// An endpoint that nobody has asked yet.
    pub fn new(options: Options, post: impl Post + 'static) -> Self {
        Self(Questions::new(Asked { options, post: Box::new(post) }))
    }

    /// Whom it asks.
    pub const fn options(&self) -> &Options {
        &self.0.endpoint().options
    }

    /// How often it has asked.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }

    /// What is known of a token.
    pub(crate) fn known(&self, digest: &Digest, now: Tick) -> Option<Known> {
        self.0.known(digest, now)
    }

    /// Has the endpoint asked about a token; `None` if that may not be now.
    pub(crate) fn ask(
        &self,
        digest: Digest,
        token: &[u8],
        now: Tick,
    ) -> Option<impl Future<Output = ()> + use<>> {
        self.0.ask(digest, token, now)
    }

    /// Asks about all that is left for it, for ever. Dropped at any point, it can be begun anew.
    pub async fn run(&self) {
        self.0.run().await;
    }
}

/// The endpoint itself.
struct Asked {
    options: Options,
    post: Box<dyn Post>,
}

impl Endpoint for Asked {
    type Answer = Token;

    async fn ask(&self, token: &[u8]) -> Result<Said<Token>, Unanswered> {
        let put = self.put(token).await;
        let now = clock::now();
        match put {
            Ok((Some(claims), bytes)) => {
                let left = time_left(&claims, clock::wall()).unwrap_or(Duration::MAX);
                // The clock of the issuer may be another; it has just said that the token is good.
                let until = now.plus(left.max(FAILED).min(self.options.cache));
                let answer = Token::Active(Arc::new(claims), until);
                Ok(Said { answer, renew: until, until, bytes })
            }
            Ok((None, _)) => {
                let until = now.plus(self.options.refused);
                Ok(Said { answer: Token::Inactive, renew: until, until, bytes: 0 })
            }
            Err((why, unanswered)) => {
                let Options { issuer, url, .. } = &self.options;
                tracing::warn!("issuer {issuer}: {url} could not be asked about a token: {why}");
                Err(unanswered)
            }
        }
    }

    fn is_good(token: &Token) -> bool {
        matches!(token, Token::Active(..))
    }
}

impl Asked {
    /// Asks the endpoint (RFC 7662 section 2.1); `None` if the token is not good.
    async fn put(&self, token: &[u8]) -> Result<(Option<Claims>, usize), (String, Unanswered)> {
        let failed = |why: &str| (why.to_owned(), Unanswered::Failed);
        let Ok(token) = std::str::from_utf8(token) else { return Ok((None, 0)) };
        let mut body = String::with_capacity(token.len() + 64);
        push(&mut body, "token", token);
        push(&mut body, "token_type_hint", "access_token");
        let authorization = self.options.client.sign(&mut body, &self.options.url, clock::wall());
        let form = Form { body, authorization };
        let asked = self.post.post(&self.options.url, form, ANSWER_BYTES_MAX).await;
        let (status, body) = asked.map_err(|error| failed(&error.detail()))?;
        match status {
            200 => {}
            // It has no tokens of that kind, such as signed ones, and so not this one (RFC 7009 section 2.2.1).
            400 if says(&body, "unsupported_token_type") => return Ok((None, 0)),
            401 | 403 => {
                return Err(failed(&format!("status {status}: it does not take the client")));
            }
            _ => {
                let why = format!("the answer has status {status}");
                return Err((why, Unanswered::of_status(status)));
            }
        }
        let claims =
            Claims::of_json(&body).map_err(|_fault| failed("the answer is not understood"))?;
        match claims.get("active").and_then(Value::as_bool) {
            Some(true) => {
                let bytes = claims.weight();
                Ok((Some(claims), bytes))
            }
            Some(false) => Ok((None, 0)),
            None => Err(failed("the answer does not say whether the token is active")),
        }
    }
}

/// Whether an answer is this error (RFC 6749 section 5.2).
fn says(body: &[u8], error: &str) -> bool {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    said.as_ref().and_then(|said| said.get("error")?.as_str()) == Some(error)
}

/// The time that a token has left, if it says when it ends.
fn time_left(claims: &Claims, wall: SystemTime) -> Option<Duration> {
    let now = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let left = (claims.expires()? - now).clamp(0.0, 1e9);
    Some(Duration::from_secs_f64(left))
}

#[cfg(test)]
mod tests;
