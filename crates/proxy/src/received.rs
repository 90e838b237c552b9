//! A request as it was received: who sent it, what it asks for, and by when.
//!
//! It is checked and normalised once ([`prepare`](crate::prepare)) and then stays as it is, so that every
//! service that is asked is asked from the same beginning, and the caller's deadline is counted once. The
//! fields of its head may be handed on instead of copied when nobody can need them again.

use std::{net::IpAddr, rc::Rc, time::SystemTime};

use weft_kernel::{Deadline, Rng, Tick};
use weft_net::{clock, message::Peer};
use weft_telemetry::trace::{self, request_id};
use weft_wire::{Known, Method, RequestHead, forwarded, grpc};

use crate::certificate::Certificate;

/// A request as it was received.
pub(crate) struct Received {
    pub(crate) peer: Rc<Peer>,
    /// The client's certificate, if it has shown one.
    pub(crate) certificate: Option<Certificate>,
    /// The head, with its target normalised.
    pub(crate) head: RequestHead,
    /// The target as it came, if it was changed.
    pub(crate) original: Option<String>,
    /// The target without the secrets that stand in it, for log and span, if there are any.
    pub(crate) redacted: Option<String>,
    /// The client's address, as far as it can be believed.
    pub(crate) client: Option<IpAddr>,
    /// How many trusted proxies stand before Weft.
    pub(crate) depth: usize,
    /// How many of the last words on its way are those of trusted proxies.
    pub(crate) said: usize,
    /// What trusted proxies say of it in `Forwarded`.
    pub(crate) forwarded: Option<Box<forwarded::Told>>,
    /// Whether the client came by TLS.
    pub(crate) secure: bool,
    pub(crate) grpc: Option<grpc::Kind>,
    /// Whether the request has no body, and so can always be sent again.
    pub(crate) bodiless: bool,
    /// The deadline that the caller set itself.
    pub(crate) deadline: Deadline,
    pub(crate) request_id: RequestId,
    pub(crate) trace: trace::Context,
    pub(crate) parent_span: u64,
    pub(crate) began: Tick,
    /// Whether fields and target have been handed on.
    spent: bool,
}

impl Received {
    #[inline]
    pub(crate) fn new(peer: Rc<Peer>, head: RequestHead, began: Tick) -> Self {
        let secure = peer.tls.is_some();
        Self {
            peer,
            certificate: None,
            head,
            original: None,
            redacted: None,
            client: None,
            depth: 0,
            said: 0,
            forwarded: None,
            secure,
            grpc: None,
            bodiless: true,
            deadline: Deadline::NONE,
            request_id: RequestId::None,
            trace: trace::Context::default(),
            parent_span: 0,
            began,
            spent: false,
        }
    }

    /// Says whom the client's certificate names. Only Weft has seen the handshake: whoever else sends this
    /// field may have made it up.
    pub(crate) fn certify(&mut self, certificate: Option<&str>) {
        self.head.fields.remove(Known::XForwardedClientCert);
        if let Some(certificate) = certificate {
            self.head.fields.add(Known::XForwardedClientCert, certificate.as_bytes());
        }
    }

    /// The method that routes look at: extended CONNECT is a GET that upgrades.
    pub(crate) fn routed_method(&self) -> &str {
        match (&self.head.method, &self.head.upgrade) {
            (Method::Connect, Some(_)) => "GET",
            (method, _) => method.as_str(),
        }
    }

    /// The host that was asked for, by the word of a trusted proxy if there is one.
    pub(crate) fn host(&self) -> &str {
        let fields = &self.head.fields;
        if let Some(host) = self.forwarded.as_deref().and_then(|told| told.host.as_deref()) {
            return host;
        }
        let trusted = self.said > 0 && fields.has(Known::XForwardedHost);
        let known = if trusted { Known::XForwardedHost } else { Known::Host };
        fields.get_str(known).unwrap_or_default()
    }

    /// Writes the head for whoever is asked: a copy if it is `needed` again, and otherwise itself, of
    /// which method and version stay. It is large, so its parts change places where they are.
    pub(crate) fn hand_head(&mut self, needed: bool, to: &mut RequestHead) {
        debug_assert!(!self.spent, "who asks twice needs the head the first time");
        to.method = self.head.method.clone();
        to.version = self.head.version;
        if needed {
            to.target.clone_from(&self.head.target);
            to.fields = self.head.fields.roomy();
            to.upgrade.clone_from(&self.head.upgrade);
            return;
        }
        self.spent = true;
        std::mem::swap(&mut to.target, &mut self.head.target);
        std::mem::swap(&mut to.fields, &mut self.head.fields);
        to.upgrade = self.head.upgrade.take();
    }

    /// Whether fields and target have been handed on, and are no longer here.
    pub(crate) const fn is_spent(&self) -> bool {
        self.spent
    }
}

/// The id by which a request is found in every log.
#[derive(Clone, Debug)]
pub(crate) enum RequestId {
    /// None yet.
    None,
    /// The caller's.
    Given(Box<str>),
    /// Made here.
    Made(request_id::Made),
}

impl RequestId {
    /// A new one.
    pub(crate) fn made(rng: &mut Rng) -> Self {
        let since = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Self::Made(request_id::make(millis, rng))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::None => b"",
            Self::Given(text) => text.as_bytes(),
            Self::Made(text) => text,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}
