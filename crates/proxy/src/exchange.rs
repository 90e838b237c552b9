//! One request from its arrival until its response has left, or could not, and what is told of it then.
//!
//! An [`Exchange`] has three parts: what was [`received`](Received), which nothing changes once it has
//! been checked; what is [`sent`](Outgoing), made of it anew for each service that is asked; and the
//! [`record`](Record), from which metrics, access log and span are written.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use weft_discovery::{InFlight, Outcome};
use weft_kernel::{Deadline, Error, Reason, Tick};
use weft_net::{
    Address, clock,
    message::{End, Peer},
    relay::Relayed,
};
use weft_telemetry::{
    access,
    metrics::{Count, Method as MethodClass, Sample},
    otlp::wall_nanos,
    span::{self, SpanRecord, Value},
};
use weft_wire::{Known, RequestHead};

use crate::{
    connection,
    local::{Local, View},
    outgoing::Outgoing,
    policy::Ended,
    received::Received,
    record::Record,
    upload::Upload,
    upstream::Upstream,
};

/// One request and what became of it: what was received, what is sent, and the record of both.
pub(crate) struct Exchange {
    pub(crate) local: Rc<Local>,
    pub(crate) view: Rc<View>,
    pub(crate) received: Received,
    /// What the service is told that is asked now; empty until one is.
    pub(crate) sent: Outgoing,
    pub(crate) record: Record,
    /// The request body on its way.
    pub(crate) upload: Rc<Upload>,
    /// The clock as it was last looked at: at the beginning, and after each wait.
    pub(crate) now: Tick,
}

impl Exchange {
    pub(crate) fn begin(
        local: Rc<Local>,
        view: Rc<View>,
        peer: Rc<Peer>,
        head: RequestHead,
        now: Tick,
    ) -> Box<Self> {
        let upload = Rc::default();
        // Written where it is to stay: it is large, and `Box::new` would move it there.
        Box::write(
            Box::new_uninit(),
            Self {
                local,
                view,
                received: Received::new(peer, head, now),
                sent: Outgoing::none(),
                record: Record::none(),
                upload,
                now,
            },
        )
    }

    /// The exchange as a whole, for a task of its own. What stays behind tells nobody of anything, and is to
    /// be replaced.
    pub(crate) fn take(&mut self) -> Self {
        let Self { local, view, received, upload, now, .. } = self;
        let husk = Self {
            local: local.clone(),
            view: view.clone(),
            received: Received::new(received.peer.clone(), RequestHead::none(), *now),
            sent: Outgoing::none(),
            record: Record { told: true, ..Record::none() },
            upload: upload.clone(),
            now: *now,
        };
        std::mem::replace(self, husk)
    }

    /// Notes why Weft itself answers.
    pub(crate) fn failed(&mut self, error: &Error) {
        self.record.reason = Some(error.reason());
        self.record.detail = Some(error.detail());
        let is_counted = self.record.counted.take() == Some(error.reason());
        if let Some(upstream) = self.record.upstream.as_ref().filter(|_| !is_counted) {
            upstream.meter.failed(self.local.index, error.reason());
        }
    }

