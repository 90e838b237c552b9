//! The policy that tells browsers what pages of a service may do, and takes off what tells others how it is made.
//!
//! Every response of a route gets the fields, also those that Weft gives itself. What a service has set stays, unless
//! the settings say that it is overridden: it knows its pages best. `Strict-Transport-Security` is told over TLS alone
//! (RFC 6797 section 7.2).

use std::{fmt, sync::Arc};

use weft_kernel::Result;
use weft_proxy::{
    DryRun, Flow, Foreseen, Policy, PolicyMaker, PolicyOutcome, ResponseContext, Sides, Stage,
    plan::Binding,
};
use weft_wire::Fields;

/// The name under which the policy is made.
pub const SECURITY_HEADERS: &str = "security_headers";

/// Settings of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityHeaders {
    /// Fields that every response has: name in lower case, and value.
    pub set: Vec<(Box<str>, Box<str>)>,
    /// The value of `Strict-Transport-Security`.
    pub hsts: Option<Box<str>>,
    /// Names of fields that are taken off, in lower case.
    pub remove: Vec<Box<str>>,
    /// Whether the fields take the place of those that a service has set.
    pub overrides: bool,
}

impl fmt::Display for SecurityHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hsts = self.hsts.as_ref().map(|_| "strict-transport-security");
        for (at, name) in
            hsts.into_iter().chain(self.set.iter().map(|(name, _)| &**name)).enumerate()
        {
            write!(f, "{}{name}", if at == 0 { "" } else { ", " })?;
        }
        if !self.remove.is_empty() {
            write!(f, "; without {}", self.remove.join(", "))?;
        }
        f.write_str(if self.overrides { " (override)" } else { "" })
    }
}

impl SecurityHeaders {
    /// Makes of the fields of a response what a client is to see.
    fn apply(&self, is_secure: bool, fields: &mut Fields) {
        for name in &self.remove {
            fields.remove_named(name);
        }
        let hsts = self.hsts.as_deref().filter(|_| is_secure);
        let hsts = hsts.map(|value| ("strict-transport-security", value));
        let set = self.set.iter().map(|(name, value)| (&**name, &**value));
        for (name, value) in hsts.into_iter().chain(set) {
            if self.overrides || fields.named(name).is_none() {
                fields.set_named(name, value.as_bytes());
            }
        }
    }
}

/// Makes policies of settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct SecurityHeadersMaker;

impl PolicyMaker for SecurityHeadersMaker {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(Headers(binding.settings()?)))
    }
}

/// The policy of a route.
struct Headers(SecurityHeaders);

impl Policy for Headers {
    /// Behind the changes of headers that a route says itself, so that those are made to what this has set.
    fn stage(&self) -> Stage {
        Stage::Transform
    }

    fn sides(&self) -> Sides {
        Sides { response: true, ..Sides::default() }
    }

    fn name(&self) -> &'static str {
        SECURITY_HEADERS
    }

    fn foresee(&self, cx: &mut DryRun<'_>) -> Foreseen {
        let _ = cx;
        Foreseen::of(PolicyOutcome::Passes, format!("the response gets {}", self.0))
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        // A connection that is joined to another shows no page.
        if !cx.is_tunnel() {
            let is_secure = cx.is_secure();
            self.0.apply(is_secure, &mut cx.head_mut().fields);
        }
        Flow::Next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(overrides: bool) -> SecurityHeaders {
        SecurityHeaders {
            set: vec![("x-frame-options".into(), "DENY".into())],
            hsts: Some("max-age=60".into()),
            remove: vec!["server".into()],
            overrides,
        }
    }

    fn after(settings: &SecurityHeaders, is_secure: bool, of: &[(&str, &str)]) -> Vec<String> {
        let mut fields = Fields::new();
        for (name, value) in of {
            assert!(fields.append(name, value.as_bytes()), "{name}");
        }
        settings.apply(is_secure, &mut fields);
        let line =
            |(name, value): (&str, &[u8])| format!("{name}: {}", String::from_utf8_lossy(value));
        let mut lines: Vec<String> = fields.iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_a_service_has_set_stays_unless_it_is_overridden() {
        let set = [("x-frame-options", "SAMEORIGIN"), ("server", "a/1"), ("x-a", "1")];
        assert_eq!(after(&settings(false), false, &set), ["x-a: 1", "x-frame-options: SAMEORIGIN"]);
        assert_eq!(after(&settings(true), false, &set), ["x-a: 1", "x-frame-options: DENY"]);
        let twice = [("x-frame-options", "A"), ("x-frame-options", "B")];
        assert_eq!(after(&settings(true), false, &twice), ["x-frame-options: DENY"]);
    }

    #[test]
    fn strict_transport_security_is_told_over_tls_alone() {
        assert_eq!(after(&settings(false), false, &[]), ["x-frame-options: DENY"]);
        let told = ["strict-transport-security: max-age=60", "x-frame-options: DENY"];
        assert_eq!(after(&settings(false), true, &[]), told);
    }
}
