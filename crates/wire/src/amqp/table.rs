//! Field tables: names and typed values, as RabbitMQ types them.
//!
//! A [`Table`] and an [`Array`] are bytes that were checked when they were read; walking them allocates
//! nothing. A [`TableWriter`] appends entries in place and sets the length at the end. What is only passed
//! on is copied as it came, because a value can be written in more than one way: numbers of 64 bits have
//! two types, and any octet but zero is true.

use super::{
    DecodeError, TABLE_DEPTH_MAX,
    reader::{Reader, put_long, put_short},
};

/// A table: names and values in the order they stand. Its bytes have been checked.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Table<'a>(&'a [u8]);

/// An array of values. Its bytes have been checked.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Array<'a>(pub(super) &'a [u8]);

/// A value of a table or an array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`, or `L` as some clients write it
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: a number of places after the point, and the number without the point.
    Decimal(u8, u32),
    /// `S`: text by convention, bytes by type.
    Long(&'a [u8]),
    /// `A`
    Array(Array<'a>),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`
    Table(Table<'a>),
    /// `V`
    Void,
    /// `x`
    Bytes(&'a [u8]),
}

/// An entry of a table as it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry<'a> {
    /// The name: text by convention, bytes by what clients write.
    pub name: &'a [u8],
    /// The value.
    pub value: Value<'a>,
    /// Name, type and value as they came, for [`TableWriter::copy`].
    raw: &'a [u8],
}

impl<'a> Table<'a> {
    /// A table without entries.
    pub const EMPTY: Self = Self(&[]);

    /// Takes the bytes of a table, without its length, if all of it is well formed.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        check_table(bytes, 0)?;
        Ok(Self(bytes))
    }

    /// The bytes, without the length.
    pub const fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whether it has no entry.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries in order, but for those whose name is no text. Names may repeat.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        self.entries()
            .filter_map(|entry| Some((std::str::from_utf8(entry.name).ok()?, entry.value)))
    }

    /// Every entry in order, as it stands.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let mut reader = Reader::new(self.0, "table");
        std::iter::from_fn(move || {
            let before = reader.rest();
            let name = reader.short_bytes().ok()?;
            let value = value(&mut reader).ok()?;
            let raw = &before[..before.len() - reader.rest().len()];
            Some(Entry { name, value, raw })
        })
    }

    /// The value of a name; the first if it repeats.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.entries().find(|entry| entry.name == name.as_bytes()).map(|entry| entry.value)
    }
}

impl<'a> Array<'a> {
    /// The bytes, without the length.
    pub const fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut reader = Reader::new(self.0, "array");
        std::iter::from_fn(move || value(&mut reader).ok())
    }
}

impl std::fmt::Debug for Table<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl std::fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> Value<'a> {
    /// The whole number it is, whatever its width.
    pub fn integer(&self) -> Option<i64> {
        Some(match *self {
            Self::I8(number) => number.into(),
            Self::U8(number) => number.into(),
            Self::I16(number) => number.into(),
            Self::U16(number) => number.into(),
            Self::I32(number) => number.into(),
            Self::U32(number) => number.into(),
            Self::I64(number) => number,
            _ => return None,
        })
    }

    /// The text it is.
    pub fn text(&self) -> Option<&'a str> {
        match *self {
            Self::Long(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The octet that names its type.
    pub const fn type_octet(&self) -> u8 {
        match self {
            Self::Bool(_) => b't',
            Self::I8(_) => b'b',
            Self::U8(_) => b'B',
            Self::I16(_) => b's',
            Self::U16(_) => b'u',
            Self::I32(_) => b'I',
            Self::U32(_) => b'i',
            Self::I64(_) => b'l',
            Self::F32(_) => b'f',
            Self::F64(_) => b'd',
            Self::Decimal(..) => b'D',
            Self::Long(_) => b'S',
            Self::Array(_) => b'A',
            Self::Timestamp(_) => b'T',
            Self::Table(_) => b'F',
            Self::Void => b'V',
            Self::Bytes(_) => b'x',
        }
    }

    /// Appends its type and itself.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(self.type_octet());
        match *self {
            Self::Bool(set) => out.push(set.into()),
            Self::I8(number) => out.extend_from_slice(&number.to_be_bytes()),
            Self::U8(number) => out.push(number),
            Self::I16(number) => out.extend_from_slice(&number.to_be_bytes()),
            Self::U16(number) => out.extend_from_slice(&number.to_be_bytes()),
            Self::I32(number) => out.extend_from_slice(&number.to_be_bytes()),
            Self::U32(number) => out.extend_from_slice(&number.to_be_bytes()),
            Self::I64(number) => out.extend_from_slice(&number.to_be_bytes()),
            Self::F32(number) => out.extend_from_slice(&number.to_be_bytes()),
            Self::F64(number) => out.extend_from_slice(&number.to_be_bytes()),
            Self::Decimal(places, number) => {
                out.push(places);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Long(bytes) | Self::Bytes(bytes) => put_long(bytes, out),
            Self::Array(array) => put_long(array.0, out),
            Self::Timestamp(seconds) => out.extend_from_slice(&seconds.to_be_bytes()),
            Self::Table(table) => put_long(table.0, out),
            Self::Void => {}
        }
    }
}

fn value<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
    let [kind] = reader.array()?;
    Ok(match kind {
        b't' => Value::Bool(reader.array::<1>()? != [0]),
        b'b' => Value::I8(i8::from_be_bytes(reader.array()?)),
        b'B' => Value::U8(u8::from_be_bytes(reader.array()?)),
        b's' => Value::I16(i16::from_be_bytes(reader.array()?)),
        b'u' => Value::U16(u16::from_be_bytes(reader.array()?)),
        b'I' => Value::I32(i32::from_be_bytes(reader.array()?)),
        b'i' => Value::U32(reader.u32()?),
        // RabbitMQ reads both as signed: the specification's types and those of its clients disagree.
        b'l' | b'L' => Value::I64(i64::from_be_bytes(reader.array()?)),
        b'f' => Value::F32(f32::from_be_bytes(reader.array()?)),
        b'd' => Value::F64(f64::from_be_bytes(reader.array()?)),
        b'D' => {
            let [places] = reader.array()?;
            Value::Decimal(places, reader.u32()?)
        }
        b'S' => Value::Long(reader.long()?),
        b'A' => Value::Array(Array(reader.long()?)),
        b'T' => Value::Timestamp(u64::from_be_bytes(reader.array()?)),
        b'F' => Value::Table(Table(reader.long()?)),
        b'V' => Value::Void,
        b'x' => Value::Bytes(reader.long()?),
        other => return Err(DecodeError::FieldType(other)),
    })
}

