//! The way of a request through Weft, from its head to whoever answers.
//!
//! The order is fixed, outermost first: trace and access log, client address, route, fault, body limit,
//! then what `forward` does for a service. What Weft itself answers goes the same way
//! out.

use std::{cell::OnceCell, rc::Rc, sync::Arc};

use weft_kernel::{Deadline, Error, Name, Reason, Result, Retry, SystemClock};
use weft_net::{
    alarm::Alarm,
    body::Body,
    message::{Handler, Inform, Peer, Request, Response},
};
use weft_telemetry::access;
use weft_wire::{Known, Method, Version, grpc};

use crate::{
    answer::{self, Answer},
    body::Copied,
    connection,
    exchange::{Exchange, RequestId},
    forward::Forward,
    grpc_web, hash,
    inside::{self, Call},
    local::{Local, Window},
    mirror, plan, prepare,
    route::{self, Fallback, Route, Target},
    router::{Captures, Found, Lookup, Missing},
    tunnel,
    upload::{self, Limited},
    upstream::Upstream,
};

/// Answers the requests of one connection.
pub struct Front {
    local: Rc<Local>,
    window: Window,
    /// What services are told of the client's certificate, once one is to be told.
    certificate: OnceCell<Option<Rc<str>>>,
}

impl Front {
    /// The front of a listener to one connection.
    pub const fn new(local: Rc<Local>, listener: Name) -> Self {
        Self { local, window: Window::new(listener), certificate: OnceCell::new() }
    }

    /// Refuses what there is no exchange for, and tells of it all the same.
    fn turn_away(&self, peer: &Peer, reason: Reason, detail: &str) -> Response {
        let request_id = RequestId::made(&mut self.local.rng.borrow_mut());
        let response = answer::refuse(reason, detail, request_id.as_str());
        let tls = peer.tls.as_deref();
        let entry = access::Entry {
            listener: self.window.name().as_str(),
            status: response.head.status,
            reason: Some(reason),
            detail,
            request_id: request_id.as_bytes(),
            client: connection::client(&peer.address),
            tls_version: tls.map_or("", |tls| tls.version),
            sni: tls.and_then(|tls| tls.sni.as_deref()).unwrap_or(""),
            ..access::Entry::default()
        };
        connection::log(&self.local, SystemClock::tick(), entry);
        response
    }
}

impl Handler for Front {
    async fn call(&self, request: Request) -> Response {
        let Request { head, body, peer, alarm, inform } = request;
        let Some(view) = self.window.look(&self.local) else {
            return self.turn_away(&peer, Reason::Draining, "the listener is closing");
        };
        let now = SystemClock::tick();
        let mut exchange = Exchange::begin(self.local.clone(), view, peer, head, now);
        if exchange.view.listener.http.forward_client_cert {
            let read = || prepare::client_certificate(&exchange.peer);
            exchange.certificate = self.certificate.get_or_init(read).clone();
        }
        let connects = exchange.head.version == Version::Http2 && exchange.head.upgrade.is_some();
        let mut answer = match lead(&mut exchange, body, &alarm, &inform).await {
            Ok(answer) => answer,
            Err(error) => answer::problem(&mut exchange, &error, None),
        };
        if connects && answer.tunnel.is_none() && (200..300).contains(&answer.head.status) {
            answer = {
                let why = tunnel::refused(exchange.answered.is_some());
                answer::problem(&mut exchange, &why, None)
            };
        }
        answer.send(exchange)
    }

