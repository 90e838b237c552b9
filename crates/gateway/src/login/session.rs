//! Session of a browser: what its ID token says, and the tokens that go with it.

use std::{pin::Pin, time::Duration};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_identity::token::{Algorithm, Claims, TokenFault};
use weft_wire::Fields;

use super::{
    Login, Options,
    granted::Granted,
    pending::seconds,
    tokens::{Grant, Outcome},
};
use crate::{authentication::Moment, credential::Digest};

/// An access token is refreshed when this is left of its time, or a fifth of it if that is less.
const AHEAD: i64 = 60;
/// The most refreshes by which a cookie is behind, of those that are remembered.
const BEHIND_MAX: usize = 4;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Its id, which is Weft's own.
    pub(super) id: String,
    /// The ID token, which was verified when it came.
    pub(super) id_token: String,
    /// The access token, if a service is told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) access_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refresh_token: Option<String>,
    /// The second at which the access token is to be refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refresh_at: Option<i64>,
    /// The second at which it began.
    pub(super) began: i64,
    /// The second at which the provider issued its first ID token, by the provider's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) issued: Option<i64>,
    /// The second at which it was used, about.
    pub(super) seen: i64,
}

impl Session {
    /// One that begins now.
    pub(super) const fn new(id: String, id_token: String, now: i64) -> Self {
        Self {
            id,
            id_token,
            access_token: None,
            refresh_token: None,
            refresh_at: None,
            began: now,
            issued: None,
            seen: now,
        }
    }

    /// Takes tokens that were granted.
    pub(super) fn take(&mut self, granted: &Granted, options: &Options) {
        if options.access_token.is_some() {
            self.access_token.clone_from(&granted.access_token);
        }
        // A provider that does not tell another means the one there is (RFC 6749 section 6).
        if let Some(token) = &granted.refresh_token {
            self.refresh_token = Some(token.clone());
        }
        self.refresh_at = granted.expires_in.map(|left| {
            let left = i64::try_from(left).unwrap_or(i64::MAX);
            granted.at.saturating_add(left.saturating_sub(AHEAD.min(left / 5)))
        });
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self, options: &Options, now: i64) -> bool {
        let after = |begin: i64, span: Duration| {
            begin.saturating_add(i64::try_from(span.as_secs()).unwrap_or(i64::MAX))
        };
        now >= after(self.seen, options.idle) || now >= after(self.began, options.max)
    }

    /// Whether it is to be noted that it is used.
    pub(super) fn is_stale(&self, options: &Options, now: i64) -> bool {
        let eighth = i64::try_from(options.idle.as_secs() / 8).unwrap_or(i64::MAX);
        now.saturating_sub(self.seen) > eighth
    }

    /// The refresh token, if it is time for it.
    pub(super) fn due(&self, now: i64) -> Option<&str> {
        let is_due = self.refresh_at.is_some_and(|at| now >= at);
        self.refresh_token.as_deref().filter(|_| is_due)
    }

    /// The time that it has left, for which browsers keep it.
    pub(super) fn left(&self, options: &Options, now: i64) -> Duration {
        let max = i64::try_from(options.max.as_secs()).unwrap_or(i64::MAX);
        let left = self.began.saturating_add(max).saturating_sub(now);
        Duration::from_secs(u64::try_from(left).unwrap_or_default()).min(options.idle)
    }

    /// What the ID token says, which was verified before.
    pub(super) fn claims(&self) -> Option<Claims> {
        let payload = self.id_token.split('.').nth(1)?;
        Claims::of_json(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    /// What it may be revoked by, each with when it began for that: an end that the provider tells is by its clock,
    /// and its own end is its end whenever that was.
    pub(super) fn names(&self, claims: &Claims) -> impl Iterator<Item = (Digest, i64)> {
        let began = self.issued.unwrap_or(self.began);
        let of = |claim: &'static str| {
            claims.text(claim).map(|text| (Digest::of_session(claim, text), began))
        };
        let own = (Digest::of_session("id", &self.id), i64::MIN);
        [Some(own), of("sid"), of("sub")].into_iter().flatten()
    }
}

/// Whether an ID token names the access token that came with it (OpenID Connect Core section 3.1.3.6).
pub(super) fn fits(id_token: &str, claims: &Claims, access_token: Option<&str>) -> bool {
    let (Some(said), Some(access_token)) = (claims.text("at_hash"), access_token) else {
        return true;
    };
    let header = id_token.split('.').next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let header = header.and_then(|header| serde_json::from_slice::<Value>(&header).ok());
    let word = header.as_ref().and_then(|header| header.get("alg")?.as_str());
    let by = match word.and_then(Algorithm::of) {
        Some(Algorithm::Rs256 | Algorithm::Ps256 | Algorithm::Es256 | Algorithm::Hs256) => {
            &digest::SHA256
        }
        Some(Algorithm::Rs384 | Algorithm::Ps384 | Algorithm::Es384 | Algorithm::Hs384) => {
            &digest::SHA384
        }
        Some(_) => &digest::SHA512,
        None => return false,
    };
    let hash = digest::digest(by, access_token.as_bytes());
    let half = &hash.as_ref()[..hash.as_ref().len() / 2];
    URL_SAFE_NO_PAD.encode(half) == said
}

impl Login {
    /// The sessions that a request shows, whether they are over or not.
    pub(super) fn sessions(&self, secure: bool, fields: &Fields) -> Vec<(Session, usize)> {
        let sealed = self.options.cookie.sessions(secure, fields).into_iter();
        let opened = sealed.filter_map(|(sealed, count)| {
            let plain = self.sealer.open("session", &sealed)?;
            Some((serde_json::from_slice(&plain).ok()?, count))
        });
        opened.collect()
    }

