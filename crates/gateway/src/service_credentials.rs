//! The policy that shows a service who asks: credentials of the node itself, in place of what the client has sent.
//!
//! They are fixed ([`Source::Fields`]), or a token that is fetched for the node ([`Source::ClientCredentials`]) or in
//! exchange for the one of the request ([`Source::TokenExchange`]). They are for the services that the route leads to,
//! and no others: a fallback is shown them only if the settings name it, and a mirror never is. Without a token there
//! is no request.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use weft_kernel::{Error, Name, Reason, Result, Tick};
use weft_proxy::{
    Fact, Flow, OutgoingContext, Policy, PolicyMaker, RequestContext, ResponseContext, Sides,
    Stage, cookie, plan::Binding,
};
use weft_wire::{Known as Field, fields::is_alike};

use crate::{
    authentication::{Found, KeyPlace, token},
    credential::Digest,
    questions::Known,
    token_client::{Granted, TokenClient},
};

/// The name under which the policy is made.
pub const SERVICE_CREDENTIALS: &str = "service_credentials";

/// How long a request waits for a token.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Where credentials come from.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// These fields, by their names in lower case.
    Fields(Vec<(Box<str>, Box<str>)>),
    /// A token that this OAuth client is given for itself.
    ClientCredentials(Name),
    /// A token that this OAuth client is given for the one that stands there in the request.
    TokenExchange(Name, KeyPlace),
}

/// Settings of the policy.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceCredentials {
    /// Where they come from.
    pub source: Source,
    /// The services that are shown them; those that the route leads to if none is named.
    pub services: Vec<Name>,
}

impl ServiceCredentials {
    /// The OAuth client that gives tokens.
    pub const fn client(&self) -> Option<&Name> {
        match &self.source {
            Source::Fields(_) => None,
            Source::ClientCredentials(client) | Source::TokenExchange(client, _) => Some(client),
        }
    }
}

impl fmt::Debug for ServiceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ServiceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Fields(fields) => {
                f.write_str("fixed in")?;
                fields.iter().try_for_each(|(name, _)| write!(f, " {name}"))
            }
            Source::ClientCredentials(client) => write!(f, "client credentials of {client}"),
            Source::TokenExchange(client, _) => write!(f, "token exchange by {client}"),
        }
    }
}

/// The OAuth clients of a node, which are replaced as a whole, and maker of the policy.
#[derive(Clone, Default)]
pub struct TokenClients(Arc<ArcSwap<HashMap<Name, Arc<TokenClient>>>>);

impl TokenClients {
    /// All of them.
    pub fn all(&self) -> Arc<HashMap<Name, Arc<TokenClient>>> {
        self.0.load_full()
    }

    /// Puts others in their place.
    pub fn replace(&self, with: HashMap<Name, Arc<TokenClient>>) {
        self.0.store(Arc::new(with));
    }

    fn find(&self, name: &Name) -> Result<Arc<TokenClient>> {
        let found = self.0.load().get(name).cloned();
        found.ok_or_else(|| Error::new(Reason::Misconfigured, "the OAuth client is not there"))
    }
}

impl PolicyMaker for TokenClients {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(Shower { settings: binding.settings()?, clients: self.clone() }))
    }
}

/// The policy of a route.
struct Shower {
    settings: ServiceCredentials,
    clients: TokenClients,
}

/// A token for the services of a request.
struct Token {
    client: Arc<TokenClient>,
    digest: Digest,
    line: Arc<str>,
}

impl Fact for Token {}

/// What there is of a token.
enum Look {
    Has(Arc<str>),
    /// It has to be fetched.
    Lacks,
}

impl Shower {
    /// What is known; a token that is about to end is fetched anew meanwhile.
    fn look(client: &TokenClient, digest: Digest, subject: &[u8], now: Tick) -> Result<Look> {
        match client.known(&digest, now) {
            Some(Known::Said(Granted::Token(line))) => Ok(Look::Has(line)),
            Some(Known::Old(Granted::Token(line))) => {
                // Nobody waits for it.
                drop(client.ask(digest, subject, now));
                Ok(Look::Has(line))
            }
            Some(Known::Said(Granted::Refused(code)) | Known::Old(Granted::Refused(code))) => {
                let say = "the token of the request cannot be exchanged for one of the service";
                Err(Error::new(Reason::Unauthenticated, say).note(code.to_string()))
            }
            Some(Known::Failed) => Err(away()),
            None => Ok(Look::Lacks),
        }
    }

