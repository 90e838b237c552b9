//! The steps of a login as browsers and the provider take them: to the provider, back with a code, and out again.

use std::{pin::pin, sync::Arc, time::Duration};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use weft_identity::token::{Claims, Rules, TokenFault, Unverified};
use weft_kernel::{Error, Reason, Result};
use weft_net::{body::Body, clock};
use weft_proxy::{PolicyOutcome, Reply, RequestContext, query};
use weft_wire::{Known, Method, ResponseHead};

use super::{
    Answered, Login,
    granted::Granted,
    pending::{Pending, challenge, drawn, is_local, seconds},
    provider::Metadata,
    session::{Session, fits},
    tokens::{Grant, Outcome},
};
use crate::{credential::Digest, jwks::WAIT_MAX, oauth::push};

/// The time for which a browser may be away to log in.
const PENDING: Duration = Duration::from_secs(900);
/// The longest time for which a browser waits for the provider's tokens.
const TOKENS_MAX: Duration = Duration::from_secs(10);
/// The most bytes of a form of the provider, and the longest time that it may take.
const FORM_BYTES_MAX: usize = 64 * 1024;
const FORM_MAX: Duration = Duration::from_secs(10);
/// What a token that ends sessions says (OpenID Connect Back-Channel Logout 1.0 section 2.4).
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// A path that is the login's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// A browser begins a login.
    Begin,
    /// A browser comes back from the provider.
    Back,
    /// A browser ends its session.
    Out,
    /// The provider ends sessions.
    Ended,
}

impl Own {
    /// What would become of a request for it, as far as that can be said without the provider.
    pub(crate) fn foreseen(&self, method: &Method) -> PolicyOutcome {
        match (self, method) {
            (Self::Begin, Method::Get) | (Self::Out, Method::Get | Method::Post) => {
                PolicyOutcome::Answers(303)
            }
            (Self::Back, Method::Get) | (Self::Ended, Method::Post) => PolicyOutcome::TakesPart,
            _ => PolicyOutcome::Refuses(Reason::MethodNotAllowed),
        }
    }
}

/// Why a login fails; the second text is for the log.
fn failed(say: &'static str, why: impl Into<String>) -> Error {
    Error::new(Reason::LoginFailed, say).note(why.into())
}

const AGAIN: &str = "the login cannot be completed here: begin again";
const NOT_GOOD: &str = "the provider's answer to the login is not good";

fn unavailable() -> Error {
    Error::new(Reason::IssuerUnavailable, "logins are not possible at the moment")
}

/// Sends a browser elsewhere, and sets cookies.
fn sent_to(location: &str, cookies: &[String]) -> Reply {
    let mut head = ResponseHead::new(303);
    head.fields.add(Known::Location, location.as_bytes());
    plain(&mut head, cookies);
    Reply::new(head, Body::Empty)
}

fn plain(head: &mut ResponseHead, cookies: &[String]) {
    head.fields.append("cache-control", b"no-store");
    for cookie in cookies {
        head.fields.append("set-cookie", cookie.as_bytes());
    }
}

impl Login {
    /// What a path is of this login.
    pub(crate) fn own(&self, path: &str) -> Option<Own> {
        let options = &self.options;
        let is = |own: &Option<String>| own.as_deref() == Some(path);
        match path {
            _ if path == options.callback_path => Some(Own::Back),
            _ if path == options.logout_path => Some(Own::Out),
            _ if is(&options.login_path) => Some(Own::Begin),
            _ if is(&options.backchannel_path) => Some(Own::Ended),
            _ => None,
        }
    }

    /// Answers a request for a path of its own.
    pub(crate) async fn answer(&self, own: Own, cx: &mut RequestContext<'_>) -> Result<Reply> {
        cx.leave(Answered);
        let is_get = cx.head().method == Method::Get;
        let is_post = cx.head().method == Method::Post;
        match own {
            Own::Back if is_get => self.call_back(cx).await,
            Own::Out if is_get || is_post => self.log_out(cx).await,
            Own::Begin if is_get => {
                let asked = parameter(cx, "return_to").ok().flatten();
                self.begin(asked.filter(|to| is_local(to)).unwrap_or_else(|| "/".to_owned()), cx)
                    .await
            }
            Own::Ended if is_post => self.end_sessions(cx).await,
            _ => Err(Error::new(Reason::MethodNotAllowed, "this path takes another method")),
        }
    }

