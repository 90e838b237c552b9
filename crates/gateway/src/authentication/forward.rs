//! What a service is told of the consumer, and what it is not shown.
//!
//! The fields are Kong's, which services and other gateways know: `x-consumer-username`, `x-consumer-groups`
//! and `x-anonymous-consumer`. Whatever a client sends under names of that kind, or that read like them to services
//! behind CGI (`weft_wire::fields::is_alike`), is taken off first.

use std::sync::Arc;

use weft_proxy::{Fact, cookie, policy::KEPT_PREFIX, query};
use weft_wire::{
    Fields, Known, RequestHead,
    fields::{begins_alike, is_alike},
};

use super::{
    Authentication, Bearer, KeyPlace, Scheme,
    extract::{Found, key, may_be, token},
    shown::By,
    suspects::Suspects,
};
use crate::{
    consumer::Consumer,
    login::Login,
    signature::{SIGNATURE, SIGNATURE_INPUT},
};

/// The names that say who a consumer is, or begin with it: Kong's and APISIX's.
pub(super) const OURS: [&str; 3] =
    ["x-consumer-", "x-credential-", Known::XAnonymousConsumer.text()];

/// The consumer of a request that is kept; a `?` stands before one that is anonymous.
pub(super) const KEPT: &str = "weft-kept-consumer";

/// What let a request through, left for the outgoing side.
#[derive(Clone, Debug)]
pub(super) enum Passed {
    /// These methods.
    By(Vec<By>),
    /// It began inside Weft.
    Inside,
}

impl Default for Passed {
    fn default() -> Self {
        Self::By(Vec::new())
    }
}

/// What a service will be told of who asks, for a policy that asks others about the request.
pub(crate) struct Introduction {
    pub(super) settings: Arc<Authentication>,
    pub(super) logins: Vec<Arc<Login>>,
    pub(super) passed: Passed,
}

impl Fact for Introduction {}

impl Introduction {
    /// Takes off what only Weft may say, and tells the claims. Credentials stay: whoever decides may go by them.
    pub(crate) fn claim(&self, fields: &mut Fields) {
        fields.retain(|name, _| {
            let is_handed = self.logins.iter().any(|login| login.hands_on_in(name));
            !self.settings.is_said(name) && (!is_handed || name == Known::Authorization.text())
        });
        self.passed.claim(&self.settings, fields);
    }
}

impl Passed {
    /// Tells the claims of each token by the method that let it through.
    fn claim(&self, settings: &Authentication, fields: &mut Fields) {
        let Self::By(passed) = self else { return };
        for (number, method) in settings.tokens() {
            let own = passed.iter().filter(|by| by.method == number);
            for token in own.filter_map(|by| by.token.as_ref()) {
                for (name, value) in method.told(token) {
                    fields.append(name, value.as_bytes());
                }
            }
        }
    }
}

/// Takes off what the service is not to see, and tells it the consumer, and the claims of each token by the method
/// that let it through.
pub(super) fn tell(
    (settings, suspects): (&Authentication, &Suspects),
    consumer: Option<&Consumer>,
    passed: &Passed,
    head: &mut RequestHead,
) {
    let shown = if settings.forward { verified(settings, passed, head) } else { Vec::new() };
    strip((settings, suspects), &shown, head);
    passed.claim(settings, &mut head.fields);
    if let Some(consumer) = consumer {
        introduce(consumer, &mut head.fields);
    }
}

/// Writes who a consumer is.
pub(crate) fn introduce(consumer: &Consumer, fields: &mut Fields) {
    fields.add(Known::XConsumerUsername, consumer.name().as_str().as_bytes());
    let groups = &consumer.known.groups_line;
    if !groups.is_empty() {
        fields.add(Known::XConsumerGroups, groups.as_bytes());
    }
    if consumer.is_anonymous() {
        fields.add(Known::XAnonymousConsumer, b"true");
    }
}

/// Takes credentials off a request that is kept, and writes the consumer for when it is carried out. They
/// are not kept even where the service is shown them.
pub(super) fn keep(
    settings: (&Authentication, &Suspects),
    consumer: Option<&Consumer>,
    head: &mut RequestHead,
) {
    strip(settings, &[], head);
    if let Some(consumer) = consumer {
        let mark = if consumer.is_anonymous() { "?" } else { "" };
        head.fields.append(KEPT, format!("{mark}{}", consumer.name()).as_bytes());
    }
}

