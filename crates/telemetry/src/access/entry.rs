//! One request as the access log sees it, and its packed form in the queue.
//!
//! A worker hands in borrowed fields; they are copied once, behind each other, into memory that it
//! already owns. Nothing is formatted, allocated or shared to log a request.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use weft_kernel::Reason;

/// The longest part of one field that is logged; the rest is cut off.
pub const FIELD_BYTES_MAX: usize = 4_096;

/// One finished request or connection. Empty texts and zero numbers mean that there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When it began, in nanoseconds since 1970.
    pub time_nanos: u64,
    /// The listener that took it.
    pub listener: &'a str,
    /// The route that matched.
    pub route: &'a str,
    /// The service that it went to.
    pub service: &'a str,
    /// The endpoint of the last try.
    pub endpoint: &'a str,
    /// The client's protocol, such as `HTTP/1.1`.
    pub protocol: &'a str,
    /// The method, as sent.
    pub method: &'a [u8],
    /// The authority, as sent.
    pub host: &'a [u8],
    /// The path, as sent; with its query only if the caller wants that in the log.
    pub path: &'a [u8],
    /// The status that was answered.
    pub status: u16,
    /// The `grpc-status`, if it was a gRPC call.
    pub grpc: Option<u8>,
    /// Why Weft failed or refused it.
    pub reason: Option<Reason>,
    /// What else the operator should know of the reason.
    pub detail: &'a str,
    /// From the head of the request to the end of the response.
    pub duration: Duration,
    /// From sending the request to the head of the response, at the last try.
    pub upstream: Option<Duration>,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// How many tries were made.
    pub attempts: u16,
    /// The request id.
    pub request_id: &'a [u8],
    /// The trace id.
    pub trace_id: u128,
    /// The client, after what proxies before us say was taken into account.
    pub client: Option<SocketAddr>,
    /// The `user-agent`, as sent.
    pub user_agent: &'a [u8],
    /// The TLS version, such as `TLSv1.3`.
    pub tls_version: &'a str,
    /// The server name that the client asked for.
    pub sni: &'a str,
    /// What else was found out, as [`push_fact`] writes it.
    pub facts: &'a [u8],
}

/// Adds a name and a value to the facts of an entry. The name is one word in lower case, unlike those of
/// the fields that an entry has already.
pub fn push_fact(name: &str, value: &str, to: &mut Vec<u8>) {
    for text in [name, value] {
        let length = text.len().min(usize::from(u16::MAX));
        to.extend_from_slice(&(length as u16).to_le_bytes());
        to.extend_from_slice(&text.as_bytes()[..length]);
    }
}

/// The facts of an entry, but for one that was cut off.
pub(super) fn facts(mut from: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let mut next = move || {
        let length = usize::from(u16::from_le_bytes(take(&mut from)?));
        let (text, rest) = from.split_at_checked(length)?;
        from = rest;
        Some(text)
    };
    std::iter::from_fn(move || Some((own(next()?), next()?)))
}

const NONE: u8 = u8::MAX;
const NEVER: u64 = u64::MAX;
const TEXTS: usize = 14;
/// The length of what stands before the texts: eight-byte numbers and the trace id, two-byte numbers,
/// reason, gRPC status and address family, the client's address, and the lengths of the texts.
const HEAD: usize = 5 * 8 + 16 + 2 * 2 + 3 + 18 + 2 * TEXTS;

impl<'a> Entry<'a> {
    fn texts(&self) -> [&'a [u8]; TEXTS] {
        [
            self.listener.as_bytes(),
            self.route.as_bytes(),
            self.service.as_bytes(),
            self.endpoint.as_bytes(),
            self.protocol.as_bytes(),
            self.detail.as_bytes(),
            self.tls_version.as_bytes(),
            self.sni.as_bytes(),
            self.method,
            self.host,
            self.path,
            self.request_id,
            self.user_agent,
            self.facts,
        ]
    }