fn check_table(bytes: &[u8], depth: usize) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes, "table");
    while !reader.is_empty() {
        reader.short_bytes()?;
        check_value(value(&mut reader)?, depth)?;
    }
    Ok(())
}

fn check_array(bytes: &[u8], depth: usize) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes, "array");
    while !reader.is_empty() {
        check_value(value(&mut reader)?, depth)?;
    }
    Ok(())
}

fn check_value(value: Value<'_>, depth: usize) -> Result<(), DecodeError> {
    if depth + 1 >= TABLE_DEPTH_MAX && matches!(value, Value::Table(_) | Value::Array(_)) {
        return Err(DecodeError::Depth);
    }
    match value {
        Value::Table(table) => check_table(table.0, depth + 1),
        Value::Array(array) => check_array(array.0, depth + 1),
        _ => Ok(()),
    }
}

/// Appends the entries of a table, or the values of an array, and sets the length when it is dropped.
#[derive(Debug)]
pub struct TableWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl<'o> TableWriter<'o> {
    /// Begins a table (or an array) with its length, at the end of `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        Self { out, start }
    }

    /// Appends an entry. Names longer than 255 bytes are cut.
    pub fn entry(&mut self, name: &str, value: Value<'_>) -> &mut Self {
        put_short(name, self.out);
        value.write(self.out);
        self
    }

    /// Appends an entry of another table byte for byte.
    pub fn copy(&mut self, entry: Entry<'_>) -> &mut Self {
        self.out.extend_from_slice(entry.raw);
        self
    }

    /// Appends a text entry.
    pub fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.entry(name, Value::Long(text.as_bytes()))
    }

    /// Appends an entry that is a table, which `fill` writes.
    pub fn table(&mut self, name: &str, fill: impl FnOnce(&mut TableWriter<'_>)) -> &mut Self {
        put_short(name, self.out);
        self.out.push(b'F');
        fill(&mut TableWriter::new(self.out));
        self
    }

    /// Appends an entry that is an array, which `fill` writes with [`Self::value`].
    pub fn array(&mut self, name: &str, fill: impl FnOnce(&mut TableWriter<'_>)) -> &mut Self {
        put_short(name, self.out);
        self.out.push(b'A');
        fill(&mut TableWriter::new(self.out));
        self
    }

    /// Appends a value without a name, which is what an array is made of.
    pub fn value(&mut self, value: Value<'_>) -> &mut Self {
        value.write(self.out);
        self
    }

    /// Appends a table without a name.
    pub fn table_value(&mut self, fill: impl FnOnce(&mut TableWriter<'_>)) -> &mut Self {
        self.out.push(b'F');
        fill(&mut TableWriter::new(self.out));
        self
    }
}

impl Drop for TableWriter<'_> {
    fn drop(&mut self) {
        let length = u32::try_from(self.out.len() - self.start - 4).unwrap_or(u32::MAX);
        self.out[self.start..self.start + 4].copy_from_slice(&length.to_be_bytes());
    }
}
