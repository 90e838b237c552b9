//! What a hashing balancer goes by: the first input that a request has, as a number.
//!
//! The number of the same text is the same in every process and release (XXH3), so that all instances of
//! Weft send a client to the same endpoint.

use std::net::IpAddr;

use weft_kernel::Rng;
use weft_wire::{Fields, Known, fields::is_token};
use xxhash_rust::xxh3::xxh3_64;

use crate::{cookie, plan::HashInput, query};

/// The inputs of a service, compiled.
#[derive(Clone, Debug, Default)]
pub struct Hasher {
    sources: Box<[Source]>,
}

#[derive(Clone, Debug)]
enum Source {
    Known(Known),
    Header(Box<str>),
    Cookie(Box<str>),
    Sticky(cookie::Template),
    Query(Box<str>),
    Address,
    Path,
}

/// The request that is hashed.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The header fields.
    pub fields: &'a Fields,
    /// Path and query.
    pub target: &'a str,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// Whether the client came by TLS.
    pub secure: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashed {
    /// The number; none if the request has none of the inputs.
    pub value: Option<u64>,
    /// The value of a `Set-Cookie` field that the response must carry.
    pub cookie: Option<String>,
}

impl Hasher {
    /// Compiles the inputs, in the order in which they are looked for.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn compile(inputs: &[HashInput]) -> Result<Self, String> {
        let inputs = inputs.iter().map(|input| {
            Ok(match input {
                HashInput::Header(name) => {
                    let name = name.to_ascii_lowercase();
                    if name.is_empty() || !name.bytes().all(is_token) {
                        return Err(format!("`{name}` is not a header name"));
                    }
                    match Known::of(name.as_bytes()) {
                        Some(known) => Source::Known(known),
                        None => Source::Header(name.into()),
                    }
                }
                HashInput::Cookie(name) => {
                    Source::Cookie(cookie::Template::new(name, "/", None)?.name().into())
                }
                HashInput::StickyCookie { name, ttl, path } => {
                    Source::Sticky(cookie::Template::new(name, path, *ttl)?)
                }
                HashInput::Query(name) if name.is_empty() => {
                    return Err("a query parameter must have a name".into());
                }
                HashInput::Query(name) => Source::Query(name.as_str().into()),
                HashInput::Address => Source::Address,
                HashInput::Path => Source::Path,
            })
        });
        Ok(Self { sources: inputs.collect::<Result<_, String>>()? })
    }

    /// Hashes the first input that a request has. A sticky cookie is always had: if it is missing, a new
    /// one is drawn, and must be set on the response.
    pub fn hash(&self, input: &Input<'_>, rng: &mut Rng) -> Hashed {
        let (path, query) = input.target.split_once('?').unwrap_or((input.target, ""));
        for source in &self.sources {
            let hash = match source {
                Source::Known(known) => all(input.fields.all(*known)),
                Source::Header(name) => all(input.fields.all_named(name)),
                Source::Cookie(name) => one(cookie::value(input.fields, name)),
                Source::Sticky(template) => match one(cookie::value(input.fields, template.name()))
                {
                    Some(hash) => Some(hash),
                    None => {
                        let drawn = rng.next_u64();
                        return Hashed {
                            // As the text will be hashed when it comes back.
                            value: Some(xxh3_64(format!("{drawn:016x}").as_bytes())),
                            cookie: Some(template.set(drawn, input.secure)),
                        };
                    }
                },
                Source::Query(name) => one(query::values(query, name).next().as_deref()),
                Source::Address => input.client.map(|client| match client.to_canonical() {
                    IpAddr::V4(address) => xxh3_64(&address.octets()),
                    IpAddr::V6(address) => xxh3_64(&address.octets()),
                }),
                Source::Path => Some(xxh3_64(path.as_bytes())),
            };
            if hash.is_some() {
                return Hashed { value: hash, cookie: None };
            }
        }
        Hashed::default()
    }
}

/// The hash of a value, if there is one that is not empty.
fn one(value: Option<&[u8]>) -> Option<u64> {
    value.filter(|value| !value.is_empty()).map(xxh3_64)
}