    /// Appends the packed entry, unless `to` would grow beyond `max`; says whether it did.
    pub(super) fn pack(&self, to: &mut Vec<u8>, max: usize) -> bool {
        let texts = self.texts().map(|text| &text[..text.len().min(FIELD_BYTES_MAX)]);
        let length = HEAD + texts.iter().map(|text| text.len()).sum::<usize>();
        if to.len() + length > max {
            return false;
        }
        let (mut head, mut at) = ([0; HEAD], 0);
        let mut put = |bytes: &[u8]| {
            head[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&self.time_nanos.to_le_bytes());
        put(&self.trace_id.to_le_bytes());
        put(&nanos(self.duration).to_le_bytes());
        put(&self.upstream.map_or(NEVER, nanos).to_le_bytes());
        put(&self.bytes_in.to_le_bytes());
        put(&self.bytes_out.to_le_bytes());
        put(&self.status.to_le_bytes());
        put(&self.attempts.to_le_bytes());
        put(&[self.reason.map_or(NONE, |reason| reason as u8), self.grpc.unwrap_or(NONE)]);
        let (family, ip, port) = match self.client {
            None => (0, Ipv6Addr::UNSPECIFIED, 0),
            Some(SocketAddr::V4(at)) => (4, at.ip().to_ipv6_mapped(), at.port()),
            Some(SocketAddr::V6(at)) => (6, *at.ip(), at.port()),
        };
        put(&[family]);
        put(&ip.octets());
        put(&port.to_le_bytes());
        for text in texts {
            put(&(text.len() as u16).to_le_bytes());
        }
        to.reserve(length);
        to.extend_from_slice(&head);
        for text in texts {
            to.extend_from_slice(text);
        }
        true
    }

    /// Takes one packed entry off the front of `from`; `None` at its end.
    pub(super) fn unpack(from: &mut &'a [u8]) -> Option<Self> {
        let mut entry = Self {
            time_nanos: u64::from_le_bytes(take(from)?),
            trace_id: u128::from_le_bytes(take(from)?),
            duration: Duration::from_nanos(u64::from_le_bytes(take(from)?)),
            ..Self::default()
        };
        let upstream = u64::from_le_bytes(take(from)?);
        entry.upstream = (upstream != NEVER).then(|| Duration::from_nanos(upstream));
        entry.bytes_in = u64::from_le_bytes(take(from)?);
        entry.bytes_out = u64::from_le_bytes(take(from)?);
        entry.status = u16::from_le_bytes(take(from)?);
        entry.attempts = u16::from_le_bytes(take(from)?);
        let [reason, grpc, family] = take(from)?;
        entry.reason = Reason::ALL.get(usize::from(reason)).copied();
        entry.grpc = (grpc != NONE).then_some(grpc);
        let ip = Ipv6Addr::from(take::<16>(from)?);
        let port = u16::from_le_bytes(take(from)?);
        entry.client = match family {
            4 => ip.to_ipv4_mapped().map(|ip| SocketAddr::new(IpAddr::V4(ip), port)),
            6 => Some(SocketAddr::new(IpAddr::V6(ip), port)),
            _ => None,
        };
        let mut lengths = [0; TEXTS];
        for length in &mut lengths {
            *length = usize::from(u16::from_le_bytes(take(from)?));
        }
        let mut lengths = lengths.into_iter();
        let mut text = || {
            let (head, rest) = from.split_at_checked(lengths.next()?)?;
            *from = rest;
            Some(head)
        };
        entry.listener = own(text()?);
        entry.route = own(text()?);
        entry.service = own(text()?);
        entry.endpoint = own(text()?);
        entry.protocol = own(text()?);
        entry.detail = own(text()?);
        entry.tls_version = own(text()?);
        entry.sni = own(text()?);
        entry.method = text()?;
        entry.host = text()?;
        entry.path = text()?;
        entry.request_id = text()?;
        entry.user_agent = text()?;
        entry.facts = text()?;
        Some(entry)
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(NEVER - 1)
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*head)
}

/// A text of our own, which is UTF-8 but for a character that was cut at its end.
fn own(bytes: &[u8]) -> &str {
    match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_fields_are_cut_and_a_full_buffer_takes_nothing() {
        let path = vec![b'x'; 100_000];
        let detail = "é".repeat(3_000);
        let entry = Entry { path: &path, detail: &detail, ..Entry::default() };
        let mut to = Vec::new();
        assert!(entry.pack(&mut to, 100_000));
        let length = to.len();
        assert!(!entry.pack(&mut to, length + length - 1));
        assert_eq!(to.len(), length);
        let mut from = &to[..];
        let back = Entry::unpack(&mut from).unwrap();
        assert_eq!(back.path.len(), FIELD_BYTES_MAX);
        assert_eq!(back.detail, "é".repeat(FIELD_BYTES_MAX / 2));
        assert_eq!(Entry::unpack(&mut from), None);
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            numbers in any::<(u64, u128, u64, u64, u16, u16)>(),
            (route, sni) in (".{0,20}", ".{0,20}"),
            path in proptest::collection::vec(any::<u8>(), 0..50),
            reason in 0..=Reason::ALL.len(),
            grpc in proptest::option::of(0u8..17),
            client in proptest::option::of(any::<(std::net::IpAddr, u16)>()),
            upstream in proptest::option::of(0u64..1 << 40),
        ) {
            let entry = Entry {
                time_nanos: numbers.0, trace_id: numbers.1, bytes_in: numbers.2, bytes_out: numbers.3,
                status: numbers.4, attempts: numbers.5, route: &route, sni: &sni, path: &path, user_agent: &path,
                reason: reason.checked_sub(1).map(|at| Reason::ALL[at]), grpc,
                duration: Duration::from_nanos(numbers.2 >> 1),
                upstream: upstream.map(Duration::from_nanos),
                client: client.map(SocketAddr::from),
                ..Entry::default()
            };
            let mut to = Vec::new();
            prop_assert!(entry.pack(&mut to, usize::MAX) && entry.pack(&mut to, usize::MAX));
            let mut from = &to[..];
            prop_assert_eq!(Entry::unpack(&mut from), Some(entry));
            prop_assert_eq!(Entry::unpack(&mut from), Some(entry));
            prop_assert!(from.is_empty());
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut from = &bytes[..];
            while Entry::unpack(&mut from).is_some() {}
        }
    }
}
