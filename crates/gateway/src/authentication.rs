//! The policy that finds out which consumer a request comes from.
//!
//! Its request side asks its methods in turn and leaves a [`Consumer`], an [`AccessToken`], or both, or refuses;
//! its outgoing side takes the credentials off and tells the service (`forward`); its response side says which
//! credentials would do (RFC 9110 section 11.6.1).
//!
//! Requests that begin inside Weft show no credentials and are asked for none: what is deferred was let through
//! when it came, and carries the consumer it came from, without whom it is refused when its turn comes;
//! deliveries and the like have no consumer.

mod bearer;
mod extract;
mod foresee;
mod forward;
mod opaque;

use std::{
    borrow::Cow,
    fmt,
    pin::{Pin, pin},
    sync::Arc,
};

use arc_swap::ArcSwap;
use futures_util::future::{Either, select};
use weft_identity::peer::Names;
use weft_kernel::{Error, Name, Reason};
use weft_net::clock;
use weft_proxy::{
    DryRun, Fact, Flow, Foreseen, OutgoingContext, Policy, PolicyMaker, RequestContext,
    ResponseContext, Sides, Stage, plan::Binding,
};
use weft_wire::RequestHead;

use self::{bearer::Moment, forward::KEPT};
pub use self::{
    bearer::{AccessToken, Bearer},
    forward::is_ours,
};
pub(crate) use self::{
    extract::{Found, token},
    forward::introduce,
};
use crate::{
    certificate,
    consumer::Consumer,
    cors::is_preflight,
    credential::{Digest, KEY_BYTES_MAX},
    directory::Directory,
    jwks,
    roster::{Generation, Roster},
};

/// The name under which the policy is made.
pub const AUTHENTICATION: &str = "authentication";

/// How the methods of a policy go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// One that succeeds is enough.
    Any,
    /// All must succeed, for the same consumer.
    All,
}

/// One way to find out who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// An API key, in the first of these places that has one.
    ApiKey(Vec<KeyPlace>),
    /// User name and password (RFC 7617).
    Basic,
    /// The certificate that the client showed in the handshake (RFC 8446 section 4.4.2).
    ClientCertificate,
    /// A token of an issuer (RFC 6750, RFC 7519).
    Jwt(Bearer),
    /// A token that its issuer, the first one, is asked about (RFC 7662).
    Introspection(Bearer),
}

/// Where a key may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a header field, its name in lower case; in `authorization` behind the scheme `ApiKey` or `Bearer`.
    Header(Box<str>),
    /// In a parameter of the query.
    Query(Box<str>),
    /// In a cookie.
    Cookie(Box<str>),
}

/// Settings of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// How the methods go together.
    pub combine: Combine,
    /// The methods, in the order in which they are tried.
    pub methods: Vec<Scheme>,
    /// The consumer that a request without any credentials comes from; without one, it is refused.
    pub anonymous: Option<Name>,
    /// Whether the service is shown the credentials.
    pub forward: bool,
    /// What a client is told that its credentials are for.
    pub realm: Box<str>,
    /// Whether CORS preflights, which browsers send without credentials, pass without.
    pub preflight: bool,
}

impl fmt::Display for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.combine {
            Combine::Any => " or ",
            Combine::All => " and ",
        };
        for (at, method) in self.methods.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { word })?;
            f.write_str(match method {
                Scheme::ApiKey(_) => "API key",
                Scheme::Basic => "user name and password",
                Scheme::ClientCertificate => "client certificate",
                Scheme::Jwt(_) => "token",
                Scheme::Introspection(_) => "introspected token",
            })?;
        }
        Ok(())
    }
}

/// What came of looking for credentials.
enum Shown {
    /// There are none.
    Nothing,
    /// They are not good.
    Wrong(Wrong),
    /// They are a token that is good, and lacks what is needed here.
    Lacks,
    /// It cannot be said, since the keys of the issuer are not there.
    Closed,
    /// It can be said after this, or at least once more.
    Later(Pin<Box<dyn Future<Output = ()>>>),
    /// They are good: those of a consumer, or a token.
    By(Option<Consumer>, Option<AccessToken>),
}

/// Why credentials are not good, which is for the log alone.
#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    why: Cow<'static, str>,
    is_token: bool,
}

