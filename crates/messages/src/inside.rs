//! The desk on the request path: requests that become messages, the API below a path, and requests
//! that are answered later.

use std::{
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::io::duplex;
use weft_broker::{Key, Target};
use weft_kernel::{Error, Name, Reason, Result};
use weft_net::{
    Io, Stop,
    body::{Body, Frame, Source},
    message::{Peer, Tunnel},
};
use weft_proxy::{Call, Inside, Local, Reply, inside::LocalFuture, plan};
use weft_wire::{Length, ResponseHead};

use crate::{
    api::{self, Surface, publish},
    desk::Desk,
    later, request,
    request::Request,
    response::{Chunks, Content, Response},
};

/// How much a WebSocket holds that the client has not taken.
const SOCKET_BYTES: usize = 64 * 1024;
/// The longest silence of a WebSocket; pings go more often.
const SOCKET_SILENCE: Duration = Duration::from_secs(60);

impl Inside for Desk {
    fn call<'a>(
        &'a self,
        local: &'a Rc<Local>,
        target: &'a plan::Inside,
        call: Call,
    ) -> LocalFuture<'a, Result<Reply>> {
        Box::pin(async move {
            match target {
                plan::Inside::Publish(publish) => self.publish(publish, call).await,
                plan::Inside::Messages { prefix } => self.api(local, prefix, call).await,
            }
        })
    }

    fn defer<'a>(
        &'a self,
        local: &'a Rc<Local>,
        how: &'a plan::RespondAsync,
        call: Call,
    ) -> LocalFuture<'a, Result<Reply>> {
        Box::pin(later::defer(self, local, how, call))
    }

    fn accept<'a>(
        &'a self,
        local: &'a Rc<Local>,
        listener: &'a Name,
        io: Io,
        peer: Peer,
        stop: Stop,
    ) -> LocalFuture<'a, Result<()>> {
        match Desk::accept(self) {
            Some(accept) => accept.accept(local, listener, io, peer, stop),
            None => Box::pin(async {
                let say = "nobody on this node speaks the protocol of this listener";
                Err(Error::new(Reason::Misconfigured, say))
            }),
        }
    }
}

impl Desk {
    /// Makes a message of a request, or several, and answers once they are kept.
    async fn publish(&self, how: &plan::Publish, call: Call) -> Result<Reply> {
        let target = match &how.to {
            plan::To::Topic(name) => Target::Topic(self.broker().topic(&Key::plain(name)?)?),
            plan::To::Queue(name) => Target::Queue(self.broker().queue(&Key::plain(name)?)?),
        };
        let Call { route, head, body, traceparent, .. } = call;
        let key = how.key.as_ref().and_then(|field| head.fields.named(&field.to_ascii_lowercase()));
        let key = key.map(Bytes::copy_from_slice).unwrap_or_default();
        let body = body.collect(publish::BODY_BYTES_MAX).await?;
        let intake = publish::Intake {
            fields: &head.fields,
            body: &body,
            source: head.path(),
            event_type: how.event_type.as_deref().unwrap_or(route.as_str()),
            traceparent: std::str::from_utf8(&traceparent).ok(),
        };
        let wish = publish::Wish { key, ..publish::Wish::default() };
        let response = publish::publish(self, &target, &intake, &wish).await?;
        let (status, fields, body) = response.into_whole();
        Ok(Reply::new(ResponseHead { status, fields }, Body::full(body)))
    }

    /// Answers a request of the API below a path.
    async fn api(&self, local: &Rc<Local>, prefix: &str, call: Call) -> Result<Reply> {
        let Call { head, body, client, traceparent, .. } = call;
        let path =
            head.path().strip_prefix(prefix.trim_end_matches('/')).unwrap_or_default().to_owned();
        let upgrades = head.upgrade.as_deref().is_some_and(|to| {
            to.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
        });
        let mut request = Request {
            query: head.query().unwrap_or_default().to_owned(),
            method: head.method,
            path,
            fields: head.fields,
            body: Bytes::new(),
            upgrades,
            peer: request::Peer { client, traceparent: Some(traceparent) },
        };
        let response = match api::find(Surface::Route, &request.method, &request.path) {
            Ok(found) => {
                request.body = body.collect(found.operation.body_bytes_max).await?;
                self.answer_found(found, &request).await
            }
            Err(refusal) => *refusal,
        };
        Ok(self.reply(local, response))
    }

    fn reply(&self, local: &Rc<Local>, response: Response) -> Reply {
        let head = ResponseHead { status: response.status, fields: response.fields };
        match response.content {
            Content::Whole(body) => Reply::new(head, Body::full(body)),
            Content::Stream(chunks) => {
                Reply::new(head, Body::Source(Box::new(Streamed { chunks, over: false })))
            }
            Content::Socket(session) => {
                let (ours, theirs) = duplex(SOCKET_BYTES);
                local.tasks.spawn_part(session.talk(Box::new(ours)));
                let tunnel = Tunnel {
                    io: Io::Memory(theirs),
                    early: Bytes::new(),
                    idle_timeout: SOCKET_SILENCE,
                };
                Reply { head, body: Body::Empty, tunnel: Some(Box::new(tunnel)) }
            }
        }
    }
}

/// A stream as a body.
struct Streamed {
    chunks: Chunks,
    over: bool,
}

impl Source for Streamed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        while !self.over {
            match std::task::ready!(self.chunks.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => return Poll::Ready(Some(Ok(Frame::Data(chunk)))),
                Some(Err(error)) => {
                    self.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.over = true,
            }
        }
        Poll::Ready(None)
    }

    fn length(&self) -> Length {
        Length::Unknown
    }
}
