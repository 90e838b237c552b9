//! Documents of a schema, and what their references lead to.

use std::collections::HashMap;

use serde_json::Value;

/// The keywords that refer to another place.
pub(super) const REFERENCES: &[&str] = &["$ref", "$dynamicRef", "$recursiveRef"];

/// A schema with those that it refers to. What is in it does not move: places are known by their address.
pub(super) struct Documents {
    root: Box<Value>,
    others: Vec<(String, Value)>,
    /// Places by `$id`, as it stands: the document, and the pointer within it.
    ids: HashMap<String, (usize, String)>,
    /// Other documents by their names, and by the last parts of them; of several the first.
    names: HashMap<String, usize>,
    last_names: HashMap<String, usize>,
    /// `$id`s by their last parts; of several the first.
    last_ids: HashMap<String, String>,
    /// Places by `$anchor`, of the document.
    anchors: HashMap<(usize, String), String>,
}

impl Documents {
    pub(super) fn new(root: Value, others: Vec<(String, Value)>) -> Self {
        let mut all = Self {
            root: Box::new(root),
            others,
            ids: HashMap::new(),
            names: HashMap::new(),
            last_names: HashMap::new(),
            last_ids: HashMap::new(),
            anchors: HashMap::new(),
        };
        for (at, (name, _)) in all.others.iter().enumerate() {
            all.names.entry(name.clone()).or_insert(at + 1);
            all.last_names.entry(last(name).to_owned()).or_insert(at + 1);
        }
        for document in 0..=all.others.len() {
            let mut found = Vec::new();
            if let Some(value) = all.document(document) {
                named(value, &mut String::new(), &mut found);
            }
            for (is_anchor, name, pointer) in found {
                match is_anchor {
                    true => drop(all.anchors.insert((document, name), pointer)),
                    false => {
                        let short = last(&name).to_owned();
                        all.last_ids.entry(short).or_insert_with(|| name.clone());
                        all.ids.insert(name, (document, pointer));
                    }
                }
            }
        }
        all
    }

    pub(super) fn root(&self) -> &Value {
        &self.root
    }

    pub(super) fn others(&self) -> &[(String, Value)] {
        &self.others
    }

    fn document(&self, at: usize) -> Option<&Value> {
        match at {
            0 => Some(&self.root),
            at => self.others.get(at - 1).map(|(_, value)| value),
        }
    }

    /// What a reference of a document leads to, with the document that it is in.
    pub(super) fn resolve(&self, document: usize, reference: &str) -> Option<(usize, &Value)> {
        let (address, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let (document, start) = match address {
            "" => (document, self.document(document)?),
            address => self.address(address)?,
        };
        if fragment.is_empty() {
            return Some((document, start));
        }
        if fragment.starts_with('/') {
            let pointer = percent(fragment);
            return Some((document, start.pointer(&pointer)?));
        }
        let pointer = self.anchors.get(&(document, fragment.to_owned()))?;
        Some((document, self.document(document)?.pointer(pointer)?))
    }

    fn address(&self, address: &str) -> Option<(usize, &Value)> {
        let document = |at: usize| Some((at, self.document(at)?));
        let by_name = |name: &str| document(*self.names.get(name)?);
        let by_id = |name: &str| {
            let (at, pointer) = self.ids.get(name)?;
            Some((*at, self.document(*at)?.pointer(pointer)?))
        };
        let plain = address.trim_start_matches("./").trim_start_matches('/');
        by_name(address).or_else(|| by_name(plain)).or_else(|| by_id(address)).or_else(|| {
            // What is relative is looked for by its last part.
            let wanted = last(address);
            match self.last_names.get(wanted) {
                Some(at) => document(*at),
                None => by_id(self.last_ids.get(wanted)?),
            }
        })
    }
}

/// The last part of an address.
fn last(text: &str) -> &str {
    let text = text.trim_end_matches('#');
    text.rsplit_once('/').map_or(text, |(_, last)| last)
}

fn percent(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        rest = match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                &tail[2..]
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Finds what has a name of its own: whether it is an anchor, the name, and its pointer.
fn named(value: &Value, pointer: &mut String, found: &mut Vec<(bool, String, String)>) {
    let here = pointer.len();
    match value {
        Value::Object(object) => {
            for key in ["$id", "id"] {
                match object.get(key).and_then(Value::as_str) {
                    Some(anchor) if anchor.starts_with('#') => {
                        found.push((true, anchor[1..].to_owned(), pointer.clone()));
                    }
                    Some(id) => {
                        found.push((false, id.trim_end_matches('#').to_owned(), pointer.clone()));
                    }
                    None => {}
                }
            }
            for key in ["$anchor", "$dynamicAnchor"] {
                if let Some(anchor) = object.get(key).and_then(Value::as_str) {
                    found.push((true, anchor.to_owned(), pointer.clone()));
                }
            }
            for (name, inner) in object {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                named(inner, pointer, found);
                pointer.truncate(here);
            }
        }
        Value::Array(all) => {
            for (at, inner) in all.iter().enumerate() {
                pointer.push_str(&format!("/{at}"));
                named(inner, pointer, found);
                pointer.truncate(here);
            }
        }
        _ => {}
    }
}
