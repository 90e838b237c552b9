//! What requests are counted under.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::IpAddr,
};

use weft_proxy::RequestView;
use weft_resilience::rate::{Hashed, Limiter};

use crate::{authentication::AccessToken, consumer::Consumer};

/// One thing that requests are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The consumer; a request that comes from none is counted by its client.
    Consumer,
    /// The client's address: all 32 bits of IPv4, the first 64 of IPv6.
    Client,
    /// The value of a header field, its name in lower case; requests without it are counted together.
    Header(Box<str>),
    /// A claim of the token, such as `sub` or `tenant`; requests without it are counted together.
    Claim(Box<str>),
    /// The host that is asked for.
    Host,
    /// The path that is asked for, without the query.
    Path,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consumer => f.write_str("consumer"),
            Self::Client => f.write_str("client"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Claim(name) => write!(f, "claim {name}"),
            Self::Host => f.write_str("host"),
            Self::Path => f.write_str("path"),
        }
    }
}

/// The key of a request: hashed as it stands, without a copy.
pub(super) struct Key<'a> {
    by: &'a [Part],
    of: RequestView<'a>,
}

impl<'a> Key<'a> {
    pub(super) const fn new(by: &'a [Part], of: RequestView<'a>) -> Self {
        Self { by, of }
    }
}

/// The key of a request as a limiter knows it.
pub(super) fn hashed(limiter: &Limiter, by: &[Part], of: RequestView<'_>) -> Hashed {
    match (by, of.fact::<Consumer>()) {
        ([Part::Consumer], Some(consumer)) => limiter.marked(consumer.known.mark),
        _ => limiter.key(Key::new(by, of)),
    }
}

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for part in self.by {
            match part {
                Part::Consumer => match self.of.fact::<Consumer>() {
                    Some(consumer) => (0_u8, consumer.name().as_str()).hash(state),
                    None => (1_u8, self.of.client().map(network)).hash(state),
                },
                Part::Client => (1_u8, self.of.client().map(network)).hash(state),
                Part::Header(name) => {
                    state.write_u8(2);
                    self.of.head().fields.all_named(name).for_each(|value| value.hash(state));
                    // As many values as there are: two are not one that is longer.
                    state.write_u8(3);
                }
                Part::Claim(name) => {
                    let token = self.of.fact::<AccessToken>();
                    let claim = token.and_then(|token| token.claims().get(name));
                    // Numbers and lists as they are written; it is rare that they are asked for.
                    match claim.map(|claim| claim.as_str().ok_or_else(|| claim.to_string())) {
                        None => state.write_u8(6),
                        Some(Ok(text)) => (7_u8, text).hash(state),
                        Some(Err(written)) => (8_u8, written).hash(state),
                    }
                }
                Part::Host => (4_u8, self.of.host()).hash(state),
                Part::Path => {
                    let target = &self.of.head().target;
                    (5_u8, target.split('?').next().unwrap_or_default()).hash(state);
                }
            }
        }
    }
}

/// The network that a client speaks for: a host has a whole /64 of IPv6 to choose addresses from.
pub(crate) fn network(address: IpAddr) -> [u8; 8] {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            // No prefix of IPv6 that is routed begins so.
            [0, 0, 0, 4, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            [a, b, c, d, e, f, g, h]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_client_whatever_address_it_takes_within_its_network() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("::1"), of("0.0.0.1"));
    }
}
