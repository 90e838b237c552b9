//! The PROXY protocol, versions 1 and 2: who the client was before a load balancer stood in between.
//!
//! Source: HAProxy's `doc/proxy-protocol.txt`. A header comes before all else on a connection. It is
//! believed only where configuration says that the peer sends it: a client could write any address.
//!
//! Invariants: nothing is allocated, at most [`BYTES_MAX`] bytes are looked at, addresses that are
//! not IP (or are withheld) read as `None`, and TLVs are skipped by their total length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1, its CRLF included.
pub const V1_BYTES_MAX: usize = 107;
/// The longest header that is taken; version 2 could announce 64 KiB, and nobody needs it.
pub const BYTES_MAX: usize = 4096;

const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;
/// AF_UNIX addresses of version 2: two paths of 108 bytes.
const V2_UNIX_BYTES: usize = 216;

/// Which form a header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// The two ends of the connection that the load balancer accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its form.
    pub version: ProxyVersion,
    /// Both ends; `None` for `LOCAL`, `UNKNOWN`, and what is not TCP or UDP over IP: then the
    /// addresses of the connection itself are the ones to use.
    pub ends: Option<Ends>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header; more bytes are needed.
    Incomplete,
    /// Not a header at all.
    Absent,
    /// A header, and how many bytes it takes up.
    Complete(Header, usize),
}

/// A header that breaks the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A line that does not end within 107 bytes.
    #[error("PROXY v1 header is longer than 107 bytes")]
    LineTooLong,
    /// A line of another form.
    #[error("PROXY v1 header is malformed")]
    Line,
    /// A version or command that does not exist.
    #[error("PROXY v2 header has an unknown version or command")]
    Command,
    /// An address family or transport that does not exist.
    #[error("PROXY v2 header has an unknown address family or transport")]
    Family,
    /// An address block that is shorter than its family needs.
    #[error("PROXY v2 header is too short for its addresses")]
    Short,
    /// More than [`BYTES_MAX`].
    #[error("PROXY v2 header is longer than 4096 bytes")]
    TooLong,
}

/// Reads a header from the first bytes of a connection.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
    if starts(bytes, V2_SIGNATURE) {
        parse_v2(bytes)
    } else if starts(bytes, V1_PREFIX) {
        parse_v1(bytes)
    } else {
        Ok(Parsed::Absent)
    }
}

/// Whether `bytes` begins with `prefix`, as far as it goes.
fn starts(bytes: &[u8], prefix: &[u8]) -> bool {
    let common = bytes.len().min(prefix.len());
    bytes[..common] == prefix[..common]
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let window = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() == V1_BYTES_MAX {
            Err(ParseError::LineTooLong)
        } else {
            Ok(Parsed::Incomplete)
        };
    };
    let line = std::str::from_utf8(&window[V1_PREFIX.len()..end])
        .map_err(|_error: std::str::Utf8Error| ParseError::Line)?;
    let header = |ends| Parsed::Complete(Header { version: ProxyVersion::V1, ends }, end + 2);
    let mut words = line.split(' ');
    let ends = match words.next() {
        // Whatever follows UNKNOWN is to be ignored.
        Some("UNKNOWN") => return Ok(header(None)),
        Some("TCP4") => v1_ends(&mut words, |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)),
        Some("TCP6") => v1_ends(&mut words, |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)),
        _ => None,
    };
    match (ends, words.next()) {
        (Some(ends), None) => Ok(header(Some(ends))),
        _ => Err(ParseError::Line),
    }
}

