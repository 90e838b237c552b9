//! Questions and answers over Envoy's external authorization by gRPC.

mod messages;

use std::{collections::HashMap, net::IpAddr};

use bytes::Bytes;
use prost::Message as _;
use weft_net::{Address, clock};
use weft_proxy::{Answered, RequestContext};
use weft_wire::{
    Fields, Known, Method, RequestHead, Version,
    grpc::{PREFIX_BYTES, Prefix, Status, decode_message},
};

use self::messages as proto;
use super::{
    Change, Changes, ExternalAuthorization, Fault, How, Question, Said, are_few, http::plain, shown,
};

/// The method that is called.
const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

pub(super) fn question(
    settings: &ExternalAuthorization,
    extensions: &[(String, String)],
    cx: &RequestContext<'_>,
    body: &Bytes,
) -> Question {
    let fields = shown(settings, cx);
    let request = proto::CheckRequest {
        attributes: Some(proto::Attributes {
            source: Some(party(cx.client(), &cx.peer().address)),
            destination: cx.peer().local.as_ref().map(|local| party(None, local)),
            request: Some(request(cx, &fields, body)),
            context_extensions: extensions.iter().cloned().collect(),
        }),
    };
    let mut fields = Fields::new();
    fields.add(Known::ContentType, b"application/grpc");
    fields.add(Known::Te, b"trailers");
    fields.add(Known::XRequestId, cx.request_id().as_bytes());
    let (method, target, version) = (Method::Post, PATH.to_owned(), Version::Http2);
    Question {
        head: RequestHead { method, target, version, fields, upgrade: None },
        body: framed(&request.encode_to_vec()),
    }
}

fn framed(message: &[u8]) -> Bytes {
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut all = Vec::with_capacity(PREFIX_BYTES + message.len());
    all.extend_from_slice(&Prefix { flags: 0, len }.bytes());
    all.extend_from_slice(message);
    all.into()
}

fn party(client: Option<IpAddr>, address: &Address) -> proto::Party {
    let (address, port_value) = match (client, address) {
        (Some(client), Address::Tcp(peer)) if client == peer.ip() => (client, peer.port()),
        (Some(client), _) => (client, 0),
        (None, Address::Tcp(peer)) => (peer.ip(), peer.port()),
        (None, Address::Unix(_)) => return proto::Party::default(),
    };
    let socket_address =
        proto::SocketAddress { address: address.to_string(), port_value: port_value.into() };
    let address = proto::Address { socket_address: Some(socket_address) };
    proto::Party { address: Some(address), principal: String::new() }
}

fn request(cx: &RequestContext<'_>, fields: &Fields, body: &Bytes) -> proto::Request {
    let head = cx.head();
    let now = clock::wall().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = proto::Time {
        seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(now.subsec_nanos()).unwrap_or_default(),
    };
    let scheme = if cx.is_secure() { "https" } else { "http" };
    let host = head.fields.get_str(Known::Host).unwrap_or_default();
    let protocol = match head.version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2",
    };
    let length = head.fields.get_str(Known::ContentLength).and_then(|text| text.parse().ok());
    let size = match (body.len(), length) {
        (0, length) => length.unwrap_or(-1),
        (read, _) => i64::try_from(read).unwrap_or(i64::MAX),
    };
    let (text, raw) = match std::str::from_utf8(body) {
        Ok(text) => (text.to_owned(), Vec::new()),
        Err(_) => (String::new(), body.to_vec()),
    };
    let mut headers = headers(fields);
    for (name, value) in [
        (":authority", host),
        (":method", head.method.as_str()),
        (":path", &*head.target),
        (":scheme", scheme),
    ] {
        headers.insert(name.to_owned(), value.to_owned());
    }
    headers.remove("host");
    let http = proto::HttpRequest {
        id: cx.request_id().to_owned(),
        method: head.method.as_str().to_owned(),
        headers,
        path: head.target.clone(),
        host: host.to_owned(),
        scheme: scheme.to_owned(),
        size,
        protocol: protocol.to_owned(),
        body: text,
        raw_body: raw,
    };
    proto::Request { time: Some(time), http: Some(http) }
}

/// Fields by name, those of one name joined (RFC 9110 section 5.3, RFC 9113 section 8.2.3). A protobuf text is UTF-8.
fn headers(fields: &Fields) -> HashMap<String, String> {
    let mut all: HashMap<String, String> = HashMap::with_capacity(fields.len());
    for (name, value) in fields.iter() {
        let value = String::from_utf8_lossy(value);
        match all.get_mut(name) {
            None => drop(all.insert(name.to_owned(), value.into_owned())),
            Some(before) => {
                before.push_str(if name == "cookie" { "; " } else { "," });
                before.push_str(&value);
            }
        }
    }
    all
}

