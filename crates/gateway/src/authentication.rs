//! The policy that finds out which consumer a request comes from.
//!
//! Its request side asks its methods in turn and leaves a [`Consumer`], or refuses; its outgoing side takes the
//! credentials off and tells the service ([`forward`]); its response side says which credentials would do
//! (RFC 9110 section 11.6.1).
//!
//! Requests that begin inside Weft show no credentials and are asked for none: what is deferred was let through
//! when it came, and carries the consumer it came from, without whom it is refused when its turn comes;
//! deliveries and the like have no consumer.

mod extract;
mod forward;

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use weft_kernel::{Error, Name, Reason};
use weft_proxy::{
    Flow, OutgoingContext, Policy, PolicyMaker, RequestContext, ResponseContext, Sides, Stage,
    plan::Binding,
};
use weft_wire::{Known, Method, RequestHead};

use self::forward::KEPT;
use crate::{
    consumer::Consumer,
    credential::{Digest, KEY_BYTES_MAX},
    directory::Directory,
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
            })?;
        }
        Ok(())
    }
}

/// What came of looking for credentials.
enum Shown {
    /// There are none.
    Nothing,
    /// They are not good, for this cause, which is for the log alone.
    Wrong(&'static str),
    /// They are those of a consumer.
    By(Consumer),
}

/// Makes policies of settings; they share a directory.
#[derive(Clone, Debug, Default)]
pub struct Maker(Arc<ArcSwap<Directory>>);

impl Maker {
    /// Puts another directory in force, for all policies.
    pub fn replace(&self, directory: Arc<Directory>) {
        self.0.store(directory);
    }
}

impl PolicyMaker for Maker {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(Guard::new(Arc::clone(&self.0), binding.settings()?)))
    }
}

/// The policy of a route.
struct Guard {
    directory: Arc<ArcSwap<Directory>>,
    settings: Authentication,
    /// Whether credentials may stand in the query.
    in_query: bool,
    /// What a client without good credentials is told of those that would do.
    challenges: Box<[Box<str>]>,
}

impl Guard {
    fn new(directory: Arc<ArcSwap<Directory>>, settings: Authentication) -> Self {
        let realm = &settings.realm;
        let challenges = settings.methods.iter().map(|method| match method {
            // No registered scheme is one for API keys; a challenge there must be (RFC 9110 section 15.5.2).
            Scheme::ApiKey(_) => format!("ApiKey realm=\"{realm}\"").into(),
            Scheme::Basic => format!("Basic realm=\"{realm}\", charset=\"UTF-8\"").into(),
        });
        let in_query = settings.key_places().any(|place| matches!(place, KeyPlace::Query(_)));
        Self { challenges: challenges.collect(), in_query, directory, settings }
    }

    /// The consumer of a request; `None` if nothing was shown.
    fn judge(
        &self,
        directory: &Directory,
        head: &RequestHead,
    ) -> Result<Option<Consumer>, &'static str> {
        let mut found: Option<Consumer> = None;
        let (mut wrong, mut missing) = (None, false);
        for method in &self.settings.methods {
            match (method.look(directory, head), self.settings.combine) {
                (Shown::By(consumer), Combine::Any) => return Ok(Some(consumer)),
                (Shown::By(consumer), Combine::All) => match &found {
                    Some(other) if *other.known != *consumer.known => {
                        return Err("the credentials belong to different consumers");
                    }
                    _ => found = Some(consumer),
                },
                (Shown::Wrong(why), _) => wrong = wrong.or(Some(why)),
                (Shown::Nothing, _) => missing = true,
            }
        }
        match (wrong, found) {
            (Some(why), _) => Err(why),
            (None, Some(_)) if missing => Err("one of several credentials is missing"),
            (None, found) => Ok(found),
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
            None => refuse("the consumer that the request came from is gone"),
        }
    }
}

#[cold]
fn refuse<'a>(why: &'static str) -> Flow<'a> {
    let say = "credentials that are good here are needed";
    Flow::Refuse(Error::new(Reason::Unauthenticated, say).note(why))
}

impl Scheme {
    fn look(&self, directory: &Directory, head: &RequestHead) -> Shown {
        match self {
            Self::ApiKey(places) => {
                let found = places.iter().map(|place| extract::key(place, head));
                let digest = match found.into_iter().find(|found| !found.is_nothing()) {
                    None => return Shown::Nothing,
                    Some(extract::Found::One(key)) if key.len() <= KEY_BYTES_MAX => {
                        Digest::of_api_key(&key)
                    }
                    Some(extract::Found::One(_)) => return Shown::Wrong("the API key is too long"),
                    Some(_) => return Shown::Wrong("there is more than one API key"),
                };
                match directory.holder(&digest) {
                    Some(consumer) => Shown::By(consumer),
                    None => Shown::Wrong("nobody has this API key"),
                }
            }
            Self::Basic => match extract::authorization(&head.fields, "basic") {
                extract::Found::Nothing => Shown::Nothing,
                extract::Found::Several => {
                    Shown::Wrong("there is more than one field `Authorization`")
                }
                extract::Found::One(token) => match extract::basic(&token) {
                    None => Shown::Wrong("the user name and password cannot be read"),
                    Some(digest) => match directory.holder(&digest) {
                        Some(consumer) => Shown::By(consumer),
                        None => Shown::Wrong("the user name or password is wrong"),
                    },
                },
            },
        }
    }
}

/// Whether a browser asks what it may ask (Fetch standard, CORS-preflight request).
fn is_preflight(head: &RequestHead) -> bool {
    head.method == Method::Options
        && head.fields.has(Known::Origin)
        && head.fields.named("access-control-request-method").is_some()
}

impl Policy for Guard {
    fn stage(&self) -> Stage {
        Stage::Authentication
    }

    fn sides(&self) -> Sides {
        Sides { request: true, outgoing: true, response: true, body: false }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        let directory = self.directory.load();
        if cx.is_internal() {
            return self.inside(&directory, cx);
        }
        if self.in_query && cx.head().query().is_some() {
            // Whatever becomes of it.
            cx.redact(|target| forward::without_parameters(&self.settings, target));
        }
        let found = match self.judge(&directory, cx.head()) {
            Ok(Some(consumer)) => Some(consumer),
            Ok(None) if self.settings.preflight && is_preflight(cx.head()) => return Flow::Next,
            Ok(None) => {
                let anonymous = self.settings.anonymous.as_ref();
                anonymous.and_then(|name| directory.anonymous(name.as_str()))
            }
            Err(why) => return refuse(why),
        };
        match found {
            Some(consumer) => {
                cx.leave(consumer);
                Flow::Next
            }
            None => refuse("no credentials were shown"),
        }
    }

    fn outgoing(&self, cx: &mut OutgoingContext<'_>) {
        let consumer = cx.fact::<Consumer>().cloned();
        forward::tell(&self.settings, consumer.as_ref(), cx.head_mut());
    }

    fn keep(&self, cx: &mut OutgoingContext<'_>) {
        let consumer = cx.fact::<Consumer>().cloned();
        forward::keep(&self.settings, consumer.as_ref(), cx.head_mut());
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        if cx.reason() == Some(Reason::Unauthenticated) && cx.fact::<Consumer>().is_none() {
            for challenge in &self.challenges {
                cx.head_mut().fields.append("www-authenticate", challenge.as_bytes());
            }
        }
        Flow::Next
    }
}

#[cfg(test)]
mod tests;
