//! What rules look at: the attributes of a request, as variables of CEL.
//!
//! Nothing is made of them before a rule reads it. Invariants: a name of a header is in lower case, and one that was sent
//! more than once is no text but for `header_values`; a query parameter is the list of all its values: so no rule looks
//! at the first where a service reads the last. What is captured of a path is decoded once, as a service would.

use std::{borrow::Cow, net::IpAddr, sync::OnceLock};

use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use weft_expression::{
    Expression, Failure, Kind, Members, Object, Operand, Scope, Variables, scope::any_name,
};
use weft_identity::{peer::Names, token::Claims};
use weft_proxy::{RequestView, query};
use weft_wire::{Fields, Known};

use crate::{
    authentication::AccessToken,
    consumer::Consumer,
    variables::{CONSUMER, Caller, header_name, there},
};

/// The variables of rules. Within its budget the condition of a rule costs half a millisecond at most.
pub(super) static SCOPE: Scope = Scope {
    variables: &[
        ("request", Kind::Object(&REQUEST)),
        ("consumer", Kind::Object(&CONSUMER)),
        ("claims", Kind::Object(&CLAIMS)),
        ("certificate", Kind::Object(&CERTIFICATE)),
        ("client", Kind::Object(&CLIENT)),
        ("listener", Kind::Text),
        ("route", Kind::Text),
    ],
    budget: 50_000,
};

static REQUEST: Object = Object {
    fields: &[
        ("method", Kind::Text),
        ("path", Kind::Text),
        ("captures", Kind::Object(&CAPTURES)),
        ("query", Kind::Object(&QUERY)),
        ("headers", Kind::Object(&HEADERS)),
        ("header_values", Kind::Object(&HEADER_VALUES)),
        ("host", Kind::Text),
        ("scheme", Kind::Text),
    ],
    others: None,
    check: any_name,
};

static CAPTURES: Object = Object { fields: &[], others: Some(Kind::Text), check: any_name };

static QUERY: Object = Object { fields: &[], others: Some(Kind::List), check: any_name };

static HEADERS: Object = Object { fields: &[], others: Some(Kind::Text), check: header_name };

static HEADER_VALUES: Object = Object { fields: &[], others: Some(Kind::List), check: header_name };

static CLAIMS: Object = Object { fields: &[], others: Some(Kind::Any), check: any_name };

static CERTIFICATE: Object = Object {
    fields: &[
        ("subject", Kind::Text),
        ("common_name", Kind::Text),
        ("dns", Kind::List),
        ("uris", Kind::List),
        ("addresses", Kind::List),
        ("spiffe", Kind::Text),
        ("fingerprint", Kind::Text),
    ],
    others: None,
    check: any_name,
};

static CLIENT: Object =
    Object { fields: &[("address", Kind::Text)], others: None, check: any_name };

/// The attributes of a request that rules look at.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    /// The method, as it was sent.
    pub method: &'a str,
    /// The path in its normal form, as routes match it.
    pub path: &'a str,
    /// What the route's template took of the path, as it stands there.
    pub captures: Vec<(&'a str, &'a str)>,
    /// The query, without its question mark.
    pub query: Option<&'a str>,
    /// The header fields.
    pub fields: &'a Fields,
    /// The host, in lower case and without its port.
    pub host: Cow<'a, str>,
    /// Whether the client came by TLS.
    pub is_secure: bool,
    /// The consumer, if there is one.
    pub consumer: Option<&'a Consumer>,
    /// The claims of the token, if there is one.
    pub claims: Option<&'a Claims>,
    /// The names in the client's certificate, if it has shown one.
    pub certificate: Option<&'a Names>,
    /// The client's address, as far as it can be believed.
    pub client: Option<IpAddr>,
    /// The name of the listener.
    pub listener: &'a str,
    /// The name of the route.
    pub route: &'a str,
}

impl<'a> Attributes<'a> {
    /// Those of a request.
    pub(super) fn of(view: RequestView<'a>) -> Self {
        Self {
            method: view.method(),
            path: view.head().path(),
            captures: view.captures().collect(),
            query: view.head().query(),
            fields: &view.head().fields,
            host: view.host(),
            is_secure: view.is_secure(),
            consumer: view.fact::<Consumer>(),
            claims: view.fact::<AccessToken>().map(AccessToken::claims),
            certificate: view.certificate(),
            client: view.client(),
            listener: view.listener().as_str(),
            route: view.route().as_str(),
        }
    }
}

/// Attributes as variables.
pub(super) struct LookedAt<'a> {
    of: &'a Attributes<'a>,
    request: Request<'a>,
    consumer: Caller<'a>,
    claims: Told<'a>,
    certificate: Shown<'a>,
    client: Client,
}

impl<'a> LookedAt<'a> {
    pub(super) fn new(of: &'a Attributes<'a>) -> Self {
        let query = Query { text: of.query.unwrap_or_default(), read: OnceLock::new() };
        let client = Client(of.client.map(|client| client.to_canonical()));
        Self {
            of,
            request: Request {
                of,
                query,
                captures: Captures(of),
                headers: Headers { of: of.fields, several: Mutex::default() },
                header_values: HeaderValues { of: of.fields, read: OnceLock::new() },
            },
            consumer: Caller(of.consumer),
            claims: Told(of.claims),
            certificate: Shown(of.certificate),
            client,
        }
    }
}

impl LookedAt<'_> {
    /// Whether a condition is true of them. One that reads a header as a text that was sent more than once cannot be
    /// worked out: which of them the service takes nobody knows.
    pub(super) fn fit(&self, condition: &Expression) -> Result<bool, Failure> {
        let is_true = condition.is_true(self);
        let several = self.request.headers.several.lock().take();
        several.map_or(is_true, |name| Err(Failure::Several(name)))
    }
}

