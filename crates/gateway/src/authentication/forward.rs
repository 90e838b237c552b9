//! What a service is told of the consumer, and what it is not shown.
//!
//! The fields are Kong's, which services and other gateways know: `x-consumer-username`, `x-consumer-groups`
//! and `x-anonymous-consumer`. Whatever a client sends under names of that kind is taken off first, also
//! with underscores for hyphens: to CGI, and to what is built like it, both are the same name.

use weft_proxy::{Fact, cookie, policy::KEPT_PREFIX, query};
use weft_wire::{Fields, Known, RequestHead};

use super::{Authentication, Bearer, KeyPlace, Scheme, extract::credentials, shown::By};
use crate::{
    consumer::Consumer,
    signature::{SIGNATURE, SIGNATURE_INPUT},
};

const USERNAME: &str = "x-consumer-username";
const GROUPS: &str = "x-consumer-groups";
const ANONYMOUS: &str = "x-anonymous-consumer";
/// The names that say who a consumer is, or begin with it: Kong's and APISIX's.
const OURS: [&str; 3] = ["x-consumer-", "x-credential-", ANONYMOUS];

/// The consumer of a request that is kept; a `?` stands before one that is anonymous.
pub(super) const KEPT: &str = "weft-kept-consumer";

/// The methods that let a request through, left for the outgoing side.
#[derive(Clone, Debug, Default)]
pub(super) struct Passed(pub(super) Vec<By>);

impl Fact for Passed {}

/// Takes off what the service is not to see, and tells it the consumer, and the claims of each token by the method
/// that let it through.
pub(super) fn tell(
    settings: &Authentication,
    consumer: Option<&Consumer>,
    passed: &Passed,
    head: &mut RequestHead,
) {
    strip(settings, settings.forward, head);
    for (number, method) in settings.tokens() {
        let own = passed.0.iter().filter(|by| by.method == number);
        for token in own.filter_map(|by| by.token.as_ref()) {
            for (name, value) in method.told(token) {
                // What cannot stand in a field is not told.
                head.fields.append(name, value.as_bytes());
            }
        }
    }
    if let Some(consumer) = consumer {
        introduce(consumer, &mut head.fields);
    }
}

/// Writes who a consumer is.
pub(crate) fn introduce(consumer: &Consumer, fields: &mut Fields) {
    fields.append(USERNAME, consumer.name().as_str().as_bytes());
    let groups = &consumer.known.groups_line;
    if !groups.is_empty() {
        fields.append(GROUPS, groups.as_bytes());
    }
    if consumer.is_anonymous() {
        fields.append(ANONYMOUS, b"true");
    }
}

/// Takes credentials off a request that is kept, and writes the consumer for when it is carried out. They
/// are not kept even where the service is shown them.
pub(super) fn keep(settings: &Authentication, consumer: Option<&Consumer>, head: &mut RequestHead) {
    strip(settings, false, head);
    if let Some(consumer) = consumer {
        let mark = if consumer.is_anonymous() { "?" } else { "" };
        head.fields.append(KEPT, format!("{mark}{}", consumer.name()).as_bytes());
    }
}

/// Takes off what only Weft may say, and the credentials unless they are shown.
fn strip(settings: &Authentication, shown: bool, head: &mut RequestHead) {
    head.fields.retain(|name, value| {
        !is_ours(name)
            && !settings.tokens().any(|(_, method)| method.tell.iter().any(|(told, _)| told == name))
            && (shown || !settings.is_credential(name, value))
    });
    if shown {
        return;
    }
    without_parameters(settings, &mut head.target);
    for place in settings.key_places() {
        if let KeyPlace::Cookie(name) = place {
            cookie::retain(&mut head.fields, |of| of != name.as_bytes());
        }
    }
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
    let begins = |with: &str| {
        let mut bytes = name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
        with.bytes().all(|byte| bytes.next() == Some(byte))
    };
    // Most names are told apart by their first bytes.
    OURS.iter().any(|with| begins(with)) || begins(KEPT_PREFIX)
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

    /// Whether a field holds credentials of one of the methods, good or not.
    fn is_credential(&self, name: &str, value: &[u8]) -> bool {
        let is_authorization = name == Known::Authorization.text();
        let stands = |places: &[KeyPlace], schemes: &[&str]| {
            places.iter().any(|place| match place {
                KeyPlace::Header(of) if **of == *name => {
                    !is_authorization
                        || schemes.iter().any(|scheme| credentials(value, scheme).is_some())
                }
                _ => false,
            })
        };
        self.methods.iter().any(|method| match method {
            // What tells of it in a field is taken off before any policy sees it.
            Scheme::ClientCertificate => false,
            // Its cookies are taken off whatever the service is shown.
            Scheme::Oidc(_) => false,
            Scheme::Signature(_) => [SIGNATURE, SIGNATURE_INPUT].contains(&name),
            Scheme::Basic => is_authorization && credentials(value, "basic").is_some(),
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
