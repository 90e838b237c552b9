//! The head of a request that came by HTTP/2, held to the rules that one by HTTP/1.1 is held to, so that
//! what is handed on means the same to a service of either version.

use http::{header, request::Parts};
use weft_kernel::Reason;
use weft_wire::{
    Fields, Known, Method, RequestHead, Version,
    h1::{self, HeadLimits},
};

use crate::h2::fields::append_from;

type Refused = (Reason, &'static str);

/// The library's head as ours; or why it is refused.
pub(super) fn request_head(parts: &Parts, limits: HeadLimits) -> Result<RequestHead, Refused> {
    check(parts, limits)?;
    let mut fields = Fields::with_capacity(parts.headers.len() + 8, parts.headers.len() * 40 + 256);
    match parts.uri.authority() {
        Some(authority) => {
            if authority.as_str().contains('@') {
                return Err((Reason::MalformedRequest, "the authority names a user"));
            }
            let authority = authority.as_str().as_bytes();
            fields.add(Known::Host, authority);
            append_from(&parts.headers, &mut fields);
            // It stands for Host, which must not say anything else (RFC 9113 section 8.3.1).
            let hosts = fields.all(Known::Host).count();
            if hosts > 2 {
                return Err((Reason::MalformedRequest, "Host is there more than once"));
            }
            if hosts == 2 {
                if !fields.all(Known::Host).all(|host| host.eq_ignore_ascii_case(authority)) {
                    return Err((Reason::MalformedRequest, ":authority and Host differ"));
                }
                fields.set(Known::Host, authority);
            }
        }
        None => append_from(&parts.headers, &mut fields),
    }
    if fields.all(Known::Host).nth(1).is_some() {
        return Err((Reason::MalformedRequest, "Host is there more than once"));
    }
    if !fields.get(Known::Host).is_some_and(h1::is_authority) {
        return Err((Reason::MalformedRequest, "Host is missing, or not a host"));
    }
    if fields.has(Known::Expect) && h1::expects_continue(&fields).is_err() {
        return Err((Reason::ExpectationFailed, "an expectation other than 100-continue"));
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
        (Some(target), ..) if !target.as_str().starts_with(['/', '*']) => {
            return Err((Reason::MalformedRequest, "the request target is not a path"));
        }
        (Some(target), ..) => target.as_str().into(),
        (None, ..) => "/".into(),
    };
    Ok(RequestHead { method, target, version: Version::Http2, fields, upgrade })
}

/// What HTTP/1.1 would not let through either: too much, and fields that are no fields there.
fn check(parts: &Parts, limits: HeadLimits) -> Result<(), Refused> {
    if parts.method.as_str().len() > h1::METHOD_MAX {
        return Err((Reason::NotSupported, "the name of the method is too long to be one"));
    }
    // Crumbs of a cookie are one field (RFC 9113 section 8.2.3): all but the first cost two bytes more.
    let (mut crumbs, mut lengths) = (0_usize, 0_usize);
    let mut bytes = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    for (name, value) in &parts.headers {
        let text = value.as_bytes();
        if let [b' ' | b'\t', ..] | [.., b' ' | b'\t'] = text {
            return Err((
                Reason::MalformedRequest,
                "a field value begins or ends with white space",
            ));
        }
        if name == header::COOKIE {
            crumbs += 1;
        } else if name == header::CONTENT_LENGTH {
            lengths += 1;
            if lengths > 1 || h1::parse_length(text).is_err() {
                return Err((Reason::MalformedRequest, "Content-Length is not one number"));
            }
        }
        bytes += if crumbs > 1 && name == header::COOKIE { 2 } else { name.as_str().len() + 4 };
        bytes += text.len();
    }
    if parts.headers.len() - crumbs.saturating_sub(1) > limits.count_max {
        return Err((Reason::HeadersTooLarge, "the header section has too many fields"));
    }
    if bytes > limits.bytes_max {
        return Err((Reason::HeadersTooLarge, "the header section is too large"));
    }
    if let Some(scheme) = parts.uri.scheme_str()
        && !matches!(scheme, "http" | "https")
    {
        return Err((Reason::MalformedRequest, "the scheme is neither http nor https"));
    }
    Ok(())
}
