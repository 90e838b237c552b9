//! The five bytes before each message, and following messages through a body that passes by.

/// The length of a prefix: one byte of flags, four of length.
pub const PREFIX_BYTES: usize = 5;
/// The flag of a compressed message.
pub const COMPRESSED: u8 = 0x01;
/// The flag of gRPC-Web's trailers.
pub const TRAILERS: u8 = 0x80;
/// The largest message that [`Messages`] lets pass unless told otherwise (gRPC's own default).
pub const MESSAGE_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// What stands before a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// [`COMPRESSED`], [`TRAILERS`] or both or none.
    pub flags: u8,
    /// The length of the message, in bytes.
    pub len: u32,
}

impl Prefix {
    /// Reads a prefix; flags that nobody defined are an error.
    pub const fn parse(bytes: [u8; PREFIX_BYTES]) -> Result<Self, FrameError> {
        let [flags, a, b, c, d] = bytes;
        if flags & !(COMPRESSED | TRAILERS) != 0 {
            return Err(FrameError::Flags(flags));
        }
        Ok(Self { flags, len: u32::from_be_bytes([a, b, c, d]) })
    }

    /// The bytes of the prefix.
    pub const fn bytes(self) -> [u8; PREFIX_BYTES] {
        let [a, b, c, d] = self.len.to_be_bytes();
        [self.flags, a, b, c, d]
    }

    /// Whether trailers follow, and no message.
    pub const fn is_trailers(self) -> bool {
        self.flags & TRAILERS != 0
    }
}

/// Why a body is no sequence of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Flags that nobody defined.
    #[error("a message has the unknown flags {0:#04x}")]
    Flags(u8),
    /// A message larger than allowed.
    #[error("a message of {len} bytes is larger than {max} bytes")]
    TooLarge {
        /// Its length.
        len: u32,
        /// What is allowed.
        max: u32,
    },
}

/// Follows the messages of a body chunk by chunk, without keeping any.
#[derive(Clone, Debug)]
pub struct Messages {
    max: u32,
    prefix: [u8; PREFIX_BYTES],
    filled: usize,
    left: u32,
    count: u64,
}

impl Messages {
    /// Follows a body whose messages have at most `max` bytes.
    pub const fn new(max: u32) -> Self {
        Self { max, prefix: [0; PREFIX_BYTES], filled: 0, left: 0, count: 0 }
    }

    /// Takes the next chunk. After an error the body cannot be followed any more.
    pub fn push(&mut self, mut chunk: &[u8]) -> Result<(), FrameError> {
        while !chunk.is_empty() {
            if self.left > 0 {
                let len = chunk.len().min(self.left as usize);
                self.left -= len as u32;
                chunk = &chunk[len..];
                self.count += u64::from(self.left == 0);
                continue;
            }
            let len = chunk.len().min(PREFIX_BYTES - self.filled);
            self.prefix[self.filled..self.filled + len].copy_from_slice(&chunk[..len]);
            self.filled += len;
            chunk = &chunk[len..];
            if self.filled == PREFIX_BYTES {
                let prefix = Prefix::parse(self.prefix)?;
                if prefix.len > self.max {
                    return Err(FrameError::TooLarge { len: prefix.len, max: self.max });
                }
                self.filled = 0;
                self.left = prefix.len;
                self.count += u64::from(prefix.len == 0);
            }
        }
        Ok(())
    }

    /// How many messages have passed whole.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether the body may end here: no message is in the middle.
    pub const fn is_whole(&self) -> bool {
        self.filled == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn body(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut body = Vec::new();
        for message in messages {
            body.extend_from_slice(&Prefix { flags: 0, len: message.len() as u32 }.bytes());
            body.extend_from_slice(message);
        }
        body
    }

    #[test]
    fn prefixes() {
        assert_eq!(Prefix::parse([0, 0, 0, 1, 2]), Ok(Prefix { flags: 0, len: 258 }));
        assert_eq!(Prefix::parse([1, 255, 255, 255, 255]), Ok(Prefix { flags: 1, len: u32::MAX }));
        assert!(Prefix::parse([0x80, 0, 0, 0, 0]).is_ok_and(Prefix::is_trailers));
        assert_eq!(Prefix::parse([2, 0, 0, 0, 0]), Err(FrameError::Flags(2)));
        assert_eq!(Prefix::parse(*b"HTTP/"), Err(FrameError::Flags(b'H')));
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_prefix() {
        let mut messages = Messages::new(10);
        assert_eq!(messages.push(&[0, 0, 0, 0]), Ok(()));
        assert_eq!(messages.push(&[11]), Err(FrameError::TooLarge { len: 11, max: 10 }));
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            list in vec(vec(any::<u8>(), 0..20), 0..6),
            cuts in vec(1usize..12, 0..40),
        ) {
            let body = body(&list);
            let mut messages = Messages::new(MESSAGE_BYTES_MAX);
            let (mut rest, mut cuts) = (&body[..], cuts.into_iter());
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(cuts.next().unwrap_or(3).min(rest.len()));
                prop_assert_eq!(messages.push(chunk), Ok(()));
                rest = after;
            }
            prop_assert_eq!(messages.count(), list.len() as u64);
            prop_assert!(messages.is_whole());
        }

        #[test]
        fn any_bytes_are_followed_or_refused(chunks in vec(vec(any::<u8>(), 0..20), 0..6)) {
            let mut messages = Messages::new(64);
            let mut taken = 0;
            for chunk in chunks {
                if messages.push(&chunk).is_err() {
                    break;
                }
                taken += chunk.len() as u64;
                prop_assert!(messages.count() * PREFIX_BYTES as u64 <= taken);
            }
        }
    }

    #[test]
    fn a_body_is_whole_between_messages_alone() {
        let body = body(&[b"abc".into(), Vec::new(), b"de".into()]);
        for cut in 0..=body.len() {
            let mut messages = Messages::new(MESSAGE_BYTES_MAX);
            messages.push(&body[..cut]).unwrap();
            assert_eq!(messages.is_whole(), [0, 8, 13, 20].contains(&cut), "{cut}");
        }
    }
}