fn v1_ends<'a>(
    words: &mut impl Iterator<Item = &'a str>,
    ip: impl Fn(&str) -> Option<IpAddr>,
) -> Option<Ends> {
    let (source, destination) = (ip(words.next()?)?, ip(words.next()?)?);
    let (from, to) = (v1_port(words.next()?)?, v1_port(words.next()?)?);
    Some(Ends {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

fn v1_port(text: &str) -> Option<u16> {
    let canonical =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let Some(fixed) = bytes.first_chunk::<V2_FIXED_BYTES>() else {
        return Ok(Parsed::Incomplete);
    };
    let [command, family, high, low] = [fixed[12], fixed[13], fixed[14], fixed[15]];
    let total = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ParseError::Command),
    };
    if total > BYTES_MAX {
        return Err(ParseError::TooLong);
    }
    let needed = match (family >> 4, family & 0xf) {
        (0, 0..=2) => 0,
        (1, 0..=2) => 12,
        (2, 0..=2) => 36,
        (3, 0..=2) => V2_UNIX_BYTES,
        // LOCAL says nothing about a client: its family is to be ignored.
        _ if local => 0,
        _ => return Err(ParseError::Family),
    };
    if !local && total - V2_FIXED_BYTES < needed {
        return Err(ParseError::Short);
    }
    let Some(block) = bytes.get(V2_FIXED_BYTES..total) else {
        return Ok(Parsed::Incomplete);
    };
    let ends = if local || family & 0xf == 0 {
        None
    } else {
        match family >> 4 {
            1 => v2_ends::<4>(block),
            2 => v2_ends::<16>(block),
            _ => None,
        }
    };
    Ok(Parsed::Complete(Header { version: ProxyVersion::V2, ends }, total))
}

/// Two addresses of `N` bytes, then two ports.
fn v2_ends<const N: usize>(block: &[u8]) -> Option<Ends>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let to = rest.first_chunk::<2>()?;
    Some(Ends {
        source: SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*from)),
        destination: SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes(*to)),
    })
}

/// Appends a header; ends of different families are both written as IPv6.
pub fn encode(header: &Header, out: &mut Vec<u8>) {
    let ends = header.ends.map(|ends| {
        if ends.source.is_ipv4() == ends.destination.is_ipv4() {
            ends
        } else {
            Ends { source: as_v6(ends.source), destination: as_v6(ends.destination) }
        }
    });
    match header.version {
        ProxyVersion::V1 => {
            let line = match ends {
                None => "PROXY UNKNOWN\r\n".into(),
                Some(Ends { source, destination }) => format!(
                    "PROXY {} {} {} {} {}\r\n",
                    if source.is_ipv4() { "TCP4" } else { "TCP6" },
                    source.ip(),
                    destination.ip(),
                    source.port(),
                    destination.port(),
                ),
            };
            out.extend_from_slice(line.as_bytes());
        }
        ProxyVersion::V2 => {
            out.extend_from_slice(V2_SIGNATURE);
            match ends {
                None => out.extend_from_slice(&[0x20, 0, 0, 0]),
                Some(Ends { source, destination }) => {
                    let (family, length) = if source.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
                    out.extend_from_slice(&[0x21, family, 0, length]);
                    for end in [source, destination] {
                        match end.ip() {
                            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
                        }
                    }
                    out.extend_from_slice(&source.port().to_be_bytes());
                    out.extend_from_slice(&destination.port().to_be_bytes());
                }
            }
        }
    }
}

