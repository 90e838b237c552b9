//! One stream of a client: a request, handled, and its response.

use std::{cell::RefCell, future::Future, future::poll_fn, pin::pin, rc::Rc, task::Poll};

use bytes::Bytes;
use h2::{RecvStream, SendStream, server::SendResponse};
use http::HeaderMap;
use weft_kernel::{Reason, Tick};
use weft_wire::{Fields, Known, Length, Method, RequestHead, ResponseHead};

use super::{Counted, FLUSH_TIME, Shared};
use crate::{
    body::Body,
    clock,
    h2::{
        From, Incoming,
        duplex::Duplex,
        fields::{Told, declare, to_header_map},
        screen::Refused,
        sending::{Broken, Sending},
    },
    held::Held,
    io::Rewound,
    message::{Handler, InterimSender, OnEnd, Request, Response, Tunnel},
    relay::relay,
    timer::TaskTimer,
};

/// Answers the request of a stream.
pub(super) async fn serve<H: Handler>(
    head: Result<RequestHead, Refused>,
    received: RecvStream,
    respond: SendResponse<Bytes>,
    counted: Counted<H>,
) {
    let shared = &*counted.shared;
    let respond = Rc::new(RefCell::new(respond));
    let timer = &counted.timer;
    let mut tunnelled = None;
    let mut method = Method::Get;
    let response = match head {
        Ok(head) => {
            method = head.method.clone();
            let interim_sender = InterimSender::h2(&respond);
            let body = if head.upgrade.is_some() || head.method == Method::Connect {
                tunnelled = Some(received);
                Body::Empty
            } else if received.is_end_stream() {
                Body::Empty
            } else {
                let waits = head
                    .fields
                    .get(Known::Expect)
                    .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
                let from = From::Client {
                    idle: shared.idle,
                    silence: None,
                    owes_continue: waits.then(|| interim_sender.clone()),
                    cut: shared.cut.clone(),
                };
                let heads = shared.heads.clone();
                Body::H2(Box::new(Incoming::new(received, &head.fields, from, heads)))
            };
            let peer = shared.peer.clone();
            let request = Request { head, body, peer, timer: timer.clone(), interim_sender };
            let mut work = pin!(shared.handler.call(request));
            let answered = poll_fn(|cx| {
                if let Poll::Ready(response) = work.as_mut().poll(cx) {
                    return Poll::Ready(Some(response));
                }
                respond.borrow_mut().poll_reset(cx).map(|_| None)
            });
            match answered.await {
                Some(response) => response,
                None => return,
            }
        }
        Err((reason, detail)) => {
            if !received.is_end_stream() {
                shared.cut.count();
            }
            shared.handler.refuse(&shared.peer, reason, detail)
        }
    };
    let Response { mut head, body, tunnel, done } = response;
    let status = if tunnel.is_some() && head.status == 101 { 200 } else { head.status };
    if let (Some(tunnel), Some(received)) = (tunnel, tunnelled) {
        head.fields.remove(Known::SecWebSocketAccept);
        if let Some(stream) = begin(&respond, status, (&head.fields, &shared.told), |_| {}, false) {
            join(Duplex::new(stream, received), *tunnel, done, &counted).await;
        }
        return;
    }
    // Without a body a length may be told all the same (RFC 9110 section 8.6), as HEAD and 304 do.
    let may_have_body = ResponseHead::may_have_body(status, &method);
    let length = body.length();
    let ends = length.is_none() || !may_have_body;
    let more = |map: &mut HeaderMap| match status {
        204 => declare(Length::Unknown, &head.fields, map),
        _ if may_have_body || !length.is_none() => declare(length, &head.fields, map),
        _ => {}
    };
    let Some(stream) = begin(&respond, status, (&head.fields, &shared.told), more, ends) else {
        return;
    };
    // Nothing may come before the response any more.
    drop(respond);
    let (sent, outcome) = match ends {
        true => (0, Ok(())),
        false => send(Sending::new(stream, body), timer, shared).await,
    };
    if let Some(done) = done {
        done.end(sent, outcome);
    }
}

/// Sends the head of the response; nothing, if the client has gone.
fn begin(
    respond: &RefCell<SendResponse<Bytes>>,
    status: u16,
    (fields, told): (&Fields, &Told),
    more: impl FnOnce(&mut HeaderMap),
    ends: bool,
) -> Option<SendStream<Bytes>> {
    let mut response = http::Response::new(());
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    *response.headers_mut() = to_header_map(fields, None, Some(told));
    more(response.headers_mut());
    respond.borrow_mut().send_response(response, ends).ok()
}

/// Sends the body, as long as something moves; says how much has left, and why that was not all.
async fn send<H>(
    mut sending: Sending,
    timer: &TaskTimer,
    shared: &Shared<H>,
) -> (u64, Result<(), Reason>) {
    let idle = shared.idle;
    let mut broken = None;
    // Counted from when it first has to wait.
    let mut limit = Tick::NEVER;
    let mut progress = u64::MAX;
    let mut held = Held::default();
    let outcome = poll_fn(|cx| {
        if let Poll::Ready(sent) = sending.poll(cx) {
            return Poll::Ready(sent.map_err(|why| match why {
                Broken::Body(error) => held.blame(broken.insert(error).reason()),
                Broken::Peer => Reason::CallerGone,
            }));
        }
        if sending.sent != progress || !sending.is_held() {
            held.ends();
        }
        if sending.is_held() {
            held.begins();
        }
        if sending.sent != progress {
            progress = sending.sent;
            limit = clock::now().plus(idle);
        }
        if timer.poll(cx, limit).is_ready() {
            let held = sending.is_held();
            sending.reset(h2::Reason::CANCEL);
            return Poll::Ready(Err(if held { Reason::CallerGone } else { Reason::StreamIdle }));
        }
        Poll::Pending
    })
    .await;
    if let Some(error) = broken {
        // A reset overtakes what has not left: the head and what came of the body go first.
        let flushed = pin!(shared.flushed());
        let _ = timer.within(clock::now().plus(FLUSH_TIME), flushed).await;
        sending.fail(&error);
    }
    (sending.sent, outcome)
}

/// Joins an extended CONNECT stream (RFC 8441) to the service's connection.
async fn join<H: Handler>(
    mut client: Duplex,
    tunnel: Tunnel,
    done: Option<OnEnd>,
    counted: &Counted<H>,
) {
    let mut service = Rewound::with(tunnel.early.into(), tunnel.io);
    let relayed = relay(&mut client, &mut service, tunnel.idle_timeout, &counted.shared.stop).await;
    if let Some(done) = done {
        done.relayed(relayed);
    }
}
