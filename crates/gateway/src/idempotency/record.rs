//! What is kept of a request and its answer.
//!
//! There are two entries under one key: a head, which is small and says how it stands, and the answer. Both
//! begin with the number of their form, and what has another is damaged rather than guessed at.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use weft_kernel::{Error, Reason, Result};
use weft_wire::{Fields, Known};

use super::key::Fingerprint;

/// The form of both entries.
const FORM: u8 = 1;
/// The bytes of a head.
const HEAD_BYTES: usize = 2 + 32 + 8 + 8 + 8 + 2 + 4;

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has begun. If nobody is at it any more, what came of it is not known.
    Running,
    /// Its answer is kept.
    Kept,
    /// It is done, and its answer is not kept: it was too long, or a stream.
    NotKept,
}

/// The head of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) standing: Standing,
    pub(super) fingerprint: Fingerprint,
    /// Number that tells who has put it.
    pub(super) nonce: u64,
    /// When it began and ended, in wall milliseconds.
    pub(super) began_ms: u64,
    pub(super) done_ms: u64,
    /// The status that was answered; 0 for none yet.
    pub(super) status: u16,
    /// The bytes of the answer.
    pub(super) bytes: u32,
}

fn damaged() -> Error {
    Error::new(Reason::StorageCorrupt, "what is kept under an idempotency key cannot be read")
}

impl Head {
    pub(super) fn write(&self) -> Bytes {
        let mut to = BytesMut::with_capacity(HEAD_BYTES);
        to.put_u8(FORM);
        to.put_u8(match self.standing {
            Standing::Running => 0,
            Standing::Kept => 1,
            Standing::NotKept => 2,
        });
        to.put_slice(&self.fingerprint.0);
        to.put_u64(self.nonce);
        to.put_u64(self.began_ms);
        to.put_u64(self.done_ms);
        to.put_u16(self.status);
        to.put_u32(self.bytes);
        to.freeze()
    }

    /// # Errors
    /// [`Reason::StorageCorrupt`].
    pub(super) fn read(mut from: &[u8]) -> Result<Self> {
        if from.len() != HEAD_BYTES || from.get_u8() != FORM {
            return Err(damaged());
        }
        let standing = match from.get_u8() {
            0 => Standing::Running,
            1 => Standing::Kept,
            2 => Standing::NotKept,
            _ => return Err(damaged()),
        };
        let mut fingerprint = [0; 32];
        from.copy_to_slice(&mut fingerprint);
        Ok(Self {
            standing,
            fingerprint: Fingerprint(fingerprint),
            nonce: from.get_u64(),
            began_ms: from.get_u64(),
            done_ms: from.get_u64(),
            status: from.get_u16(),
            bytes: from.get_u32(),
        })
    }
}

/// An answer that is given again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) body: Bytes,
    pub(super) trailers: Option<Fields>,
}

impl Answer {
    pub(super) fn write(&self) -> Bytes {
        let mut to = BytesMut::with_capacity(self.body.len() + self.fields.wire_len() + 64);
        to.put_u8(FORM);
        to.put_u16(self.status);
        put_fields(&self.fields, &mut to);
        to.put_u8(u8::from(self.trailers.is_some()));
        if let Some(trailers) = &self.trailers {
            put_fields(trailers, &mut to);
        }
        to.put_slice(&self.body);
        to.freeze()
    }

    /// # Errors
    /// [`Reason::StorageCorrupt`].
    pub(super) fn read(mut from: Bytes) -> Result<Self> {
        if from.len() < 3 || from.get_u8() != FORM {
            return Err(damaged());
        }
        let status = from.get_u16();
        let fields = take_fields(&mut from).ok_or_else(damaged)?;
        let trailers = match from.try_get_u8() {
            Ok(0) => None,
            Ok(1) => Some(take_fields(&mut from).ok_or_else(damaged)?),
            _ => return Err(damaged()),
        };
        Ok(Self { status, fields, body: from, trailers })
    }
}

fn put_fields(fields: &Fields, to: &mut BytesMut) {
    to.put_u32(fields.iter().count() as u32);
    for (name, value) in fields.iter() {
        to.put_u32(name.len() as u32);
        to.put_slice(name.as_bytes());
        to.put_u32(value.len() as u32);
        to.put_slice(value);
    }
}

fn take_fields(from: &mut Bytes) -> Option<Fields> {
    let count = from.try_get_u32().ok()?;
    let mut fields = Fields::new();
    for _ in 0..count {
        let (name, value) = (take(from)?, take(from)?);
        if !fields.append(std::str::from_utf8(&name).ok()?, &value) {
            return None;
        }
    }
    Some(fields)
}

fn take(from: &mut Bytes) -> Option<Bytes> {
    let length = from.try_get_u32().ok()? as usize;
    (from.len() >= length).then(|| from.split_to(length))
}

/// The fields of an answer that are kept: without what belongs to its connection or its moment, and without
/// cookies, which are for whoever was answered first.
pub(super) fn kept(fields: &Fields) -> Fields {
    let mut kept = fields.clone();
    kept.strip_hop_by_hop(false);
    for known in [Known::ContentLength, Known::Date, Known::SetCookie] {
        kept.remove(known);
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_comes_back_or_is_damaged() {
        let head = Head {
            standing: Standing::NotKept,
            fingerprint: Fingerprint([7; 32]),
            nonce: u64::MAX,
            began_ms: 1,
            done_ms: 2,
            status: 201,
            bytes: 9,
        };
        let written = head.write();
        assert_eq!(Head::read(&written).unwrap(), head);
        for end in 0..written.len() {
            assert_eq!(Head::read(&written[..end]).unwrap_err().reason(), Reason::StorageCorrupt);
        }
        let mut other = written.to_vec();
        other[0] = 2;
        assert!(Head::read(&other).is_err());
    }

    #[test]
    fn cookies_and_what_is_of_the_moment_are_not_kept() {
        let mut fields = Fields::new();
        for (name, value) in [
            ("content-type", "text/plain"),
            ("set-cookie", "s=1"),
            ("date", "now"),
            ("connection", "x-mine"),
            ("x-mine", "1"),
            ("content-length", "2"),
            ("location", "/charges/7"),
        ] {
            fields.append(name, value.as_bytes());
        }
        let kept = kept(&fields);
        let names: Vec<_> = kept.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["content-type", "location"]);
    }

    fn fields() -> impl Strategy<Value = Fields> {
        proptest::collection::vec(
            ("[a-z][a-z-]{0,10}", proptest::collection::vec(33u8.., 0..20)),
            0..6,
        )
        .prop_map(|all| {
            let mut fields = Fields::new();
            for (name, value) in all {
                fields.append(&name, &value);
            }
            fields
        })
    }

    proptest! {
        #[test]
        fn an_answer_comes_back_byte_for_byte(
            status in 100u16..600,
            fields in fields(),
            trailers in proptest::option::of(fields()),
            body in proptest::collection::vec(0u8.., 0..200),
        ) {
            let answer = Answer { status, fields, body: body.into(), trailers };
            prop_assert_eq!(Answer::read(answer.write()).unwrap(), answer);
        }

        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(0u8.., 0..300)) {
            let _ = Head::read(&bytes);
            let _ = Answer::read(bytes.into());
        }
    }
}
