//! What expressions of costs may read: the request, its consumer, and the response.

use std::{borrow::Cow, time::Duration};

use weft_expression::{Kind, Members, Object, Operand, Scope, Variables, scope::any_name};
use weft_proxy::{Ended, query};
use weft_wire::{Fields, RequestHead};

use crate::{
    consumer::Consumer,
    variables::{CONSUMER, Caller, header_name, there},
};

/// What loops of one evaluation may cost: some two milliseconds.
const BUDGET: u64 = 200_000;

/// What a cost reads.
pub(super) static OF_REQUEST: Scope = Scope {
    variables: &[("request", Kind::Object(&REQUEST)), ("consumer", Kind::Object(&CONSUMER))],
    budget: BUDGET,
};

/// What a charge reads.
pub(super) static OF_BOTH: Scope = Scope {
    variables: &[
        ("request", Kind::Object(&REQUEST)),
        ("consumer", Kind::Object(&CONSUMER)),
        ("response", Kind::Object(&RESPONSE)),
    ],
    budget: BUDGET,
};

static REQUEST: Object = Object {
    fields: &[
        ("method", Kind::Text),
        ("path", Kind::Text),
        ("host", Kind::Text),
        ("query", Kind::Object(&QUERY)),
        ("headers", Kind::Object(&HEADERS)),
        ("body_bytes", Kind::Int),
    ],
    others: None,
    check: any_name,
};

static RESPONSE: Object = Object {
    fields: &[
        ("status", Kind::Int),
        ("grpc_status", Kind::Int),
        ("headers", Kind::Object(&HEADERS)),
        ("body_bytes", Kind::Int),
        ("duration_ms", Kind::Int),
    ],
    others: None,
    check: any_name,
};

static QUERY: Object = Object { fields: &[], others: Some(Kind::Text), check: any_name };
static HEADERS: Object = Object { fields: &[], others: Some(Kind::Text), check: header_name };

/// The variables of one evaluation.
pub(super) struct Seen<'a> {
    request: Option<Request<'a>>,
    consumer: Caller<'a>,
    response: Option<Response<'a>>,
}

impl<'a> Seen<'a> {
    pub(super) fn new(
        request: Option<Request<'a>>,
        consumer: Option<&'a Consumer>,
        response: Option<Response<'a>>,
    ) -> Self {
        Self { request, consumer: Caller(consumer), response }
    }
}

impl Variables for Seen<'_> {
    fn variable(&self, name: &str) -> Option<Operand<'_>> {
        Some(Operand::Object(match name {
            "request" => self.request.as_ref()?,
            "consumer" => &self.consumer,
            "response" => self.response.as_ref()?,
            _ => return None,
        }))
    }
}

/// A request.
pub(super) struct Request<'a> {
    head: &'a RequestHead,
    host: &'a str,
    query: Query<'a>,
    headers: Headers<'a>,
    /// Bytes of the body, if they are known.
    body: Option<u64>,
}

impl<'a> Request<'a> {
    pub(super) fn new(head: &'a RequestHead, host: &'a str, body: Option<u64>) -> Self {
        let query = head.target.split_once('?').map_or("", |(_, query)| query);
        Self { head, host, query: Query(query), headers: Headers(&head.fields), body }
    }
}

impl Members for Request<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        Some(match name {
            "method" => Operand::Text(self.head.method.as_str().into()),
            "path" => Operand::Text(self.head.target.split('?').next().unwrap_or_default().into()),
            "host" => Operand::Text(self.host.into()),
            "query" => Operand::Object(&self.query),
            "headers" => Operand::Object(&self.headers),
            "body_bytes" => whole(self.body?),
            _ => return None,
        })
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        there(&REQUEST, self)
    }
}

/// A response that has ended.
pub(super) struct Response<'a> {
    headers: Headers<'a>,
    how: &'a Ended,
    took: Duration,
}

impl<'a> Response<'a> {
    pub(super) const fn new(fields: &'a Fields, how: &'a Ended, took: Duration) -> Self {
        Self { headers: Headers(fields), how, took }
    }
}

impl Members for Response<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        Some(match name {
            "status" => Operand::Int(self.how.status.into()),
            "grpc_status" => Operand::Int(self.how.grpc?.into()),
            "headers" => Operand::Object(&self.headers),
            "body_bytes" => whole(self.how.response_bytes),
            "duration_ms" => whole(u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX)),
            _ => return None,
        })
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        there(&RESPONSE, self)
    }
}

/// Header fields. Several of one name are one, as RFC 9110, section 5.3, joins them: none of them is passed over.
struct Headers<'a>(&'a Fields);

impl Members for Headers<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        let named = self.0.iter().filter(|(of, _)| of.eq_ignore_ascii_case(name));
        joined(named.map(|(_, value)| Cow::Borrowed(value))).map(Operand::Text)
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        let mut names: Vec<Cow<'_, str>> =
            self.0.iter().map(|(name, _)| Cow::Owned(name.to_ascii_lowercase())).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Parameters of a query. Several of one name are joined as header fields are.
struct Query<'a>(&'a str);

impl Members for Query<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        let text = joined(query::values(self.0, name))?;
        Some(Operand::Text(text.into_owned().into()))
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        let mut names: Vec<Cow<'_, str>> =
            query::pairs(self.0).filter_map(|(name, _)| text(name)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Values as one; `None` if there is none, or one that is no text.
fn joined<'a>(mut values: impl Iterator<Item = Cow<'a, [u8]>>) -> Option<Cow<'a, str>> {
    let mut all = text(values.next()?)?;
    for value in values {
        let all = all.to_mut();
        all.push_str(", ");
        all.push_str(&text(value)?);
    }
    Some(all)
}

fn text(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

fn whole(number: u64) -> Operand<'static> {
    Operand::Int(i64::try_from(number).unwrap_or(i64::MAX))
}
