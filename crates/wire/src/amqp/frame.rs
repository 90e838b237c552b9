//! Frames: what a connection's bytes are cut into.

use super::{DecodeError, FRAME_BYTES_MIN, FRAME_OVERHEAD};

/// The octet every frame ends with.
pub const FRAME_END: u8 = 0xce;
const FRAME_HEAD: usize = 7;
/// A whole heartbeat frame.
pub const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, FRAME_END];

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A method.
    Method = 1,
    /// The header of a method's content.
    Header = 2,
    /// A piece of a content's body.
    Body = 3,
    /// Nothing: the other end is alive.
    Heartbeat = 8,
}

/// A frame, borrowed from the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it holds.
    pub kind: FrameKind,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// What is inside.
    pub payload: &'a [u8],
}

/// Reads the frame that `bytes` begin with, and how many bytes it takes up; `None` if it is not all
/// there yet. A frame above `bytes_max` (overhead included; 0 stands for no bound but the length's own)
/// is an error as soon as its length is seen; a payload of `bytes_max` is let pass, because clients that
/// forget the overhead are many.
#[inline]
pub fn parse(bytes: &[u8], bytes_max: u32) -> Result<Option<(Frame<'_>, usize)>, DecodeError> {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD>() else {
        // A wrong first octet is told at once: what follows it may be nothing that is ever framed.
        return match bytes.first() {
            Some(first) => kind(*first).map(|_kind| None),
            None => Ok(None),
        };
    };
    let kind = kind(head[0])?;
    let channel = u16::from_be_bytes([head[1], head[2]]);
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    if bytes_max != 0 && length > bytes_max {
        let max = bytes_max.saturating_sub(FRAME_OVERHEAD as u32);
        return Err(DecodeError::FrameSize { kind: kind as u8, bytes: length, max });
    }
    let length = length as usize;
    let Some(end) = rest.get(length) else { return Ok(None) };
    if *end != FRAME_END {
        return Err(DecodeError::FrameEnd { kind: kind as u8, octet: *end });
    }
    Ok(Some((Frame { kind, channel, payload: &rest[..length] }, length + FRAME_OVERHEAD)))
}

fn kind(octet: u8) -> Result<FrameKind, DecodeError> {
    Ok(match octet {
        1 => FrameKind::Method,
        2 => FrameKind::Header,
        3 => FrameKind::Body,
        8 => FrameKind::Heartbeat,
        other => return Err(DecodeError::FrameKind(other)),
    })
}

/// Appends a frame whose payload `fill` writes.
#[inline]
pub fn write(kind: FrameKind, channel: u16, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let [high, low] = channel.to_be_bytes();
    out.extend_from_slice(&[kind as u8, high, low, 0, 0, 0, 0]);
    fill(out);
    let length = u32::try_from(out.len() - start - FRAME_HEAD).unwrap_or(u32::MAX);
    out[start + 3..start + FRAME_HEAD].copy_from_slice(&length.to_be_bytes());
    out.push(FRAME_END);
}

/// Appends `body` in as many frames as `bytes_max` asks for (0: one).
pub fn write_body(channel: u16, body: &[u8], bytes_max: u32, out: &mut Vec<u8>) {
    let piece = match bytes_max {
        0 => body.len().max(1),
        max => max.max(FRAME_BYTES_MIN) as usize - FRAME_OVERHEAD,
    };
    for part in body.chunks(piece) {
        write(FrameKind::Body, channel, out, |out| out.extend_from_slice(part));
    }
}
