//! What tests of several policies begin with.

use weft_kernel::Name;
use weft_wire::{Fields, Method, RequestHead, Version};

/// A name.
pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The head of a request with these fields.
pub(crate) fn head(method: Method, target: &str, of: &[(&str, &str)]) -> RequestHead {
    let mut fields = Fields::new();
    for (name, value) in of {
        assert!(fields.append(name, value.as_bytes()), "{name}: {value}");
    }
    let target = target.to_owned();
    RequestHead { method, target, version: Version::Http11, fields, upgrade: None }
}