    /// Scheme and host that a browser is at, and those that it comes back to.
    fn origins(&self, cx: &RequestContext<'_>) -> (String, String) {
        let scheme = if cx.is_secure() { "https" } else { "http" };
        let here = format!("{scheme}://{}", cx.authority().to_ascii_lowercase());
        let there = self.options.origin.clone().unwrap_or_else(|| here.clone());
        (here, there)
    }

    /// Sends a browser to the provider to log in, and then back to a target.
    pub(crate) async fn begin(&self, back: String, cx: &mut RequestContext<'_>) -> Result<Reply> {
        cx.leave(Answered);
        if cx.authority().is_empty() {
            let say = "the request names no host that a browser could come back to";
            return Err(failed(say, "a login was asked for without `Host`"));
        }
        let metadata = self.metadata(cx).await?;
        let (origin, there) = self.origins(cx);
        let chance = || {
            let say = "the system gives no chance";
            Error::new(Reason::Internal, say)
        };
        let pending = Pending {
            state: drawn::<18>().ok_or_else(chance)?,
            nonce: drawn::<18>().ok_or_else(chance)?,
            verifier: drawn::<32>().ok_or_else(chance)?,
            redirect_uri: format!("{there}{}", self.options.callback_path),
            origin,
            back: if is_local(&back) { back } else { "/".to_owned() },
            until: seconds(clock::wall() + PENDING),
        };
        let mut asked = String::new();
        push(&mut asked, "response_type", "code");
        push(&mut asked, "client_id", &self.options.client.id);
        push(&mut asked, "redirect_uri", &pending.redirect_uri);
        push(&mut asked, "scope", &self.options.scopes.join(" "));
        push(&mut asked, "state", &pending.state);
        push(&mut asked, "nonce", &pending.nonce);
        push(&mut asked, "code_challenge", &challenge(&pending.verifier));
        push(&mut asked, "code_challenge_method", "S256");
        for (name, value) in &self.options.parameters {
            push(&mut asked, name, value);
        }
        let sealed = self.seal("login", &pending).ok_or_else(chance)?;
        let (secure, fields) = (self.is_secure(cx.is_secure()), &cx.head().fields);
        let cookie = &self.options.cookie;
        let cookies = cookie.set_pending(secure, &pending.state, &sealed, PENDING, fields);
        Ok(sent_to(&joined(&metadata.authorization_endpoint, &asked), &cookies))
    }