pub(super) fn read(settings: &ExternalAuthorization, answered: &Answered) -> Result<Said, Fault> {
    if answered.status != 200 {
        return Err(format!("the answer has status {}", answered.status).into());
    }
    let named = |name| {
        let trailer = answered.trailers.as_ref().and_then(|trailers| trailers.named(name));
        trailer.or_else(|| answered.fields.named(name))
    };
    match named("grpc-status").and_then(Status::parse) {
        Some(Status::Ok) => {}
        Some(status) => {
            let why = named("grpc-message").map(|text| decode_message(text).into_owned());
            let why = why.unwrap_or_default();
            return Err(format!("the call ended with {}: {why}", status.word()).into());
        }
        None => return Err("the answer has no status of gRPC".into()),
    }
    let message = message(&answered.body).ok_or("the answer is not one message of gRPC")?;
    let response = proto::CheckResponse::decode(message)
        .map_err(|error| format!("the answer is not understood: {error}"))?;
    // No status is one of zero: that is how protobuf writes it.
    let is_allowed = response.status.as_ref().is_none_or(|status| status.code == 0);
    match (is_allowed, response.denied, response.error) {
        (true, None, None) => {
            let allowed = response.allowed.unwrap_or_default();
            let told = allowed.headers.iter().chain(&allowed.response_headers_to_add);
            are_few(told.map(size).chain(allowed.headers_to_remove.iter().map(String::len)))?;
            // What the settings do not name is the client's own, and so nobody could tell who has said it.
            let is_named = |change: &Change| settings.to_service.contains(&change.name);
            let set = allowed.headers.iter().filter_map(|option| change(option, How::Set));
            let set = set.filter(is_named);
            let removed = allowed.headers_to_remove.iter();
            let removed = removed.filter_map(|name| Change::new(name, How::Remove));
            // As in Envoy, what is taken off is gone, and a response keeps what its service says.
            let request = set.chain(removed).collect();
            let added = allowed.response_headers_to_add.iter();
            let response = added.filter_map(|option| change(option, How::Append)).collect();
            Ok(Said::Allowed(Changes { request, response, is_carried: false }))
        }
        (_, None, Some(error)) => {
            let status = error.status.unwrap_or_default().code;
            Err(format!("it says that it has failed, with status {status}").into())
        }
        (_, denied, _) => {
            let denied = denied.unwrap_or_default();
            let status = match denied.status.map(|status| status.code) {
                None | Some(0) => 403,
                Some(code) => u16::try_from(code)
                    .ok()
                    .filter(|code| (200..600).contains(code))
                    .ok_or("the answer denies with a status that is none")?,
            };
            are_few(denied.headers.iter().map(size))?;
            // All of one name are told, as there may be several cookies; nothing is there that they could replace.
            let added = denied.headers.iter().filter_map(|option| change(option, How::Append));
            let fields = plain(added.map(beside));
            Ok(Said::Denied(status, fields, denied.body.into()))
        }
    }
}

/// The one message of an answer, which is not compressed since nobody said that it may be.
fn message(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_first_chunk::<PREFIX_BYTES>()?;
    let prefix = Prefix::parse(*prefix).ok()?;
    (prefix.flags == 0 && prefix.len as usize == message.len()).then_some(message)
}

/// The bytes of a field.
fn size(option: &proto::HeaderOption) -> usize {
    let of =
        |header: &proto::Header| header.key.len() + header.value.len() + header.raw_value.len();
    option.header.as_ref().map_or(0, of)
}

/// The same field, beside those of its name.
fn beside(change: Change) -> Change {
    let how = match change.how {
        How::Set(value) | How::IfAbsent(value) | How::IfPresent(value) => How::Append(value),
        how @ (How::Append(_) | How::Remove) => how,
    };
    Change { how, ..change }
}

/// A field that is changed, as Envoy reads it; `unsaid` is what becomes of it where nothing is said.
fn change(option: &proto::HeaderOption, unsaid: fn(Box<[u8]>) -> How) -> Option<Change> {
    let header = option.header.as_ref()?;
    let value: Box<[u8]> = match (&header.value, &header.raw_value) {
        (value, raw) if value.is_empty() => raw[..].into(),
        (value, _) => value.as_bytes().into(),
    };
    let how = match (option.append.as_ref().map(|append| append.value), option.append_action) {
        (Some(true), _) => How::Append(value),
        (None, 1) => How::IfAbsent(value),
        (None, 3) => How::IfPresent(value),
        (None, 0) => unsaid(value),
        // It takes the place of others.
        _ => How::Set(value),
    };
    Change::new(&header.key, how)
}
