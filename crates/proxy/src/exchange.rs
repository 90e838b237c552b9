//! One request and what became of it: what the access log, the metrics and the trace are written from.
//!
//! An [`Exchange`] is made when a request arrives and ends when its response has left, or could not. It
//! holds all that must live until then: the snapshot, the endpoint's in-flight mark, the permits.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use weft_discovery::{Endpoint, InFlight, Outcome};
use weft_kernel::{Deadline, Error, Reason, Rng, SystemClock, Tick};
use weft_net::{
    Address,
    message::{End, Peer},
    relay::Relayed,
};
use weft_resilience::{adaptive, bulkhead};
use weft_telemetry::{
    access,
    metrics::{Count, Method as MethodClass, Sample},
    otlp::wall_nanos,
    span::{self, SpanRecord, Value},
    trace::{self, request_id},
};
use weft_wire::{Known, Method, RequestHead, forwarded, grpc};

use crate::{
    connection,
    local::{Local, View},
    route::Route,
    upload::Upload,
    upstream::Upstream,
};

/// One request and what became of it.
pub(crate) struct Exchange {
    pub(crate) local: Rc<Local>,
    pub(crate) view: Rc<View>,
    pub(crate) peer: Rc<Peer>,
    /// The request, as it is changed on its way.
    pub(crate) head: RequestHead,
    /// The method as it came.
    pub(crate) method: Method,
    /// The target as it came, if it was changed.
    pub(crate) original: Option<String>,
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
    /// What the service is to be told of the client's certificate.
    pub(crate) certificate: Option<Rc<str>>,
    pub(crate) grpc: Option<grpc::Kind>,
    /// Whether the request has no body, and so can always be sent again.
    pub(crate) bodiless: bool,
    /// The deadline that the client itself set.
    pub(crate) asked: Deadline,
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) upstream: Option<Arc<Upstream>>,
    pub(crate) endpoint: Option<Arc<Endpoint>>,
    pub(crate) request_id: RequestId,
    pub(crate) trace: trace::Context,
    pub(crate) parent_span: u64,
    pub(crate) began: Tick,
    /// The clock as it was last looked at: at the beginning, and after each wait.
    pub(crate) now: Tick,
    /// When the head of the response came.
    pub(crate) answered: Option<Tick>,
    pub(crate) status: u16,
    /// The status that an injected fault asks for.
    pub(crate) forced_status: Option<u16>,
    pub(crate) reason: Option<Reason>,
    pub(crate) detail: Option<String>,
    pub(crate) attempts: u32,
    /// The request body on its way.
    pub(crate) upload: Rc<Upload>,
    /// What is in flight until the response has ended.
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) outcome: Outcome,
    pub(crate) admitted: Option<adaptive::Permit>,
    pub(crate) places: [Option<bulkhead::Permit>; 2],
    /// Whether its end has been told.
    told: bool,
}

impl Exchange {
    pub(crate) fn begin(
        local: Rc<Local>,
        view: Rc<View>,
        peer: Rc<Peer>,
        head: RequestHead,
        now: Tick,
    ) -> Box<Self> {
        let secure = peer.tls.is_some();
        Box::new(Self {
            local,
            view,
            peer,
            method: head.method.clone(),
            head,
            original: None,
            client: None,
            depth: 0,
            said: 0,
            forwarded: None,
            secure,
            certificate: None,
            grpc: None,
            bodiless: true,
            asked: Deadline::NONE,
            route: None,
            upstream: None,
            endpoint: None,
            request_id: RequestId::None,
            trace: trace::Context::default(),
            parent_span: 0,
            began: now,
            now,
            answered: None,
            status: 0,
            forced_status: None,
            reason: None,
            detail: None,
            attempts: 0,
            upload: Rc::default(),
            in_flight: None,
            outcome: Outcome::OK,
            admitted: None,
            places: [None, None],
            told: false,
        })
    }

    /// Notes why Weft itself answers.
    pub(crate) fn failed(&mut self, error: &Error) {
        self.reason = Some(error.reason());
        self.detail = Some(error.detail());
        if let Some(upstream) = &self.upstream {
            upstream.meter.failed(self.local.index, error.reason());
        }
    }

    /// The method that routes look at: extended CONNECT is a GET that upgrades.
    pub(crate) fn routed_method(&self) -> &str {
        match (&self.head.method, &self.head.upgrade) {
            (Method::Connect, Some(_)) => "GET",
            (method, _) => method.as_str(),
        }
    }

