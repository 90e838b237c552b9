//! Questions and answers over HTTP: any 2xx lets a request on, a 5xx decides nothing, and whatever else is said is
//! what the client gets.

use bytes::Bytes;
use weft_proxy::{Answered, RequestContext};
use weft_wire::{Fields, Known, Method, RequestHead, Version};

use super::{
    Ask, Change, Changes, ExternalAuthorization, Fault, How, Question, Said, are_few, shown,
};

pub(super) fn question(
    settings: &ExternalAuthorization,
    cx: &RequestContext<'_>,
    body: Bytes,
) -> Question {
    let head = cx.head();
    let mut fields = shown(settings, cx);
    // It is asked about the request, and not for what the request is for.
    for name in CONDITIONS {
        fields.remove_named(name);
    }
    let host = head.fields.get(Known::Host).unwrap_or_default();
    let proto: &[u8] = if cx.is_secure() { b"https" } else { b"http" };
    let method = head.method.as_str();
    fields.set_named("x-forwarded-method", method.as_bytes());
    fields.set_named("x-forwarded-proto", proto);
    fields.set_named("x-forwarded-host", host);
    fields.set_named("x-forwarded-uri", head.target.as_bytes());
    fields.remove(Known::Forwarded);
    fields.remove(Known::XForwardedFor);
    if let Some(client) = cx.client() {
        fields.set(Known::XForwardedFor, client.to_string().as_bytes());
    }
    fields.set(Known::XRequestId, cx.request_id().as_bytes());
    let (method, target) = match &settings.ask {
        Ask::Prefix(prefix) => {
            fields.set(Known::Host, host);
            let method = match head.method {
                // Extended CONNECT is a GET that upgrades.
                Method::Connect => Method::Get,
                ref method => method.clone(),
            };
            (method, format!("{}{}", prefix.trim_end_matches('/'), head.target))
        }
        Ask::Path(path) => {
            fields.remove(Known::Host);
            let method = if body.is_empty() { Method::Get } else { Method::Post };
            (method, path.to_string())
        }
        Ask::Grpc(_) => (Method::Get, String::new()),
    };
    if body.is_empty() {
        fields.remove(Known::ContentType);
        fields.remove_named("content-encoding");
    }
    Question {
        head: RequestHead { method, target, version: Version::Http11, fields, upgrade: None },
        body,
    }
}

/// Fields that would make another answer of one.
const CONDITIONS: [&str; 7] = [
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "accept-encoding",
];

pub(super) fn read(settings: &ExternalAuthorization, answered: Answered) -> Result<Said, Fault> {
    match answered.status {
        200..300 => {
            let fields = &answered.fields;
            let names = settings.to_service.iter().chain(&settings.to_client);
            let sizes = |name| fields.all_named(name).map(|value| name.len() + value.len());
            are_few(names.flat_map(|name| sizes(name)))?;
            let those = |names: &[Box<str>]| {
                let mut changes: Vec<Change> = Vec::new();
                for name in names {
                    for (number, value) in fields.all_named(name).enumerate() {
                        let value = value.into();
                        // The first one of a name takes the place of what is there, unless it goes beside it anyway.
                        let is_more = &**name == "set-cookie" || number > 0;
                        let how = if is_more { How::Append(value) } else { How::Set(value) };
                        changes.extend(Change::new(name, how));
                    }
                }
                changes
            };
            let (request, response) = (those(&settings.to_service), those(&settings.to_client));
            Ok(Said::Allowed(Changes { request, response, is_carried: false }))
        }
        status @ 300..500 => {
            let mut fields = answered.fields;
            fields.strip_hop_by_hop(false);
            fields.remove(Known::ContentLength);
            fields.remove(Known::TransferEncoding);
            Ok(Said::Denied(status, fields, answered.body))
        }
        status => Err(format!("the answer has status {status}").into()),
    }
}

/// Nothing but what may stand in a response of Weft's own.
pub(super) fn plain(fields: impl IntoIterator<Item = Change>) -> Fields {
    let mut all = Fields::new();
    fields.into_iter().for_each(|change| change.apply(&mut all));
    all
}
