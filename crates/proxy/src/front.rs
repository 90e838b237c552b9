//! The way of a request through Weft, from its head to whoever answers.
//!
//! The order is fixed, outermost first: trace and access log, client address, route, its policies
//! ([`Stage`](crate::policy::Stage)), then what `forward` does for a service. What Weft itself answers goes
//! the same way out.

use std::{borrow::Cow, cell::OnceCell, rc::Rc, sync::Arc};

use weft_kernel::{Deadline, Error, Name, Reason, Result};
use weft_net::{
    body::Body,
    clock,
    message::{Handler, InterimSender, Peer, Request, Response},
    timer::TaskTimer,
};
use weft_telemetry::access;
use weft_wire::{Known, Method, Version, grpc};

use crate::{
    answer::{self, Answer},
    body::{Watched, grpc_status},
    certificate::Certificate,
    connection,
    exchange::Exchange,
    forward::Forward,
    grpc_web,
    handler::{Call, LocalTarget},
    hash,
    local::{Local, View, ViewCache},
    plan,
    policy::{self, First, OutgoingContext},
    prepare,
    received::{Received, RequestId},
    route::{Fallback, Route, Target},
    router::{Captures, Found, Lookup, Missing},
    tunnel,
    upload::{self, Limited},
    upstream::Upstream,
};

/// Answers the requests of one connection.
pub struct Front {
    local: Rc<Local>,
    views: ViewCache,
    /// What services are told of the client's certificate, once one is to be told.
    certificate: OnceCell<Option<Rc<str>>>,
    /// The client's certificate, as policies see it.
    names: Certificate,
}

impl Front {
    /// The front of a listener to one connection.
    pub fn new(local: Rc<Local>, listener: Name) -> Self {
        let (certificate, names) = Default::default();
        Self { local, views: ViewCache::new(listener), certificate, names }
    }

    /// Refuses what there is no exchange for, and tells of it all the same.
    fn turn_away(&self, peer: &Peer, reason: Reason, detail: &str) -> Response {
        let request_id = RequestId::made(&mut self.local.rng.borrow_mut());
        let response = answer::refuse(reason, detail, request_id.as_str());
        let tls = peer.tls.as_deref();
        let entry = access::Entry {
            listener: self.views.name().as_str(),
            status: response.head.status,
            reason: Some(reason),
            detail,
            request_id: request_id.as_bytes(),
            client: connection::client(&peer.address),
            tls_version: tls.map_or("", |tls| tls.version),
            sni: tls.and_then(|tls| tls.sni.as_deref()).unwrap_or(""),
            ..access::Entry::default()
        };
        connection::log(&self.local, clock::now(), entry);
        response
    }
}

impl Handler for Front {
    async fn call(&self, request: Request) -> Response {
        let Request { head, body, peer, timer, interim_sender } = request;
        let Some(view) = self.views.look(&self.local) else {
            return self.turn_away(&peer, Reason::Draining, "the listener is closing");
        };
        let now = clock::now();
        let mut exchange = Exchange::begin(self.local.clone(), view, peer, head, now);
        let received = &mut exchange.received;
        if Certificate::is_shown(&received.peer) {
            received.certificate = Some(self.names.clone());
        }
        let certificate = if exchange.view.listener.http.forward_client_cert {
            let read = || {
                let names = self.names.names(&received.peer)?;
                Some(names.forwarded_client_cert().into())
            };
            self.certificate.get_or_init(read).as_deref()
        } else {
            None
        };
        received.certify(certificate);
        let connects = received.head.version == Version::Http2 && received.head.upgrade.is_some();
        let mut answer = match lead(&mut exchange, body, &timer, &interim_sender).await {
            Ok(answer) => answer,
            Err(error) => answer::problem(&mut exchange, &error, None),
        };
        if connects && answer.tunnel.is_none() && (200..300).contains(&answer.head.status) {
            answer = {
                let why = tunnel::refused(exchange.record.answered.is_some());
                answer::problem(&mut exchange, &why, None)
            };
        }
        answer.send(exchange).await
    }

    fn refuse(&self, peer: &Rc<Peer>, reason: Reason, detail: &str) -> Response {
        if let Some(view) = self.views.look(&self.local) {
            view.listener.meter.protocol_error(self.local.index);
        }
        tracing::debug!(reason = reason.word(), detail, "request refused");
        self.turn_away(peer, reason, detail)
    }
}

