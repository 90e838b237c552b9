//! The chunked coding (RFC 9112 section 7.1), decoded strictly and a piece at a time.

use super::{COUNT_CEILING, HeadError, HeadLimits, check_line_ends, collect, malformed};
use crate::fields::{Fields, is_token};

/// The longest line that states a chunk's size, with its extensions, which are ignored.
const SIZE_LINE_MAX: usize = 4096;
/// How much of what comes may be neither data nor what states it well: 16 bytes a chunk, and as many again
/// as twice its data.
const EXCESS_MAX: u64 = 16 * 1024;
/// The largest trailer section.
const TRAILER_LIMITS: HeadLimits = HeadLimits { bytes_max: 16 * 1024, count_max: 64 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A line with a size is next.
    Size,
    /// This many bytes of the chunk are left.
    Data(u64),
    /// The CRLF after a chunk is next.
    End,
    /// The trailer section is next.
    Trailers,
    /// All is read.
    Done,
}

/// What the next bytes are.
#[derive(Debug, PartialEq)]
pub enum Decoded {
    /// More bytes are needed; `skip` were framing and are done with.
    More {
        /// Bytes done with.
        skip: usize,
    },
    /// After `skip` bytes of framing, `len` bytes of the body follow.
    Data {
        /// Bytes of framing.
        skip: usize,
        /// Bytes of the body.
        len: usize,
    },
    /// The body has ended, `skip` bytes on.
    End {
        /// Bytes done with.
        skip: usize,
        /// The trailers, if any came.
        trailers: Option<Fields>,
    },
}

/// Finds the body in a chunked stream.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// What came beyond a fair share of framing.
    excess: u64,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self { state: State::Size, excess: 0 }
    }
}

impl ChunkedDecoder {
    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Looks at the bytes that are there. The caller drops what it is told to skip and, of `Data`, what
    /// it took; it must take all of it before it calls again.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, HeadError> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self.state {
                State::Size => {
                    let Some((size, used)) = parse_size_line(rest)? else {
                        return Ok(Decoded::More { skip: at });
                    };
                    at += used;
                    let fair = size.saturating_mul(2).saturating_add(16);
                    self.excess = (self.excess + used as u64 + 2).saturating_sub(fair);
                    if self.excess > EXCESS_MAX {
                        return Err(HeadError::Malformed("the chunks are nearly all framing"));
                    }
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(left) => {
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    if len == 0 {
                        return Ok(Decoded::More { skip: at });
                    }
                    let left = left - len as u64;
                    self.state = if left == 0 { State::End } else { State::Data(left) };
                    return Ok(Decoded::Data { skip: at, len });
                }
                State::End => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::More { skip: at }),
                    _ => return Err(HeadError::Malformed("a chunk does not end in CRLF")),
                },
                State::Trailers => {
                    let Some((trailers, used)) = parse_trailers(rest)? else {
                        return Ok(Decoded::More { skip: at });
                    };
                    self.state = State::Done;
                    return Ok(Decoded::End { skip: at + used, trailers });
                }
                State::Done => return Ok(Decoded::End { skip: at, trailers: None }),
            }
        }
    }
}

fn parse_size_line(bytes: &[u8]) -> Result<Option<(u64, usize)>, HeadError> {
    let digits = bytes.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits > 16 {
        return Err(HeadError::Malformed("a chunk size is too large"));
    }
    let Some(next) = bytes.get(digits) else {
        return Ok(None);
    };
    if digits == 0 || !matches!(next, b'\r' | b';' | b' ' | b'\t') {
        return Err(HeadError::Malformed("a chunk size is not a hexadecimal number"));
    }
    let size = bytes[..digits].iter().fold(0u64, |sum, digit| {
        sum << 4 | u64::from((*digit as char).to_digit(16).unwrap_or_default())
    });
    if size > u64::MAX >> 1 {
        return Err(HeadError::Malformed("a chunk size is too large"));
    }
    let seen = &bytes[..bytes.len().min(SIZE_LINE_MAX)];
    match memchr::memchr2(b'\r', b'\n', &seen[digits..]).map(|at| at + digits) {
        None if bytes.len() >= SIZE_LINE_MAX => {
            Err(HeadError::Malformed("a chunk extension is too long"))
        }
        None => Ok(None),
        Some(end) => match &bytes[end..] {
            [b'\r'] => Ok(None),
            [b'\r', b'\n', ..] => {
                if end != digits && !are_extensions(&bytes[digits..end]) {
                    return Err(HeadError::Malformed("a chunk size is followed by something else"));
                }
                Ok(Some((size, end + 2)))
            }
            _ => Err(HeadError::Malformed("a chunk size does not end in CRLF")),
        },
    }
}

/// Whether bytes are chunk extensions (RFC 9112 section 7.1.1), each with its name, and perhaps a value. They
/// are not passed on, but a reader that takes what is none may see another end of the line.
fn are_extensions(mut rest: &[u8]) -> bool {
    let token = |bytes: &[u8]| bytes.iter().take_while(|b| is_token(**b)).count();
    while !rest.is_empty() {
        let Some(after) = after_blanks(rest).strip_prefix(b";") else { return false };
        let name = after_blanks(after);
        let length = token(name);
        if length == 0 {
            return false;
        }
        rest = &name[length..];
        let Some(value) = after_blanks(rest).strip_prefix(b"=") else { continue };
        let value = after_blanks(value);
        let length = match value.first() {
            Some(b'"') => quoted(value),
            _ => token(value),
        };
        if length == 0 {
            return false;
        }
        rest = &value[length..];
    }
    true
}

fn after_blanks(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|b| matches!(b, b' ' | b'\t')).count()..]
}

/// The length of the quoted string that bytes begin with; 0 if it does not end or holds what it may not.
fn quoted(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 1,
            _ => {}
        }
        match bytes.get(at) {
            Some(b'\t' | b' '..=b'~' | 0x80..) => at += 1,
            _ => return 0,
        }
    }
    0
}

fn parse_trailers(bytes: &[u8]) -> Result<Option<(Option<Fields>, usize)>, HeadError> {
    match bytes {
        [b'\r', b'\n', ..] => return Ok(Some((None, 2))),
        [] | [b'\r'] => return Ok(None),
        _ => {}
    }
    let seen = &bytes[..bytes.len().min(TRAILER_LIMITS.bytes_max)];
    let mut room = [httparse::EMPTY_HEADER; COUNT_CEILING];
    match httparse::parse_headers(seen, &mut room[..TRAILER_LIMITS.count_max]) {
        Ok(httparse::Status::Complete((used, headers))) => {
            check_line_ends(&seen[..used])?;
            let mut fields = collect(headers, used);
            fields.keep_trailers();
            Ok(Some(((!fields.is_empty()).then_some(fields), used)))
        }
        Ok(httparse::Status::Partial) if bytes.len() >= TRAILER_LIMITS.bytes_max => {
            Err(HeadError::TooLarge(TRAILER_LIMITS.bytes_max))
        }
        Ok(httparse::Status::Partial) => {
            check_line_ends(seen)?;
            Ok(None)
        }
        Err(error) => Err(malformed(error, TRAILER_LIMITS)),
    }
}

/// Appends the line that begins a chunk of `len` bytes; the caller adds the bytes and CRLF.
pub fn encode_chunk_head(len: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0u8; 18];
    let mut at = 16;
    text[16] = b'\r';
    text[17] = b'\n';
    let mut rest = len;
    loop {
        at -= 1;
        text[at] = DIGITS[rest & 15];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}
