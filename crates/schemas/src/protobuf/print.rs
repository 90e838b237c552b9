//! A descriptor as `.proto` text: fields by number, types in full, so that the same schema is the same text.
//!
//! Nested messages keep their order, with that of maps among them, since readers count them.

use std::fmt::Write as _;

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

pub(super) fn file(file: &FileDescriptorProto) -> String {
    let mut out = Out { text: String::new(), depth: 0, is_proto3: file.syntax() == "proto3" };
    let syntax = if file.syntax().is_empty() { "proto2" } else { file.syntax() };
    out.line(format_args!("syntax = \"{syntax}\";"));
    if !file.package().is_empty() {
        out.line(format_args!("package {};", file.package()));
    }
    for (at, name) in file.dependency.iter().enumerate() {
        let at = i32::try_from(at).unwrap_or(-1);
        let public = if file.public_dependency.contains(&at) { "public " } else { "" };
        out.line(format_args!("import {public}{};", quoted(name)));
    }
    out.file_options(file);
    for message in &file.message_type {
        out.message(message);
    }
    for of in &file.enum_type {
        out.enumeration(of);
    }
    for service in &file.service {
        out.service(service);
    }
    for field in &file.extension {
        out.extension(field);
    }
    out.text
}

struct Out {
    text: String,
    depth: usize,
    is_proto3: bool,
}

impl Out {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.text, "{:width$}{line}", "", width = self.depth * 2);
    }

    fn open(&mut self, line: std::fmt::Arguments<'_>) {
        self.line(format_args!("{line} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.line(format_args!("}}"));
    }

    fn file_options(&mut self, file: &FileDescriptorProto) {
        let Some(options) = &file.options else { return };
        let texts = [
            ("java_package", &options.java_package),
            ("java_outer_classname", &options.java_outer_classname),
            ("go_package", &options.go_package),
            ("objc_class_prefix", &options.objc_class_prefix),
            ("csharp_namespace", &options.csharp_namespace),
            ("swift_prefix", &options.swift_prefix),
            ("php_class_prefix", &options.php_class_prefix),
            ("php_namespace", &options.php_namespace),
            ("ruby_package", &options.ruby_package),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                self.line(format_args!("option {name} = {};", quoted(value)));
            }
        }
        let switches = [
            ("java_multiple_files", options.java_multiple_files),
            ("java_string_check_utf8", options.java_string_check_utf8),
            ("cc_enable_arenas", options.cc_enable_arenas),
            ("deprecated", options.deprecated),
        ];
        for (name, value) in switches {
            if let Some(value) = value {
                self.line(format_args!("option {name} = {value};"));
            }
        }
    }

    fn message(&mut self, message: &DescriptorProto) {
        self.open(format_args!("message {}", message.name()));
        self.members(message);
        self.close();
    }

    fn members(&mut self, message: &DescriptorProto) {
        let options = message.options.clone().unwrap_or_default();
        for (name, value) in [
            ("deprecated", options.deprecated),
            ("message_set_wire_format", options.message_set_wire_format),
        ] {
            if let Some(value) = value {
                self.line(format_args!("option {name} = {value};"));
            }
        }
        for range in &message.reserved_range {
            self.line(format_args!(
                "reserved {};",
                span(range.start(), range.end() - 1, 536_870_911)
            ));
        }
        for name in &message.reserved_name {
            self.line(format_args!("reserved {};", quoted(name)));
        }
        for range in &message.extension_range {
            self.line(format_args!(
                "extensions {};",
                span(range.start(), range.end() - 1, 536_870_911)
            ));
        }
        let mut fields: Vec<&FieldDescriptorProto> = message.field.iter().collect();
        fields.sort_by_key(|field| field.number());
        let mut oneofs = Vec::new();
        for field in &fields {
            let real = field.oneof_index.filter(|_| !field.proto3_optional());
            match real {
                Some(at) if oneofs.contains(&at) => {}
                Some(at) => {
                    oneofs.push(at);
                    let name = usize::try_from(at).ok().and_then(|at| message.oneof_decl.get(at));
                    self.open(format_args!("oneof {}", name.map_or("", |one| one.name())));
                    for field in fields.iter().filter(|field| field.oneof_index == Some(at)) {
                        self.field(field, "");
                    }
                    self.close();
                }
                None if map_entry(message, field).is_none() => self.field(field, self.label(field)),
                None => {}
            }
        }
        for nested in &message.nested_type {
            let of = fields.iter().find(|field| {
                map_entry(message, field).is_some_and(|entry| std::ptr::eq(entry, nested))
            });
            match of {
                Some(field) => self.map(field, nested),
                None => self.message(nested),
            }
        }
        for of in &message.enum_type {
            self.enumeration(of);
        }
        for field in &message.extension {
            self.extension(field);
        }
    }

    fn label(&self, field: &FieldDescriptorProto) -> &'static str {
        match field.label() {
            Label::Repeated => "repeated ",
            Label::Required => "required ",
            Label::Optional if self.is_proto3 && !field.proto3_optional() => "",
            Label::Optional => "optional ",
        }
    }

    fn field(&mut self, field: &FieldDescriptorProto, label: &str) {
        let (word, name, number) = (type_word(field), field.name(), field.number());
        if field.r#type() == Type::Group {
            self.line(format_args!("// {label}group {name} = {number};"));
            return;
        }
        let options = field_options(field);
        self.line(format_args!("{label}{word} {name} = {number}{options};"));
    }

    fn map(&mut self, field: &FieldDescriptorProto, entry: &DescriptorProto) {
        let of = |number| {
            entry
                .field
                .iter()
                .find(|one| one.number() == number)
                .map_or_else(String::new, type_word)
        };
        let (key, value, options) = (of(1), of(2), field_options(field));
        self.line(format_args!(
            "map<{key}, {value}> {} = {}{options};",
            field.name(),
            field.number()
        ));
    }

    fn extension(&mut self, field: &FieldDescriptorProto) {
        self.open(format_args!("extend {}", field.extendee()));
        self.field(field, self.label(field));
        self.close();
    }

    fn enumeration(&mut self, of: &EnumDescriptorProto) {
        self.open(format_args!("enum {}", of.name()));
        let options = of.options.clone().unwrap_or_default();
        for (name, value) in
            [("allow_alias", options.allow_alias), ("deprecated", options.deprecated)]
        {
            if let Some(value) = value {
                self.line(format_args!("option {name} = {value};"));
            }
        }
        for range in &of.reserved_range {
            self.line(format_args!("reserved {};", span(range.start(), range.end(), i32::MAX)));
        }
        for name in &of.reserved_name {
            self.line(format_args!("reserved {};", quoted(name)));
        }
        for value in &of.value {
            let is_old = value.options.as_ref().is_some_and(|options| options.deprecated());
            let options = if is_old { " [deprecated = true]" } else { "" };
            self.line(format_args!("{} = {}{options};", value.name(), value.number()));
        }
        self.close();
    }

    fn service(&mut self, service: &ServiceDescriptorProto) {
        self.open(format_args!("service {}", service.name()));
        for method in &service.method {
            let stream = |yes: bool| if yes { "stream " } else { "" };
            let (asks, gives) =
                (stream(method.client_streaming()), stream(method.server_streaming()));
            let (takes, shows) = (method.input_type(), method.output_type());
            self.line(format_args!(
                "rpc {} ({asks}{takes}) returns ({gives}{shows});",
                method.name()
            ));
        }
        self.close();
    }
}

