//! The policies of routes that tell browsers what pages may do.

use std::time::Duration;

use weft_gateway::{SECURITY_HEADERS, SecurityHeaders};
use weft_proxy::plan::Binding;

use crate::config::{
    catalogue::{KeyOf, PolicyKey},
    leaf::{Many, Span, Switch, Whole},
    problem::Problem,
    setting::{At, Cx, settings, words},
    text::{FieldName, HeaderValue},
};

/// The shortest time that lists of browsers take (hstspreload.org).
const PRELOAD_MIN: Duration = Duration::from_secs(365 * 86_400);

const KEY: KeyOf<Switch<Whole<SecurityHeadersSection>>> =
    KeyOf::new("security_headers", "Security headers: what browsers are told that pages may do.")
        .or("off");

/// Their key in a policy.
pub(super) const SECURITY_HEADERS_KEY: PolicyKey = PolicyKey {
    field: KEY.field(),
    build: |policy, cx| match KEY.read(policy, cx)? {
        Switch::On(Whole(section)) => {
            section.build(cx).map(|settings| Binding::new(SECURITY_HEADERS, settings))
        }
        Switch::Off => None,
    },
};

words! {
    /// Pages that may show a page within them.
    pub enum FrameOptions {
        /// none
        Deny = "deny",
        /// those of the same origin
        SameOrigin = "sameorigin",
    }

    /// What a browser tells other sites of the page that led to them.
    pub enum ReferrerPolicy {
        /// nothing
        NoReferrer = "no-referrer",
        /// nothing to what is not encrypted
        NoReferrerWhenDowngrade = "no-referrer-when-downgrade",
        /// the origin
        Origin = "origin",
        /// the URL within the origin, and the origin to others
        OriginWhenCrossOrigin = "origin-when-cross-origin",
        /// the URL within the origin, and nothing to others
        SameOrigin = "same-origin",
        /// the origin, and nothing to what is not encrypted
        StrictOrigin = "strict-origin",
        /// the URL within the origin, the origin to others, and nothing to what is not encrypted
        StrictOriginWhenCrossOrigin = "strict-origin-when-cross-origin",
    }

    /// Pages that share a group of windows with a page.
    pub enum OpenerPolicy {
        /// any
        UnsafeNone = "unsafe-none",
        /// those of the same origin, and those that it opens
        SameOriginAllowPopups = "same-origin-allow-popups",
        /// those of the same origin
        SameOrigin = "same-origin",
        /// those that it opens and that say the same
        NoopenerAllowPopups = "noopener-allow-popups",
    }

    /// What a page may load of other origins.
    pub enum EmbedderPolicy {
        /// anything
        UnsafeNone = "unsafe-none",
        /// what allows it
        RequireCorp = "require-corp",
        /// anything, without credentials
        Credentialless = "credentialless",
    }

    /// Pages that may load a response.
    pub enum ResourcePolicy {
        /// those of the same origin
        SameOrigin = "same-origin",
        /// those of the same site
        SameSite = "same-site",
        /// any
        CrossOrigin = "cross-origin",
    }
}

settings! {
    /// Security headers. What a service has set stays.
    pub struct SecurityHeadersSection = "security headers" {
        /// `Strict-Transport-Security`, over TLS alone.
        hsts: Switch<HstsSection> = "{}",
        /// Whether browsers take the type of a response as it is said (`X-Content-Type-Options: nosniff`).
        nosniff: bool = "true",
        /// `X-Frame-Options`.
        frame_options: Switch<FrameOptions> = "sameorigin",
        /// `Referrer-Policy`.
        referrer_policy: Switch<ReferrerPolicy> = "strict-origin-when-cross-origin",
        /// `Content-Security-Policy`; `frame-ancestors` in it takes the place of `frame_options`.
        content_security_policy: Option<HeaderValue>,
        /// `Content-Security-Policy-Report-Only`, which only reports.
        content_security_policy_report_only: Option<HeaderValue>,
        /// `Permissions-Policy`.
        permissions_policy: Option<HeaderValue>,
        /// `Cross-Origin-Opener-Policy`.
        cross_origin_opener_policy: Option<OpenerPolicy>,
        /// `Cross-Origin-Embedder-Policy`.
        cross_origin_embedder_policy: Option<EmbedderPolicy>,
        /// `Cross-Origin-Resource-Policy`.
        cross_origin_resource_policy: Option<ResourcePolicy>,
        /// Headers of the service that are taken off.
        remove: Many<FieldName> = "[server, x-powered-by]",
        /// Whether these headers take the place of those that a service has set.
        override_service("override"): bool = "false",
    }

    /// HTTP Strict Transport Security (RFC 6797).
    pub struct HstsSection = "HSTS", short "max_age" {
        /// Time for which browsers come by TLS alone.
        max_age: At<Span> = "365d",
        /// Whether that holds for all names below the host.
        include_subdomains: bool = "false",
        /// Whether browsers may come with it built in; takes a year and all names below the host.
        preload: At<bool> = "false",
    }
}

impl SecurityHeadersSection {
    fn build(&self, cx: &mut Cx) -> Option<SecurityHeaders> {
        let mut set: Vec<(Box<str>, Box<str>)> = Vec::new();
        let mut say = |name: &str, value: &str| set.push((name.into(), value.into()));
        if self.nosniff {
            say("x-content-type-options", "nosniff");
        }
        if let Switch::On(frame) = &self.frame_options {
            say(
                "x-frame-options",
                if matches!(frame, FrameOptions::Deny) { "DENY" } else { "SAMEORIGIN" },
            );
        }
        if let Switch::On(referrer) = &self.referrer_policy {
            say("referrer-policy", referrer.word());
        }
        for (name, value) in [
            ("content-security-policy", &self.content_security_policy),
            ("content-security-policy-report-only", &self.content_security_policy_report_only),
            ("permissions-policy", &self.permissions_policy),
        ] {
            if let Some(HeaderValue(value)) = value {
                say(name, value);
            }
        }
        if let Some(policy) = &self.cross_origin_opener_policy {
            say("cross-origin-opener-policy", policy.word());
        }
        if let Some(policy) = &self.cross_origin_embedder_policy {
            say("cross-origin-embedder-policy", policy.word());
        }
        if let Some(policy) = &self.cross_origin_resource_policy {
            say("cross-origin-resource-policy", policy.word());
        }
        let hsts = match &self.hsts {
            Switch::On(hsts) => Some(hsts.value(cx)?),
            Switch::Off => None,
        };
        Some(SecurityHeaders {
            set,
            hsts,
            remove: self.remove.iter().map(|name| name.0.as_str().into()).collect(),
            overrides: self.override_service,
        })
    }
}

impl HstsSection {
    fn value(&self, cx: &mut Cx) -> Option<Box<str>> {
        let max_age = self.max_age.0;
        if self.preload.value && (max_age < PRELOAD_MIN || !self.include_subdomains) {
            let say = "lists of browsers take hosts for at least a year, with all names below them";
            let help = "say `max_age: 365d` or more, and `include_subdomains: true`";
            cx.report(Problem::error(self.preload.place, say).help(help));
            return None;
        }
        let below = if self.include_subdomains { "; includeSubDomains" } else { "" };
        let preload = if self.preload.value { "; preload" } else { "" };
        Some(format!("max-age={}{below}{preload}", max_age.as_secs()).into())
    }
}
