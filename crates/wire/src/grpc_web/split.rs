//! A gRPC-Web response taken apart: messages pass on, trailers are gathered.

use crate::{
    fields::{Fields, is_token, is_value},
    grpc::{FrameError, PREFIX_BYTES, Prefix},
};

/// The largest trailers that are taken, in bytes.
pub const TRAILER_BYTES_MAX: u32 = 16 * 1024;

/// Why a body is no gRPC-Web response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A frame is broken.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The trailers break the syntax of fields.
    #[error("the trailers are malformed")]
    Trailers,
    /// Something follows the trailers.
    #[error("something follows the trailers")]
    AfterTrailers,
}

/// Takes a body apart. Keeps a prefix and the trailers, never a message.
#[derive(Clone, Debug)]
pub struct Splitter {
    max: u32,
    prefix: [u8; PREFIX_BYTES],
    filled: usize,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Prefix,
    Message { left: u32 },
    Trailers { left: u32, text: Vec<u8> },
    Done(Fields),
}

impl Splitter {
    /// Takes apart a body whose messages have at most `max` bytes.
    pub const fn new(max: u32) -> Self {
        Self { max, prefix: [0; PREFIX_BYTES], filled: 0, state: State::Prefix }
    }

    /// Takes the next chunk and appends to `out` what belongs to messages, prefixes included.
    pub fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) -> Result<(), SplitError> {
        while !chunk.is_empty() {
            match &mut self.state {
                State::Prefix => {
                    let len = chunk.len().min(PREFIX_BYTES - self.filled);
                    self.prefix[self.filled..self.filled + len].copy_from_slice(&chunk[..len]);
                    self.filled += len;
                    chunk = &chunk[len..];
                    if self.filled == PREFIX_BYTES {
                        self.filled = 0;
                        self.begin(out)?;
                    }
                }
                State::Message { left } => {
                    let (part, rest) = chunk.split_at(chunk.len().min(*left as usize));
                    out.extend_from_slice(part);
                    chunk = rest;
                    *left -= part.len() as u32;
                    if *left == 0 {
                        self.state = State::Prefix;
                    }
                }
                State::Trailers { left, text } => {
                    let (part, rest) = chunk.split_at(chunk.len().min(*left as usize));
                    text.extend_from_slice(part);
                    chunk = rest;
                    *left -= part.len() as u32;
                    if *left == 0 {
                        let fields = parse_trailers(text).ok_or(SplitError::Trailers)?;
                        self.state = State::Done(fields);
                    }
                }
                State::Done(_) => return Err(SplitError::AfterTrailers),
            }
        }
        Ok(())
    }

    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), SplitError> {
        let prefix = Prefix::parse(self.prefix)?;
        let max = if prefix.is_trailers() { TRAILER_BYTES_MAX } else { self.max };
        if prefix.len > max {
            return Err(FrameError::TooLarge { len: prefix.len, max }.into());
        }
        self.state = match (prefix.is_trailers(), prefix.len) {
            (true, 0) => State::Done(Fields::new()),
            (true, left) => State::Trailers { left, text: Vec::new() },
            (false, left) => {
                out.extend_from_slice(&self.prefix);
                if left == 0 { State::Prefix } else { State::Message { left } }
            }
        };
        Ok(())
    }

    /// The trailers, once they are whole.
    pub const fn trailers(&self) -> Option<&Fields> {
        match &self.state {
            State::Done(fields) => Some(fields),
            _ => None,
        }
    }

    /// Whether the body may end here.
    pub const fn is_whole(&self) -> bool {
        match &self.state {
            State::Prefix => self.filled == 0,
            State::Done(_) => true,
            State::Message { .. } | State::Trailers { .. } => false,
        }
    }
}

/// Lines of `name: value`; the last may lack its line end, as some servers leave it out.
fn parse_trailers(text: &[u8]) -> Option<Fields> {
    let mut fields = Fields::new();
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) || !is_value(value) {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        fields.append(&name, value);
    }
    Some(fields)
}