impl Wrong {
    const fn of(why: &'static str) -> Self {
        Self { why: Cow::Borrowed(why), is_token: false }
    }

    const fn token(why: &'static str) -> Self {
        Self { why: Cow::Borrowed(why), is_token: true }
    }
}

impl From<&'static str> for Shown {
    fn from(why: &'static str) -> Self {
        Self::Wrong(Wrong::of(why))
    }
}

/// That a token was refused, for the challenge (RFC 6750 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Token,
    Scope,
}

impl Fact for Refused {}

/// Makes policies of settings; they share a roster.
#[derive(Clone, Debug, Default)]
pub struct Maker(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    roster: ArcSwap<Roster>,
    generation: Generation,
}

impl Maker {
    /// Puts another roster in force, for all policies.
    pub fn replace(&self, roster: Roster) {
        self.0.roster.store(Arc::new(roster));
        self.0.generation.advance();
    }

    /// The roster that is in force.
    pub fn roster(&self) -> Arc<Roster> {
        self.0.roster.load_full()
    }

    /// What is to be advanced by whatever changes a decision.
    pub fn generation(&self) -> Generation {
        self.0.generation.clone()
    }
}

impl PolicyMaker for Maker {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(Guard::new(Arc::clone(&self.0), binding.settings()?)))
    }
}

/// The policy of a route.
struct Guard {
    shared: Arc<Shared>,
    settings: Authentication,
    /// Whether credentials may stand in the query.
    in_query: bool,
    /// What a client without good credentials is told of those that would do.
    challenges: Box<[Box<str>]>,
    /// What of them is for tokens, and the scopes that are needed.
    bearer: Option<(Box<str>, String)>,
}

impl Guard {
    fn new(shared: Arc<Shared>, settings: Authentication) -> Self {
        let realm = &settings.realm;
        let mut challenges = Vec::with_capacity(settings.methods.len());
        let mut bearer = None;
        for method in &settings.methods {
            let challenge: Box<str> = match method {
                // No registered scheme is one for API keys; a challenge there must be (RFC 9110 section 15.5.2).
                Scheme::ApiKey(_) => format!("ApiKey realm=\"{realm}\"").into(),
                Scheme::Basic => format!("Basic realm=\"{realm}\", charset=\"UTF-8\"").into(),
                // Nor is one for certificates.
                Scheme::ClientCertificate => format!("ClientCertificate realm=\"{realm}\"").into(),
                Scheme::Jwt(method) | Scheme::Introspection(method) => {
                    let challenge: Box<str> = format!("Bearer realm=\"{realm}\"").into();
                    bearer.get_or_insert((challenge.clone(), method.scopes.join(" ")));
                    challenge
                }
            };
            if !challenges.contains(&challenge) {
                challenges.push(challenge);
            }
        }
        let in_query = settings.key_places().any(|place| matches!(place, KeyPlace::Query(_)));
        Self { challenges: challenges.into(), bearer, in_query, shared, settings }
    }

    /// What all methods together make of a request.
    fn judge(
        &self,
        (roster, generation): (&Roster, u64),
        (head, certificate): (&RequestHead, Option<&Names>),
        at: Moment,
    ) -> Shown {
        let mut found: Option<(Option<Consumer>, Option<AccessToken>)> = None;
        let mut missing = false;
        // The one that says most of why not, if none is good.
        let mut best = Shown::Nothing;
        for method in &self.settings.methods {
            match (
                method.look((roster, generation), (head, certificate), at),
                self.settings.combine,
            ) {
                (shown @ Shown::By(..), Combine::Any) => return shown,
                (Shown::By(consumer, token), Combine::All) => {
                    let (former, shown) = found.take().unwrap_or_default();
                    if let (Some(one), Some(other)) = (&former, &consumer)
                        && one.known != other.known
                    {
                        return "the credentials belong to different consumers".into();
                    }
                    found = Some((former.or(consumer), shown.or(token)));
                }
                (Shown::Nothing, _) => missing = true,
                (shown, _) if shown.weight() > best.weight() => best = shown,
                _ => {}
            }
        }
        match (best, found) {
            (Shown::Nothing, Some(_)) if missing => "one of several credentials is missing".into(),
            (Shown::Nothing, Some((consumer, token))) => Shown::By(consumer, token),
            (best, _) => best,
        }
    }