/// Takes off what only Weft may say, and all that may be credentials but those that are shown.
fn strip(
    (settings, suspects): (&Authentication, &Suspects),
    shown: &[Verified<'_>],
    head: &mut RequestHead,
) {
    let is_shown = |name: &str| {
        shown.iter().any(|it| match it {
            Verified::In(KeyPlace::Header(of)) => **of == *name,
            Verified::Basic => name == Known::Authorization.text(),
            Verified::Signature => [SIGNATURE, SIGNATURE_INPUT].contains(&name),
            Verified::In(_) | Verified::All => false,
        })
    };
    let all = shown.iter().any(|it| matches!(it, Verified::All));
    head.fields.retain_among(&suspects.known, |name, value| {
        !suspects.may_have(name)
            || ((all || is_shown(name) || !settings.is_credential(name, Some(value)))
                && !settings.is_said(name))
    });
    if all || suspects.in_fields_alone {
        return;
    }
    let is_shown = |place| shown.iter().any(|it| matches!(it, Verified::In(of) if *of == place));
    for place in settings.key_places().filter(|place| !is_shown(*place)) {
        match place {
            KeyPlace::Query(name) => without_parameter(&mut head.target, name),
            KeyPlace::Cookie(name) => cookie::retain(&mut head.fields, |of| of != name.as_bytes()),
            KeyPlace::Header(_) => {}
        }
    }
}

/// Credentials that were verified.
enum Verified<'a> {
    /// Those that stand there.
    In(&'a KeyPlace),
    /// User name and password.
    Basic,
    /// The signature.
    Signature,
    /// Whatever there is, of a request that begins inside Weft.
    All,
}

/// The credentials by which a request was let through: of each method those in the first place that has any, which are
/// the ones that it looks at.
fn verified<'a>(
    settings: &'a Authentication,
    passed: &'a Passed,
    head: &RequestHead,
) -> Vec<Verified<'a>> {
    let passed = match passed {
        Passed::Inside => return vec![Verified::All],
        Passed::By(passed) => passed,
    };
    let methods = passed.iter().filter_map(|by| settings.methods.get(by.method));
    let first = |places: &'a [KeyPlace],
                 find: for<'b> fn(&'b KeyPlace, &'b RequestHead) -> Found<'b>| {
        places.iter().find(|place| !find(place, head).is_nothing()).map(Verified::In)
    };
    let of = |method: &'a Scheme| match method {
        Scheme::ApiKey(places) => first(places, key),
        Scheme::Jwt(method) | Scheme::Introspection(method) => first(&method.places, token),
        Scheme::Basic => Some(Verified::Basic),
        Scheme::Signature(_) => Some(Verified::Signature),
        Scheme::ClientCertificate | Scheme::Oidc(_) => None,
    };
    methods.filter_map(of).collect()
}

/// Takes off a target what may be credentials.
pub(super) fn without_parameters(settings: &Authentication, target: &mut String) {
    for place in settings.key_places() {
        if let KeyPlace::Query(name) = place {
            without_parameter(target, name);
        }
    }
}

/// Whether a name, in lower case, is one by which a service is told of a consumer, and nothing else may be.
pub fn is_ours(name: &str) -> bool {
    // Most names are told apart by their first bytes.
    OURS.iter().any(|with| begins_alike(name, with)) || begins_alike(name, KEPT_PREFIX)
}

impl Authentication {
    /// Where API keys and tokens may stand.
    pub(super) fn key_places(&self) -> impl Iterator<Item = &KeyPlace> {
        self.methods.iter().flat_map(|method| match method {
            Scheme::ApiKey(places) => &places[..],
            Scheme::Jwt(method) | Scheme::Introspection(method) => &method.places,
            Scheme::Basic | Scheme::ClientCertificate | Scheme::Signature(_) | Scheme::Oidc(_) => {
                &[]
            }
        })
    }

