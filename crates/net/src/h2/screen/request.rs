//! The head of a request, from the fields of its block: held to the rules of HTTP/2, and to those that one by
//! HTTP/1.1 is held to, so that what is handed on means the same to a service of either version.

use weft_kernel::Reason;
use weft_wire::{
    Fields, Known, Method, RequestHead, Version,
    h1::{self, HeadLimits},
};

use super::look::{Pseudo, Verdict};

/// Why a request is refused that is well formed by HTTP/2.
pub(in crate::h2) type Refused = (Reason, &'static str);

/// Room for the fields of most requests, and for what is added to them.
const ROOM: (usize, usize) = (20, 1024);

/// A request as far as its block was read.
pub(super) struct Request {
    limits: HeadLimits,
    method: Option<Method>,
    path: Option<String>,
    protocol: Option<Box<str>>,
    has_scheme: bool,
    has_authority: bool,
    fields: Fields,
    /// Crumbs of a cookie are one field (RFC 9113 section 8.2.3).
    cookie: Vec<u8>,
    crumbs: usize,
    lengths: usize,
    bytes: usize,
    count: usize,
    refused: Option<Refused>,
}

impl Request {
    pub(super) fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            method: None,
            path: None,
            protocol: None,
            has_scheme: false,
            has_authority: false,
            fields: Fields::with_capacity(ROOM.0, ROOM.1),
            cookie: Vec::new(),
            crumbs: 0,
            lengths: 0,
            bytes: 0,
            count: 0,
            refused: None,
        }
    }

    /// Refuses it, unless it is already; what it holds is of no use any more.
    fn refuse(&mut self, reason: Reason, why: &'static str) {
        if self.refused.is_none() {
            self.refused = Some((reason, why));
            (self.fields, self.cookie) = Default::default();
        }
    }

    /// Takes a field; an error breaks the rules of HTTP/2.
    pub(super) fn field(
        &mut self,
        name: &[u8],
        value: &[u8],
        verdict: Verdict,
    ) -> Result<(), &'static str> {
        let known = match verdict {
            Verdict::Request(pseudo) => return self.pseudo(pseudo, value),
            Verdict::Field(known) => known,
            Verdict::Length => Some(Known::ContentLength),
            _ => None,
        };
        if let [b' ' | b'\t', ..] | [.., b' ' | b'\t'] = value {
            let say = "a field value begins or ends with white space";
            self.refuse(Reason::MalformedRequest, say);
        }
        let crumb = known == Some(Known::Cookie);
        if crumb {
            self.crumbs += 1;
        } else if known == Some(Known::ContentLength) {
            self.lengths += 1;
            if self.lengths > 1 || h1::parse_length(value).is_err() {
                self.refuse(Reason::MalformedRequest, "Content-Length is not one number");
            }
        }
        // All crumbs but the first cost two bytes more.
        self.bytes += value.len() + if crumb && self.crumbs > 1 { 2 } else { name.len() + 4 };
        self.count += usize::from(!crumb || self.crumbs == 1);
        if self.count > self.limits.count_max {
            self.refuse(Reason::HeadersTooLarge, "the header section has too many fields");
        }
        self.hold_to_size();
        if self.refused.is_some() {
            return Ok(());
        }
        if crumb {
            if self.crumbs > 1 {
                self.cookie.extend_from_slice(b"; ");
            }
            self.cookie.extend_from_slice(value);
        } else if !self.fields.append_told(name, known, value) {
            self.refuse(Reason::HeadersTooLarge, "the name of a field is too long to be one");
        }
        Ok(())
    }

    fn hold_to_size(&mut self) {
        if self.bytes > self.limits.bytes_max {
            self.refuse(Reason::HeadersTooLarge, "the header section is too large");
        }
    }

    /// Takes a pseudo-header, of which each is there once at most.
    fn pseudo(&mut self, pseudo: Pseudo, value: &[u8]) -> Result<(), &'static str> {
        // Its verdict says that it is text.
        let text = || std::str::from_utf8(value).unwrap_or_default();
        let before = match pseudo {
            Pseudo::Method => {
                if value.len() > h1::METHOD_MAX {
                    let say = "the name of the method is too long to be one";
                    self.refuse(Reason::NotSupported, say);
                }
                self.method.replace(Method::of(text())).is_some()
            }
            Pseudo::Path => {
                self.bytes += value.len();
                self.hold_to_size();
                self.path.replace(text().to_owned()).is_some()
            }
            Pseudo::Protocol => self.protocol.replace(text().into()).is_some(),
            Pseudo::Scheme => {
                if !value.eq_ignore_ascii_case(b"http") && !value.eq_ignore_ascii_case(b"https") {
                    let say = "the scheme is neither http nor https";
                    self.refuse(Reason::MalformedRequest, say);
                }
                std::mem::replace(&mut self.has_scheme, true)
            }
            Pseudo::Authority => {
                if value.contains(&b'@') {
                    self.refuse(Reason::MalformedRequest, "the authority names a user");
                } else if self.refused.is_none() {
                    self.fields.add(Known::Host, value);
                }
                std::mem::replace(&mut self.has_authority, true)
            }
        };
        if before { Err("a pseudo-header is there twice") } else { Ok(()) }
    }

    /// The request once its block has ended, or why it is refused; an error breaks the rules of HTTP/2.
    pub(super) fn end(mut self) -> Result<Result<RequestHead, Refused>, &'static str> {
        let Some(method) = self.method.take() else { return Err("there is no :method") };
        let (is_connect, is_extended) = (method == Method::Connect, self.protocol.is_some());
        if is_extended && !is_connect {
            return Err(":protocol is for CONNECT alone");
        }
        if is_connect && !is_extended {
            if self.has_scheme || self.path.is_some() {
                return Err("CONNECT has neither :scheme nor :path");
            }
        } else if !self.has_scheme {
            return Err("there is no :scheme");
        } else if self.path.is_none() {
            return Err("there is no :path");
        }
        Ok(self.finish(method))
    }

    fn finish(mut self, method: Method) -> Result<RequestHead, Refused> {
        let malformed = |why| Err((Reason::MalformedRequest, why));
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        let fields = &mut self.fields;
        if self.crumbs > 0 {
            fields.add(Known::Cookie, &self.cookie);
        }
        let hosts = fields.all(Known::Host).count();
        if self.has_authority && hosts == 2 {
            // It stands for Host, which must not say anything else (RFC 9113 section 8.3.1).
            let authority = fields.get(Known::Host).unwrap_or_default().to_vec();
            if !fields.all(Known::Host).all(|host| host.eq_ignore_ascii_case(&authority)) {
                return malformed(":authority and Host differ");
            }
            fields.set(Known::Host, &authority);
        } else if hosts > 1 {
            return malformed("Host is there more than once");
        }
        if !fields.get(Known::Host).is_some_and(h1::is_authority) {
            return malformed("Host is missing, or not a host");
        }
        if fields.has(Known::Expect) && h1::expects_continue(fields).is_err() {
            let say = "an expectation other than 100-continue";
            return Err((Reason::ExpectationFailed, say));
        }
        let target = match self.path {
            None => fields.get_str(Known::Host).unwrap_or_default().to_owned(),
            Some(path) if path == "*" && method != Method::Options => {
                return malformed("only OPTIONS asks for `*`");
            }
            Some(path) if !path.starts_with(['/', '*']) => {
                return malformed("the request target is not a path");
            }
            Some(path) => path,
        };
        let (version, fields) = (Version::Http2, self.fields);
        Ok(RequestHead { method, target, version, fields, upgrade: self.protocol })
    }
}
