//! The head of a request that came by HTTP/2.

use http::{header, request::Parts};
use weft_kernel::Reason;
use weft_wire::{Fields, Known, Method, RequestHead, Version};

use crate::h2::fields::append_from;

/// The library's head as ours; or why it is refused.
pub(super) fn request_head(
    parts: &Parts,
    count_max: usize,
) -> Result<RequestHead, (Reason, &'static str)> {
    if parts.headers.len() > count_max {
        return Err((Reason::HeadersTooLarge, "the header section has too many fields"));
    }
    let mut fields = Fields::with_capacity(parts.headers.len() + 8, parts.headers.len() * 40 + 256);
    match parts.uri.authority() {
        Some(authority) => {
            if authority.as_str().contains('@') {
                return Err((Reason::MalformedRequest, "the authority names a user"));
            }
            // It stands for Host, which must not say anything else (RFC 9113 section 8.3.1).
            let mut hosts = parts.headers.get_all(header::HOST).iter();
            if hosts
                .any(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()))
            {
                return Err((Reason::MalformedRequest, ":authority and Host differ"));
            }
            fields.add(Known::Host, authority.as_str().as_bytes());
            append_from(&parts.headers, &mut fields);
            if fields.all(Known::Host).nth(1).is_some() {
                fields.set(Known::Host, authority.as_str().as_bytes());
            }
        }
        None => append_from(&parts.headers, &mut fields),
    }
    if fields.all(Known::Host).nth(1).is_some() {
        return Err((Reason::MalformedRequest, "Host is there more than once"));
    }
    if !fields.get(Known::Host).is_some_and(weft_wire::h1::is_authority) {
        return Err((Reason::MalformedRequest, "Host is missing, or not a host"));
    }
    let method = Method::of(parts.method.as_str());
    let upgrade =
        parts.extensions.get::<h2::ext::Protocol>().map(|protocol| protocol.as_str().into());
    let target = match (parts.uri.path_and_query(), &method, &upgrade) {
        (None, Method::Connect, None) => fields.get_str(Known::Host).unwrap_or_default().to_owned(),
        (Some(target), ..) if target.as_str().is_empty() => "/".into(),
        (Some(target), ..) if target.as_str() == "*" && method != Method::Options => {
            return Err((Reason::MalformedRequest, "only OPTIONS asks for `*`"));
        }
        (Some(target), ..) => target.as_str().into(),
        (None, ..) => "/".into(),
    };
    Ok(RequestHead { method, target, version: Version::Http2, fields, upgrade })
}