    /// Gives up what is held for a service, before another is asked.
    pub(crate) fn release(&mut self) {
        let now = clock::now();
        if let (Some(in_flight), Some(upstream)) =
            (self.record.in_flight.take(), &self.record.upstream)
        {
            Self::settle(&self.local, upstream, in_flight, self.record.outcome, now);
        }
        self.record.admitted = None;
        self.record.places = [None, None];
        self.record.outcome = Outcome::OK;
        self.record.counted = None;
        self.record.detail = None;
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
        self.record.told = true;
        let now = clock::now();
        // A gRPC response that was ended by a status has been sent whole, but is none.
        let cut = self.upload.cut_by();
        if let Some(reason) = outcome.err().or(cut) {
            let reason = self.upload.blame(reason);
            // The client did not leave: what was still under way at the end of the drain was cut.
            let is_cut = reason == Reason::CallerGone && self.local.stop.is_closed();
            self.record.reason.get_or_insert(if is_cut { Reason::Draining } else { reason });
            // Within a response only the client's own deadline can pass: the service is not at fault.
            if reason.side() == weft_kernel::Side::Upstream && reason != Reason::RequestTimeout {
                self.record.outcome = Outcome::FAILED;
            }
        }
        // Who left before the head of the response was told nothing; the log and the metrics say why.
        if let (0, Some(reason)) = (self.record.status, self.record.reason) {
            self.record.status = reason.http();
        }
        let grpc = self.received.grpc.and(self.upload.status());
        if let (Some(in_flight), Some(upstream)) =
            (self.record.in_flight.take(), &self.record.upstream)
        {
            let outcome = match grpc {
                // UNAVAILABLE and what else says that the server, not the call, is at fault.
                Some(status)
                    if self.record.outcome == Outcome::OK
                        && cut.is_none()
                        && is_fault(status, self.received.deadline) =>
                {
                    Outcome::FAILED
                }
                _ => self.record.outcome,
            };
            Self::settle(&self.local, upstream, in_flight, outcome, now);
        }
        self.record.admitted = None;
        self.record.places = [None, None];
        // A request that no answer came back for has sent what its tries say of it: nothing is known.
        if let (Some(_), Some(upstream)) = (self.record.answered, &self.record.upstream) {
            upstream.meter.passed(self.local.index, self.upload.bytes(), sent);
        }
        let duration = now.since(self.received.began);
        let sample = Sample {
            method: MethodClass::of(self.received.head.method.as_str().as_bytes()),
            status: self.record.status,
            grpc,
            reason: self.record.reason,
            duration,
            request_bytes: self.upload.bytes(),
            response_bytes: sent,
        };
        let meter = match &self.record.route {
            Some(route) => &route.meter,
            None => &self.view.listener.unrouted,
        };
        meter.record(self.local.index, &sample);
        self.record.facts.end(&Ended {
            status: self.record.status,
            grpc,
            request_bytes: self.upload.bytes(),
            response_bytes: sent,
            now,
        });
        for (name, value) in self.record.facts.counted() {
            meter.record_fact(self.local.index, name, &value, self.record.status);
        }
        meter.leave(self.local.index);
        self.tell(sent, duration, grpc);
    }

    /// Writes the access log entry and the span, if somebody wants them.
    fn tell(&self, sent: u64, duration: Duration, grpc: Option<u8>) {
        let observers = &self.local.observers;
        if let Some(log) = &observers.access
            && log.wants(self.record.status, self.record.reason, &mut self.local.rng.borrow_mut())
        {
            let mut facts = Vec::new();
            for (name, value) in self.record.facts.told() {
                access::push_fact(name, &value, &mut facts);
            }
            log.push(self.local.index, &self.entry(sent, duration, grpc, &facts));
        }
        let failed = self.record.status >= 500 || self.record.reason.is_some();
        if let Some(spans) = &observers.spans
            && self.received.trace.exports(failed)
            && spans.has_room()
        {
            spans.send(self.span(duration));
        }
    }