/// The hash of the values of a field, in their order; that of a single one is its own.
fn all<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
    let hashes = values.filter(|value| !value.is_empty()).map(xxh3_64);
    hashes.reduce(|sum, next| sum.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ next)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in lines {
            assert!(fields.append(name, value.as_bytes()));
        }
        fields
    }

    fn asked(fields: &Fields) -> Input<'_> {
        Input { fields, target: "/a?q=1&q=2", client: "10.0.0.1".parse().ok(), secure: true }
    }

    #[test]
    fn the_first_input_that_is_there_decides() {
        let given = fields(&[("x-a", "1"), ("cookie", "c=v; e="), ("x-empty", ""), ("host", "h")]);
        let header = |name: &str| HashInput::Header(name.into());
        for (inputs, expected) in [
            (vec![header("x-a"), HashInput::Path], Some(&b"1"[..])),
            (vec![header("X-A")], Some(b"1")),
            (vec![header("host")], Some(b"h")),
            (vec![header("x-b"), HashInput::Cookie("c".into())], Some(b"v")),
            (vec![header("x-empty"), HashInput::Query("q".into())], Some(b"1")),
            (vec![HashInput::Cookie("e".into()), HashInput::Address], Some(&[10, 0, 0, 1])),
            (vec![HashInput::Query("z".into()), HashInput::Path], Some(b"/a")),
            (vec![header("x-b")], None),
            (vec![], None),
        ] {
            let hasher = Hasher::compile(&inputs).unwrap();
            let hashed = hasher.hash(&asked(&given), &mut Rng::seeded(1));
            assert_eq!(hashed.value, expected.map(xxh3_64), "{inputs:?}");
            assert_eq!(hashed.cookie, None);
        }
    }

    #[test]
    fn values_and_their_order_count() {
        let hasher = Hasher::compile(&[HashInput::Header("x".into())]).unwrap();
        let of =
            |lines: &[(&str, &str)]| hasher.hash(&asked(&fields(lines)), &mut Rng::seeded(1)).value;
        assert_ne!(of(&[("x", "1"), ("x", "2")]), of(&[("x", "2"), ("x", "1")]));
        assert_ne!(of(&[("x", "1"), ("x", "2")]), of(&[("x", "1")]));
    }

    #[test]
    fn an_ipv4_client_is_the_same_on_a_dual_stack_socket() {
        let hasher = Hasher::compile(&[HashInput::Address]).unwrap();
        let none = Fields::new();
        let of = |text: &str| {
            let input = Input { client: text.parse().ok(), ..asked(&none) };
            hasher.hash(&input, &mut Rng::seeded(1)).value
        };
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("::1"), of("10.0.0.1"));
        assert_eq!(of("none"), None);
    }

    #[test]
    fn a_sticky_cookie_keeps_its_client_where_it_was() {
        let sticky = HashInput::StickyCookie {
            name: "weft".into(),
            ttl: Some(Duration::from_secs(60)),
            path: "/".into(),
        };
        let hasher = Hasher::compile(&[sticky, HashInput::Path]).unwrap();
        let mut rng = Rng::seeded(3);
        let none = Fields::new();
        let first = hasher.hash(&asked(&none), &mut rng);
        let set = first.cookie.clone().unwrap();
        assert!(set.ends_with("; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"), "{set}");
        let returned = fields(&[("cookie", set.split(';').next().unwrap())]);
        let second = hasher.hash(&asked(&returned), &mut rng);
        assert_eq!(second, Hashed { value: first.value, cookie: None });
        assert_ne!(hasher.hash(&asked(&none), &mut rng).value, first.value);
    }

    #[test]
    fn what_cannot_be_an_input_is_refused() {
        for bad in [
            HashInput::Header("a b".into()),
            HashInput::Header(String::new()),
            HashInput::Cookie("a;b".into()),
            HashInput::Query(String::new()),
            HashInput::StickyCookie { name: "a".into(), ttl: None, path: "x".into() },
            HashInput::StickyCookie { name: "a\r\n".into(), ttl: None, path: "/".into() },
        ] {
            assert!(Hasher::compile(std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
    }
}