    /// Gives up what is held for a service, before another is asked.
    pub(crate) fn release(&mut self) {
        let now = SystemClock::tick();
        if let (Some(in_flight), Some(upstream)) = (self.in_flight.take(), &self.upstream) {
            Self::settle(&self.local, upstream, in_flight, self.outcome, now);
        }
        self.admitted = None;
        self.places = [None, None];
        self.outcome = Outcome::OK;
        self.attempts = 0;
    }

    /// Tells the endpoint's breaker, and the metrics what it made of it.
    pub(crate) fn settle(
        local: &Local,
        upstream: &Upstream,
        in_flight: InFlight,
        outcome: Outcome,
        now: Tick,
    ) {
        let endpoint = in_flight.endpoint().clone();
        let change = in_flight.finish(outcome, now, &mut local.rng.borrow_mut());
        if let Some(change) = change {
            let at = endpoint.label();
            match change {
                weft_resilience::ejection::Change::Ejected { reason, .. } => {
                    upstream.meter.count(local.index, Count::Ejection);
                    tracing::warn!(service = %upstream.name, endpoint = %at, reason = ?reason, "endpoint ejected");
                }
                weft_resilience::ejection::Change::Restored => {
                    tracing::info!(service = %upstream.name, endpoint = %at, "endpoint restored");
                }
            }
        }
    }

    fn finish(&mut self, sent: u64, outcome: Result<(), Reason>) {
        self.told = true;
        let now = SystemClock::tick();
        // A gRPC response that was ended by a status has been sent whole, but is none.
        let cut = self.upload.cut_by();
        if let Some(reason) = outcome.err().or(cut) {
            let reason = self.upload.blame(reason);
            // The client did not leave: what was still under way at the end of the drain was cut.
            let is_cut = reason == Reason::CallerGone && self.local.stop.is_closed();
            self.reason.get_or_insert(if is_cut { Reason::Draining } else { reason });
            // Within a response only the client's own deadline can pass: the service is not at fault.
            if reason.side() == weft_kernel::Side::Upstream && reason != Reason::RequestTimeout {
                self.outcome = Outcome::FAILED;
            }
        }
        // Who left before the head of the response was told nothing; the log and the metrics say why.
        if let (0, Some(reason)) = (self.status, self.reason) {
            self.status = reason.http();
        }
        let grpc = self.grpc.and(self.upload.status());
        if let (Some(in_flight), Some(upstream)) = (self.in_flight.take(), &self.upstream) {
            let outcome = match grpc {
                // UNAVAILABLE and what else says that the server, not the call, is at fault.
                Some(status)
                    if self.outcome == Outcome::OK
                        && cut.is_none()
                        && is_fault(status, self.asked) =>
                {
                    Outcome::FAILED
                }
                _ => self.outcome,
            };
            Self::settle(&self.local, upstream, in_flight, outcome, now);
        }
        self.admitted = None;
        self.places = [None, None];
        // A request that no answer came back for has sent what its tries say of it: nothing is known.
        if let (Some(_), Some(upstream)) = (self.answered, &self.upstream) {
            upstream.meter.passed(self.local.index, self.upload.bytes(), sent);
        }
        let duration = now.since(self.began);
        let sample = Sample {
            method: MethodClass::of(self.method.as_str().as_bytes()),
            status: self.status,
            grpc,
            reason: self.reason,
            duration,
            request_bytes: self.upload.bytes(),
            response_bytes: sent,
        };
        let meter = match &self.route {
            Some(route) => &route.meter,
            None => &self.view.listener.unrouted,
        };
        meter.record(self.local.index, &sample);
        meter.leave(self.local.index);
        self.tell(sent, duration, grpc);
    }

    /// Writes the access log entry and the span, if somebody wants them.
    fn tell(&self, sent: u64, duration: Duration, grpc: Option<u8>) {
        let observers = &self.local.observers;
        if let Some(log) = &observers.access
            && log.wants(self.status, self.reason, &mut self.local.rng.borrow_mut())
        {
            log.push(self.local.index, &self.entry(sent, duration, grpc));
        }
        let failed = self.status >= 500 || self.reason.is_some();
        if let Some(spans) = &observers.spans
            && self.trace.exports(failed)
            && spans.has_room()
        {
            spans.send(self.span(duration));
        }
    }

