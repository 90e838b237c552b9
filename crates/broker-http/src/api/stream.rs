//! Deliveries as a stream of server-sent events; they are settled by `POST …/settle`.

use std::time::Duration;

use bytes::Bytes;
use weft_broker::{ConsumerOptions, engine::AnyConsumer};
use weft_kernel::{Error, Reason, Result};

use super::{Ask, receive, socket};
use crate::{
    event,
    response::{EVENT_STREAM, Response},
    sse,
};

/// The most deliveries of a stream that are unsettled.
pub(super) const PREFETCH_MAX: u64 = 2_000;
/// How many deliveries are written at once.
const AT_ONCE: u32 = 64;

/// `GET …/stream`
pub(super) async fn stream(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let source = ask.source(&mut query)?;
    let prefetch = query.number("prefetch", 1, PREFETCH_MAX)?.unwrap_or(32);
    let asked = query.span("lease", receive::LEASE_MAX)?;
    let credit = query.number("credit", 0, u32::MAX.into())?;
    let options = ConsumerOptions {
        prefetch: u32::try_from(prefetch).unwrap_or(32),
        lease: asked,
        counts_loss: true,
        ..ConsumerOptions::default()
    };
    let lease = asked.unwrap_or_else(|| source.lease());
    if socket::is_asked_for(ask.request) {
        let handshake = match socket::handshake(ask.request) {
            Ok(handshake) => handshake,
            Err(refusal) => return refusal.response(),
        };
        let consumer = ask.handle.engines().consume(source, options).await?;
        return Ok(socket::upgrade(ask.handle.clone(), consumer, lease, credit, &handshake));
    }
    if !ask.request.accepts(EVENT_STREAM) {
        let say = "a stream is `Accept: text/event-stream`, or a WebSocket";
        return Err(Error::new(Reason::MalformedRequest, say));
    }
    if credit.is_some() {
        let say = "`credit` is for a WebSocket";
        return Err(Error::new(Reason::MalformedRequest, say));
    }
    let consumer = ask.handle.engines().consume(source, options).await?;
    Ok(sse::response(Deliveries { consumer, lease }, ask.handle.stop().clone()))
}

struct Deliveries {
    consumer: AnyConsumer,
    lease: Duration,
}

impl sse::Teller for Deliveries {
    async fn next(&mut self) -> Result<Bytes> {
        let taken = self.consumer.next_batch(AT_ONCE).await?;
        let mut out = Vec::with_capacity(taken.len() * 512);
        let mut data = Vec::with_capacity(512);
        let until = receive::until(self.lease);
        for delivery in &taken {
            data.clear();
            receive::write(&mut data, delivery, &until);
            let id = delivery.lease.to_text();
            let position = delivery.position;
            let shown = event::with(&delivery.message, position, |event, _| {
                sse::write(&mut out, &id, &event.kind, &data);
            });
            if shown.is_err() {
                sse::write(&mut out, &id, sse::UNREADABLE, &data);
            }
        }
        Ok(out.into())
    }

    fn leave(&mut self) {
        self.consumer.forgive();
    }
}