/// Leads a request to its answer.
async fn lead(
    exchange: &mut Exchange,
    body: Body,
    timer: &TaskTimer,
    interim_sender: &InterimSender,
) -> Result<Answer> {
    let index = exchange.local.index;
    let mut captures = Captures::default();
    let checked = {
        let Exchange { local, view, received, .. } = &mut *exchange;
        prepare::check(received, &view.listener, local)
    };
    let found = match checked {
        Ok(()) => find(&exchange.received, &exchange.view, &mut captures),
        Err(error) => Err((error, None)),
    };
    let (route, found) = match found {
        Ok(found) => found,
        Err((error, allow)) => {
            exchange.view.listener.unrouted.enter(index);
            return Ok(answer::problem(exchange, &error, allow.as_deref()));
        }
    };
    follow(exchange, Walk { route, found, captures: &captures }, body, timer, interim_sender).await
}

/// A route, and how a request came to it.
pub(crate) struct Walk<'a> {
    pub(crate) route: Arc<Route>,
    pub(crate) found: Found,
    pub(crate) captures: &'a Captures,
}

/// Leads a request along its route to its answer.
pub(crate) async fn follow(
    exchange: &mut Exchange,
    walk: Walk<'_>,
    body: Body,
    timer: &TaskTimer,
    interim_sender: &InterimSender,
) -> Result<Answer> {
    let mut body = enter(exchange, &walk.route, body);
    let policies = walk.route.policies.of(&body);
    if !policies.is_empty() {
        let answered = policy::requests(policies, &walk, exchange, &mut body, timer).await;
        let completion = exchange.record.completion.take();
        match (answered, completion) {
            (Ok(None), None) => {}
            (Ok(Some(answer)), None) => return Ok(answer),
            (Err(error), None) => return Err(error),
            (Ok(None), Some(completion)) => {
                exchange.received.bodiless = matches!(body, Body::Empty);
                return Box::pin(policy::carry_out(
                    exchange,
                    walk,
                    completion,
                    body,
                    interim_sender,
                ))
                .await;
            }
            (Ok(Some(answer)), Some(completion)) => {
                return policy::complete(exchange, completion, Ok(answer)).await;
            }
            (Err(error), Some(completion)) => {
                completion.failed(policy::TargetFailure::NEVER_BEGAN).await;
                return Err(error);
            }
        }
    }
    exchange.received.bodiless = matches!(body, Body::Empty);
    to_target(exchange, walk, body, timer, interim_sender).await
}

/// Leads a request that its route's policies have let through to the target.
pub(crate) async fn to_target(
    exchange: &mut Exchange,
    walk: Walk<'_>,
    body: Body,
    timer: &TaskTimer,
    interim_sender: &InterimSender,
) -> Result<Answer> {
    let Walk { route, found, captures } = walk;
    match &route.target {
        Target::Respond(respond) => Ok(answer::respond(respond)),
        Target::Redirect(redirector) => {
            let Received { head, secure, .. } = &exchange.received;
            let host = head.fields.get_str(Known::Host).unwrap_or_default();
            let location = redirector.location(*secure, host, &head.target, &found, captures)?;
            Ok(answer::redirect(redirector.status(), &location))
        }
        Target::Services(split) => {
            if exchange.received.head.method == Method::Options
                && answer::steps_left(&exchange.received.head.fields) == Some(0)
            {
                return Ok(answer::options());
            }
            let upstream = split.choose(&mut exchange.local.rng.borrow_mut()).cloned();
            let upstream = upstream
                .ok_or_else(|| Error::new(Reason::Misconfigured, "the route leads nowhere"))?;
            let way = Way { route: &route, found, captures, timer, interim_sender };
            way.to(exchange, upstream, body).await
        }
        // In a box: it is rarely taken, and shall not make every request's future larger.
        Target::Local(target) => Box::pin(to_local(exchange, &route, &**target, body, timer)).await,
    }
}

/// Begins the part of a request that belongs to its route, whoever answers it.
fn enter(exchange: &mut Exchange, route: &Arc<Route>, body: Body) -> Body {
    route.meter.enter(exchange.local.index);
    exchange.record.route = Some(route.clone());
    let received = &mut exchange.received;
    received.redacted = {
        let target = received.original.as_deref().unwrap_or(&received.head.target);
        route.policies.redacted(received.head.path(), target)
    };
    let span = exchange.view.listener.http.body_timeout;
    let until = span.map_or(Deadline::NONE, |span| Deadline::after(exchange.received.began, span));
    let bounds = upload::Bounds { until, span: span.unwrap_or_default() };
    Limited::wrap(body, bounds, &exchange.upload, Some(route))
}

