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
mod oidc;
mod opaque;
mod scheme;
mod shown;
mod signed;
mod suspects;
mod told;

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
    DryRun, Flow, Foreseen, OutgoingContext, Policy, PolicyMaker, Reply, RequestContext,
    ResponseContext, Sides, Stage, plan::Binding,
};

pub(crate) use self::bearer::Moment;
pub use self::{
    bearer::{AccessToken, Bearer},
    forward::is_ours,
    oidc::Oidc,
    scheme::{KeyPlace, Scheme},
};
pub(crate) use self::{
    extract::{Found, token},
    forward::{Introduction, introduce},
};
use self::{
    forward::{KEPT, Passed},
    shown::{Good, Refused, Shown},
    suspects::Suspects,
};
use crate::{
    consumer::Consumer,
    cors::is_preflight,
    directory::Directory,
    jwks,
    login::{Handed, Own},
    roster::{Generation, Roster},
    signature::{Message, Nonces},
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
            f.write_str(method.noun())?;
        }
        Ok(())
    }
}

/// Makes policies of settings; they share a roster.
#[derive(Clone, Debug, Default)]
pub struct Maker(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    roster: ArcSwap<Roster>,
    generation: Generation,
    /// Nonces of signatures, which outlive reloads.
    nonces: Nonces,
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
    settings: Arc<Authentication>,
    suspects: Suspects,
    /// Whether credentials may stand in the query.
    in_query: bool,
    /// What a client without good credentials is told of those that would do.
    challenges: Box<[Box<str>]>,
    /// What of them is for tokens, and the scopes that are needed.
    bearer: Option<(Box<str>, String)>,
    /// Whether the service may be told more than the consumer: claims, or credentials.
    tells: bool,
    /// Whether a browser may log in.
    has_logins: bool,
    /// What a signature must cover (RFC 9421 section 5.1).
    accept_signature: Option<String>,
}

impl Guard {
    fn new(shared: Arc<Shared>, settings: Authentication) -> Self {
        let realm = &settings.realm;
        let mut challenges = Vec::with_capacity(settings.methods.len());
        let mut bearer = None;
        for method in &settings.methods {
            let challenge = method.challenge(realm);
            if let Scheme::Jwt(method) | Scheme::Introspection(method) = method {
                bearer.get_or_insert((challenge.clone(), method.scopes.join(" ")));
            }
            if !challenges.contains(&challenge) {
                challenges.push(challenge);
            }
        }
        let in_query = settings.key_places().any(|place| matches!(place, KeyPlace::Query(_)));
        let accept_signature = settings.methods.iter().find_map(|method| match method {
            Scheme::Signature(method) => Some(method.asked()),
            _ => None,
        });
        let is_login = |method: &Scheme| matches!(method, Scheme::Oidc(_));
        let has_logins = settings.methods.iter().any(is_login);
        let tells = settings.forward
            || has_logins
            || settings.tokens().any(|(_, method)| !method.tell.is_empty());
        let challenges = challenges.into();
        let (suspects, settings) = (Suspects::of(&settings), Arc::new(settings));
        Self {
            challenges,
            bearer,
            in_query,
            tells,
            has_logins,
            accept_signature,
            shared,
            settings,
            suspects,
        }
    }

