//! Protobuf schemas: reading `.proto` text and serialised descriptors, canonical text, and payloads.

mod compatible;
mod print;

use std::sync::LazyLock;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FileDescriptor, MessageDescriptor,
    ReflectMessage as _, Value,
};
use prost_types::FileDescriptorProto;
use protox::{
    Compiler,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver},
};
use regex::Regex;

pub(crate) use self::compatible::issues;
use crate::error::{Error, Result};

/// The name of the file that a schema is, to the compiler.
const MAIN: &str = "schema.weft.proto";
/// The deepest that braces and brackets stand in one another.
const NESTING_MAX: usize = 64;
/// The longest path to a message within its file.
const INDEXES_MAX: usize = 32;

/// A schema, with those that it refers to.
#[derive(Debug)]
pub(crate) struct Schema {
    main: FileDescriptor,
    text: String,
}

/// Files by name.
struct Files(Vec<(String, Source)>);

enum Source {
    Text(String),
    Descriptor(Box<FileDescriptorProto>),
}

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> std::result::Result<File, protox::Error> {
        let found = self.0.iter().find(|(file, _)| file == name);
        match found {
            Some((name, Source::Text(text))) => File::from_source(name, text),
            Some((_, Source::Descriptor(file))) => {
                Ok(File::from_file_descriptor_proto((**file).clone()))
            }
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// An option of one's own, which descriptors that are printed do not show.
static OWN_OPTION: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\(\s*\.?[A-Za-z_][\w.]*\s*\)\s*(\.[\w.]+)?\s*=").ok());

impl Schema {
    /// Reads a schema, as text or as base64 of a serialised descriptor; `references` are the names by which it
    /// imports others, with their texts.
    pub(crate) fn read<'a>(
        text: &str,
        references: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self> {
        let mut files = vec![(MAIN.to_owned(), source(MAIN, text)?)];
        for (name, text) in references {
            files.push((name.to_owned(), source(name, text)?));
        }
        let is_text = matches!(files[0].1, Source::Text(_));
        let mut resolver = ChainFileResolver::new();
        resolver.add(Files(files));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        compiler.include_imports(true);
        compiler.open_file(MAIN).map_err(|error| Error::invalid(told(&error)))?;
        let main = compiler.descriptor_pool().get_file_by_name(MAIN);
        let main = main.ok_or_else(|| Error::invalid("it defines nothing"))?;
        let printed = || print::file(main.file_descriptor_proto());
        let text = if is_text { text.trim().to_owned() } else { printed() };
        Ok(Self { text, main })
    }

    /// Its text as it is kept.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What two texts of the same schema have in common: comments and spaces do not count.
    pub(crate) fn canonical(&self) -> String {
        match OWN_OPTION.as_ref().is_none_or(|option| option.is_match(&self.text)) {
            true => self.text.clone(),
            false => print::file(self.main.file_descriptor_proto()),
        }
    }

    /// Its serialised descriptor, in base64.
    pub(crate) fn serialized(&self) -> String {
        BASE64_STANDARD.encode(self.main.file_descriptor_proto().encode_to_vec())
    }

    pub(crate) fn pool(&self) -> &DescriptorPool {
        self.main.parent_pool()
    }

    /// What is wrong with a payload of the message at a path of indexes, with its own path.
    pub(crate) fn check(&self, indexes: &[usize], payload: &[u8]) -> Result<(), (String, String)> {
        let fault = |said: String| (String::new(), said);
        let message = self.message(indexes);
        let message =
            message.ok_or_else(|| fault(format!("the schema has no message {indexes:?}")))?;
        let decoded = DynamicMessage::decode(message, payload);
        let decoded = decoded.map_err(|error| fault(format!("it cannot be decoded: {error}")))?;
        match missing(&decoded) {
            Some(path) => Err((path, "a required field is missing".to_owned())),
            None => Ok(()),
        }
    }

    fn message(&self, indexes: &[usize]) -> Option<MessageDescriptor> {
        let (first, rest) = indexes.split_first()?;
        let first = self.main.messages().nth(*first)?;
        rest.iter().try_fold(first, |within, at| within.child_messages().nth(*at))
    }
}

/// The path of a required field that is not there.
fn missing(message: &DynamicMessage) -> Option<String> {
    for field in message.descriptor().fields() {
        let at = |inner: &str| format!("/{}{inner}", field.name());
        if field.cardinality() == Cardinality::Required && !message.has_field(&field) {
            return Some(at(""));
        }
        let found = match &*message.get_field(&field) {
            Value::Message(inner) if message.has_field(&field) => missing(inner),
            Value::List(all) => all.iter().filter_map(Value::as_message).find_map(missing),
            Value::Map(all) => all.values().filter_map(Value::as_message).find_map(missing),
            _ => None,
        };
        if let Some(inner) = found {
            return Some(at(&inner));
        }
    }
    None
}

/// The indexes of a message before its bytes, as Confluent writes them.
pub(crate) fn indexes(bytes: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let mut left = bytes;
    let mut number = || {
        let mut found: u64 = 0;
        for shift in (0..35).step_by(7) {
            let (byte, rest) = left.split_first()?;
            left = rest;
            found |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let signed = (found >> 1) as i64 ^ -((found & 1) as i64);
                return usize::try_from(signed).ok();
            }
        }
        None
    };
    let count = number()?;
    let all = match count {
        0 => vec![0],
        count if count > INDEXES_MAX => return None,
        count => (0..count).map(|_| number()).collect::<Option<_>>()?,
    };
    Some((all, left))
}

fn source(name: &str, text: &str) -> Result<Source> {
    let packed: String = text.split_ascii_whitespace().collect();
    let decoded = BASE64_STANDARD.decode(&packed).ok();
    let decoded = decoded.and_then(|bytes| FileDescriptorProto::decode(&*bytes).ok());
    if let Some(mut file) = decoded {
        file.name = Some(name.to_owned());
        file.source_code_info = None;
        return Ok(Source::Descriptor(Box::new(file)));
    }
    if nesting(text) > NESTING_MAX {
        return Err(Error::invalid("it is nested too deep"));
    }
    Ok(Source::Text(text.to_owned()))
}

/// How deep brackets of all kinds stand in one another, at least: strings and comments are not told apart.
fn nesting(text: &str) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' | b'(' | b'<' => now += 1,
            b'}' | b']' | b')' | b'>' => now = now.saturating_sub(1),
            _ => {}
        }
        most = most.max(now);
    }
    most
}

