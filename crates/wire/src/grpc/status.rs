//! Status numbers, their mapping to HTTP and back, and the encoding of `grpc-message`.

use std::borrow::Cow;

use weft_kernel::Code;

macro_rules! statuses {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $word:literal, $http:literal;)+) => {
        /// A gRPC status (grpc/grpc `doc/statuscodes.md`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Status { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Status {
            /// Every status, in the order of their numbers.
            pub const ALL: [Self; 17] = [$(Self::$name,)+];

            /// The word of the specification.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// The HTTP status by `google/rpc/code.proto`, for a caller that does not speak gRPC.
            pub const fn http(self) -> u16 {
                match self { $(Self::$name => $http,)+ }
            }
        }
    };
}

statuses! {
    /// All is well.
    Ok = 0, "OK", 200;
    /// The caller gave up.
    Cancelled = 1, "CANCELLED", 499;
    /// Nobody knows.
    Unknown = 2, "UNKNOWN", 500;
    /// The request is wrong whatever the state.
    InvalidArgument = 3, "INVALID_ARGUMENT", 400;
    /// Time ran out.
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED", 504;
    /// Nothing is there.
    NotFound = 5, "NOT_FOUND", 404;
    /// It is there already.
    AlreadyExists = 6, "ALREADY_EXISTS", 409;
    /// The caller is known and may not.
    PermissionDenied = 7, "PERMISSION_DENIED", 403;
    /// A quota or a resource is used up.
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED", 429;
    /// The state does not allow it.
    FailedPrecondition = 9, "FAILED_PRECONDITION", 400;
    /// It collided with something concurrent.
    Aborted = 10, "ABORTED", 409;
    /// Past the end.
    OutOfRange = 11, "OUT_OF_RANGE", 400;
    /// There is no such method.
    Unimplemented = 12, "UNIMPLEMENTED", 501;
    /// An invariant is broken.
    Internal = 13, "INTERNAL", 500;
    /// Nobody can answer now.
    Unavailable = 14, "UNAVAILABLE", 503;
    /// Data is lost or corrupt for good.
    DataLoss = 15, "DATA_LOSS", 500;
    /// Who the caller is could not be established.
    Unauthenticated = 16, "UNAUTHENTICATED", 401;
}

impl Status {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The status of a `grpc-status` value. A number that nobody defined counts as `UNKNOWN`, as the
    /// specification asks; `None` is no number.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.is_empty() || value.len() > 10 || !value.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = value.iter().fold(0u64, |n, digit| n * 10 + u64::from(digit - b'0'));
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        Some(Self::ALL.get(index).copied().unwrap_or(Self::Unknown))
    }

    /// The status by which Weft reports its own failure.
    pub fn of_code(code: Code) -> Self {
        Self::ALL.get(usize::from(code.grpc())).copied().unwrap_or(Self::Unknown)
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Appends a text as a `grpc-message`: what is not printable ASCII, and `%`, percent-encoded.
pub fn encode_message(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        if matches!(byte, 0x20..=0x7e) && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
    }
}

/// Reads a `grpc-message`. Nothing is an error: a broken escape stands for itself, as the specification
/// asks, and what is no UTF-8 is replaced.
pub fn decode_message(value: &[u8]) -> Cow<'_, str> {
    if !value.contains(&b'%') {
        return String::from_utf8_lossy(value);
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((byte, after)) = rest.split_first() {
        let escape = match after {
            [high, low, ..] if *byte == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escape {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_positions_and_read_back() {
        for (number, status) in Status::ALL.iter().enumerate() {
            assert_eq!(usize::from(status.number()), number);
            assert_eq!(Status::parse(number.to_string().as_bytes()), Some(*status));
        }
        for (text, expect) in [
            ("17", Some(Status::Unknown)),
            ("4294967295", Some(Status::Unknown)),
            ("00", Some(Status::Ok)),
            ("", None),
            ("-1", None),
            ("OK", None),
            ("1 ", None),
            ("99999999999", None),
        ] {
            assert_eq!(Status::parse(text.as_bytes()), expect, "{text}");
        }
    }

    #[test]
    fn words_are_those_of_the_specification() {
        for status in Status::ALL {
            assert_eq!(status.http() == 200, status == Status::Ok);
            assert_eq!(
                status.word().to_lowercase().replace('_', ""),
                format!("{status:?}").to_lowercase()
            );
        }
    }

    #[test]
    fn every_code_has_a_status_that_is_a_failure() {
        for code in Code::ALL {
            let status = Status::of_code(code);
            assert_eq!(status.number(), code.grpc());
            assert_ne!(status, Status::Ok);
        }
    }

    #[test]
    fn messages() {
        for (text, encoded) in [
            ("", ""),
            ("no stock left", "no stock left"),
            ("100% sure", "100%25 sure"),
            ("a\r\nb", "a%0D%0Ab"),
            ("Grüße", "Gr%C3%BC%C3%9Fe"),
        ] {
            let mut out = Vec::new();
            encode_message(text, &mut out);
            assert_eq!(out, encoded.as_bytes());
            assert_eq!(decode_message(encoded.as_bytes()), text);
        }
        for (value, text) in [
            ("%", "%"),
            ("%4", "%4"),
            ("%zz", "%zz"),
            ("%4z%41", "%4zA"),
            ("%%41", "%A"),
            ("%c3%bc", "ü"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(decode_message(value.as_bytes()), text, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives(text in any::<String>()) {
            let mut out = Vec::new();
            encode_message(&text, &mut out);
            prop_assert!(out.iter().all(|byte| matches!(byte, 0x20..=0x7e)));
            prop_assert_eq!(decode_message(&out), text);
        }

        #[test]
        fn any_bytes_decode(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(decode_message(&bytes).len() <= bytes.len() * 3);
        }
    }
}