impl Variables for LookedAt<'_> {
    fn variable(&self, name: &str) -> Option<Operand<'_>> {
        Some(match name {
            "request" => Operand::Object(&self.request),
            "consumer" => Operand::Object(&self.consumer),
            "claims" => Operand::Object(&self.claims),
            "certificate" => Operand::Object(&self.certificate),
            "client" => Operand::Object(&self.client),
            "listener" => Operand::Text(self.of.listener.into()),
            "route" => Operand::Text(self.of.route.into()),
            _ => return None,
        })
    }
}

fn listed(of: &[String]) -> Operand<'_> {
    Operand::Texts(of.iter().map(String::as_str).collect())
}

struct Request<'a> {
    of: &'a Attributes<'a>,
    captures: Captures<'a>,
    query: Query<'a>,
    headers: Headers<'a>,
    header_values: HeaderValues<'a>,
}

impl Members for Request<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        Some(match name {
            "method" => Operand::Text(self.of.method.into()),
            "path" => Operand::Text(self.of.path.into()),
            "captures" => Operand::Object(&self.captures),
            "query" => Operand::Object(&self.query),
            "headers" => Operand::Object(&self.headers),
            "header_values" => Operand::Object(&self.header_values),
            "host" => Operand::Text((&*self.of.host).into()),
            "scheme" => Operand::Text(if self.of.is_secure { "https" } else { "http" }.into()),
            _ => return None,
        })
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        there(&REQUEST, self)
    }
}

struct Captures<'a>(&'a Attributes<'a>);

impl Members for Captures<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        let (_, taken) = self.0.captures.iter().find(|(of, _)| *of == name)?;
        Some(Operand::Text(percent_decode_str(taken).decode_utf8_lossy()))
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        self.0.captures.iter().map(|(name, _)| Cow::Borrowed(*name)).collect()
    }
}

struct Query<'a> {
    text: &'a str,
    /// Names and values, decoded, once one is read.
    read: OnceLock<Vec<(Cow<'a, str>, Cow<'a, str>)>>,
}

impl<'a> Query<'a> {
    fn pairs(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        let text = |bytes: Cow<'a, [u8]>| match bytes {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        };
        self.read.get_or_init(|| {
            query::pairs(self.text).map(|(name, value)| (text(name), text(value))).collect()
        })
    }
}

impl Members for Query<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        let named = self.pairs().iter().filter(|(of, _)| *of == name);
        let values: Vec<&str> = named.map(|(_, value)| &**value).collect();
        (!values.is_empty()).then_some(Operand::Texts(values))
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        let mut names: Vec<_> = self.pairs().iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Headers, each as the text that it is.
struct Headers<'a> {
    of: &'a Fields,
    /// One that was read though it was sent more than once.
    several: Mutex<Option<Box<str>>>,
}

impl Members for Headers<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        // Names are in lower case here, however they were sent.
        let mut values = self.of.iter().filter(|(of, _)| *of == name).map(|(_, value)| value);
        let mut whole = String::from_utf8_lossy(values.next()?);
        for value in values {
            if name != Known::Cookie.text() {
                *self.several.lock() = Some(name.into());
                break;
            }
            // HTTP/2 may send it in pieces (RFC 9113 section 8.2.3).
            let whole = whole.to_mut();
            whole.push_str("; ");
            whole.push_str(&String::from_utf8_lossy(value));
        }
        Some(Operand::Text(whole))
    }

    fn has(&self, name: &str) -> bool {
        self.of.iter().any(|(of, _)| *of == *name)
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        names(self.of)
    }
}

/// Headers, each as a list of the texts that were sent.
struct HeaderValues<'a> {
    of: &'a Fields,
    /// Names and values, once one is read.
    read: OnceLock<Vec<(&'a str, Cow<'a, str>)>>,
}

impl Members for HeaderValues<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        let all = self.read.get_or_init(|| {
            self.of.iter().map(|(name, value)| (name, String::from_utf8_lossy(value))).collect()
        });
        let named = all.iter().filter(|(of, _)| *of == name);
        let values: Vec<&str> = named.map(|(_, value)| &**value).collect();
        (!values.is_empty()).then_some(Operand::Texts(values))
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        names(self.of)
    }
}

fn names(of: &Fields) -> Vec<Cow<'_, str>> {
    let mut names: Vec<_> = of.iter().map(|(name, _)| Cow::Borrowed(name)).collect();
    names.sort();
    names.dedup();
    names
}

struct Told<'a>(Option<&'a Claims>);

impl Members for Told<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        self.0?.exactly(name).map(Operand::Json)
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        self.0.into_iter().flat_map(Claims::names).map(Cow::Borrowed).collect()
    }
}

struct Shown<'a>(Option<&'a Names>);

impl Members for Shown<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        let names = self.0?;
        Some(match name {
            "subject" => Operand::Text((&*names.subject).into()),
            "common_name" => Operand::Text(names.common_name.as_deref()?.into()),
            "dns" => listed(&names.dns),
            "uris" => listed(&names.uri),
            "addresses" => listed(&names.addresses),
            "spiffe" => Operand::Text(names.spiffe()?.into()),
            "fingerprint" => Operand::Text((&*names.fingerprint).into()),
            _ => return None,
        })
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        there(&CERTIFICATE, self)
    }
}

struct Client(Option<IpAddr>);

impl Members for Client {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        let address = self.0.filter(|_| name == "address")?;
        Some(Operand::Text(address.to_string().into()))
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        there(&CLIENT, self)
    }
}