    /// Takes a browser back from the provider, and gives it a session.
    async fn call_back(&self, cx: &mut RequestContext<'_>) -> Result<Reply> {
        let twice = || failed(AGAIN, "a parameter of the callback stands there twice");
        let of = |name: &str| parameter(cx, name).map_err(|()| twice());
        let (state, code, error, iss) = (of("state")?, of("code")?, of("error")?, of("iss")?);
        let secure = self.is_secure(cx.is_secure());
        let state = state.ok_or_else(|| failed(AGAIN, "the callback has no state"))?;
        let pending = self.pending(&state, secure, cx)?;
        if let Some(error) = error {
            let word: String = error
                .chars()
                .filter(|it| it.is_ascii_alphanumeric() || *it == '_')
                .take(64)
                .collect();
            return Err(failed(
                "the provider has refused the login",
                format!("its error is `{word}`"),
            ));
        }
        let metadata = self.metadata(cx).await?;
        let must_say = metadata.authorization_response_iss_parameter_supported;
        if iss.as_deref().map_or(must_say, |iss| iss != self.options.issuer) {
            // RFC 9207 section 2.4.
            return Err(failed(NOT_GOOD, "the answer is by another issuer"));
        }
        let code = code.ok_or_else(|| failed(AGAIN, "the callback has no code"))?;
        let grant = Grant::Code {
            code: &code,
            verifier: &pending.verifier,
            redirect_uri: &pending.redirect_uri,
        };
        let granted = self.granted(&metadata, &grant, cx).await?;
        if !granted.is_bearer() {
            return Err(failed(NOT_GOOD, "its tokens are of a type that is not known here"));
        }
        let id_token = granted.id_token.as_deref();
        let id_token = id_token.ok_or_else(|| failed(NOT_GOOD, "it gives no ID token"))?;
        let claims = self.verified(id_token, cx).await?;
        let nonce = claims.text("nonce").unwrap_or_default();
        if verify_slices_are_equal(nonce.as_bytes(), pending.nonce.as_bytes()).is_err() {
            return Err(failed(NOT_GOOD, "the ID token was made for another login"));
        }
        if !fits(id_token, &claims, granted.access_token.as_deref()) {
            return Err(failed(NOT_GOOD, "the ID token is of another access token"));
        }
        let now = seconds(clock::wall());
        let id = drawn::<16>().unwrap_or_default();
        let mut session = Session::new(id, id_token.to_owned(), now);
        session.issued = issued(&claims);
        session.take(&granted, &self.options);
        let before = self.options.cookie.parts(secure, &cx.head().fields);
        let mut cookies = self.cookies_of(&session, secure, before, now).ok_or_else(|| {
            let why = "its tokens do not fit into the cookies of a session";
            failed(NOT_GOOD, why)
        })?;
        cookies.push(self.options.cookie.unset_pending(secure, &state));
        Ok(sent_to(&self.way_back(&pending, cx), &cookies))
    }

    /// The login that an answer of the provider is to, if it was begun in this browser.
    fn pending(&self, state: &str, secure: bool, cx: &RequestContext<'_>) -> Result<Pending> {
        let sealed = self.options.cookie.pending(secure, state, &cx.head().fields);
        let elsewhere = "the login was not begun in this browser, or has ended already";
        let sealed = sealed.ok_or_else(|| failed(AGAIN, elsewhere))?;
        let pending: Option<Pending> = self
            .sealer
            .open("login", &sealed)
            .and_then(|plain| serde_json::from_slice(&plain).ok());
        let pending = pending.ok_or_else(|| failed(AGAIN, elsewhere))?;
        if verify_slices_are_equal(pending.state.as_bytes(), state.as_bytes()).is_err() {
            return Err(failed(AGAIN, elsewhere));
        }
        if pending.until < seconds(clock::wall()) {
            return Err(failed(AGAIN, "the login was begun too long ago"));
        }
        Ok(pending)
    }

    /// Where a browser goes once it has logged in: to where it was, on this host or one that the session's cookies are
    /// shown to as well.
    fn way_back(&self, pending: &Pending, cx: &RequestContext<'_>) -> String {
        let back = if is_local(&pending.back) { &*pending.back } else { "/" };
        let (here, _) = self.origins(cx);
        if pending.origin == here {
            return back.to_owned();
        }
        let host = pending.origin.split_once("://").map(|(_, host)| host);
        let host = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
        let domain = self.options.cookie.domain.as_deref();
        let is_below = host.zip(domain).is_some_and(|(host, domain)| {
            let rest = host.strip_suffix(domain.trim_start_matches('.'));
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                && host.bytes().all(|it| it.is_ascii_alphanumeric() || b".-_".contains(&it))
        });
        if is_below { format!("{}{back}", pending.origin) } else { back.to_owned() }
    }

