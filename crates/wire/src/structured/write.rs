//! Writing structured fields, by the algorithms of RFC 8941 section 4.1.

use std::io::Write;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Bare, INTEGER_MAX, Item, MEMBERS_MAX, Member, Params, is_key, is_key_start, is_token,
    is_token_start,
};

/// A value that the syntax cannot express; names what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be written as a structured field")]
pub struct Unwritable(pub &'static str);

/// Appends an item. On an error `out` is as it was.
pub fn write_item(item: &Item, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    whole(out, |out| put_item(item, out))
}

/// Appends a list. On an error `out` is as it was. An empty list writes nothing: the field is left out.
pub fn write_list(members: &[Member], out: &mut Vec<u8>) -> Result<(), Unwritable> {
    whole(out, |out| {
        if members.len() > MEMBERS_MAX {
            return Err(Unwritable("a list this long"));
        }
        for (index, member) in members.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            put_member(member, out)?;
        }
        Ok(())
    })
}

/// Appends a dictionary. On an error `out` is as it was.
pub fn write_dictionary(members: &[(String, Member)], out: &mut Vec<u8>) -> Result<(), Unwritable> {
    whole(out, |out| {
        if members.len() > MEMBERS_MAX {
            return Err(Unwritable("a dictionary this long"));
        }
        for (index, (key, member)) in members.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            put_key(key, out)?;
            if let Member::Item(Item { value: Bare::Boolean(true), params }) = member {
                put_params(params, out)?;
            } else {
                out.push(b'=');
                put_member(member, out)?;
            }
        }
        Ok(())
    })
}

fn whole(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Unwritable>,
) -> Result<(), Unwritable> {
    let before = out.len();
    let result = write(out);
    if result.is_err() {
        out.truncate(before);
    }
    result
}

fn put_member(member: &Member, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    match member {
        Member::Item(item) => put_item(item, out),
        Member::InnerList(items, params) => {
            if items.len() > MEMBERS_MAX {
                return Err(Unwritable("an inner list this long"));
            }
            out.push(b'(');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b' ');
                }
                put_item(item, out)?;
            }
            out.push(b')');
            put_params(params, out)
        }
    }
}

fn put_item(item: &Item, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    put_bare(&item.value, out)?;
    put_params(&item.params, out)
}

fn put_params(params: &Params, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    for (key, value) in &params.0 {
        out.push(b';');
        put_key(key, out)?;
        if *value != Bare::Boolean(true) {
            out.push(b'=');
            put_bare(value, out)?;
        }
    }
    Ok(())
}

fn put_key(key: &str, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    if !key.bytes().next().is_some_and(is_key_start) || !key.bytes().all(is_key) {
        return Err(Unwritable("this key"));
    }
    out.extend_from_slice(key.as_bytes());
    Ok(())
}

fn put_bare(value: &Bare, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    // Writing to a vector cannot fail.
    match value {
        Bare::Integer(number) => {
            if number.unsigned_abs() > INTEGER_MAX.unsigned_abs() {
                return Err(Unwritable("an integer of more than 15 digits"));
            }
            let _ = write!(out, "{number}");
        }
        Bare::Decimal(thousandths) => {
            let (sign, size) =
                (if *thousandths < 0 { "-" } else { "" }, thousandths.unsigned_abs());
            if size > INTEGER_MAX.unsigned_abs() {
                return Err(Unwritable("a decimal of more than 12 digits before its point"));
            }
            let _ = write!(out, "{sign}{}.{:03}", size / 1000, size % 1000);
            // Zeros at the end go, but for one digit after the point.
            for _ in 0..2 {
                if out.ends_with(b"0") {
                    out.pop();
                }
            }
        }
        Bare::String(text) => {
            if !text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
                return Err(Unwritable("a string that is not printable ASCII"));
            }
            out.push(b'"');
            for byte in text.bytes() {
                if matches!(byte, b'"' | b'\\') {
                    out.push(b'\\');
                }
                out.push(byte);
            }
            out.push(b'"');
        }
        Bare::Token(text) => {
            if !text.bytes().next().is_some_and(is_token_start) || !text.bytes().all(is_token) {
                return Err(Unwritable("this token"));
            }
            out.extend_from_slice(text.as_bytes());
        }
        Bare::Bytes(bytes) => {
            let _ = write!(out, ":{}:", STANDARD.encode(bytes));
        }
        Bare::Boolean(value) => out.extend_from_slice(if *value { b"?1" } else { b"?0" }),
    }
    Ok(())
}