/// Leads a request to a handler that lives in the node.
async fn to_local(
    exchange: &mut Exchange,
    route: &Arc<Route>,
    target: &dyn LocalTarget,
    body: Body,
    timer: &TaskTimer,
) -> Result<Answer> {
    let local = exchange.local.clone();
    // What is told of the request is told as it came.
    let mut head = exchange.received.head.clone();
    let key = tunnel::prepare(&mut head, &mut local.rng.borrow_mut())?;
    for policy in &route.policies.outgoings {
        policy.outgoing(&mut OutgoingContext {
            local: &local,
            received: &exchange.received,
            facts: &exchange.record.facts,
            head: &mut head,
            first: None,
            service: None,
        });
    }
    let no_socket = || Error::new(Reason::NotSupported, "this path is no WebSocket");
    if key.is_some() && !target.upgrades() {
        // Extended CONNECT asks for a WebSocket and for nothing else.
        return Err(no_socket());
    }
    let call = Call::of(&exchange.received, head, route, body, timer);
    let mut answer = Answer::from(target.call(&local, call).await?);
    // What names another protocol is Weft's own word to its client, and not that of a service.
    let protocol = answer.head.fields.get(Known::Upgrade).map(<[u8]>::to_vec);
    if let Some(key) = key {
        if answer.tunnel.is_some() {
            tunnel::check(&mut answer.head.fields, &key)?;
        } else if (200..300).contains(&answer.head.status) {
            // A client would take it for consent (RFC 8441 section 5).
            return Err(no_socket());
        }
    }
    answer::hand_back(&mut answer.head);
    if exchange.received.grpc.is_some() {
        exchange.upload.note_status(grpc_status(&answer.head.fields));
        if !matches!(answer.body, Body::Empty) {
            let body = std::mem::take(&mut answer.body);
            answer.body = Watched::by(body, exchange.received.deadline, &exchange.upload);
        }
    }
    if let Some(protocol) = protocol
        && exchange.received.head.version == Version::Http11
    {
        answer.head.fields.add(Known::Connection, b"upgrade");
        answer.head.fields.add(Known::Upgrade, &protocol);
    }
    Ok(answer)
}

type Refusal = (Error, Option<String>);

/// The route of a request.
fn find(
    received: &Received,
    view: &View,
    captures: &mut Captures,
) -> Result<(Arc<Route>, Found), Refusal> {
    let head = &received.head;
    let host = plain_host(head.fields.get_str(Known::Host).unwrap_or_default());
    if view.listener.is_misdirected(&received.peer, &host) {
        let say =
            "this connection was made for another host, of which clients show other certificates";
        return Err((Error::new(Reason::Misdirected, say), None));
    }
    let (path, query) = match head.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (head.target.as_str(), None),
    };
    let method = received.routed_method();
    let table = &view.listener.table;
    let shown = received.certificate.as_ref().filter(|_| table.asks_certificate());
    let certificate = shown.and_then(|shown| shown.names(&received.peer));
    let lookup = Lookup { host: &host, method, path, query, fields: &head.fields, certificate };
    match table.find(&lookup, captures) {
        Ok(found) => match view.snapshot.routes.get(found.route as usize) {
            Some(route) => Ok((route.clone(), found)),
            None => Err((Error::new(Reason::Internal, "the route table is out of step"), None)),
        },
        Err(Missing::NotFound) => {
            Err((Error::new(Reason::NoRoute, "no route matches the request"), None))
        }
        Err(Missing::MethodNotAllowed { allow }) => {
            let say = format!("the method is not allowed here; these are: {allow}");
            Err((Error::new(Reason::MethodNotAllowed, say), Some(allow)))
        }
    }
}

/// A host in lower case, without its port and the dot of the root, which names the same host (RFC 3986 section
/// 3.2.2).
pub(crate) fn plain_host(host: &str) -> Cow<'_, str> {
    let host = without_port(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    Cow::Borrowed(host)
}

fn without_port(host: &str) -> &str {
    match host.bytes().rposition(|byte| byte == b':') {
        Some(colon) if !host.ends_with(']') => &host[..colon],
        _ => host,
    }
}

/// The way to a service, whichever it is.
struct Way<'a> {
    route: &'a Arc<Route>,
    found: Found,
    captures: &'a Captures,
    timer: &'a TaskTimer,
    interim_sender: &'a InterimSender,
}

