//! The messages of the output plugin `pgoutput`, protocol version 1: what a transaction has changed, in text.
//!
//! Source: "Logical Replication Message Formats" of PostgreSQL's manual, 14 to 18. A message is read in place: values
//! are slices of the frame that it came in, and nothing is allocated beyond one entry for each column.

use bytes::Bytes;

use crate::lsn::Lsn;

/// The most columns of a table of PostgreSQL.
const COLUMNS_MAX: usize = 1_664;

/// A message of the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A transaction begins.
    Begin(Begin),
    /// It has ended.
    Commit(Commit),
    /// What the table is of which changes follow.
    Relation(Relation),
    /// A row was inserted.
    Insert {
        /// The number of its table.
        relation: u32,
        /// Its columns, in the table's order.
        values: Vec<Value>,
    },
    /// A message that was written into the log by hand.
    Message(Logical),
    /// An update, a deletion, a truncation, an origin or a type: nothing is published for these.
    Other,
}

/// The beginning of a transaction, which is told once it has been committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Where the record of its commit begins.
    pub commit: Lsn,
    /// When it was committed: microseconds since 2000.
    pub at: i64,
    /// Its number.
    pub xid: u32,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where the record of its commit begins.
    pub commit: Lsn,
    /// Where that record ends.
    pub end: Lsn,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its number, which changes refer to.
    pub id: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The number of its type.
    pub kind: u32,
}

/// What a row has in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// What it had before, which is stored elsewhere and was not sent.
    Unchanged,
    /// The text form.
    Text(Bytes),
}

/// A message that was written into the log by `pg_logical_emit_message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logical {
    /// Whether it belongs to the transaction that it came with.
    pub transactional: bool,
    /// Its prefix.
    pub prefix: String,
    /// Its content.
    pub content: Bytes,
}

/// Reads a message.
///
/// # Errors
/// That it is none.
pub fn read(bytes: &Bytes) -> Result<Output, Malformed> {
    let mut from = Reader { bytes, at: 0 };
    let output = match from.byte()? {
        b'B' => Output::Begin(Begin { commit: from.lsn()?, at: from.long()?, xid: from.word()? }),
        b'C' => {
            from.byte()?;
            let commit = Commit { commit: from.lsn()?, end: from.lsn()? };
            from.long()?;
            Output::Commit(commit)
        }
        b'R' => Output::Relation(relation(&mut from)?),
        b'I' => {
            let relation = from.word()?;
            if from.byte()? != b'N' {
                return Err(Malformed);
            }
            Output::Insert { relation, values: from.tuple()? }
        }
        b'M' => {
            let transactional = from.byte()? & 1 == 1;
            from.lsn()?;
            let prefix = from.text()?;
            let length = from.length()?;
            Output::Message(Logical { transactional, prefix, content: from.take(length)? })
        }
        b'U' | b'D' | b'T' | b'O' | b'Y' => return Ok(Output::Other),
        _ => return Err(Malformed),
    };
    if from.at == bytes.len() { Ok(output) } else { Err(Malformed) }
}

fn relation(from: &mut Reader<'_>) -> Result<Relation, Malformed> {
    let (id, schema, name) = (from.word()?, from.text()?, from.text()?);
    // The replica identity.
    from.byte()?;
    let count = from.count()?;
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        from.byte()?;
        columns.push(Column { name: from.text()?, kind: from.word()? });
        from.word()?;
    }
    Ok(Relation { id, schema, name, columns })
}

/// Bytes that are no message of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let taken = self.bytes.slice(self.at..end.ok_or(Malformed)?);
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let found = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        self.at += N;
        found.copied().ok_or(Malformed)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn word(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn long(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    fn lsn(&mut self) -> Result<Lsn, Malformed> {
        self.array().map(|bytes| Lsn(u64::from_be_bytes(bytes)))
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.word()?).map_err(|_too_large| Malformed)
    }

    /// A number of columns.
    fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::from(u16::from_be_bytes(self.array()?));
        if count <= COLUMNS_MAX { Ok(count) } else { Err(Malformed) }
    }

    /// Text up to a zero byte.
    fn text(&mut self) -> Result<String, Malformed> {
        let rest = self.bytes.get(self.at..).ok_or(Malformed)?;
        let length = rest.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
        let text = rest.get(..length).and_then(|text| std::str::from_utf8(text).ok());
        let text = text.ok_or(Malformed)?.to_owned();
        self.at += length + 1;
        Ok(text)
    }

    fn tuple(&mut self) -> Result<Vec<Value>, Malformed> {
        let count = self.count()?;
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            values.push(match self.byte()? {
                b'n' => Value::Null,
                b'u' => Value::Unchanged,
                b't' => {
                    let length = self.length()?;
                    Value::Text(self.take(length)?)
                }
                _ => return Err(Malformed),
            });
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests;
