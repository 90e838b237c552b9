//! Logins of people by their browsers, with an OpenID Connect provider (OpenID Connect Core 1.0, code flow with PKCE).
//!
//! A browser without a session is sent to the provider (`Login::begin`), comes back with a code
//! (`Login::call_back`), and is given a session, sealed in cookies that nobody but nodes with the same secret
//! can read or make. A session goes on until it was not used for a while, or for its longest time; ahead of
//! the end of its access token that is refreshed, once for all requests that need it.
//!
//! Whatever must be kept between the two steps is in a cookie of its own, bound to this browser and this login, so
//! that an answer of the provider counts once, and only in the browser that has asked.
//!
//! Invariants: a browser is sent back to where it was within its own site and nowhere else; a session is made of an
//! ID token that was verified and of nothing that a client says; while the provider is away sessions go on.
//!
//! Reading order: `seal`, `cookie`, `pending`, `session`, [`provider`], `granted`, `remembered`, `tokens`, `revoked`, this file,
//! `steps`.

mod cookie;
mod granted;
mod pending;
pub mod provider;
mod remembered;
mod revoked;
mod seal;
mod session;
mod steps;
mod tokens;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use futures_util::future::join;
use parking_lot::Mutex;
use weft_identity::token::{Algorithm, Rules};
use weft_kernel::Name;
use weft_proxy::Fact;
use weft_wire::{Fields, Known, Method, RequestHead, fields::is_alike};

pub use self::{
    cookie::{Cookie, SameSite},
    pending::is_local,
};
use self::{
    provider::{Discovery, Metadata},
    remembered::Remembered,
    revoked::Revoked,
    seal::Sealer,
    tokens::Tokens,
};
pub(crate) use self::{session::Seen, steps::Own};
use crate::{
    issuer::Issuer,
    jwks::{self, Fetch, Remote},
    oauth::{Client, Post},
    roster::Generation,
};

/// The fewest bytes of a secret by which sessions are sealed.
pub const SECRET_BYTES_MIN: usize = 32;

/// Secret by which sessions are sealed. It never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSecret(pub Box<str>);

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Settings of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its name.
    pub name: Name,
    /// The provider's name for itself, as `iss` of its tokens has it.
    pub issuer: String,
    /// The URL of the provider's discovery document.
    pub discovery: String,
    /// The authority that the provider's certificate must be of; those of the system without one.
    pub ca_file: Option<PathBuf>,
    /// What the provider knows Weft as.
    pub client: Client,
    /// The scopes that are asked for.
    pub scopes: Vec<String>,
    /// Parameters of the request for a login besides.
    pub parameters: Vec<(String, String)>,
    /// The algorithms that ID tokens may be signed by.
    pub algorithms: Vec<Algorithm>,
    /// By how much the provider's clock may differ.
    pub skew: Duration,
    /// Scheme and host that browsers come back to; those of the request without one.
    pub origin: Option<String>,
    /// The path that browsers come back to from a login.
    pub callback_path: String,
    /// The path that begins a login, if one does.
    pub login_path: Option<String>,
    /// The path that ends a session.
    pub logout_path: String,
    /// The path by which the provider ends sessions, if it may.
    pub backchannel_path: Option<String>,
    /// The path that browsers are sent to after that.
    pub post_logout: String,
    /// The cookies.
    pub cookie: Cookie,
    /// For how long a session lasts that is not used.
    pub idle: Duration,
    /// For how long a session lasts.
    pub max: Duration,
    /// The field in which the service is told the access token, in lower case, if it is.
    pub access_token: Option<String>,
    /// The claim that names the consumer, who must then be there.
    pub consumer_claim: Option<String>,
    /// The consumers that it may name; any if none is named.
    pub consumers: Vec<Name>,
    /// The secrets by which sessions are sealed: the first seals, all open.
    pub secrets: Vec<SessionSecret>,
}