impl Way<'_> {
    async fn to(
        &self,
        exchange: &mut Exchange,
        upstream: Arc<Upstream>,
        body: Body,
    ) -> Result<Answer> {
        let route = self.route;
        let web = self.web(exchange);
        let mut body = match web {
            Some(kind) => grpc_web::body(kind, body, &exchange.upload),
            None => body,
        };
        self.ask(exchange, &upstream, web, Some(&mut body))?;
        let forward =
            Forward { route, upstream, timer: self.timer, interim_sender: self.interim_sender };
        // In a box: the futures around it are moved many times, and shall be small.
        let result = Box::pin(forward.run(exchange, body)).await;
        let mut answer = self.or_fallback(exchange, web, result).await?;
        if let Some(key) = exchange.sent.key.take()
            && answer.tunnel.is_some()
        {
            tunnel::check(&mut answer.head.fields, &key)?;
            answer.head.fields.remove(Known::Connection);
            answer.head.fields.remove(Known::Upgrade);
        }
        if let Some(cookie) = exchange.sent.hashed.cookie.take() {
            answer.head.fields.add(Known::SetCookie, cookie.as_bytes());
        }
        if let Some(kind) = web {
            answer.body = grpc_web::response(&mut answer.head, kind, answer.body);
        }
        Ok(answer)
    }

    /// The kind of gRPC-Web that is translated, if it is.
    fn web(&self, exchange: &Exchange) -> Option<grpc::Kind> {
        let translates = exchange.view.listener.http.grpc_web;
        exchange.received.grpc.filter(|kind| *kind != grpc::Kind::Grpc && translates)
    }

    /// Makes of what was received what a service is asked.
    fn ask(
        &self,
        exchange: &mut Exchange,
        upstream: &Upstream,
        web: Option<grpc::Kind>,
        mut body: Option<&mut Body>,
    ) -> Result<()> {
        let route = self.route;
        let Exchange { local, view, received, sent, record, .. } = exchange;
        let mut rng = local.rng.borrow_mut();
        let input = hash::Input {
            fields: &received.head.fields,
            target: &received.head.target,
            client: received.client,
            secure: received.secure,
        };
        let hashed = upstream.hasher.hash(&input, &mut rng);
        let outgoings = &route.policies.outgoings;
        let falls_back = matches!(route.fallback, Some(Fallback::Service(_)));
        // The log tells what was received, and not what policies make of it.
        let needed = (falls_back && received.bodiless) || !outgoings.is_empty();
        sent.begin(received, needed, hashed);
        sent.lead(received, &view.listener.http.via, &mut rng)?;
        drop(rng);
        let (head, on_try) = (&mut sent.head, &mut sent.on_try);
        if head.method == Method::Options
            && let Some(left) = answer::steps_left(&head.fields)
        {
            head.fields.set_named("max-forwards", left.saturating_sub(1).to_string().as_bytes());
        }
        if web.is_some() {
            grpc_web::request(&mut head.fields);
        }
        if let Some(target) = route.rewrite.target(&head.target, &self.found, self.captures)? {
            let before = std::mem::replace(&mut head.target, target);
            if received.is_spent() {
                received.original.get_or_insert(before);
            }
        }
        let host = route.plan.rewrite.host.as_ref();
        if let Some(plan::HostRewrite::Literal(host)) = host {
            head.fields.set(Known::Host, host.as_bytes());
        }
        for policy in outgoings {
            policy.outgoing(&mut OutgoingContext {
                local,
                received,
                facts: &record.facts,
                head,
                first: body.as_deref_mut().map(|body| First { body, on_try: &mut *on_try }),
                service: Some(&upstream.name),
            });
        }
        sent.complete(host == Some(&plan::HostRewrite::Endpoint));
        Ok(())
    }

    /// The answer, or the fallback's if there is none or it is one of those that count as failure.
    async fn or_fallback(
        &self,
        exchange: &mut Exchange,
        web: Option<grpc::Kind>,
        result: Result<Answer>,
    ) -> Result<Answer> {
        let (Some(fallback), Some(plan)) = (&self.route.fallback, &self.route.policy.fallback)
        else {
            return result;
        };
        let failed = match &result {
            Ok(answer) => plan.statuses.contains(&answer.head.status),
            Err(error) => error.side() != weft_kernel::Side::Caller,
        };
        if !failed {
            return result;
        }
        // What was sent of the body is gone: only a request that had none can go elsewhere.
        let retry = self.route.policy.retry.as_ref();
        let may_go = exchange.record.sending.may_go_again(&exchange.sent.head, retry);
        if matches!(fallback, Fallback::Service(_)) && !(exchange.received.bodiless && may_go) {
            return result;
        }
        let fell = match &result {
            Ok(answer) => policy::TargetFailure { reached: true, status: Some(answer.head.status) },
            Err(error) => policy::TargetFailure::of(exchange, error),
        };
        if let Err(error) = &result {
            tracing::debug!(route = %self.route.name, "falling back: {}", error.detail());
        }
        exchange.record.fell = Some(fell);
        exchange.release();
        match fallback {
            Fallback::Respond(respond) => {
                exchange.record.stands_in = true;
                Ok(answer::respond(respond))
            }
            Fallback::Service(upstream) => {
                self.ask(exchange, upstream, web, None)?;
                let forward = Forward {
                    route: self.route,
                    upstream: upstream.clone(),
                    timer: self.timer,
                    interim_sender: self.interim_sender,
                };
                Box::pin(forward.run(exchange, Body::Empty)).await
            }
        }
    }
}
