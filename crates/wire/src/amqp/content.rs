//! Content: the header that follows a method, and a whole message written in one go.

use super::{DecodeError, FRAME_OVERHEAD, FrameKind, Method, Properties, frame, reader::Reader};

/// The class that contents belong to.
const BASIC: u16 = 60;

/// A content header: how long the body is, and the properties as they came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContentHeader<'a> {
    /// The length of the body, however many frames it comes in.
    pub body_bytes: u64,
    /// Flags and property list, ready to be sent on as they are.
    pub raw: &'a [u8],
    /// The same, read.
    pub properties: Properties<'a>,
}

impl<'a> ContentHeader<'a> {
    /// Reads the payload of a header frame.
    pub fn parse(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload, "content header");
        let class = u16::from_be_bytes(reader.array()?);
        let _weight: [u8; 2] = reader.array()?;
        let body_bytes = u64::from_be_bytes(reader.array()?);
        if class != BASIC {
            return Err(DecodeError::Class(class));
        }
        let raw = reader.rest();
        Ok(Self { body_bytes, raw, properties: Properties::parse(raw)? })
    }
}

/// Appends a content header frame with `raw` properties (flags and list).
pub fn write_header(channel: u16, body_bytes: u64, raw: &[u8], out: &mut Vec<u8>) {
    frame::write(FrameKind::Header, channel, out, |out| {
        out.extend_from_slice(&BASIC.to_be_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&body_bytes.to_be_bytes());
        out.extend_from_slice(raw);
    });
}

/// Appends a method with its whole content: method frame, header frame, and the body in frames of at
/// most `frame_bytes_max` (0: unbounded). `raw` are the properties as [`ContentHeader::raw`] has them.
pub fn write_content(
    channel: u16,
    method: &Method<'_>,
    raw: &[u8],
    body: &[u8],
    frame_bytes_max: u32,
    out: &mut Vec<u8>,
) {
    // Names of a method are short; what is reserved here saves growing in the middle.
    out.reserve(body.len() + raw.len() + 128 + 4 * FRAME_OVERHEAD);
    method.write(channel, out);
    write_header(channel, body.len() as u64, raw, out);
    frame::write_body(channel, body, frame_bytes_max, out);
}