fn as_v6(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddr::new(ip.into(), address.port())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(source: &str, destination: &str) -> Option<Ends> {
        Some(Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
        bytes.extend(block);
        bytes
    }

    #[test]
    fn lines_of_version_1() {
        let check = |text: &str, expect| assert_eq!(parse(text.as_bytes()), expect, "{text:?}");
        let complete =
            |ends, length| Ok(Parsed::Complete(Header { version: ProxyVersion::V1, ends }, length));
        let four = "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n";
        check(&format!("{four}GET /"), complete(ends("192.0.2.1:56324", "198.51.100.7:443"), 45));
        let six = "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n";
        check(six, complete(ends("[2001:db8::1]:1", "[2001:db8::2]:65535"), six.len()));
        check("PROXY UNKNOWN\r\n", complete(None, 15));
        check("PROXY UNKNOWN ffff:: what ever\r\nx", complete(None, 32));
        for text in ["", "P", "PROXY ", "PROXY TCP4 192.0.2.1", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r"]
        {
            check(text, Ok(Parsed::Incomplete));
        }
        for text in ["GET / HTTP/1.1\r\n", "\u{16}\u{3}\u{1}", "PROXYTCP4", "proxy TCP4"] {
            check(text, Ok(Parsed::Absent));
        }
        for text in [
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 056324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 +5 443\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.7 5 443\r\n",
            "PROXY TCP4 ::1 ::2 5 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.7 5 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.7 5 443\r\n",
            "PROXY \r\n",
        ] {
            check(text, Err(ParseError::Line));
        }
        check(&format!("PROXY UNKNOWN {}\r\n", "x".repeat(100)), Err(ParseError::LineTooLong));
    }

    #[test]
    fn blocks_of_version_2() {
        let check = |bytes: &[u8], expect| assert_eq!(parse(bytes), expect, "{bytes:x?}");
        let complete =
            |ends, length| Ok(Parsed::Complete(Header { version: ProxyVersion::V2, ends }, length));
        let four = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 4, 1, 0xbb];
        let expect = ends("192.0.2.1:56324", "198.51.100.7:443");
        check(&v2(0x21, 0x11, &four), complete(expect, 28));
        check(&v2(0x21, 0x12, &four), complete(expect, 28));
        let with_tlv = [&four[..], &[4, 0, 1, 0]].concat();
        check(&v2(0x21, 0x11, &with_tlv), complete(expect, 32));
        check(&v2(0x20, 0x11, &four), complete(None, 28));
        check(&v2(0x20, 0x99, &[]), complete(None, 16));
        check(&v2(0x21, 0x00, &[]), complete(None, 16));
        check(&v2(0x21, 0x31, &[b'/'; V2_UNIX_BYTES]), complete(None, 16 + V2_UNIX_BYTES));
        check(&v2(0x31, 0x11, &four), Err(ParseError::Command));
        check(&v2(0x22, 0x11, &four), Err(ParseError::Command));
        check(&v2(0x21, 0x41, &four), Err(ParseError::Family));
        check(&v2(0x21, 0x13, &four), Err(ParseError::Family));
        check(&v2(0x21, 0x11, &four[..11]), Err(ParseError::Short));
        check(&v2(0x21, 0x21, &four), Err(ParseError::Short));
        check(&v2(0x21, 0x11, &vec![0; BYTES_MAX - 15]), Err(ParseError::TooLong));
        let whole = v2(0x21, 0x11, &with_tlv);
        for length in 0..whole.len() {
            check(&whole[..length], Ok(Parsed::Incomplete));
        }
    }

    fn any_end() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            source in any_end(),
            destination in any_end(),
            v1 in any::<bool>(),
            some in any::<bool>(),
        ) {
            let version = if v1 { ProxyVersion::V1 } else { ProxyVersion::V2 };
            let header = Header { version, ends: some.then_some(Ends { source, destination }) };
            let mut bytes = Vec::new();
            encode(&header, &mut bytes);
            let length = bytes.len();
            bytes.extend_from_slice(b"then the rest");
            let Ok(Parsed::Complete(read, taken)) = parse(&bytes) else {
                return Err(TestCaseError::fail(format!("{:?}", parse(&bytes))));
            };
            prop_assert_eq!(taken, length);
            if source.is_ipv4() == destination.is_ipv4() {
                prop_assert_eq!(read, header);
            } else {
                prop_assert_eq!(read.ends.map(|ends| ends.source.ip().to_canonical()),
                    header.ends.map(|ends| ends.source.ip().to_canonical()));
            }
        }

        #[test]
        fn hostile_bytes_are_read_or_refused(
            v1 in any::<bool>(),
            noise in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut bytes = if v1 { V1_PREFIX.to_vec() } else { V2_SIGNATURE.to_vec() };
            bytes.extend(noise);
            if let Ok(Parsed::Complete(_, length)) = parse(&bytes) {
                prop_assert!(length <= bytes.len() && length <= BYTES_MAX);
                // Fewer bytes can only be less of the same header.
                prop_assert_eq!(parse(&bytes[..length - 1]), Ok(Parsed::Incomplete));
            }
        }
    }
}