    /// Ends the session of a browser, here and at the provider.
    async fn log_out(&self, cx: &mut RequestContext<'_>) -> Result<Reply> {
        let (secure, now) = (self.is_secure(cx.is_secure()), seconds(clock::wall()));
        let shown = self.sessions(secure, &cx.head().fields);
        for (session, _) in &shown {
            let id = Digest::of_session("id", &session.id);
            let left = i64::try_from(self.options.max.as_secs()).unwrap_or(i64::MAX);
            self.revoked.end(id, now, now, session.began.saturating_add(left));
        }
        let session = shown.into_iter().map(|(session, _)| session).max_by_key(|it| it.began);
        let cookies = self.options.cookie.unset_session(secure, &cx.head().fields);
        let metadata = self.metadata.load_full();
        let end = metadata.as_deref().and_then(|known| known.end_session_endpoint.as_deref());
        let (Some(end), Some(session)) = (end, session) else {
            return Ok(sent_to(&self.options.post_logout, &cookies));
        };
        let (_, there) = self.origins(cx);
        let mut asked = String::new();
        push(&mut asked, "id_token_hint", &session.id_token);
        push(&mut asked, "client_id", &self.options.client.id);
        push(
            &mut asked,
            "post_logout_redirect_uri",
            &format!("{there}{}", self.options.post_logout),
        );
        Ok(sent_to(&joined(end, &asked), &cookies))
    }

    /// Ends sessions that the provider has ended (back-channel logout).
    async fn end_sessions(&self, cx: &mut RequestContext<'_>) -> Result<Reply> {
        let read = cx.gather_body(FORM_BYTES_MAX, |_| Ok(()));
        let body = tokio::time::timeout(FORM_MAX, read).await.unwrap_or_else(|_elapsed| {
            let say = "the form was not here in full in time";
            Err(Error::new(Reason::BodyTimeout, say))
        })?;
        let body = String::from_utf8_lossy(&body);
        let mut tokens = query::values(&body, "logout_token");
        let (Some(token), None) = (tokens.next(), tokens.next()) else {
            return Err(failed(NOT_GOOD, "there is not one `logout_token`"));
        };
        let token = String::from_utf8_lossy(&token).into_owned();
        let claims = self.verified_as(&token, Some("logout+jwt"), cx).await?;
        let event = claims.all().get("events").and_then(|events| events.get(LOGOUT_EVENT));
        let (sid, sub) = (claims.text("sid"), claims.text("sub"));
        if !event.is_some_and(serde_json::Value::is_object) || claims.get("nonce").is_some() {
            return Err(failed(NOT_GOOD, "the token ends no session"));
        }
        let name = match (sid, sub) {
            (Some(sid), _) => Digest::of_session("sid", sid),
            (None, Some(sub)) => Digest::of_session("sub", sub),
            (None, None) => return Err(failed(NOT_GOOD, "the token names no session")),
        };
        let (Some(id), Some(at)) =
            (claims.text("jti").filter(|id| !id.is_empty()), issued(&claims))
        else {
            return Err(failed(NOT_GOOD, "the token has no id, or was issued at no time"));
        };
        let (now, id) = (seconds(clock::wall()), Digest::of_session("jti", id));
        let skew = i64::try_from(self.options.skew.as_secs()).unwrap_or(i64::MAX);
        let ends = claims.get("exp").and_then(serde_json::Value::as_f64).unwrap_or_default();
        let until = (ends.ceil() as i64).saturating_add(skew);
        // One that comes twice ends what it ends once.
        if self.told.lock().insert(id, now, until) {
            let max = i64::try_from(self.options.max.as_secs()).unwrap_or(i64::MAX);
            self.revoked.end(name, at, now, now.saturating_add(max));
        }
        let mut head = ResponseHead::new(200);
        plain(&mut head, &[]);
        Ok(Reply::new(head, Body::Empty))
    }

    /// What is known of the provider, which is waited for once.
    async fn metadata(&self, cx: &mut RequestContext<'_>) -> Result<Arc<Metadata>> {
        let known = || {
            let keys = self.keys.keys(clock::now());
            self.metadata.load_full().filter(|_| keys.is_some())
        };
        if let Some(known) = known() {
            return Ok(known);
        }
        self.fetched(cx).await;
        known().ok_or_else(unavailable)
    }

    /// Has the provider's document and keys fetched, if that may be.
    async fn fetched(&self, cx: &mut RequestContext<'_>) {
        let now = clock::now();
        if let Some(fetched) = self.keys.ask(now) {
            cx.wait_for(now.plus(WAIT_MAX), pin!(fetched)).await;
        }
    }

