//! The two messages of `grpc.health.v1.Health/Check`, written and read by hand: one string, one
//! number (grpc/grpc `doc/health-checking.md`).

/// The path of the method.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";

const SERVICE_FIELD: u8 = 1 << 3 | 2;
const STATUS_FIELD: u64 = 1 << 3;

/// A request about a service, with its five bytes of framing.
pub(super) fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 7);
    if !service.is_empty() {
        message.push(SERVICE_FIELD);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(&message);
    framed
}

/// The serving status in a framed response; `None` if it is not one.
pub(super) fn status(framed: &[u8]) -> Option<u64> {
    let (head, rest) = framed.split_first_chunk::<5>()?;
    let [compressed, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    if compressed != 0 {
        return None;
    }
    let mut message = rest.get(..length)?;
    // A field that is left out has its default, 0: UNKNOWN.
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag == STATUS_FIELD {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

/// The word for a serving status.
pub(super) const fn word(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        1 => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "an unknown status",
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_the_bytes_of_the_specification() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = request(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn responses_are_read() {
        for (bytes, expect) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 5, 0x12, 1, 9, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 4, 8, 1, 8, 2], Some(2)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 2, 8, 0x80], None),
            (&[0, 0xff, 0xff, 0xff, 0xff, 8, 1], None),
            (&[0, 0, 0, 0, 2, 0x0b, 1], None),
            (&[], None),
        ] {
            assert_eq!(status(bytes), expect, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_response_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut framed = vec![0, 0, 0, 0, bytes.len() as u8];
            framed.extend_from_slice(&bytes);
            for end in 0..=framed.len() {
                let _ = status(&framed[..end]);
            }
            let _ = status(&bytes);
        }
    }
}
