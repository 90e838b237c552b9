//! A set of networks: those of IPv4 and of IPv6 apart, sorted and without overlap, so that a look-up is a binary
//! search.
//!
//! IPv4 within IPv6 (`::ffff:0:0/96`, RFC 4291 section 2.5.5.2) is IPv4, in networks and addresses alike.

use std::{fmt, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The most networks of a list.
pub const ENTRIES_MAX: usize = 500_000;
/// The longest line of a list that is shown in a message.
const SHOWN_CHARS_MAX: usize = 60;

/// A set of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSet {
    v4: Box<[Ipv4Net]>,
    v6: Box<[Ipv6Net]>,
}

impl NetworkSet {
    /// A set of these.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(network) => v4.push(network.trunc()),
                IpNet::V6(network) => match mapped(network) {
                    Some(network) => v4.push(network.trunc()),
                    None => v6.push(network.trunc()),
                },
            }
        }
        Self { v4: Ipv4Net::aggregate(&v4).into(), v6: Ipv6Net::aggregate(&v6).into() }
    }

    /// The set of a text with an address or a network a line; what is behind a `#` or a `;` is a comment.
    ///
    /// # Errors
    /// The number of the line that is wrong, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut networks = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let said = line.split(['#', ';']).next().unwrap_or_default();
            let said = said.trim().trim_start_matches('\u{feff}');
            if said.is_empty() {
                continue;
            }
            let network = said.parse().or_else(|_| said.parse::<IpAddr>().map(IpNet::from));
            let Ok(network) = network else {
                let short: String = said.chars().take(SHOWN_CHARS_MAX).collect();
                let more = if short.len() < said.len() { "…" } else { "" };
                return Err((
                    at + 1,
                    format!("expected a network or an address, found `{short}{more}`"),
                ));
            };
            if networks.len() == ENTRIES_MAX {
                return Err((at + 1, format!("a list has at most {ENTRIES_MAX} networks")));
            }
            networks.push(network);
        }
        Ok(Self::new(networks))
    }

    /// Whether an address is in one of them; the address is canonical.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => {
                let after = self.v4.partition_point(|network| network.network() <= address);
                after.checked_sub(1).is_some_and(|at| self.v4[at].contains(&address))
            }
            IpAddr::V6(address) => {
                let after = self.v6.partition_point(|network| network.network() <= address);
                after.checked_sub(1).is_some_and(|at| self.v6[at].contains(&address))
            }
        }
    }

    /// How many networks there are, once those that are within others or make a larger one are put together.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for NetworkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (v4, v6) =
            (self.v4.iter().copied().map(IpNet::V4), self.v6.iter().copied().map(IpNet::V6));
        for (at, network) in v4.chain(v6).enumerate() {
            write!(f, "{}{network}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// The network of IPv4 that one of IPv6 stands for.
fn mapped(network: Ipv6Net) -> Option<Ipv4Net> {
    let length = network.prefix_len().checked_sub(96)?;
    Ipv4Net::new(network.network().to_ipv4_mapped()?, length).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> NetworkSet {
        NetworkSet::parse(text).unwrap_or_else(|(line, why)| panic!("{line}: {why}"))
    }

    #[test]
    fn a_text_has_a_network_a_line() {
        let set = parse(
            "\u{feff}# offices\n10.0.0.0/8 ; headquarters\r\n\n 192.0.2.7\n2001:db8::/32 # lab\n::ffff:198.51.100.0/120\n::ffff:203.0.113.1\n10.1.0.0/16\n",
        );
        assert_eq!(
            set.to_string(),
            "10.0.0.0/8 192.0.2.7/32 198.51.100.0/24 203.0.113.1/32 2001:db8::/32"
        );
        for (address, is_in) in [
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("198.51.100.9", true),
            ("203.0.113.1", true),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            ("::", false),
        ] {
            assert_eq!(set.contains(address.parse().unwrap()), is_in, "{address}");
        }
    }

    #[test]
    fn the_line_that_is_wrong_is_told() {
        for (text, line, part) in [
            ("10.0.0.0/8\n10.0.0.0/33", 2, "found `10.0.0.0/33`"),
            ("\n\nexample.com # no", 3, "found `example.com`"),
            ("10.0.0.1 10.0.0.2", 1, "found `10.0.0.1 10.0.0.2`"),
            (&"x".repeat(200), 1, "…`"),
        ] {
            let (at, why) = NetworkSet::parse(text).unwrap_err();
            assert!(at == line && why.contains(part), "{text}: {at}: {why}");
        }
    }

    #[test]
    fn a_hundred_thousand_networks_are_one_search() {
        let lines: Vec<String> = (0..100_000_u32)
            .map(|at| format!("{}/32", std::net::Ipv4Addr::from(0x0a00_0000 + at * 2)))
            .collect();
        let set = parse(&lines.join("\n"));
        assert_eq!(set.len(), 100_000);
        let there = |at: u32| set.contains(IpAddr::from(std::net::Ipv4Addr::from(at)));
        assert!((0..100_000).all(|at| there(0x0a00_0000 + at * 2) && !there(0x0a00_0001 + at * 2)));
    }

    proptest! {
        #[test]
        fn a_set_has_what_its_networks_have(
            networks in prop::collection::vec((any::<u8>(), 24_u8..=32), 0..20),
            wide in prop::collection::vec((any::<u8>(), 120_u8..=128), 0..10),
            address in any::<u8>(),
        ) {
            let v4 = networks.iter().map(|(last, length)| format!("192.0.2.{last}/{length}"));
            let v6 = wide.iter().map(|(last, length)| format!("2001:db8::{last:x}/{length}"));
            let all: Vec<IpNet> = v4.chain(v6).map(|net| net.parse().unwrap()).collect();
            let set = NetworkSet::new(all.iter().copied());
            for address in [format!("192.0.2.{address}"), format!("2001:db8::{address:x}")] {
                let address: IpAddr = address.parse().unwrap();
                prop_assert_eq!(set.contains(address), all.iter().any(|net| net.contains(&address)));
            }
        }
    }
}