    /// The tokens for a grant.
    async fn granted(
        &self,
        metadata: &Metadata,
        grant: &Grant<'_>,
        cx: &mut RequestContext<'_>,
    ) -> Result<Arc<Granted>> {
        let (digest, now) = (grant.digest(), clock::now());
        if self.tokens.known(&digest, now).is_none() {
            let asked = self.tokens.ask(&metadata.token_endpoint, grant).ok_or_else(unavailable)?;
            cx.wait_for(now.plus(TOKENS_MAX), pin!(asked)).await;
        }
        match self.tokens.take(&digest, clock::now()) {
            Some(Outcome::Granted(granted)) => Ok(granted),
            Some(Outcome::Refused(word)) => {
                Err(failed(AGAIN, format!("the provider takes the code not: `{word}`")))
            }
            Some(Outcome::Failed) | None => Err(unavailable()),
        }
    }

    /// What an ID token says.
    async fn verified(&self, token: &str, cx: &mut RequestContext<'_>) -> Result<Claims> {
        self.verified_as(token, None, cx).await
    }

    async fn verified_as(
        &self,
        token: &str,
        kind: Option<&str>,
        cx: &mut RequestContext<'_>,
    ) -> Result<Claims> {
        match self.verify(token, kind) {
            // The provider may have changed its keys since they were fetched.
            Err(TokenFault::UnknownKey) => {
                self.fetched(cx).await;
                match self.verify(token, kind) {
                    // Whether it is a key of the provider cannot be said.
                    Err(TokenFault::UnknownKey) if self.keys.is_away() => return Err(unavailable()),
                    verified => verified,
                }
            }
            verified => verified,
        }
        .map_err(|fault| failed(NOT_GOOD, fault.to_string()))
    }

    /// Holds a token of the provider to its keys, and to being for this client.
    pub(crate) fn verify(&self, token: &str, kind: Option<&str>) -> Result<Claims, TokenFault> {
        let rules = &self.issuer.rules;
        let of_kind;
        let rules = match kind {
            None => rules,
            Some(kind) => {
                let required = ["iat", "exp", "jti"].map(str::to_owned).to_vec();
                of_kind = Rules { kind: Some(kind.to_owned()), required, ..rules.clone() };
                &of_kind
            }
        };
        let keys = self.keys.keys(clock::now()).ok_or(TokenFault::UnknownKey)?;
        let now = clock::wall();
        let claims = Unverified::parse(token.as_bytes())?.verify(&keys, rules, now)?;
        let Some(issued) = issued(&claims) else {
            return Err(TokenFault::Malformed("`iat` is no number"));
        };
        if issued > seconds(now + rules.skew) {
            return Err(TokenFault::NotYet);
        }
        if kind.is_none() && claims.text("sub").is_none_or(str::is_empty) {
            return Err(TokenFault::Missing("sub".to_owned()));
        }
        // OpenID Connect Core section 3.1.3.7, 4 and 5.
        let client = &*self.options.client.id;
        let several = claims.texts("aud").nth(1).is_some();
        match claims.get("azp") {
            Some(azp) if azp.as_str() != Some(client) => Err(TokenFault::Audience),
            None if several => Err(TokenFault::Audience),
            _ => Ok(claims),
        }
    }
}

/// The second at which a token was issued.
fn issued(claims: &Claims) -> Option<i64> {
    // Saturates.
    claims.get("iat")?.as_f64().map(|at| at.floor() as i64)
}

/// A URL with parameters more.
fn joined(url: &str, parameters: &str) -> String {
    let mark = if url.contains('?') { '&' } else { '?' };
    format!("{url}{mark}{parameters}")
}

/// A parameter of a request, which stands there once.
fn parameter(cx: &RequestContext<'_>, name: &str) -> std::result::Result<Option<String>, ()> {
    let mut values = query::values(cx.head().query().unwrap_or_default(), name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
        (Some(_), Some(_)) => Err(()),
    }
}
