//! Documents of a projection, and what changes them: pure.

use std::{borrow::Cow, io};

use serde_json::{Map, Number, Value};
use weft_expression::{Members, Operand};
use weft_kernel::{Error, Reason, Result};

/// The largest document as JSON, in bytes.
pub const BYTES_MAX: usize = (1 << 20) - 64;

/// Why an event cannot be applied to a document, in a sentence without any value of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub(super) String);

impl Fault {
    pub(super) const fn new(why: String) -> Self {
        Self(why)
    }

    /// The sentence.
    pub fn why(&self) -> &str {
        &self.0
    }
}

/// Change of a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Set(Value),
    Add(Value),
    /// With how many items the list keeps.
    Append(Value, usize),
}

/// A document.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Document {
    fields: Map<String, Value>,
    /// The position of the event that changed it last.
    position: u64,
    /// How long its fields are as JSON, each with its name, a colon and a comma.
    bytes: usize,
}

impl Document {
    /// Its fields.
    pub const fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// The position of the event that changed it last.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// How long it is as JSON.
    pub fn len(&self) -> usize {
        // Two brackets, and no comma behind the last field.
        self.bytes + 1 + usize::from(self.fields.is_empty())
    }

    /// Whether it has no fields.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Changes fields and removes others, all of them or none.
    pub(super) fn change(
        &mut self,
        changes: Vec<(&str, Change)>,
        removed: &[&str],
        position: u64,
    ) -> Result<(), Fault> {
        // What each field was; lists, that may be long, are put back by what was changed of them. What goes does so
        // once all else is done: put back, it would stand behind the others.
        let mut undo: Vec<(&str, Undo)> = Vec::with_capacity(changes.len());
        let (mut bytes, mut fault) = (self.bytes, None);
        for (field, change) in changes {
            match self.change_one(field, change, &mut bytes) {
                Ok(was) => undo.push((field, was)),
                Err(why) => {
                    fault = Some(why);
                    break;
                }
            }
        }
        let gone = removed.iter().filter_map(|field| Some(whole(field, self.fields.get(*field)?)));
        bytes -= gone.sum::<usize>();
        if fault.is_none() && bytes + 2 > BYTES_MAX {
            fault = Some(Fault("the document would be larger than 1 MiB".into()));
        }
        if let Some(fault) = fault {
            for (field, was) in undo.into_iter().rev() {
                self.put_back(field, was);
            }
            return Err(fault);
        }
        for field in removed {
            self.fields.remove(*field);
        }
        (self.bytes, self.position) = (bytes, position);
        Ok(())
    }

    fn change_one(
        &mut self,
        field: &str,
        change: Change,
        bytes: &mut usize,
    ) -> Result<Undo, Fault> {
        let value = match change {
            Change::Set(value) => value,
            Change::Add(value) => match self.fields.get(field) {
                None if value.is_number() => value,
                Some(was) => sum(was, &value).ok_or_else(|| {
                    Fault(format!("{field}: it gives no number that can be added"))
                })?,
                None => return Err(Fault(format!("{field}: it gives no number"))),
            },
            Change::Append(value, items) => match self.fields.get_mut(field) {
                None => Value::Array(vec![value]),
                Some(Value::Array(list)) => {
                    let over = (list.len() + 1).saturating_sub(items);
                    let gone: Vec<Value> = list.drain(..over.min(list.len())).collect();
                    let comma = |count: usize| count.saturating_sub(1);
                    let (before, after) = (comma(list.len() + gone.len()), comma(list.len() + 1));
                    *bytes += length(&value) + after;
                    *bytes -= gone.iter().map(length).sum::<usize>() + before;
                    list.push(value);
                    return Ok(Undo::Appended(gone));
                }
                Some(_) => return Err(Fault(format!("{field}: the field is no list"))),
            },
        };
        *bytes += whole(field, &value);
        let was = self.fields.insert(field.to_owned(), value);
        *bytes -= was.as_ref().map_or(0, |was| whole(field, was));
        Ok(Undo::Was(was))
    }

    fn put_back(&mut self, field: &str, was: Undo) {
        match was {
            Undo::Was(Some(value)) => {
                self.fields.insert(field.to_owned(), value);
            }
            Undo::Was(None) => {
                self.fields.remove(field);
            }
            Undo::Appended(gone) => {
                if let Some(Value::Array(list)) = self.fields.get_mut(field) {
                    list.pop();
                    list.splice(..0, gone);
                }
            }
        }
    }