    /// The session of a request, with what it says and over how many cookies it is. Of several that are good the one
    /// that began last counts, and of that what was used last.
    fn session(&self, secure: bool, fields: &Fields, now: i64) -> Option<(Session, Claims, usize)> {
        let shown = self.sessions(secure, fields).into_iter();
        let good = shown.filter_map(|(session, count)| {
            let claims = session.claims()?;
            let is_over =
                session.is_over(&self.options, now) || self.revoked.is_over(session.names(&claims));
            (!is_over).then_some((session, claims, count))
        });
        good.max_by_key(|(session, ..)| (session.began, session.seen))
    }

    /// Seals something for a purpose.
    pub(super) fn seal(&self, purpose: &str, what: &impl Serialize) -> Option<String> {
        self.sealer.seal(purpose, serde_json::to_vec(what).ok()?)
    }

    /// The lines that set a session in the place of one over so many cookies; `None` if it does not fit.
    pub(super) fn cookies_of(
        &self,
        session: &Session,
        secure: bool,
        before: usize,
        now: i64,
    ) -> Option<Vec<String>> {
        let sealed = self.seal("session", session)?;
        let age = session.left(&self.options, now);
        self.options.cookie.set_session(secure, &sealed, before, age)
    }

    /// What a session comes to, or why there is none.
    pub(crate) fn look(&self, secure: bool, fields: &Fields, at: Moment) -> Seen {
        let (secure, now) = (self.is_secure(secure), seconds(at.wall));
        let Some((mut session, mut claims, count)) = self.session(secure, fields, now) else {
            return Seen::Nothing;
        };
        let mut is_changed = false;
        // A cookie may be several refreshes behind.
        for _ in 0..BEHIND_MAX {
            let Some(token) = session.due(now).map(str::to_owned) else { break };
            let grant = Grant::Refresh(&token);
            let digest = grant.digest();
            match self.tokens.known(&digest, at.now) {
                Some(Outcome::Granted(granted)) => match self.refreshed(&claims, &granted) {
                    Ok(renewed) => {
                        session.take(&granted, &self.options);
                        if let Some((token, of_token)) = renewed {
                            (session.id_token, claims) = (token, of_token);
                        }
                        is_changed = true;
                        if session.refresh_token.as_deref() == Some(&*token) {
                            break;
                        }
                    }
                    Err(why) => {
                        self.warn(&session, &why, now);
                        return Seen::Nothing;
                    }
                },
                // The provider has ended it.
                Some(Outcome::Refused(_)) => return Seen::Nothing,
                // While it is away, what there is goes on.
                Some(Outcome::Failed) => break,
                // An old cookie, whose newer one is not known here: the provider would take that for theft.
                None if self.tokens.is_spent(&digest, now) => return Seen::Nothing,
                // One refresh is enough for a request.
                None if is_changed => break,
                // It runs on, and what comes of it is for those who come after.
                None if !at.may_wait || self.tokens.is_late(&digest, at.now) => break,
                None => {
                    let metadata = self.metadata.load();
                    let asked = metadata
                        .as_ref()
                        .and_then(|known| self.tokens.ask(&known.token_endpoint, &grant));
                    if let Some(asked) = asked {
                        return Seen::Later(Box::pin(asked));
                    }
                    break;
                }
            }
        }
        if session.is_stale(&self.options, now) {
            is_changed = true;
        }
        let cookies = match is_changed {
            true => {
                session.seen = now;
                self.cookies_of(&session, secure, count, now).unwrap_or_default()
            }
            false => Vec::new(),
        };
        Seen::Session { claims, access_token: session.access_token, cookies }
    }

    /// Warns of a session that has ended, once in a minute.
    fn warn(&self, session: &Session, why: &str, now: i64) {
        let id = Digest::of_session("id", &session.id);
        if self.warned.lock().insert(id, now, now.saturating_add(60)) {
            let Options { name, .. } = &self.options;
            tracing::warn!("login {name}: a session has ended: its refresh is not good: {why}");
        }
    }

    /// The ID token that came with a refresh, if one did; it is of the same person, by the same provider.
    fn refreshed(
        &self,
        before: &Claims,
        granted: &Granted,
    ) -> Result<Option<(String, Claims)>, String> {
        if !granted.is_bearer() {
            return Err("its tokens are of a type that is not known here".to_owned());
        }
        let Some(token) = &granted.id_token else { return Ok(None) };
        let claims = match self.verify(token, None) {
            Ok(claims) => claims,
            // Its keys are not there: what was verified before goes on.
            Err(TokenFault::UnknownKey) => return Ok(None),
            Err(fault) => return Err(fault.to_string()),
        };
        if claims.text("sub") != before.text("sub") {
            return Err("the token is of another subject".to_owned());
        }
        if !fits(token, &claims, granted.access_token.as_deref()) {
            return Err("the ID token is of another access token".to_owned());
        }
        Ok(Some((token.clone(), claims)))
    }
}

/// What was seen of a session.
pub(crate) enum Seen {
    /// There is none that is good.
    Nothing,
    /// It can be said after this.
    Later(Pin<Box<dyn Future<Output = ()>>>),
    /// It says this.
    Session {
        /// The claims of its ID token.
        claims: Claims,
        /// The access token, if a service is told it.
        access_token: Option<String>,
        /// The cookies to be set, since it has changed.
        cookies: Vec<String>,
    },
}
