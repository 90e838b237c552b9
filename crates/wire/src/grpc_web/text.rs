//! Base64 over a stream: chunks are cut anywhere, and padding may stand wherever a sender flushed.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// A text body that is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not base64")]
pub struct NotBase64;

/// Text to bytes. Keeps at most three characters between chunks.
#[derive(Clone, Debug, Default)]
pub struct TextDecoder {
    carry: [u8; 4],
    carried: usize,
}

impl TextDecoder {
    /// Decodes the next chunk, appending to `out`. After an error the stream is broken.
    pub fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
        if self.carried > 0 {
            let len = chunk.len().min(4 - self.carried);
            self.carry[self.carried..self.carried + len].copy_from_slice(&chunk[..len]);
            self.carried += len;
            chunk = &chunk[len..];
            if self.carried < 4 {
                return Ok(());
            }
            self.carried = 0;
            decode(&self.carry, out)?;
        }
        let (mut quads, rest) = chunk.split_at(chunk.len() - chunk.len() % 4);
        // Each part up to a padded quad is base64 by itself.
        while !quads.is_empty() {
            let pad = memchr::memchr(b'=', quads);
            let (part, after) = quads.split_at(pad.map_or(quads.len(), |at| at / 4 * 4 + 4));
            decode(part, out)?;
            quads = after;
        }
        self.carry[..rest.len()].copy_from_slice(rest);
        self.carried = rest.len();
        Ok(())
    }

    /// Whether the text may end here: no group of four is in the middle.
    pub const fn is_whole(&self) -> bool {
        self.carried == 0
    }
}

fn decode(quads: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
    STANDARD.decode_vec(quads, out).map_err(|_where| NotBase64)
}

/// Bytes to text. Keeps at most two bytes between chunks.
#[derive(Clone, Debug, Default)]
pub struct TextEncoder {
    carry: [u8; 3],
    carried: usize,
}

impl TextEncoder {
    /// Encodes the next chunk, appending to `out`; what does not fill a group waits.
    pub fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) {
        if self.carried > 0 {
            let len = chunk.len().min(3 - self.carried);
            self.carry[self.carried..self.carried + len].copy_from_slice(&chunk[..len]);
            self.carried += len;
            chunk = &chunk[len..];
            if self.carried < 3 {
                return;
            }
            self.carried = 0;
            encode(&self.carry, out);
        }
        let (whole, rest) = chunk.split_at(chunk.len() - chunk.len() % 3);
        encode(whole, out);
        self.carry[..rest.len()].copy_from_slice(rest);
        self.carried = rest.len();
    }

    /// Appends what waits, padded. To be called at the end, and whenever nothing more is at hand, so
    /// that no message is held back.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        encode(&self.carry[..self.carried], out);
        self.carried = 0;
    }
}

fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The room is exact, so that this cannot fail; if it did, the text would end early.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}