    /// As it is stored: the position, and then its JSON.
    pub(super) fn stored(&self) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(8 + self.len());
        out.extend_from_slice(&self.position.to_be_bytes());
        serde_json::to_writer(&mut out, &self.fields).map_err(|error| {
            Error::new(Reason::Internal, "a document cannot be written").because(error)
        })?;
        Ok(out)
    }

    /// Of what was stored.
    pub(super) fn read(stored: &[u8]) -> Result<Self> {
        let corrupt = || Error::new(Reason::StorageCorrupt, "a document cannot be read");
        let (position, json) = split(stored)?;
        let fields: Map<String, Value> =
            serde_json::from_slice(json).map_err(|error| corrupt().because(error))?;
        let bytes = json.len() - 1 - usize::from(fields.is_empty());
        Ok(Self { fields, position, bytes })
    }
}

/// The position and the JSON of a document that is stored.
pub(super) fn split(stored: &[u8]) -> Result<(u64, &[u8])> {
    let split = stored.split_first_chunk::<8>();
    let (position, json) =
        split.ok_or_else(|| Error::new(Reason::StorageCorrupt, "a document cannot be read"))?;
    Ok((u64::from_be_bytes(*position), json))
}

enum Undo {
    Was(Option<Value>),
    /// The items that went for a new one.
    Appended(Vec<Value>),
}

/// Numbers that are whole stay so.
fn sum(one: &Value, other: &Value) -> Option<Value> {
    match (one.as_i64(), other.as_i64()) {
        (Some(one), Some(other)) => one.checked_add(other).map(Value::from),
        _ => Number::from_f64(one.as_f64()? + other.as_f64()?).map(Value::Number),
    }
}

/// How long a field is as JSON, with its name, a colon and a comma.
fn whole(field: &str, value: &Value) -> usize {
    length(field) + 1 + length(value) + 1
}

/// How long something is as JSON.
fn length<T: serde::Serialize + ?Sized>(value: &T) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => BYTES_MAX,
    }
}

impl Members for Document {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        self.fields.get(name).map(Operand::Json)
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        self.fields.keys().map(|name| Cow::Borrowed(&**name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn after(document: &mut Document, changes: Vec<(&str, Change)>, removed: &[&str]) -> bool {
        document.change(changes, removed, 1).is_ok()
    }

    #[test]
    fn a_change_that_fails_leaves_all_as_it_was_and_in_its_order() {
        let mut document = Document::default();
        let set = |value: Value| Change::Set(value);
        let first = vec![("a", set(json!(1))), ("b", set(json!([1, 2]))), ("c", set(json!("x")))];
        assert!(after(&mut document, first, &[]));
        let before = document.clone();
        let stored = document.stored().unwrap();
        for fault in [Change::Add(json!("much")), Change::Append(json!(1), 9), set(json!(null))] {
            let is_good = matches!(fault, Change::Set(_));
            let changes =
                vec![("d", set(json!(true))), ("b", Change::Append(json!(3), 2)), ("c", fault)];
            let mut tried = document.clone();
            assert_eq!(after(&mut tried, changes, &["a"]), is_good);
            match is_good {
                true => assert_eq!(
                    Value::Object(tried.fields.clone()),
                    json!({ "b": [2, 3], "c": null, "d": true })
                ),
                false => {
                    assert_eq!((&tried, tried.stored().unwrap()), (&before, stored.clone()));
                }
            }
            assert_eq!(tried.len(), tried.stored().unwrap().len() - 8);
            assert_eq!(Document::read(&tried.stored().unwrap()).unwrap(), tried);
        }
    }

    #[test]
    fn whole_numbers_stay_whole_until_they_are_too_large() {
        let sums = [
            (json!(1), json!(2), Some(json!(3))),
            (json!(1), json!(0.5), Some(json!(1.5))),
            (json!(i64::MAX), json!(1), None),
            (json!("1"), json!(1), None),
        ];
        for (one, other, expected) in sums {
            assert_eq!(sum(&one, &other), expected, "{one} + {other}");
        }
    }
}