/// A login.
pub struct Login {
    options: Options,
    sealer: Sealer,
    metadata: Arc<ArcSwapOption<Metadata>>,
    keys: Arc<Remote>,
    tokens: Tokens,
    issuer: Arc<Issuer>,
    revoked: Revoked,
    /// Logout tokens that have come.
    told: Mutex<Remembered>,
    /// Sessions that were warned of.
    warned: Mutex<Remembered>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What the service is to be told of a session beyond its claims.
#[derive(Clone)]
pub(crate) struct Handed(pub(crate) String);

impl Fact for Handed {}

/// Cookies that the response sets.
pub(crate) struct SetCookies(pub(crate) Vec<String>);

impl Fact for SetCookies {}

/// That a login answers a request itself.
pub(crate) struct Answered;

impl Fact for Answered {}

impl Login {
    /// A login at a provider that nobody has asked yet.
    pub fn new(
        options: Options,
        fetch: impl Fetch + 'static,
        post: impl Post + 'static,
        generation: Generation,
    ) -> Self {
        let metadata = Arc::new(ArcSwapOption::empty());
        let discovery = Discovery::new(fetch, options.issuer.clone(), Arc::clone(&metadata));
        let of_keys = jwks::Options {
            issuer: options.name.clone(),
            url: options.discovery.clone(),
            ca_file: options.ca_file.clone(),
            algorithms: options.algorithms.clone(),
            cache: Duration::from_secs(600),
            stale: Duration::from_secs(24 * 3600),
        };
        let rules = Rules {
            issuer: options.issuer.clone(),
            audiences: Some(vec![options.client.id.to_string()]),
            algorithms: options.algorithms.clone(),
            skew: options.skew,
            required: ["exp", "iat", "sub"].map(str::to_owned).to_vec(),
            kind: None,
        };
        let issuer = Arc::new(Issuer {
            name: options.name.clone(),
            rules,
            audiences: None,
            keys: None,
            introspection: None,
            consumer_claim: options.consumer_claim.as_deref().map(Into::into),
            consumers: options.consumers.as_slice().into(),
        });
        Self {
            sealer: Sealer::new(options.name.as_str(), &options.secrets),
            keys: Arc::new(Remote::new(of_keys, discovery, generation)),
            tokens: Tokens::new(options.name.clone(), options.client.clone(), options.max, post),
            revoked: Revoked::default(),
            told: Mutex::default(),
            warned: Mutex::default(),
            metadata,
            issuer,
            options,
        }
    }

    /// Its settings.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The provider's keys.
    pub const fn keys(&self) -> &Arc<Remote> {
        &self.keys
    }

    /// Keeps what is known of the provider fresh, and asks it for tokens, for ever. Dropped at any point, it can be
    /// begun anew.
    pub async fn run(&self) {
        join(self.keys.refresh(), self.tokens.run()).await;
    }

    /// Whom tokens of its sessions are by.
    pub(crate) const fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// Whether browsers come by TLS, if the request seems to: where they come back to may know better, if a proxy on
    /// the way is not believed.
    fn is_secure(&self, seems: bool) -> bool {
        seems || self.options.origin.as_ref().is_some_and(|origin| origin.starts_with("https://"))
    }

    /// Whether a field of this name is one in which a service is told the access token, or reads like it.
    pub(crate) fn hands_on_in(&self, name: &str) -> bool {
        self.options.access_token.as_ref().is_some_and(|field| is_alike(field, name))
    }

    /// Tells the service the access token, if it is to be told.
    pub(crate) fn hand_on(&self, handed: Option<&Handed>, fields: &mut Fields) {
        let Some(field) = &self.options.access_token else { return };
        fields.remove_alike(field);
        if let Some(Handed(token)) = handed {
            let scheme = if field == Known::Authorization.text() { "Bearer " } else { "" };
            fields.append(field, format!("{scheme}{token}").as_bytes());
        }
    }
}

/// Whether a browser asks for a page, rather than a script for data: only the former can be sent to log in.
pub(crate) fn is_navigation(head: &RequestHead) -> bool {
    let fields = &head.fields;
    let is_other = |mode: &[u8]| mode != b"navigate";
    let accepts = |of: &[u8]| of.windows(9).any(|part| part.eq_ignore_ascii_case(b"text/html"));
    head.method == Method::Get
        && head.upgrade.is_none()
        && !fields.all_named("sec-fetch-mode").any(is_other)
        && fields.all_named("accept").any(accepts)
        && fields.named("x-requested-with").is_none()
}

#[cfg(test)]
mod tests;