    /// What all methods together make of a request.
    fn judge(
        &self,
        (roster, generation): (&Roster, u64),
        (message, certificate): (&Message<'_>, Option<&Names>),
        at: Moment,
    ) -> Shown {
        let mut found: Option<Good> = None;
        let (mut missing, mut renewed) = (false, None);
        // The one that says most of why not, if none is good.
        let mut best = Shown::Nothing;
        for (number, method) in self.settings.methods.iter().enumerate() {
            let shown = method.look((roster, generation), (message, certificate), at);
            let (shown, session) = shown.parted();
            renewed = renewed.or(session);
            match (shown, self.settings.combine) {
                (Shown::By(good), Combine::Any) => {
                    // By which method is of no use where nothing is told of it.
                    let good = if self.tells { good.by(number) } else { good };
                    return Shown::By(good).renewing(renewed);
                }
                (Shown::By(good), Combine::All) => {
                    let good = good.by(number);
                    let former = found.take().unwrap_or_default();
                    if let (Some(one), Some(other)) = (&former.consumer, &good.consumer)
                        && one.known != other.known
                    {
                        return "the credentials belong to different consumers".into();
                    }
                    found = Some(former.and(good));
                }
                (Shown::Nothing, _) => missing = true,
                (shown, _) if shown.weight() > best.weight() => best = shown,
                _ => {}
            }
        }
        match (best, found) {
            (Shown::Nothing, Some(_)) if missing => "one of several credentials is missing".into(),
            (Shown::Nothing, Some(good)) => Shown::By(good),
            (best, _) => best.renewing(renewed),
        }
    }

    /// Lets the request on by what was found, or says why not.
    fn settle(
        &self,
        shown: Shown,
        roster: &Roster,
        cx: &mut RequestContext<'_>,
    ) -> Result<Good, Error> {
        match shown {
            Shown::By(good) => Ok(good),
            Shown::Renewed(both) => {
                let (session, shown) = *both;
                session.leave(cx);
                self.settle(shown, roster, cx)
            }
            Shown::Nothing if self.settings.preflight && is_preflight(cx.head()) => {
                Ok(Good::default())
            }
            Shown::Nothing => {
                let anonymous = self.settings.anonymous.as_ref();
                match anonymous.and_then(|name| roster.consumers.anonymous(name.as_str())) {
                    Some(consumer) => Ok(Good { consumer: Some(consumer), ..Good::default() }),
                    None => Err(refusal("no credentials were shown".into())),
                }
            }
            Shown::Wrong(wrong) => {
                if wrong.is_token {
                    cx.leave(Refused::Token);
                }
                Err(refusal(wrong.why))
            }
            Shown::Lacks => {
                cx.leave(Refused::Scope);
                let say = "the token lacks a scope or a claim that is needed here";
                Err(Error::new(Reason::InsufficientScope, say))
            }
            Shown::Closed | Shown::Later(_) => {
                let say = "tokens cannot be verified at the moment";
                Err(Error::new(Reason::IssuerUnavailable, say))
            }
        }
    }

    /// The request as methods look at it. Signatures alone are held to the host.
    fn message<'a>(&self, cx: &'a RequestContext<'_>) -> Message<'a> {
        Message {
            head: cx.head(),
            target: cx.target_as_sent(),
            host: if self.accept_signature.is_some() { cx.authority() } else { "" },
            is_secure: cx.is_secure(),
            has_body: cx.has_body(),
        }
    }

    /// What comes of looking once what is waited for is there.
    async fn judge_later(
        &self,
        mut fetched: Pin<Box<dyn Future<Output = ()>>>,
        cx: &mut RequestContext<'_>,
    ) -> Result<(Shown, Arc<Roster>), Error> {
        let until = cx.now().plus(jwks::WAIT_MAX);
        // Each of several methods may have to wait, one after the other.
        let mut rounds = self.settings.methods.len();
        loop {
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
            let request = (&self.message(cx), cx.certificate());
            match self.judge((&roster, generation), request, at) {
                Shown::Later(next) => fetched = next,
                shown => return Ok((shown, roster)),
            }
        }
    }

    /// Holds a request to what a signature says besides, and lets it on.
    async fn end(
        &self,
        mut good: Good,
        cx: &mut RequestContext<'_>,
    ) -> Result<Option<Reply>, Error> {
        if let Some(signed) = good.signed.take() {
            signed.hold(&self.shared.nonces, cx).await?;
        }
        self.leave(good, cx);
        Ok(None)
    }

    /// Tells those behind who it is.
    fn leave(&self, good: Good, cx: &mut RequestContext<'_>) {
        if let Some(session) = good.session {
            session.leave(cx);
        }
        if let Some(token) = good.token {
            cx.leave(token);
        }
        if let Some(consumer) = good.consumer {
            cx.leave(consumer);
        }
        if self.tells {
            let passed = Passed::By(good.by);
            let logins = self.settings.logins(&self.shared.roster.load()).cloned().collect();
            cx.leave(Introduction { settings: Arc::clone(&self.settings), logins, passed });
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
            None => {
                let why = "the consumer that the request came from is gone";
                Flow::Refuse(refusal(why.into()))
            }
        }
    }
}

#[cold]
fn refusal(why: Cow<'static, str>) -> Error {
    let say = "credentials that are good here are needed";
    Error::new(Reason::Unauthenticated, say).note(why)
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
            if self.tells {
                let (settings, passed) = (Arc::clone(&self.settings), Passed::Inside);
                cx.leave(Introduction { settings, logins: Vec::new(), passed });
            }
            return self.inside(&roster.consumers, cx);
        }
        if let Some((login, own)) = self.settings.own(&roster, cx.head().path()) {
            return Flow::wait(async move { login.answer(own, cx).await.map(Some) });
        }
        let at = Moment { now: cx.now(), wall: clock::wall(), may_wait: true };
        let certificate = cx.certificate();
        let shown = self.judge((&roster, generation), (&self.message(cx), certificate), at);
        match shown {
            Shown::Later(fetched) => Flow::wait(async move {
                let (shown, roster) = self.judge_later(fetched, cx).await?;
                if let Some(login) = self.settings.begins(&shown, &roster, cx.head()) {
                    return login.begin(cx.head().target.clone(), cx).await.map(Some);
                }
                let good = self.settle(shown, &roster, cx)?;
                self.end(good, cx).await
            }),
            shown if let Some(login) = self.settings.begins(&shown, &roster, cx.head()) => {
                let back = cx.head().target.clone();
                Flow::wait(async move { login.begin(back, cx).await.map(Some) })
            }
            shown => match self.settle(shown, &roster, cx) {
                Ok(good) if good.signed.is_some() => Flow::wait(self.end(good, cx)),
                Ok(good) => {
                    self.leave(good, cx);
                    Flow::Next
                }
                Err(error) => Flow::Refuse(error),
            },
        }
    }

    fn foresee(&self, cx: &mut DryRun<'_>) -> Foreseen {
        self.foreseen(cx)
    }

    fn outgoing(&self, cx: &mut OutgoingContext<'_>) {
        let consumer = cx.fact::<Consumer>().cloned();
        let introduction = if self.tells { cx.fact::<Introduction>() } else { None };
        let passed = introduction.map(|it| it.passed.clone()).unwrap_or_default();
        forward::tell((&self.settings, &self.suspects), consumer.as_ref(), &passed, cx.head_mut());
        if self.has_logins {
            for login in self.settings.logins(&self.shared.roster.load()) {
                let handed = cx.fact::<Handed>().cloned();
                login.hand_on(handed.as_ref(), &mut cx.head_mut().fields);
            }
        }
    }

    fn takes_off(&self, name: &str) -> bool {
        let roster = self.shared.roster.load();
        // Nothing that comes after the body was verified.
        self.settings.is_said(name)
            || self.settings.is_credential(name, None)
            || self.settings.logins(&roster).any(|login| login.hands_on_in(name))
    }

    fn redacts(&self) -> bool {
        self.in_query
            || self.settings.methods.iter().any(|method| matches!(method, Scheme::Oidc(_)))
    }

    fn redact(&self, path: &str, target: &mut String) {
        let roster = self.shared.roster.load();
        if self.settings.logins(&roster).any(|login| matches!(login.own(path), Some(Own::Back)))
            && let Some(at) = target.find('?')
        {
            // What stands in it is worth a session.
            target.truncate(at);
        }
        forward::without_parameters(&self.settings, target);
    }

    fn keep(&self, cx: &mut OutgoingContext<'_>) {
        let consumer = cx.fact::<Consumer>().cloned();
        forward::keep((&self.settings, &self.suspects), consumer.as_ref(), cx.head_mut());
        for login in self.settings.logins(&self.shared.roster.load()) {
            login.hand_on(None, &mut cx.head_mut().fields);
        }
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        if self.has_logins {
            oidc::set_cookies(cx);
        }
        if cx.reason().is_none() {
            return Flow::Next;
        }
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
                if let Some(asked) = &self.accept_signature {
                    cx.head_mut().fields.append("accept-signature", asked.as_bytes());
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
