//! Fields in the order they stand: a cursor over bytes that never reads beyond them.

use super::{DecodeError, Table};

/// Reads one field after the other, knowing what it reads for.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    what: &'static str,
    /// The octet that bits are taken from, and how many were.
    bits: (u8, u8),
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, what, bits: (0, 0) }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.bytes.split_at_checked(count).ok_or(DecodeError::Length(self.what))?;
        self.bytes = rest;
        self.bits.1 = 0;
        Ok(taken)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) =
            self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Length(self.what))?;
        self.bytes = rest;
        self.bits.1 = 0;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn short_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let [length] = self.array()?;
        self.take(usize::from(length))
    }

    #[inline]
    pub(super) fn short(&mut self) -> Result<&'a str, DecodeError> {
        let what = self.what;
        std::str::from_utf8(self.short_bytes()?)
            .map_err(|_error: std::str::Utf8Error| DecodeError::Text(what))
    }

    #[inline]
    pub(super) fn long(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u32()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// A bit: eight of them share an octet, as long as nothing else stands between them.
    #[inline]
    pub(super) fn bit(&mut self) -> Result<bool, DecodeError> {
        if self.bits.1 == 0 {
            let [octet] = self.array()?;
            self.bits = (octet, 0);
        }
        let bit = self.bits.0 >> self.bits.1 & 1 == 1;
        self.bits.1 = (self.bits.1 + 1) % 8;
        Ok(bit)
    }

    /// An error if anything is left.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Length(self.what)) }
    }
}

/// Appends fields, packing bits that stand side by side.
pub(super) struct Writer<'o> {
    pub(super) out: &'o mut Vec<u8>,
    bit: u8,
}

impl<'o> Writer<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, bit: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bit = 0;
        self.out.extend_from_slice(bytes);
    }

    fn put_bit(&mut self, set: bool) {
        if self.bit == 0 {
            self.out.push(0);
        }
        if let Some(last) = self.out.last_mut() {
            *last |= u8::from(set) << self.bit;
        }
        self.bit = (self.bit + 1) % 8;
    }
}

/// Appends a short string; what is beyond 255 bytes is cut off at a character.
#[inline]
pub(super) fn put_short(text: &str, out: &mut Vec<u8>) {
    let text = &text[..text.floor_char_boundary(super::SHORT_STRING_BYTES_MAX)];
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a long string.
#[inline]
pub(super) fn put_long(bytes: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&bytes[..length as usize]);
}

/// A type of field that methods are made of.
pub(super) trait Field<'a>: Sized {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
    fn write(&self, writer: &mut Writer<'_>);
}

macro_rules! numbers {
    ($($type:ty),+) => {$(
        impl<'a> Field<'a> for $type {
            #[inline]
            fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                reader.array().map(Self::from_be_bytes)
            }

            fn write(&self, writer: &mut Writer<'_>) {
                writer.put(&self.to_be_bytes());
            }
        }
    )+};
}

numbers!(u8, u16, u32, u64);

impl<'a> Field<'a> for bool {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.bit()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.put_bit(*self);
    }
}

impl<'a> Field<'a> for &'a str {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.short()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bit = 0;
        put_short(self, writer.out);
    }
}

impl<'a> Field<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.long()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bit = 0;
        put_long(self, writer.out);
    }
}

impl<'a> Field<'a> for Table<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Self::parse(reader.long()?)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bit = 0;
        put_long(self.bytes(), writer.out);
    }
}