/// An error of the compiler with its cause.
fn told(error: &protox::Error) -> String {
    let mut said = error.to_string().replace(MAIN, "the schema");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_said = inner.to_string();
        if !said.contains(&inner_said) {
            said = format!("{said}: {inner_said}");
        }
        cause = inner.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"
        syntax = "proto3"; // the order
        package shop;
        import "google/protobuf/timestamp.proto";
        option java_package = "com.shop";
        message Order {
          string id = 1;
          map<string, int32> counts = 2;
          oneof how { string card = 3; Cash cash = 4; }
          optional int64 total = 5;
          repeated Line lines = 6;
          google.protobuf.Timestamp at = 7 [deprecated = true];
          reserved 8, 10 to 12; reserved "old";
          message Cash { bool exact = 1; }
          message Line { uint32 count = 1; Kind kind = 2; }
          enum Kind { NONE = 0; SOME = 1; reserved 5; }
        }
        message Other {}
        service Orders { rpc Place (Order) returns (stream Other); }
    "#;

    #[test]
    fn what_is_no_schema_is_refused() {
        let deep =
            format!("syntax=\"proto3\";{}{}", "message M {".repeat(10_000), "}".repeat(10_000));
        for (text, said) in [
            (ORDER, None),
            ("syntax = \"proto2\"; message A { required int32 a = 1 [default = 7]; }", None),
            ("message {", Some("Invalid schema")),
            ("syntax = \"proto3\"; message A { B b = 1; }", Some("B")),
            ("syntax = \"proto3\"; message A { int32 a = 1; int32 b = 1; }", Some("1")),
            ("edition = \"2023\"; message A { int32 a = 1; }", Some("edition")),
            ("syntax = \"proto3\"; import \"gone.proto\";", Some("gone.proto")),
            ("syntax = \"proto3\"; import \"/etc/passwd\";", Some("invalid")),
            ("syntax = \"proto3\"; import \"schema.weft.proto\";", Some("import")),
            (&deep, Some("nested too deep")),
        ] {
            match (Schema::read(text, []), said) {
                (Ok(_), None) => {}
                (Err(error), Some(said)) => {
                    assert!(
                        error.to_string().contains(said),
                        "{}: {error}",
                        &text[..20.min(text.len())]
                    );
                }
                (outcome, _) => panic!("{}: {outcome:?}", &text[..20.min(text.len())]),
            }
        }
    }

    #[test]
    fn text_and_descriptor_are_the_same_schema() {
        let text = Schema::read(ORDER, []).unwrap();
        let binary = Schema::read(&text.serialized(), []).unwrap();
        assert_eq!(text.canonical(), binary.canonical());
        let again = Schema::read(binary.text(), []).unwrap();
        assert_eq!(again.canonical(), binary.canonical(), "{}", binary.text());
        let spaced =
            Schema::read(&ORDER.replace("string id", "/* its id */ string   id"), []).unwrap();
        assert_eq!(spaced.canonical(), text.canonical());
        let names = |schema: &Schema| -> Vec<String> {
            let order = schema.message(&[0]).unwrap();
            order.child_messages().map(|one| one.name().to_owned()).collect()
        };
        assert_eq!(names(&text), names(&again));
        let other = "syntax=\"proto3\"; package shop; message Other { string name = 1; }";
        let imports = "syntax=\"proto3\"; import \"other.proto\"; message M { shop.Other o = 1; }";
        assert!(Schema::read(imports, []).is_err());
        assert!(Schema::read(imports, [("other.proto", other)]).is_ok());
    }

    #[test]
    fn a_payload_is_decoded_by_its_message() {
        let schema = Schema::read(ORDER, []).unwrap();
        assert_eq!(indexes(&[0, 9]), Some((vec![0], &[9][..])));
        assert_eq!(indexes(&[4, 0, 2, 9]), Some((vec![0, 1], &[9][..])));
        assert_eq!(indexes(&[0xff; 9]), None);
        assert_eq!(indexes(&[2]), None);
        assert!(schema.check(&[0], b"\x0a\x01a").is_ok());
        assert!(schema.check(&[0], b"\x0a\x01\xff").unwrap_err().1.contains("cannot be decoded"));
        assert!(schema.check(&[0], b"\x0a\x09a").is_err());
        assert!(schema.check(&[7], b"").unwrap_err().1.contains("no message"));
        let required = "syntax = \"proto2\"; message A { optional B b = 1; message B { required int32 c = 1; } }";
        let schema = Schema::read(required, []).unwrap();
        assert!(schema.check(&[0], b"").is_ok());
        assert_eq!(schema.check(&[0], b"\x0a\x00").unwrap_err().0, "/b/c");
    }
}