    fn entry<'a>(
        &'a self,
        sent: u64,
        duration: Duration,
        grpc: Option<u8>,
        facts: &'a [u8],
    ) -> access::Entry<'a> {
        let head = self.head();
        let tls = self.received.peer.tls.as_deref();
        let port = match &self.received.peer.address {
            Address::Tcp(address) if self.received.depth == 0 => address.port(),
            _ => 0,
        };
        access::Entry {
            time_nanos: wall_nanos(clock::wall()).saturating_sub(nanos(duration)),
            listener: self.view.listener.name.as_str(),
            route: self.record.route.as_ref().map_or("", |route| route.name.as_str()),
            service: self.record.upstream.as_ref().map_or("", |upstream| upstream.name.as_str()),
            endpoint: self.record.endpoint.as_ref().map_or("", |endpoint| endpoint.label()),
            protocol: self.received.head.version.text(),
            method: self.received.head.method.as_str().as_bytes(),
            host: self.host().as_bytes(),
            path: self.target().as_bytes(),
            status: self.record.status,
            grpc,
            reason: self.record.reason,
            detail: self.record.detail.as_deref().unwrap_or(""),
            duration,
            upstream: self.record.answered.map(|at| at.since(self.received.began)),
            bytes_in: self.upload.bytes(),
            bytes_out: sent,
            attempts: u16::try_from(self.record.attempts).unwrap_or(u16::MAX),
            request_id: self.received.request_id.as_bytes(),
            trace_id: self.received.trace.trace_id,
            client: self.received.client.map(|client| SocketAddr::new(client, port)),
            user_agent: head.fields.get(Known::UserAgent).unwrap_or_default(),
            tls_version: tls.map_or("", |tls| tls.version),
            sni: tls.and_then(|tls| tls.sni.as_deref()).unwrap_or(""),
            facts,
        }
    }

    /// The head as it was received, or what was made of it once nobody needed it any more.
    pub(crate) const fn head(&self) -> &RequestHead {
        if self.received.is_spent() { &self.sent.head } else { &self.received.head }
    }

    /// The target that was asked for, as it came.
    fn target(&self) -> &str {
        let Received { redacted, original, .. } = &self.received;
        redacted.as_deref().or(original.as_deref()).unwrap_or(&self.head().target)
    }

    /// The host that was asked for, whatever the service is told.
    fn host(&self) -> &str {
        if !self.received.is_spent() {
            return self.received.host();
        }
        let fields = &self.sent.head.fields;
        let known =
            if fields.has(Known::XForwardedHost) { Known::XForwardedHost } else { Known::Host };
        fields.get_str(known).unwrap_or_default()
    }

    fn span(&self, duration: Duration) -> SpanRecord {
        let end_nanos = wall_nanos(clock::wall());
        let route = self.record.route.as_ref().map_or("_unmatched", |route| route.name.as_str());
        let path = self.target().split('?').next().unwrap_or_default();
        let mut attributes: Vec<(&'static str, Value)> = vec![
            ("http.request.method", self.received.head.method.to_string().into()),
            ("http.route", route.to_owned().into()),
            ("url.path", path.to_owned().into()),
            ("url.scheme", if self.received.secure { "https" } else { "http" }.into()),
            ("network.protocol.version", self.received.head.version.short().into()),
            ("http.response.status_code", i64::from(self.record.status).into()),
        ];
        if let Some(client) = self.received.client {
            attributes.push(("client.address", client.to_string().into()));
        }
        if let Some(upstream) = &self.record.upstream {
            attributes.push(("weft.service", upstream.name.to_string().into()));
        }
        if let Some(endpoint) = &self.record.endpoint {
            attributes.push(("weft.endpoint", endpoint.label().to_string().into()));
        }
        if self.record.attempts > 1 {
            let resent = i64::from(self.record.attempts - 1);
            attributes.push(("http.request.resend_count", resent.into()));
        }
        for (name, value) in self.record.facts.told() {
            attributes.push((name, value.into_owned().into()));
        }
        let mut status = span::Status::Unset;
        if let Some(reason) = self.record.reason {
            attributes.push(("error.type", reason.word().into()));
            status = span::Status::Error(reason.about().trim().into());
        } else if self.record.status >= 500 {
            status = span::Status::Error("the service failed".into());
        }
        SpanRecord {
            trace_id: self.received.trace.trace_id,
            span_id: self.received.trace.span_id,
            parent_id: self.received.parent_span,
            sampled: self.received.trace.sampled == Some(true),
            tracestate: self.received.trace.tracestate.clone(),
            name: format!("{} {route}", self.received.head.method).into(),
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

impl End for Exchange {
    fn end(mut self: Box<Self>, sent: u64, outcome: Result<(), Reason>) {
        self.finish(sent, outcome);
    }

    fn relayed(mut self: Box<Self>, relayed: Relayed) {
        let Relayed { up_bytes, down_bytes, end } = relayed;
        self.view.listener.meter.relayed(self.local.index, up_bytes, down_bytes);
        self.upload.add(up_bytes);
        if let Some((reason, detail)) = connection::why(&end) {
            self.record.reason = Some(reason);
            self.record.detail = Some(detail.to_owned());
        }
        self.record.outcome = connection::outcome(&end, down_bytes);
        self.finish(down_bytes, Ok(()));
    }
}

/// A client that goes away while it is worked for ends the exchange without a response.
impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.record.told {
            self.finish(0, Err(Reason::CallerGone));
        }
    }
}
