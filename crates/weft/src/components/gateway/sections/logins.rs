//! What is said about logins of browsers.

use weft_kernel::Name;

use crate::config::{
    catalogue::KeyOf,
    leaf::{InputFile, Many, Named, Pairs, Secret, Some1, Span},
    setting::{At, settings, words},
    text::{CookieName, HeaderName},
};

use super::{ClientWay, Signing};

/// Logins.
pub const LOGINS: KeyOf<Named<Login>> = KeyOf::new(
    "logins",
    "Logins by name: providers of OpenID Connect with which people log in by their browsers.",
);

words! {
    /// Requests from other sites that show a cookie (RFC 6265bis).
    pub enum SameSite {
        /// links to pages alone
        Lax = "lax",
        /// all, so that pages can stand in frames of other sites; by TLS alone
        None = "none",
    }
}

settings! {
    /// Login with a provider of OpenID Connect.
    pub struct Login = "login" {
        /// Name of the provider for itself, as `iss` of its tokens has it: a URL, below which its discovery document is.
        issuer: At<String>,
        /// URL of the discovery document, if it is not at `/.well-known/openid-configuration` below the issuer.
        discovery: Option<At<String>>,
        /// Authority of the provider's certificate, in PEM; those of the system if it is left out.
        ca_file: Option<At<InputFile>>,
        /// Id of the node as a client of the provider.
        client_id: At<String>,
        /// Secret of the client; `file:PATH` reads it from a file. Without one it is a public client.
        client_secret: Option<At<Secret>>,
        /// How the client shows its secret.
        client_authentication: ClientWay = "basic",
        /// Scopes that are asked for, beside `openid`. `offline_access` is what most providers give refresh tokens
        /// for.
        scopes: Many<At<String>> = "[profile, email]",
        /// Parameters of the request for a login besides, such as `prompt` or `audience`.
        parameters: Pairs<At<String>, String>,
        /// Algorithms that ID tokens may be signed by. RS256, PS256, ES256 and EdDSA if none is named.
        algorithms: Many<At<Signing>>,
        /// Time by which the provider's clock may differ from that of the node.
        skew: Span = "60s",
        /// Scheme and host that browsers come back to, as the provider has them; those of the request if it is left
        /// out.
        origin: Option<At<String>>,
        /// Path that browsers come back to from a login. Routes with the login must take it.
        callback_path: At<String> = "/oauth2/callback",
        /// Path that begins a login, and then leads to its query parameter `return_to`.
        login_path: Option<At<String>>,
        /// Path that ends a session.
        logout_path: At<String> = "/oauth2/logout",
        /// Path by which the provider may end sessions (back-channel logout).
        backchannel_path: Option<At<String>>,
        /// Path that browsers are sent to when their session has ended.
        post_logout: At<String> = "/",
        /// Cookies of sessions.
        cookie: CookieSection,
        /// How long sessions last.
        session: SessionSection,
        /// Secrets of at least 32 bytes by which sessions are sealed: the first seals, all open. `file:PATH` reads one
        /// from a file.
        session_keys: Some1<At<Secret>>,
        /// Header that tells the service the access token; in `authorization` behind `Bearer`.
        forward_access_token: Option<At<HeaderName>>,
        /// Claim of the ID token that names the consumer; a session that names none is refused.
        consumer: Option<String>,
        /// Consumers that this claim may name; any, also those of issuers, if none is named.
        consumers: Many<Name>,
    }

    /// Cookies of sessions.
    pub struct CookieSection = "cookie", short "name" {
        /// Name; `weft-` and the name of the login if it is left out. By TLS it gets a prefix.
        name: Option<At<CookieName>>,
        /// Domain below which all hosts share the session; the host alone if it is left out.
        domain: Option<At<String>>,
        /// Requests from other sites that show it.
        same_site: SameSite = "lax",
    }

    /// How long sessions last.
    pub struct SessionSection = "session" {
        /// Time after which one ends that is not used.
        idle: At<Span> = "1h",
        /// Time after which one ends in any case.
        max: At<Span> = "12h",
    }
}