/// A text as the language writes it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_ascii_control() => out.push_str(&format!("\\{:03o}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn span(from: i32, to: i32, most: i32) -> String {
    match to {
        to if to == from => from.to_string(),
        to if to >= most => format!("{from} to max"),
        to => format!("{from} to {to}"),
    }
}

/// The entry that a field is a map of.
fn map_entry<'a>(
    message: &'a DescriptorProto,
    field: &FieldDescriptorProto,
) -> Option<&'a DescriptorProto> {
    if field.label() != Label::Repeated || field.r#type() != Type::Message {
        return None;
    }
    let name = field.type_name().rsplit('.').next()?;
    message.nested_type.iter().find(|nested| {
        nested.name() == name && nested.options.as_ref().is_some_and(|options| options.map_entry())
    })
}

fn type_word(field: &FieldDescriptorProto) -> String {
    let word = match field.r#type() {
        Type::Double => "double",
        Type::Float => "float",
        Type::Int64 => "int64",
        Type::Uint64 => "uint64",
        Type::Int32 => "int32",
        Type::Fixed64 => "fixed64",
        Type::Fixed32 => "fixed32",
        Type::Bool => "bool",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Uint32 => "uint32",
        Type::Sfixed32 => "sfixed32",
        Type::Sfixed64 => "sfixed64",
        Type::Sint32 => "sint32",
        Type::Sint64 => "sint64",
        Type::Enum | Type::Message | Type::Group => field.type_name(),
    };
    word.to_owned()
}

fn field_options(field: &FieldDescriptorProto) -> String {
    let mut all = Vec::new();
    if let Some(default) = &field.default_value {
        all.push(match field.r#type() {
            Type::String => format!("default = {}", quoted(default)),
            // Escaped already.
            Type::Bytes => format!("default = \"{default}\""),
            _ => format!("default = {default}"),
        });
    }
    if let Some(name) = field.json_name.as_ref().filter(|name| **name != json_name(field.name())) {
        all.push(format!("json_name = {}", quoted(name)));
    }
    if let Some(options) = &field.options {
        all.extend(options.packed.map(|value| format!("packed = {value}")));
        all.extend(options.deprecated.map(|value| format!("deprecated = {value}")));
    }
    if all.is_empty() { String::new() } else { format!(" [{}]", all.join(", ")) }
}

/// The name of a field in JSON, unless it says another.
fn json_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut is_next_large = false;
    for c in name.chars() {
        match c {
            '_' => is_next_large = true,
            c if is_next_large => {
                out.extend(c.to_uppercase());
                is_next_large = false;
            }
            c => out.push(c),
        }
    }
    out
}
