//! What is said about a route.

use weft_kernel::Name;

use crate::config::{
    leaf::{Many, Pairs},
    sections::{
        policy::Policy,
        target::{Redirect, Respond, Rewrite, Targets},
    },
    setting::{At, settings},
    text::{FieldMatch, HeaderName, HostPattern, Method, PathMatch},
};

settings! {
    /// A match, its policies and a target; the keys of a policy may stand here as well. The most
    /// specific match wins, not the first: exact host before wildcard, exact path before longest
    /// prefix before expression, then more methods, headers and query; only then the order here.
    pub struct Route = "route", with Policy {
        /// Name, the `http.route` of telemetry.
        name: At<Name>,
        /// Listeners that it applies to; every HTTP listener otherwise.
        listeners: Many<At<Name>>,
        /// Matches, of which one must fit; every request otherwise.
        matches("match"): Many<Match>,
        /// Names of policies; the later wins.
        policies: Many<At<Name>>,
        /// Rewrite of path and host before a request is sent on.
        rewrite: Option<At<Rewrite>>,
        /// Target services.
        to: Option<At<Targets>>,
        /// Redirect.
        redirect: Option<At<Redirect>>,
        /// Fixed response.
        respond: Option<At<Respond>>,
    }

    /// Match: conditions that must all hold.
    pub struct Match = "match", short "path" {
        /// Hosts, of which one must fit, such as `shop.example` or `*.shop.example`.
        host: Many<HostPattern>,
        /// Path: `/a` is that path, `/a/*` all below, `/orders/{id}` a template, `~regex` a regular
        /// expression.
        path: PathMatch,
        /// Methods, of which one must fit.
        method: Many<Method>,
        /// Header fields that must all fit.
        headers: Pairs<HeaderName, FieldMatch>,
        /// Query parameters that must all fit.
        query: Pairs<String, FieldMatch>,
        /// Names in the certificate that the client has shown, which must all fit.
        certificate: Option<CertificateMatch>,
    }

    /// Names in the client's certificate, which must all fit; of several of a kind, one must.
    pub struct CertificateMatch = "certificate match", short "uri" {
        /// URI among its alternative names, such as a SPIFFE id.
        uri: Option<FieldMatch>,
        /// DNS name among its alternative names.
        dns: Option<FieldMatch>,
        /// Distinguished name of its subject, as `x-forwarded-client-cert` has it.
        subject: Option<FieldMatch>,
        /// SHA-256 digest of the certificate, in hexadecimal.
        fingerprint: Option<FieldMatch>,
    }
}
