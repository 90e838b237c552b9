//! Whether bytes are a value of a schema, in Avro's binary encoding.

use super::{Body, Schema, Type};

/// The deepest value.
const DEPTH_MAX: usize = 200;

/// Reads a value and gives what is wrong with it, with its path.
pub(crate) fn check(schema: &Schema, bytes: &[u8]) -> Result<(), (String, String)> {
    let mut values = Values { schema, left: bytes, steps: bytes.len() * 4 + 10_000 };
    let mut path = String::new();
    let read = values.value(&schema.root, &mut path, 0);
    let read = read.and_then(|()| match values.left.len() {
        0 => Ok(()),
        more => Err(format!("{more} bytes follow the value")),
    });
    read.map_err(|said| (path, said))
}

struct Values<'a> {
    schema: &'a Schema,
    left: &'a [u8],
    /// Values that may still be read: those of no bytes cost something too.
    steps: usize,
}

impl<'a> Values<'a> {
    /// Reads a value; on an error `path` stays where it is.
    fn value(&mut self, of: &'a Type, path: &mut String, depth: usize) -> Result<(), String> {
        self.steps = self.steps.checked_sub(1).ok_or("it has more values than bytes")?;
        if depth > DEPTH_MAX {
            return Err("it is nested too deep".to_owned());
        }
        let here = path.len();
        match of {
            Type::Null => {}
            Type::Boolean => match self.take(1)? {
                [0 | 1] => {}
                _ => return Err("a boolean is 0 or 1".to_owned()),
            },
            Type::Int => {
                let number = self.long()?;
                i32::try_from(number).map_err(|error| format!("{number} is no int: {error}"))?;
            }
            Type::Long => {
                self.long()?;
            }
            Type::Float => {
                self.take(4)?;
            }
            Type::Double => {
                self.take(8)?;
            }
            Type::Bytes(_) => {
                self.bytes()?;
            }
            Type::String => {
                let text = self.bytes()?;
                std::str::from_utf8(text)
                    .map_err(|error| format!("a string is no UTF-8: {error}"))?;
            }
            Type::Array(items) => self.blocks(path, |values, path, at| {
                path.push_str(&format!("/{at}"));
                values.value(items, path, depth + 1)
            })?,
            Type::Map(of) => self.blocks(path, |values, path, _| {
                let key = std::str::from_utf8(values.bytes()?);
                let key = key.map_err(|error| format!("a key is no UTF-8: {error}"))?;
                path.push_str(&format!("/{key}"));
                values.value(of, path, depth + 1)
            })?,
            Type::Union(branches) => {
                let at = self.long()?;
                let branch = usize::try_from(at).ok().and_then(|at| branches.get(at));
                let branch = branch.ok_or_else(|| format!("the union has no branch {at}"))?;
                self.value(branch, path, depth + 1)?;
            }
            Type::Named(at) => match &self.schema.named[*at].body {
                Body::Open => {}
                Body::Fixed { size, .. } => {
                    self.take(usize::try_from(*size).unwrap_or(usize::MAX))?;
                }
                Body::Enum { symbols, .. } => {
                    let at = self.long()?;
                    if usize::try_from(at).ok().is_none_or(|at| at >= symbols.len()) {
                        return Err(format!("the enum has no symbol {at}"));
                    }
                }
                Body::Record(fields) => {
                    for field in fields {
                        path.push('/');
                        path.push_str(&field.name);
                        self.value(&field.of, path, depth + 1)?;
                        path.truncate(here);
                    }
                }
            },
        }
        path.truncate(here);
        Ok(())
    }

    fn blocks(
        &mut self,
        path: &mut String,
        mut each: impl FnMut(&mut Self, &mut String, usize) -> Result<(), String>,
    ) -> Result<(), String> {
        let here = path.len();
        let mut at = 0;
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                count = count.checked_neg().ok_or("a block has no such length")?;
                self.long()?;
            }
            for _ in 0..count {
                each(self, path, at)?;
                path.truncate(here);
                at += 1;
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, left) = self.left.split_at_checked(count).ok_or("it ends too early")?;
        self.left = left;
        Ok(taken)
    }

    fn bytes(&mut self) -> Result<&'a [u8], String> {
        let length = self.long()?;
        let length =
            usize::try_from(length).ok().ok_or_else(|| format!("a length is not {length}"))?;
        self.take(length)
    }

    /// A number in zig-zag and in groups of seven bits.
    fn long(&mut self) -> Result<i64, String> {
        let mut number: u64 = 0;
        for shift in (0..70).step_by(7) {
            let [byte] = *self.take(1)? else { break };
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err("a number is longer than 64 bits".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_to_its_end_or_its_fault_is_placed() {
        let order = r#"{"type":"record","name":"Order","fields":[
            {"name":"id","type":"string"},
            {"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[
                {"name":"count","type":"int"}]}}},
            {"name":"note","type":["null","string"]}]}"#;
        for (schema, bytes, expect) in [
            (r#""int""#, &[0x7f][..], None),
            (r#""int""#, &[][..], Some(("", "it ends too early"))),
            (r#""int""#, &[2, 2], Some(("", "1 bytes follow the value"))),
            (r#""boolean""#, &[2], Some(("", "a boolean is 0 or 1"))),
            (r#""string""#, &[2, 0xff], Some(("", "a string is no UTF-8"))),
            (r#""string""#, &[1], Some(("", "a length is not -1"))),
            (r#""long""#, &[0xff; 11], Some(("", "a number is longer than 64 bits"))),
            (r#"["null","int"]"#, &[4], Some(("", "the union has no branch 2"))),
            (order, b"\x02a\x02\x04\x00\x00", None),
            (
                order,
                b"\x02a\x02\xff\xff\xff\xff\x7f\x00\x00",
                Some(("/lines/0/count", "is no int")),
            ),
            (order, b"\x02a\x00\x06", Some(("/note", "the union has no branch 3"))),
            (r#"{"type":"map","values":"boolean"}"#, b"\x02\x02k\x05\x00", Some(("/k", "boolean"))),
            // Two billion nulls in six bytes.
            (
                r#"{"type":"array","items":"null"}"#,
                &[0xfe, 0xff, 0xff, 0xff, 0x0f, 0],
                Some(("/", "more values than bytes")),
            ),
        ] {
            let schema = Schema::read(schema, []).unwrap();
            match (check(&schema, bytes), expect) {
                (Ok(()), None) => {}
                (Err((at, said)), Some((path, expect))) => {
                    assert!(at.starts_with(path) && said.contains(expect), "{at}: {said}");
                }
                (outcome, _) => panic!("{bytes:?}: {outcome:?}, not {expect:?}"),
            }
        }
    }
}
