//! Who the client is behind a chain of proxies: `X-Forwarded-For` and its kin, and `Forwarded`
//! (RFC 7239).
//!
//! Anybody can send these fields, so they say only what the proxies in front of Weft are trusted to
//! have written. A chain is read from the right, from the peer outwards, and reading stops at the first
//! address that is not trusted: that is the client. What stands further left is hearsay. Without
//! trust the peer is the client, and no field is looked at.
//!
//! Bounds: the last [`LINES_MAX`] lines and the last [`HOPS_MAX`] hops are considered; nothing allocates.

mod element;
mod node;

use std::{borrow::Cow, net::IpAddr};

pub use element::{Element, Malformed, elements, write_element};
use ipnet::IpNet;
pub use node::Node;

/// The most lines of one field that are considered, counted from the last.
pub const LINES_MAX: usize = 16;
/// The most hops of a chain that are considered, counted from the last.
pub const HOPS_MAX: usize = 32;

/// Which part of a chain is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// None: the peer is the client.
    #[default]
    Nobody,
    /// This many proxies stand in front of Weft, the peer among them, and each adds the address that
    /// it was called from.
    Hops(u8),
    /// The proxies in these networks add the address that they were called from.
    Networks(Vec<IpNet>),
}

impl Trust {
    /// Whether the hop at `depth` (0 is the peer) with this address is believed.
    fn covers(&self, depth: usize, address: IpAddr) -> bool {
        match self {
            Self::Nobody => false,
            Self::Hops(count) => depth < usize::from(*count),
            Self::Networks(networks) => networks.iter().any(|network| network.contains(&address)),
        }
    }
}

/// Where the request came from, as far as it can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address.
    pub address: IpAddr,
    /// How many trusted proxies stand between the client and Weft.
    pub depth: usize,
    /// How many entries, from the last, trusted proxies have written, whether or not they tell an address;
    /// at least one when the peer is trusted, since it need not tell where it was called from to tell of
    /// the scheme and the host. So [`told`] and its kin are asked by this. 0 without trust.
    pub said: usize,
    /// Whether a trusted proxy wrote something that is no address, or the chain ended among trusted
    /// hops, so that `address` is the last proxy that could be told.
    pub broken: bool,
}

/// The client by the lines of `X-Forwarded-For`, in the order in which they came.
///
/// With [`Trust::Hops`] a chain that is shorter than the count did not pass all the proxies: the
/// client is then the peer, so that nobody chooses an address by calling Weft directly.
pub fn client<'a>(
    peer: IpAddr,
    trust: &Trust,
    lines: impl IntoIterator<Item = &'a [u8]>,
) -> Client {
    let peer = peer.to_canonical();
    if !trust.covers(0, peer) {
        return Client { address: peer, depth: 0, said: 0, broken: false };
    }
    let (kept, first) = last_lines(lines);
    let (new, old) = kept.split_at(first);
    let entries = new
        .iter()
        .rev()
        .chain(old.iter().rev())
        .flat_map(|line| line.rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
        .map(|entry| Node::parse(entry).and_then(|node| node.address()));
    walk(peer, trust, entries)
}

/// The client by the lines of `Forwarded`, in the order in which they came.
///
/// A line that breaks the grammar is believed in nothing, nor is what stands before it.
pub fn client_by_forwarded<'a>(
    peer: IpAddr,
    trust: &Trust,
    lines: impl IntoIterator<Item = &'a [u8]>,
) -> Client {
    let peer = peer.to_canonical();
    if !trust.covers(0, peer) {
        return Client { address: peer, depth: 0, said: 0, broken: false };
    }
    // Quotes may hold commas, so that a line is read from the left; the last hops stay in a ring.
    let mut ring = [None; HOPS_MAX];
    let mut count = 0usize;
    for line in lines {
        let start = count;
        for element in elements(line) {
            let Ok(element) = element else {
                // Everything up to here is void: what a broken line swallowed cannot be told.
                ring = [None; HOPS_MAX];
                count = start + 1;
                break;
            };
            ring[count % HOPS_MAX] = element.for_.and_then(|node| node.address());
            count += 1;
        }
    }
    let kept = count.min(HOPS_MAX);
    walk(peer, trust, (0..kept).map(|back| ring[(count - 1 - back) % HOPS_MAX]))
}

/// What the trusted proxies say of the client in `Forwarded`, for a client found at `depth` in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The addresses from the client to the proxy before the last, as `X-Forwarded-For` has them.
    pub chain: Vec<IpAddr>,
    /// The scheme that the client spoke.
    pub proto: Option<String>,
    /// The host that the client asked for.
    pub host: Option<String>,
}