    /// Ends the request, or lets it on.
    fn settle<'a>(&self, shown: Shown, roster: &Roster, cx: &mut RequestContext<'_>) -> Flow<'a> {
        match shown {
            Shown::By(consumer, token) => {
                if let Some(token) = token {
                    cx.leave(token);
                }
                if let Some(consumer) = consumer {
                    cx.leave(consumer);
                }
                Flow::Next
            }
            Shown::Nothing if self.settings.preflight && is_preflight(cx.head()) => Flow::Next,
            Shown::Nothing => {
                let anonymous = self.settings.anonymous.as_ref();
                match anonymous.and_then(|name| roster.consumers.anonymous(name.as_str())) {
                    Some(consumer) => {
                        cx.leave(consumer);
                        Flow::Next
                    }
                    None => refuse("no credentials were shown".into()),
                }
            }
            Shown::Wrong(wrong) => {
                if wrong.is_token {
                    cx.leave(Refused::Token);
                }
                refuse(wrong.why)
            }
            Shown::Lacks => {
                cx.leave(Refused::Scope);
                let say = "the token lacks a scope or a claim that is needed here";
                Flow::Refuse(Error::new(Reason::InsufficientScope, say))
            }
            Shown::Closed | Shown::Later(_) => {
                let say = "tokens cannot be verified at the moment";
                Flow::Refuse(Error::new(Reason::IssuerUnavailable, say))
            }
        }
    }

    /// What was let through before, when it came from outside.
    fn inside<'a>(&self, directory: &Directory, cx: &mut RequestContext<'_>) -> Flow<'a> {
        let Some(name) = cx.head().fields.only_named(KEPT) else { return Flow::Next };
        let (name, is_anonymous) = match name.strip_prefix(b"?") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let found = std::str::from_utf8(name).ok().and_then(|name| directory.named(name));
        match found {
            Some(consumer) => {
                cx.leave(Consumer { is_anonymous, ..consumer });
                Flow::Next
            }
            None => refuse("the consumer that the request came from is gone".into()),
        }
    }
}

#[cold]
fn refuse<'a>(why: Cow<'static, str>) -> Flow<'a> {
    let say = "credentials that are good here are needed";
    Flow::Refuse(Error::new(Reason::Unauthenticated, say).note(why))
}

impl Shown {
    /// How much it says of why a request is not let on.
    const fn weight(&self) -> u8 {
        match self {
            Self::Nothing | Self::By(..) => 0,
            Self::Wrong(_) => 1,
            Self::Lacks => 2,
            Self::Closed => 3,
            Self::Later(_) => 4,
        }
    }

    fn of(holder: Option<Consumer>, otherwise: &'static str) -> Self {
        match holder {
            Some(consumer) => Self::By(Some(consumer), None),
            None => otherwise.into(),
        }
    }
}

impl Scheme {
    fn look(
        &self,
        (roster, generation): (&Roster, u64),
        (head, certificate): (&RequestHead, Option<&Names>),
        at: Moment,
    ) -> Shown {
        let consumers = &roster.consumers;
        match self {
            Self::Jwt(method) => method.look((roster, generation), head, at),
            Self::Introspection(method) => method.ask((roster, generation), head, at),
            Self::ApiKey(places) => {
                let found = places.iter().map(|place| extract::key(place, head));
                let digest = match found.into_iter().find(|found| !found.is_nothing()) {
                    None => return Shown::Nothing,
                    Some(extract::Found::One(key)) if key.len() <= KEY_BYTES_MAX => {
                        Digest::of_api_key(&key)
                    }
                    Some(extract::Found::One(_)) => return "the API key is too long".into(),
                    Some(_) => return "there is more than one API key".into(),
                };
                Shown::of(consumers.holder(&digest), "nobody has this API key")
            }
            Self::ClientCertificate => match certificate {
                None => Shown::Nothing,
                Some(names) => match certificate::holder(consumers, names) {
                    Ok(consumer) => Shown::By(Some(consumer), None),
                    Err(why) => why.into(),
                },
            },
            Self::Basic => match extract::authorization(&head.fields, "basic") {
                extract::Found::Nothing => Shown::Nothing,
                extract::Found::Several => "there is more than one field `Authorization`".into(),
                extract::Found::One(token) => match extract::basic(&token) {
                    None => "the user name and password cannot be read".into(),
                    Some(digest) => {
                        Shown::of(consumers.holder(&digest), "the user name or password is wrong")
                    }
                },
            },
        }
    }
}

