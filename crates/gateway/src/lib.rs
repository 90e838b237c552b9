//! The edge: who calls, how often, how much, and what is done once however often it is asked.
//!
//! A [`Consumer`](consumer::Consumer) is a client that the node knows by its credentials; an [`Issuer`] is somebody
//! whose tokens it believes. [`Roster`] holds all of them and is swapped as a whole. [`Authentication`] is the
//! policy that finds out who a request comes from, leaves that as facts for whatever stands behind, and tells the
//! service in fields that a client cannot forge. [`cost`] is what a request costs of a limit or quota.
//!
//! Invariants: of a credential nothing but a digest is kept; whoever is refused learns neither which consumers
//! there are nor whether a credential was wrong or missing; what cannot be decided is refused; credentials
//! go no further than this, unless a policy says so.
//!
//! Reading order: [`consumer`], [`credential`], [`directory`], [`key`], [`kept`], [`issuer`], [`jwks`], [`oauth`],
//! `questions`, [`introspection`], [`signature`], [`login`], [`roster`],
//! `decision`, [`authentication`], [`rate_limit`], [`quota`], [`authorization`], [`external`], [`networks`], [`cors`],
//! [`login_cookies`], [`security_headers`], [`token_client`], [`service_credentials`].

pub mod authentication;
pub mod authorization;
pub mod certificate;
pub mod consumer;
pub mod cors;
pub mod cost;
pub mod credential;
mod decision;
pub mod directory;
pub mod external;
#[cfg(test)]
mod fixture;
pub mod idempotency;
pub mod introspection;
pub mod issuer;
pub mod jwks;
pub mod kept;
pub mod key;
pub mod login;
pub mod login_cookies;
pub mod networks;
pub mod oauth;
mod questions;
pub mod quota;
pub mod rate_limit;
pub mod roster;
pub mod security_headers;
pub mod service_credentials;
pub mod signature;
pub mod token_client;
mod variables;

pub use authentication::{AUTHENTICATION, Authentication, Maker};
pub use authorization::{AUTHORIZATION, Authorization, AuthorizationMaker};
pub use certificate::CertificateName;
pub use cors::{CORS, Cors, CorsMaker};
pub use credential::Digest;
pub use directory::Directory;
pub use external::{EXTERNAL_AUTHORIZATION, ExternalAuthorization, ExternalMaker};
pub use idempotency::{IDEMPOTENCY, Idempotency, IdempotencyMaker};
pub use issuer::Issuer;
pub use login::Login;
pub use login_cookies::{LOGIN_COOKIES, LoginCookies, LoginCookiesMaker};
pub use networks::{NETWORKS, NetworkLists, Networks};
pub use quota::{Books, QUOTAS, Quotas};
pub use rate_limit::{RATE_LIMITS, RateLimits};
pub use roster::Roster;
pub use security_headers::{SECURITY_HEADERS, SecurityHeaders, SecurityHeadersMaker};
pub use service_credentials::{SERVICE_CREDENTIALS, ServiceCredentials, TokenClients};
pub use signature::{Signature, SignatureKey};
pub use token_client::TokenClient;