    /// The methods whose tokens say something, with their places among all.
    pub(super) fn tokens(&self) -> impl Iterator<Item = (usize, &Bearer)> {
        self.methods.iter().enumerate().filter_map(|(number, method)| match method {
            Scheme::Jwt(method) | Scheme::Introspection(method) => Some((number, method)),
            Scheme::Oidc(method) => Some((number, &method.claims)),
            _ => None,
        })
    }

    /// Whether a name is one that Weft alone says to the service, of the consumer or of claims.
    pub(super) fn is_said(&self, name: &str) -> bool {
        let tells = |method: &Bearer| method.tell.iter().any(|(told, _)| is_alike(told, name));
        is_ours(name) || self.tokens().any(|(_, method)| tells(method))
    }

    /// Whether a field may hold credentials of one of the methods, good or not; without a value, whether any of its
    /// name may.
    pub(super) fn is_credential(&self, name: &str, value: Option<&[u8]>) -> bool {
        let is_authorization = name == Known::Authorization.text();
        let holds = |scheme: &str| value.is_none_or(|value| may_be(value, scheme));
        let stands = |places: &[KeyPlace], schemes: &[&str]| {
            places.iter().any(|place| match place {
                KeyPlace::Header(of) if is_alike(of, name) => {
                    !is_authorization || schemes.iter().any(|scheme| holds(scheme))
                }
                _ => false,
            })
        };
        self.methods.iter().any(|method| match method {
            // What tells of it in a field is taken off before any policy sees it.
            Scheme::ClientCertificate => false,
            // Its cookies are taken off whatever the service is shown.
            Scheme::Oidc(_) => false,
            Scheme::Signature(_) => {
                [SIGNATURE, SIGNATURE_INPUT].iter().any(|of| is_alike(of, name))
            }
            Scheme::Basic => is_authorization && holds("basic"),
            Scheme::ApiKey(places) => stands(places, &["apikey", "bearer"]),
            Scheme::Jwt(method) | Scheme::Introspection(method) => {
                stands(&method.places, &["bearer"])
            }
        })
    }
}

/// Takes a parameter off the query, and leaves the others as they are.
fn without_parameter(target: &mut String, name: &str) {
    let Some((path, query)) = target.split_once('?') else { return };
    let is_it = |pair: &&str| query::values(pair, name).next().is_some();
    if !query.split('&').any(|pair| is_it(&pair)) {
        return;
    }
    let left: Vec<&str> = query.split('&').filter(|pair| !is_it(pair)).collect();
    *target = match left.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", left.join("&")),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_only_weft_may_say() {
        for ours in [
            "x-consumer-username",
            "x_consumer_username",
            "x-consumer_groups",
            "x-consumer-id",
            "x-credential-identifier",
            "x-anonymous-consumer",
            "weft-kept-consumer",
            "weft_kept_consumer",
            "x.consumer.username",
            "X~Anonymous~Consumer",
        ] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in ["x-consumer", "x-consume-username", "x-request-id", "authorization", "x"] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn a_parameter_goes_and_the_others_stay() {
        for (target, expected) in [
            ("/a?key=1", "/a"),
            ("/a?key=1&b=2", "/a?b=2"),
            ("/a?b=2&k%65y=1&c", "/a?b=2&c"),
            ("/a?b=%6bey", "/a?b=%6bey"),
            ("/a?keys=1&&", "/a?keys=1&&"),
            ("/a", "/a"),
        ] {
            let mut target = target.to_owned();
            without_parameter(&mut target, "key");
            assert_eq!(target, expected);
        }
    }

    #[test]
    fn a_cookie_goes_and_the_others_stay() {
        for (lines, expected) in [
            (&["key=1"][..], &[][..]),
            (&["a=1; key=1; b=2"], &["a=1; b=2"]),
            (&["key=1; key=2; b=2"], &["b=2"]),
            (&["a=1", "key=3"], &["a=1"]),
            (&["keys=1"], &["keys=1"]),
        ] {
            let mut fields = Fields::new();
            for line in lines {
                assert!(fields.append("cookie", line.as_bytes()));
            }
            cookie::retain(&mut fields, |of| of != b"key");
            let left: Vec<_> = fields.all(Known::Cookie).map(String::from_utf8_lossy).collect();
            assert_eq!(left, expected, "{lines:?}");
        }
    }
}