    fn refuse(&self, peer: &Rc<Peer>, reason: Reason, detail: &str) -> Response {
        if let Some(view) = self.window.look(&self.local) {
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
    alarm: &Alarm,
    inform: &Inform,
) -> Result<Answer> {
    let index = exchange.local.index;
    let mut captures = Captures::default();
    let found = match prepare::check(exchange) {
        Ok(()) => find(exchange, &mut captures),
        Err(error) => Err((error, None)),
    };
    let (route, found) = match found {
        Ok(found) => found,
        Err((error, allow)) => {
            exchange.view.listener.unrouted.enter(index);
            return Ok(answer::problem(exchange, &error, allow.as_deref()));
        }
    };
    if route.policy.respond_async.is_some() && inside::asks_later(&exchange.head) {
        return defer(exchange, route, body, alarm).await;
    }
    follow(exchange, Walk { route, found, captures: &captures }, body, alarm, inform).await
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
    alarm: &Alarm,
    inform: &Inform,
) -> Result<Answer> {
    let Walk { route, found, captures } = walk;
    let body = enter(exchange, &route, body, alarm).await?;
    match &route.target {
        Target::Respond(respond) => Ok(answer::respond(respond)),
        Target::Redirect(redirector) => {
            let host = exchange.head.fields.get_str(Known::Host).unwrap_or_default();
            let target = &exchange.head.target;
            let location = redirector.location(exchange.secure, host, target, &found, captures)?;
            Ok(answer::redirect(redirector.status(), &location))
        }
        Target::Services(split) => {
            if exchange.head.method == Method::Options
                && let Some(answer) = answer::options(&mut exchange.head.fields)
            {
                return Ok(answer);
            }
            let upstream = split.choose(&mut exchange.local.rng.borrow_mut()).cloned();
            let upstream = upstream
                .ok_or_else(|| Error::new(Reason::Misconfigured, "the route leads nowhere"))?;
            let way = Way { route: &route, found, captures, alarm, inform };
            way.to(exchange, upstream, body).await
        }
        // In a box: it is rarely taken, and shall not make every request's future larger.
        Target::Inside(target) => Box::pin(to_inside(exchange, &route, target, body, alarm)).await,
    }
}

/// What is done to a request on any route, whoever answers it.
async fn enter(
    exchange: &mut Exchange,
    route: &Arc<Route>,
    body: Body,
    alarm: &Alarm,
) -> Result<Body> {
    route.meter.enter(exchange.local.index);
    exchange.route = Some(route.clone());
    if let Some(fault) = &route.policy.fault {
        inject(exchange, fault, alarm).await?;
    }
    let span = exchange.view.listener.http.body_timeout;
    let bounds = upload::Bounds {
        bytes_max: route.policy.body_bytes_max.0,
        until: span.map_or(Deadline::NONE, |span| Deadline::after(exchange.began, span)),
        span: span.unwrap_or_default(),
    };
    let body = Limited::wrap(body, bounds, &exchange.upload)?;
    exchange.bodiless = matches!(body, Body::Empty);
    Ok(body)
}

/// Leads a request to whoever keeps messages.
async fn to_inside(
    exchange: &mut Exchange,
    route: &Arc<Route>,
    target: &plan::Inside,
    body: Body,
    alarm: &Alarm,
) -> Result<Answer> {
    let local = exchange.local.clone();
    let key = tunnel::prepare(&mut exchange.head, &mut local.rng.borrow_mut())?;
    let ops = &route.policy.request_headers;
    if !ops.is_empty() {
        route::apply(ops, &mut exchange.head.fields);
    }
    let no_socket = || Error::new(Reason::NotSupported, "this path is no WebSocket");
    if key.is_some() && matches!(target, plan::Inside::Publish(_)) {
        // Extended CONNECT asks for a WebSocket and for nothing else.
        return Err(no_socket());
    }
    let inside = local.inside.as_ref().ok_or_else(inside::nobody)?;
    let call = call(exchange, route, body, alarm);
    let mut answer = Answer::from(inside.call(&local, target, call).await?);
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
    if let Some(protocol) = protocol
        && exchange.head.version == Version::Http11
    {
        answer.head.fields.add(Known::Connection, b"upgrade");
        answer.head.fields.add(Known::Upgrade, &protocol);
    }
    Ok(answer)
}

/// Keeps a request that is to be answered later.
async fn defer(
    exchange: &mut Exchange,
    route: Arc<Route>,
    body: Body,
    alarm: &Alarm,
) -> Result<Answer> {
    let body = enter(exchange, &route, body, alarm).await?;
    let how = route.policy.respond_async.as_ref().ok_or_else(inside::nobody)?;
    let local = exchange.local.clone();
    let inside = local.inside.as_ref().ok_or_else(inside::nobody)?;
    // The service is told of the client, though it will be asked by Weft.
    prepare::hand_on(exchange);
    exchange.head.fields.remove(Known::Expect);
    exchange.head.fields.remove(Known::Via);
    let call = call(exchange, &route, body, alarm);
    Ok(Answer::from(Box::pin(inside.defer(&local, how, call)).await?))
}

/// The request as those inside are handed it.
fn call(exchange: &mut Exchange, route: &Route, body: Body, alarm: &Alarm) -> Call {
    Call {
        route: route.name.clone(),
        head: exchange.head.clone(),
        body,
        client: exchange.client,
        secure: exchange.secure,
        traceparent: exchange.trace.traceparent(),
        request_id: exchange.request_id.as_str().to_owned(),
        alarm: alarm.clone(),
    }
}

type Refusal = (Error, Option<String>);

/// The route of a request.
fn find(exchange: &Exchange, captures: &mut Captures) -> Result<(Arc<Route>, Found), Refusal> {
    let head = &exchange.head;
    let host = head.fields.get_str(Known::Host).unwrap_or_default();
    // The dot of the root names the same host (RFC 3986 section 3.2.2).
    let host = without_port(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    let lower;
    let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
        lower = host.to_ascii_lowercase();
        &lower
    } else {
        host
    };
    let (path, query) = match head.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (head.target.as_str(), None),
    };
    let method = exchange.routed_method();
    let lookup = Lookup { host, method, path, query, fields: &head.fields };
    let view = &exchange.view;
    match view.listener.table.find(&lookup, captures) {
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

fn without_port(host: &str) -> &str {
    match host.bytes().rposition(|byte| byte == b':') {
        Some(colon) if !host.ends_with(']') => &host[..colon],
        _ => host,
    }
}

/// Injects the faults that fall on this request.
async fn inject(exchange: &mut Exchange, fault: &plan::Fault, alarm: &Alarm) -> Result<()> {
    let falls = |exchange: &Exchange, share: &plan::Share| {
        let asked = share.header.as_ref().is_none_or(|(name, value)| {
            exchange.head.fields.all_named(name).any(|found| found == value.as_bytes())
        });
        asked && exchange.local.rng.borrow_mut().chance(share.share)
    };
    if let Some((span, share)) = &fault.delay
        && falls(exchange, share)
    {
        alarm.until(exchange.now.plus(*span)).await;
        exchange.now = SystemClock::tick();
    }
    if let Some((status, share)) = &fault.abort
        && falls(exchange, share)
    {
        exchange.forced_status = Some(*status);
        return Err(Error::new(Reason::FaultInjected, "a fault was injected").retry(Retry::No));
    }
    Ok(())
}

/// The way to a service, whichever it is.
struct Way<'a> {
    route: &'a Arc<Route>,
    found: Found,
    captures: &'a Captures,
    alarm: &'a Alarm,
    inform: &'a Inform,
}

impl Way<'_> {
    async fn to(
        &self,
        exchange: &mut Exchange,
        upstream: Arc<Upstream>,
        body: Body,
    ) -> Result<Answer> {
        let route = self.route;
        let key = {
            let mut rng = exchange.local.rng.borrow_mut();
            tunnel::prepare(&mut exchange.head, &mut rng)?
        };
        let input = hash::Input {
            fields: &exchange.head.fields,
            target: &exchange.head.target,
            client: exchange.client,
            secure: exchange.secure,
        };
        let hashed = upstream.hasher.hash(&input, &mut exchange.local.rng.borrow_mut());
        let web = exchange
            .grpc
            .filter(|kind| *kind != grpc::Kind::Grpc && exchange.view.listener.http.grpc_web);
        exchange.asked = prepare::asked(exchange);
        prepare::hand_on(exchange);
        let body = match web {
            Some(kind) => grpc_web::request(exchange, kind, body),
            None => body,
        };
        if let Some(target) =
            route.rewrite.target(&exchange.head.target, &self.found, self.captures)?
        {
            let before = std::mem::replace(&mut exchange.head.target, target);
            exchange.original.get_or_insert(before);
        }
        if let Some(plan::HostRewrite::Literal(host)) = &route.plan.rewrite.host {
            exchange.head.fields.set(Known::Host, host.as_bytes());
        }
        let ops = &route.policy.request_headers;
        if !ops.is_empty() {
            route::apply(ops, &mut exchange.head.fields);
        }
        let body = self.mirrored(exchange, body);
        let forward =
            Forward { route, upstream, alarm: self.alarm, inform: self.inform, hash: hashed.value };
        // In a box: the futures around it are moved many times, and shall be small.
        let result = Box::pin(forward.run(exchange, body)).await;
        let mut answer = self.or_fallback(exchange, result).await?;
        if let Some(key) = key
            && answer.tunnel.is_some()
        {
            tunnel::check(&mut answer.head.fields, &key)?;
            answer.head.fields.remove(Known::Connection);
            answer.head.fields.remove(Known::Upgrade);
        }
        if let Some(cookie) = hashed.cookie {
            answer.head.fields.add(Known::SetCookie, cookie.as_bytes());
        }
        if let Some(kind) = web {
            answer.body = grpc_web::response(&mut answer.head, kind, answer.body);
        }
        Ok(answer)
    }

    /// The body, leaving a copy for the mirror if this request is among the mirrored share.
    fn mirrored(&self, exchange: &Exchange, body: Body) -> Body {
        let (Some(mirror), Some(to)) = (&self.route.policy.mirror, &self.route.mirror) else {
            return body;
        };
        if exchange.head.upgrade.is_some() || !exchange.local.rng.borrow_mut().chance(mirror.share)
        {
            return body;
        }
        let is_grpc = exchange.grpc.is_some();
        let send =
            mirror::sender(exchange.local.clone(), to.clone(), exchange.head.clone(), is_grpc);
        Copied::wrap(body, mirror.body_bytes_max, send)
    }

    /// The answer, or the fallback's if there is none or it is one of those that count as failure.
    async fn or_fallback(&self, exchange: &mut Exchange, result: Result<Answer>) -> Result<Answer> {
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
        if let Err(error) = &result {
            tracing::debug!(route = %self.route.name, "falling back: {}", error.detail());
        }
        exchange.release();
        match fallback {
            Fallback::Respond(respond) => Ok(answer::respond(respond)),
            // What was sent of the body is gone: only a request that had none can go elsewhere.
            Fallback::Service(upstream) if exchange.bodiless => {
                let forward = Forward {
                    route: self.route,
                    upstream: upstream.clone(),
                    alarm: self.alarm,
                    inform: self.inform,
                    hash: None,
                };
                Box::pin(forward.run(exchange, Body::Empty)).await
            }
            Fallback::Service(_) => result,
        }
    }
}