    fn entry(&self, sent: u64, duration: Duration, grpc: Option<u8>) -> access::Entry<'_> {
        let fields = &self.head.fields;
        let tls = self.peer.tls.as_deref();
        let port = match &self.peer.address {
            Address::Tcp(address) if self.depth == 0 => address.port(),
            _ => 0,
        };
        access::Entry {
            time_nanos: wall_nanos(SystemTime::now()).saturating_sub(nanos(duration)),
            listener: self.view.listener.name.as_str(),
            route: self.route.as_ref().map_or("", |route| route.name.as_str()),
            service: self.upstream.as_ref().map_or("", |upstream| upstream.name.as_str()),
            endpoint: self.endpoint.as_ref().map_or("", |endpoint| endpoint.label()),
            protocol: self.head.version.text(),
            method: self.method.as_str().as_bytes(),
            host: self.host().as_bytes(),
            path: self.original.as_deref().unwrap_or(&self.head.target).as_bytes(),
            status: self.status,
            grpc,
            reason: self.reason,
            detail: self.detail.as_deref().unwrap_or(""),
            duration,
            upstream: self.answered.map(|at| at.since(self.began)),
            bytes_in: self.upload.bytes(),
            bytes_out: sent,
            attempts: u16::try_from(self.attempts).unwrap_or(u16::MAX),
            request_id: self.request_id.as_bytes(),
            trace_id: self.trace.trace_id,
            client: self.client.map(|client| SocketAddr::new(client, port)),
            user_agent: fields.get(Known::UserAgent).unwrap_or_default(),
            tls_version: tls.map_or("", |tls| tls.version),
            sni: tls.and_then(|tls| tls.sni.as_deref()).unwrap_or(""),
        }
    }

    /// The host that was asked for, whatever the service is told.
    fn host(&self) -> &str {
        let fields = &self.head.fields;
        let known =
            if fields.has(Known::XForwardedHost) { Known::XForwardedHost } else { Known::Host };
        fields.get_str(known).unwrap_or_default()
    }

    fn span(&self, duration: Duration) -> SpanRecord {
        let end_nanos = wall_nanos(SystemTime::now());
        let route = self.route.as_ref().map_or("_unmatched", |route| route.name.as_str());
        let mut attributes: Vec<(&'static str, Value)> = vec![
            ("http.request.method", self.method.to_string().into()),
            ("http.route", route.to_owned().into()),
            ("url.path", self.head.path().to_owned().into()),
            ("url.scheme", if self.secure { "https" } else { "http" }.into()),
            ("network.protocol.version", self.head.version.short().into()),
            ("http.response.status_code", i64::from(self.status).into()),
        ];
        if let Some(client) = self.client {
            attributes.push(("client.address", client.to_string().into()));
        }
        if let Some(upstream) = &self.upstream {
            attributes.push(("weft.service", upstream.name.to_string().into()));
        }
        if let Some(endpoint) = &self.endpoint {
            attributes.push(("weft.endpoint", endpoint.label().to_string().into()));
        }
        if self.attempts > 1 {
            let resent = i64::from(self.attempts - 1);
            attributes.push(("http.request.resend_count", resent.into()));
        }
        let mut status = span::Status::Unset;
        if let Some(reason) = self.reason {
            attributes.push(("error.type", reason.word().into()));
            status = span::Status::Error(reason.about().trim().into());
        } else if self.status >= 500 {
            status = span::Status::Error("the service failed".into());
        }
        SpanRecord {
            trace_id: self.trace.trace_id,
            span_id: self.trace.span_id,
            parent_id: self.parent_span,
            sampled: self.trace.sampled == Some(true),
            tracestate: self.trace.tracestate.clone(),
            name: format!("{} {route}", self.method).into(),
            kind: span::Kind::Server,
            start_nanos: end_nanos.saturating_sub(nanos(duration)),
            end_nanos,
            attributes,
            status,
        }
    }
}

/// Whether a gRPC status speaks against the endpoint that gave it. That a deadline has passed does not,
/// if it was the caller's own.
pub(crate) fn is_fault(status: u8, asked: Deadline) -> bool {
    match status {
        4 => asked == Deadline::NONE,
        2 | 13..=15 => true,
        _ => false,
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
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
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
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

impl End for Exchange {
    fn end(mut self: Box<Self>, sent: u64, outcome: Result<(), Reason>) {
        self.finish(sent, outcome);
    }

    fn relayed(mut self: Box<Self>, relayed: Relayed) {
        let Relayed { up_bytes, down_bytes, end } = relayed;
        self.view.listener.meter.relayed(self.local.index, up_bytes, down_bytes);
        self.upload.add(up_bytes);
        if let Some((reason, detail)) = connection::why(&end) {
            self.reason = Some(reason);
            self.detail = Some(detail.to_owned());
        }
        self.outcome = connection::outcome(&end, down_bytes);
        self.finish(down_bytes, Ok(()));
    }
}

/// A client that goes away while it is worked for ends the exchange without a response.
impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.told {
            self.finish(0, Err(Reason::CallerGone));
        }
    }
}
