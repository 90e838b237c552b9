//! The server name of a TLS ClientHello (RFC 8446, RFC 6066), without terminating TLS: enough to route
//! a connection that is passed through.
//!
//! The bytes that arrived are looked at, never taken. A hello may be cut into any number of records and
//! TCP segments; it is bounded by [`HELLO_BYTES_MAX`].

use std::borrow::Cow;

/// The largest hello that is read, record headers included.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// More bytes are needed to tell.
    Incomplete,
    /// No ClientHello, a broken one, or one larger than [`HELLO_BYTES_MAX`].
    NotTls,
    /// A ClientHello, with the host name that the client asks for, in lower case; `None` without one.
    Sni(Option<String>),
    /// A ClientHello that asks for a name that is no host name, which is shown as far as it can be.
    NoHost(String),
}

/// Looks for the server name in what has arrived so far.
pub fn server_name(bytes: &[u8]) -> Hello {
    let arrived = bytes.get(..HELLO_BYTES_MAX).unwrap_or(bytes);
    match handshake(arrived) {
        Ok(message) => match hello(&message) {
            Some(Asked::Host(name)) => Hello::Sni(Some(name)),
            Some(Asked::Nothing) => Hello::Sni(None),
            Some(Asked::NoHost(shown)) => Hello::NoHost(shown),
            None => Hello::NotTls,
        },
        Err(Short::Broken) => Hello::NotTls,
        Err(Short::More) if bytes.len() >= HELLO_BYTES_MAX => Hello::NotTls,
        Err(Short::More) => Hello::Incomplete,
    }
}

enum Short {
    More,
    Broken,
}

/// What a ClientHello asks for.
enum Asked {
    Nothing,
    Host(String),
    NoHost(String),
}

/// The first byte of a record that carries a handshake.
pub const RECORD_HANDSHAKE: u8 = 22;
const RECORD_BYTES_MAX: usize = 16 * 1024;
const HANDSHAKE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const NAME_TYPE_HOST: u8 = 0;
const NAME_BYTES_MAX: usize = 253;

/// The body of the first handshake message; joined only if it is cut into several records.
fn handshake(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Short> {
    let mut joined = Cow::Borrowed(&[][..]);
    let mut rest = bytes;
    loop {
        let (fragment, after) = record(rest)?;
        if joined.is_empty() {
            joined = Cow::Borrowed(fragment);
        } else {
            joined.to_mut().extend_from_slice(fragment);
        }
        if joined.first().is_some_and(|kind| *kind != HANDSHAKE_CLIENT_HELLO) {
            return Err(Short::Broken);
        }
        if let [_, a, b, c, ..] = *joined {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            if len > HELLO_BYTES_MAX {
                return Err(Short::Broken);
            }
            if joined.len() >= len + 4 {
                return Ok(match joined {
                    Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[4..len + 4]),
                    Cow::Owned(bytes) => Cow::Owned(bytes[4..len + 4].to_vec()),
                });
            }
        }
        rest = after;
    }
}

/// The length that a record's header declares.
fn declared(record: &[u8]) -> usize {
    match record {
        [_, _, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    }
}

/// The fragment of the first record, as far as it has arrived, and what follows. A wrong byte is told
/// as soon as it is there, so that another protocol need not wait.
fn record(bytes: &[u8]) -> Result<(&[u8], &[u8]), Short> {
    if bytes.first().is_some_and(|kind| *kind != RECORD_HANDSHAKE)
        || bytes.get(1).is_some_and(|major| *major != 3)
        || bytes.get(2).is_some_and(|minor| *minor > 4)
    {
        return Err(Short::Broken);
    }
    if bytes.len() < 5 {
        return Err(Short::More);
    }
    let len = declared(bytes);
    // An empty handshake record is not allowed (RFC 8446 section 5.1); a stream of them would never end.
    if len == 0 || len > RECORD_BYTES_MAX {
        return Err(Short::Broken);
    }
    let body = &bytes[5..];
    Ok(body.split_at(len.min(body.len())))
}

/// The server name of a whole ClientHello; `None` if it is broken.
fn hello(message: &[u8]) -> Option<Asked> {
    let mut reader = Reader(message);
    reader.take(2 + 32)?;
    let session = reader.vector8()?;
    let suites = reader.vector16()?;
    let compressions = reader.vector8()?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return None;
    }
    if reader.0.is_empty() {
        // TLS 1.2 allows a hello without extensions.
        return Some(Asked::Nothing);
    }
    let mut extensions = Reader(reader.vector16()?);
    if !reader.0.is_empty() {
        return None;
    }
    let mut name = Asked::Nothing;
    let mut seen = false;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let body = extensions.vector16()?;
        if kind == EXTENSION_SERVER_NAME {
            // Two names would let two readers see two hosts.
            if seen {
                return None;
            }
            seen = true;
            name = host(body)?;
        }
    }
    Some(name)
}

/// The host name of the extension; `None` if it is broken.
fn host(body: &[u8]) -> Option<Asked> {
    let mut reader = Reader(body);
    let mut names = Reader(reader.vector16()?);
    if !reader.0.is_empty() || names.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !names.0.is_empty() {
        let kind = names.take(1)?[0];
        let name = names.vector16()?;
        if kind != NAME_TYPE_HOST {
            continue;
        }
        if found.is_some() {
            return None;
        }
        // A dot at the end is not allowed (RFC 6066 section 3), and still names the same host.
        let bare = name.strip_suffix(b".").unwrap_or(name);
        found = Some(match std::str::from_utf8(bare) {
            Ok(host) if is_host(bare) => Asked::Host(host.to_ascii_lowercase()),
            _ => Asked::NoHost(
                name.escape_ascii().to_string().chars().take(NAME_BYTES_MAX).collect(),
            ),
        });
    }
    Some(found.unwrap_or(Asked::Nothing))
}

/// Whether a name without the dot at its end can be a DNS name.
fn is_host(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.split(|byte| *byte == b'.').all(|label| {
            (1..=63).contains(&label.len())
                && label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let [high, low] = *self.take(2)? else { return None };
        Some(u16::from_be_bytes([high, low]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(*self.take(1)?.first()?);
        self.take(len)
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.u16()?);
        self.take(len)
    }
}

#[cfg(test)]
mod tests;