    /// The token that is to be exchanged, or nothing.
    fn subject(&self, cx: &RequestContext<'_>) -> Result<Vec<u8>> {
        let Source::TokenExchange(_, place) = &self.settings.source else { return Ok(Vec::new()) };
        match token(place, cx.head()) {
            Found::One(token) if token.len() <= weft_identity::token::TOKEN_BYTES_MAX => {
                Ok(token.into_owned())
            }
            _ => {
                let say = "a token is needed, for one of the service";
                Err(Error::new(Reason::Unauthenticated, say))
            }
        }
    }

    fn is_shown(&self, cx: &OutgoingContext<'_>) -> bool {
        match (cx.service(), &*self.settings.services) {
            (None, _) => false,
            (Some(_), []) => cx.is_first(),
            (Some(service), named) => named.contains(service),
        }
    }
}

#[cold]
fn away() -> Error {
    let say = "no token for the service can be had at the moment";
    Error::new(Reason::IssuerUnavailable, say)
}

impl Policy for Shower {
    fn stage(&self) -> Stage {
        Stage::ServiceCredentials
    }

    fn sides(&self) -> Sides {
        let fetched = self.settings.client().is_some();
        Sides { request: fetched, outgoing: true, response: fetched, ..Sides::default() }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        let Some(name) = self.settings.client() else { return Flow::Next };
        let found = self.clients.find(name).and_then(|client| Ok((client, self.subject(cx)?)));
        let (client, subject) = match found {
            Ok(found) => found,
            Err(error) => return Flow::Refuse(error),
        };
        let digest = client.digest(&subject);
        match Self::look(&client, digest, &subject, cx.now()) {
            Err(error) => Flow::Refuse(error),
            Ok(Look::Has(line)) => {
                cx.leave(Token { client, digest, line });
                Flow::Next
            }
            Ok(Look::Lacks) => Flow::wait(async move {
                let until = cx.now().plus(WAIT_MAX);
                // One that has come may have been forgotten already, because a service did not take it.
                let line = loop {
                    let asked = client.ask(digest, &subject, cx.now()).ok_or_else(away)?;
                    cx.wait_for(until, Box::pin(asked)).await.ok_or_else(away)?;
                    if let Look::Has(line) = Self::look(&client, digest, &subject, cx.now())? {
                        break line;
                    }
                };
                cx.leave(Token { client, digest, line });
                Ok(None)
            }),
        }
    }

    fn outgoing(&self, cx: &mut OutgoingContext<'_>) {
        if !self.is_shown(cx) {
            return;
        }
        match &self.settings.source {
            Source::Fields(fields) => {
                for (name, value) in fields {
                    cx.head_mut().fields.set_alone(name, value.as_bytes());
                }
            }
            Source::ClientCredentials(_) | Source::TokenExchange(..) => {
                let line = cx.fact::<Token>().map(|token| Arc::clone(&token.line));
                let fields = &mut cx.head_mut().fields;
                fields.remove(Field::Authorization);
                if let Some(line) = line {
                    fields.add(Field::Authorization, line.as_bytes());
                }
                match &self.settings.source {
                    Source::TokenExchange(_, KeyPlace::Header(name))
                        if **name != *Field::Authorization.text() =>
                    {
                        fields.remove_alike(name);
                    }
                    Source::TokenExchange(_, KeyPlace::Cookie(name)) => {
                        cookie::retain(fields, |of| of != name.as_bytes());
                    }
                    _ => {}
                }
            }
        }
    }

    fn takes_off(&self, name: &str) -> bool {
        match &self.settings.source {
            Source::Fields(fields) => fields.iter().any(|(of, _)| is_alike(of, name)),
            Source::TokenExchange(_, KeyPlace::Header(of)) => is_alike(of, name),
            Source::ClientCredentials(_) | Source::TokenExchange(..) => false,
        }
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        if cx.head().status == 401
            && cx.is_from_service()
            && let Some(Token { client, digest, .. }) = cx.fact()
        {
            client.doubt(digest, weft_net::clock::now());
        }
        Flow::Next
    }
}
