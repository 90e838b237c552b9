//! HTTP/2 frames by hand (RFC 9113), for clients that misbehave.

use crate::conn::Conn;

/// What opens a connection.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// DATA.
pub const DATA: u8 = 0;
/// HEADERS.
pub const HEADERS: u8 = 1;
/// `RST_STREAM`.
pub const RST_STREAM: u8 = 3;
/// SETTINGS.
pub const SETTINGS: u8 = 4;
/// PING.
pub const PING: u8 = 6;
/// GOAWAY.
pub const GOAWAY: u8 = 7;
/// CONTINUATION.
pub const CONTINUATION: u8 = 9;

/// The flag `END_STREAM`, and ACK of SETTINGS and PING.
pub const END_STREAM: u8 = 1;
/// The flag `END_HEADERS`.
pub const END_HEADERS: u8 = 4;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame; the payload must be shorter than 16 MiB.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// Appends its bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.payload.len()).unwrap();
        out.extend_from_slice(&length.to_be_bytes()[1..]);
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
        out.extend_from_slice(&self.payload);
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(9 + self.payload.len());
        self.write(&mut out);
        out
    }

    /// Reads one; `None` at the end of the connection.
    pub fn read(conn: &mut Conn) -> Option<Self> {
        let head = conn.take(9);
        let [a, b, c, kind, flags, s @ ..] = <[u8; 9]>::try_from(head).ok()?;
        let length = u32::from_be_bytes([0, a, b, c]);
        let payload = conn.take(length as usize);
        Some(Self { kind, flags, stream: u32::from_be_bytes(s) & 0x7fff_ffff, payload })
    }

    /// Reads up to a GOAWAY and gives its error code; `None` if the connection ends without.
    pub fn read_goaway(conn: &mut Conn) -> Option<u32> {
        loop {
            let frame = Self::read(conn)?;
            if frame.kind == GOAWAY {
                let code = frame.payload.get(4..8)?.try_into().ok()?;
                return Some(u32::from_be_bytes(code));
            }
        }
    }
}

/// One field without compression and without a place in the table (RFC 7541 section 6.2.2); names and
/// values must be shorter than 127 bytes.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0, u8::try_from(name.len()).unwrap()];
    out.extend_from_slice(name.as_bytes());
    out.push(u8::try_from(value.len()).unwrap());
    out.extend_from_slice(value.as_bytes());
    out
}

/// The fields of a GET.
pub fn get(path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "test")];
    fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
}