impl Policy for Guard {
    fn stage(&self) -> Stage {
        Stage::Authentication
    }

    fn sides(&self) -> Sides {
        Sides { request: true, outgoing: true, response: true, body: false }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        // Read first: what is remembered is never newer than the number that it is remembered under.
        let generation = self.shared.generation.number();
        let roster = self.shared.roster.load();
        if cx.is_internal() {
            return self.inside(&roster.consumers, cx);
        }
        if self.in_query && cx.head().query().is_some() {
            // Whatever becomes of it.
            cx.redact(|target| forward::without_parameters(&self.settings, target));
        }
        let at = Moment { now: cx.now(), wall: clock::wall(), may_wait: true };
        match self.judge((&roster, generation), (cx.head(), cx.certificate()), at) {
            Shown::Later(mut fetched) => Flow::wait(async move {
                let until = cx.now().plus(jwks::WAIT_MAX);
                // Each of several methods may have to wait, one after the other.
                let mut rounds = self.settings.methods.len();
                let (shown, roster) = loop {
                    let late = match select(fetched, pin!(cx.wait(until))).await {
                        Either::Right((Err(late), _)) => Some(late),
                        _ => None,
                    };
                    if let Some(late) = late {
                        return Err(late);
                    }
                    rounds -= 1;
                    let generation = self.shared.generation.number();
                    let roster = self.shared.roster.load_full();
                    let now = clock::now();
                    let may_wait = rounds > 0 && now < until;
                    let at = Moment { now, wall: clock::wall(), may_wait };
                    match self.judge((&roster, generation), (cx.head(), cx.certificate()), at) {
                        Shown::Later(next) => fetched = next,
                        shown => break (shown, roster),
                    }
                };
                match self.settle(shown, &roster, cx) {
                    Flow::Refuse(error) => Err(error),
                    _ => Ok(None),
                }
            }),
            shown => self.settle(shown, &roster, cx),
        }
    }

    fn foresee(&self, cx: &mut DryRun<'_>) -> Foreseen {
        self.foreseen(cx)
    }

    fn outgoing(&self, cx: &mut OutgoingContext<'_>) {
        let consumer = cx.fact::<Consumer>().cloned();
        let token = cx.fact::<AccessToken>().filter(|_| self.bearer.is_some()).cloned();
        forward::tell(&self.settings, consumer.as_ref(), token.as_ref(), cx.head_mut());
    }

    fn keep(&self, cx: &mut OutgoingContext<'_>) {
        let consumer = cx.fact::<Consumer>().cloned();
        forward::keep(&self.settings, consumer.as_ref(), cx.head_mut());
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        let refused = cx.fact::<Refused>().copied();
        match (cx.reason(), &self.bearer) {
            (Some(Reason::Unauthenticated), bearer) if cx.fact::<Consumer>().is_none() => {
                for challenge in &self.challenges {
                    let text = match (bearer, refused) {
                        (Some((of_token, _)), Some(Refused::Token)) if of_token == challenge => {
                            format!("{challenge}, error=\"invalid_token\"").into()
                        }
                        _ => Cow::Borrowed(&**challenge),
                    };
                    cx.head_mut().fields.append("www-authenticate", text.as_bytes());
                }
            }
            (Some(Reason::InsufficientScope), Some((challenge, scopes)))
                if refused == Some(Refused::Scope) =>
            {
                let scope = if scopes.is_empty() { "" } else { ", scope=\"" };
                let end = if scopes.is_empty() { "" } else { "\"" };
                let text = format!("{challenge}, error=\"insufficient_scope\"{scope}{scopes}{end}");
                cx.head_mut().fields.append("www-authenticate", text.as_bytes());
            }
            _ => {}
        }
        Flow::Next
    }
}

#[cfg(test)]
mod tests;