/// What the outermost trusted proxy says of its client in `Forwarded`, `depth` entries from the last, and
/// the addresses up to it. Nothing without trust.
pub fn told<'a>(depth: usize, lines: impl IntoIterator<Item = &'a [u8]>) -> Told {
    let mut told = Told::default();
    let depth = depth.min(HOPS_MAX);
    if depth == 0 {
        return told;
    }
    let mut last: std::collections::VecDeque<Element<'_>> = std::collections::VecDeque::new();
    for line in lines {
        for element in elements(line) {
            let Ok(element) = element else {
                last.clear();
                break;
            };
            if last.len() == depth {
                last.pop_front();
            }
            last.push_back(element);
        }
    }
    if last.len() < depth {
        return told;
    }
    told.chain.extend(last.iter().filter_map(|element| element.for_?.address()));
    if let Some(first) = last.pop_front() {
        told.proto = first.proto.map(|proto| proto.to_ascii_lowercase());
        told.host = first.host.map(Cow::into_owned);
    }
    told
}

/// Follows the addresses of a chain outwards from a trusted peer; `None` is no address.
fn walk(peer: IpAddr, trust: &Trust, hops: impl Iterator<Item = Option<IpAddr>>) -> Client {
    let mut client = Client { address: peer, depth: 0, said: 1, broken: true };
    let mut nameless = true;
    for (index, hop) in hops.take(HOPS_MAX).enumerate() {
        let depth = index + 1;
        client.said = depth;
        nameless &= hop.is_none();
        let counted = matches!(trust, Trust::Hops(_)) && trust.covers(depth, client.address);
        let Some(address) = hop else {
            if counted {
                // A trusted proxy wrote `unknown`: what it was called from is still its neighbour's word.
                client.depth = depth;
                continue;
            }
            return Client { broken: true, ..client };
        };
        client = Client { address, depth, said: depth, broken: false };
        if !trust.covers(depth, address) {
            return client;
        }
    }
    if matches!(trust, Trust::Hops(_)) {
        // Whoever has passed all of them would be named, unless they name nobody.
        let said = if nameless { client.said } else { 0 };
        return Client { address: peer, depth: 0, said, broken: true };
    }
    client
}

/// The last lines, oldest at the returned index, wrapping around.
fn last_lines<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> ([&'a [u8]; LINES_MAX], usize) {
    let mut kept: [&[u8]; LINES_MAX] = [b""; LINES_MAX];
    let mut count = 0;
    for line in lines {
        kept[count % LINES_MAX] = line;
        count += 1;
    }
    (kept, count % LINES_MAX)
}

/// The value that the outermost trusted proxy gave in a field such as `X-Forwarded-Proto` or
/// `X-Forwarded-Host`, for a client found at `depth`: proxies either replace the value, or add theirs
/// on the right. `None` without trust.
pub fn forwarded_value<'a>(
    depth: usize,
    lines: impl IntoIterator<Item = &'a [u8]>,
) -> Option<&'a [u8]> {
    if depth == 0 {
        return None;
    }
    let (kept, first) = last_lines(lines);
    let (new, old) = kept.split_at(first);
    new.iter()
        .rev()
        .chain(old.iter().rev())
        .flat_map(|line| line.rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|value| !value.is_empty())
        .take(depth.min(HOPS_MAX))
        .last()
}

/// Whether the client spoke TLS to the outermost trusted proxy, by `X-Forwarded-Proto`; `None` if
/// nobody trusted says so in a known word.
pub fn is_secure<'a>(depth: usize, lines: impl IntoIterator<Item = &'a [u8]>) -> Option<bool> {
    let value = forwarded_value(depth, lines)?;
    let is = |word: &[u8]| value.eq_ignore_ascii_case(word);
    if is(b"https") || is(b"wss") {
        Some(true)
    } else if is(b"http") || is(b"ws") {
        Some(false)
    } else {
        None
    }
}

/// The host that the client asked for, by `X-Forwarded-Host`; `None` if nobody trusted says so, or
/// what they say is no host.
pub fn host<'a>(depth: usize, lines: impl IntoIterator<Item = &'a [u8]>) -> Option<&'a str> {
    let value = std::str::from_utf8(forwarded_value(depth, lines)?).ok()?;
    node::is_host(value).then_some(value)
}

/// Appends the `X-Forwarded-For` value to send on: the chain that came, then the peer. Without trust
/// pass no lines, so that what a stranger wrote is not passed off as known.
pub fn write_x_forwarded_for<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    peer: IpAddr,
    out: &mut Vec<u8>,
) {
    let (kept, first) = last_lines(lines);
    let (new, old) = kept.split_at(first);
    for line in old.iter().chain(new).map(|line| line.trim_ascii()) {
        if !line.is_empty() {
            out.extend_from_slice(line);
            out.extend_from_slice(b", ");
        }
    }
    node::write_address(peer.to_canonical(), out);
}

/// Appends the `X-Forwarded-For` value to send on for a chain that came as `Forwarded`, then the peer.
pub fn write_chain(chain: &[IpAddr], peer: IpAddr, out: &mut Vec<u8>) {
    for address in chain {
        node::write_address(*address, out);
        out.extend_from_slice(b", ");
    }
    node::write_address(peer.to_canonical(), out);
}

#[cfg(test)]
mod tests;
