//! Hosts: exact ones and wildcards, most specific first.

use super::{NONE, edges::Edges};
use crate::plan::Host;

const EXACT: u32 = 0;
const WILDCARD: u32 = 1;

/// The hosts of a table, each with a number.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    edges: Edges,
    /// Longest wildcard suffix: bounds what a request with thousands of dots can cost.
    suffix_max: usize,
    any: Option<u32>,
}

impl Hosts {
    /// The number of a host, or of "every host"; it is `next` if the host is new.
    pub(super) fn number(&mut self, host: Option<&Host>, next: u32) -> u32 {
        match host {
            None => *self.any.get_or_insert(next),
            Some(Host::Exact(name)) => self.edges.get_or_insert(EXACT, name.as_bytes(), next),
            Some(Host::Wildcard(suffix)) => {
                self.suffix_max = self.suffix_max.max(suffix.len());
                self.edges.get_or_insert(WILDCARD, suffix.as_bytes(), next)
            }
        }
    }

    /// The numbers of the hosts that fit `host`, most specific first.
    pub(super) fn fitting<'a>(&'a self, host: &'a str) -> impl Iterator<Item = u32> + 'a {
        let bytes = host.as_bytes();
        let exact = self.edges.get(EXACT, bytes).filter(|_| !bytes.is_empty());
        // At least one byte stands before the dot of a suffix.
        let mut from = match self.suffix_max {
            0 => bytes.len(),
            longest => bytes.len().saturating_sub(longest + 1).max(1),
        };
        let wildcards = std::iter::from_fn(move || {
            loop {
                let dot = from + bytes.get(from..)?.iter().position(|byte| *byte == b'.')?;
                from = dot + 1;
                if let Some(number) = self.edges.get(WILDCARD, &bytes[from..]) {
                    return Some(number);
                }
            }
        });
        exact.into_iter().chain(wildcards).chain(self.any).filter(|number| *number != NONE)
    }
}

/// Whether a host fits a pattern.
pub(super) fn fits(pattern: &Host, host: &str) -> bool {
    match pattern {
        Host::Exact(name) => name == host,
        Host::Wildcard(suffix) => host
            .strip_suffix(suffix.as_str())
            .and_then(|before| before.strip_suffix('.'))
            .is_some_and(|label| !label.is_empty()),
    }
}

/// How specific a pattern is; a match without hosts is 0.
pub(super) const fn specificity(pattern: Option<&Host>) -> (u8, usize) {
    match pattern {
        None => (0, 0),
        Some(Host::Wildcard(suffix)) => (1, suffix.len()),
        Some(Host::Exact(name)) => (2, name.len()),
    }
}

/// What is wrong with a host in a plan.
pub(super) fn check(pattern: &Host) -> Result<(), String> {
    let (Host::Exact(name) | Host::Wildcard(name)) = pattern;
    if name.is_empty() || name.len() > 253 {
        return Err(format!("host `{name}` must have 1 to 253 characters"));
    }
    if let Some(upper) = name.chars().find(char::is_ascii_uppercase) {
        return Err(format!("host `{name}` must be in lower case, but holds `{upper}`"));
    }
    if let Host::Exact(address) = pattern
        && address.starts_with('[')
    {
        let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        return match inner.map(str::parse::<std::net::Ipv6Addr>) {
            Some(Ok(_)) => Ok(()),
            _ => Err(format!("host `{address}` is not an IPv6 address in brackets without a port")),
        };
    }
    let labels = name.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    });
    if labels { Ok(()) } else { Err(format!("host `{name}` is not a host name without a port")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(name: &str) -> Host {
        Host::Exact(name.into())
    }

    fn below(name: &str) -> Host {
        Host::Wildcard(name.into())
    }

    #[test]
    fn the_most_specific_comes_first() {
        let mut hosts = Hosts::default();
        let all = [None, Some(below("b.c")), Some(below("c")), Some(exact("a.b.c"))];
        for (number, host) in all.iter().enumerate() {
            assert_eq!(hosts.number(host.as_ref(), number as u32), number as u32);
        }
        for (host, expected) in [
            ("a.b.c", &[3, 1, 2, 0][..]),
            ("x.a.b.c", &[1, 2, 0]),
            ("b.c", &[2, 0]),
            (".b.c", &[2, 0]),
            (".c", &[0]),
            ("c", &[0]),
            ("xc", &[0]),
            ("", &[0]),
            (".", &[0]),
            ("..", &[0]),
        ] {
            assert_eq!(hosts.fitting(host).collect::<Vec<_>>(), expected, "{host}");
            let naive = all.iter().filter(|pattern| pattern.as_ref().is_none_or(|p| fits(p, host)));
            assert_eq!(naive.count(), expected.len(), "{host}");
        }
    }

    #[test]
    fn a_host_of_dots_costs_no_more_than_the_longest_suffix() {
        let mut hosts = Hosts::default();
        hosts.number(Some(&below("example.com")), 0);
        let dots = ".".repeat(1 << 20);
        assert_eq!(hosts.fitting(&dots).count(), 0);
        assert_eq!(hosts.fitting(&format!("{dots}.example.com")).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn hosts_are_checked() {
        for good in
            [exact("a"), exact("a-b.c_d.e"), exact("10.0.0.1"), exact("[::1]"), below("a.b")]
        {
            assert_eq!(check(&good), Ok(()));
        }
        for bad in
            ["", "A", "a:80", "a..b", ".a", "a.", "*.a", "a b", "[::1]:80", "[x]", "é", "a/b"]
        {
            assert!(check(&exact(bad)).is_err(), "{bad}");
            assert!(check(&below(bad)).is_err(), "{bad}");
        }
        assert!(check(&exact(&"a".repeat(254))).is_err());
    }
}
