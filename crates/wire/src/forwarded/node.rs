//! The node of a chain: an address, `unknown`, or a name that stands for one (RFC 7239 section 6).

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The longest obfuscated name and the longest host that are taken.
const NAME_BYTES_MAX: usize = 255;

/// Who is named in a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// An address, in its canonical form, and perhaps a port.
    Address(IpAddr, Option<u16>),
    /// The proxy does not know.
    Unknown,
    /// The proxy does not tell: a name that begins with an underscore.
    Hidden(&'a str),
}

impl<'a> Node<'a> {
    /// Reads `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]`, `[2001:db8::1]:80`, `unknown`, `_name`, and
    /// the bare `2001:db8::1` that `X-Forwarded-For` has. A port may be hidden too (`_port`).
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            let port = match rest.strip_prefix(':') {
                Some(port) => parse_port(port)?,
                None if rest.is_empty() => None,
                None => return None,
            };
            return Some(Self::Address(IpAddr::V6(address).to_canonical(), port));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical(), None));
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, parse_port(port)?),
            None => (text, None),
        };
        if name.eq_ignore_ascii_case("unknown") {
            return Some(Self::Unknown);
        }
        if name.len() > 1 && name.starts_with('_') && is_hidden(name) {
            return Some(Self::Hidden(name));
        }
        Some(Self::Address(IpAddr::V4(name.parse::<Ipv4Addr>().ok()?), port))
    }

    /// The address, if it is told.
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address, _) => Some(*address),
            Self::Unknown | Self::Hidden(_) => None,
        }
    }
}

fn is_hidden(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// A port; `Some(None)` if it is hidden.
fn parse_port(text: &str) -> Option<Option<u16>> {
    if text.len() > 1 && text.starts_with('_') {
        return is_hidden(text).then_some(None);
    }
    let fits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if fits { text.parse().ok().map(Some) } else { None }
}

/// Whether a text is a host with an optional port, as strictly as it must be to be put into a header
/// or a redirect: a registered name of letters, digits, `-`, `_` and `.`, or an address.
pub(super) fn is_host(text: &str) -> bool {
    let is_port = |port: &str| matches!(parse_port(port), Some(Some(_)));
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, rest)| {
            address.parse::<Ipv6Addr>().is_ok()
                && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
        });
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && port.is_none_or(is_port)
}

/// Appends an address as text, without brackets.
pub(super) fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            for (index, octet) in [a, b, c, d].into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                write_octet(octet, out);
            }
            Ok(())
        }
        IpAddr::V6(address) => write!(out, "{address}"),
    };
}

/// Digits without the formatting machinery: this runs on every request.
fn write_octet(octet: u8, out: &mut Vec<u8>) {
    if octet >= 100 {
        out.push(b'0' + octet / 100);
    }
    if octet >= 10 {
        out.push(b'0' + octet / 10 % 10);
    }
    out.push(b'0' + octet % 10);
}
