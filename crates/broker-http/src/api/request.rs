//! Request and reply over a queue or topic, as one exchange of HTTP.

use std::time::Duration;

use bytes::Bytes;
use weft_broker::engine::AnyTarget;
use weft_kernel::{Deadline, Result};
use weft_wire::cloudevents::http;

use super::{Ask, publish};
use crate::{
    event,
    response::{Content, Response},
};

/// How long a reply may take, and at most.
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// `POST /v1/queues/{queue}/request` and `POST /v1/topics/{topic}/request`
pub(super) async fn request(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let target: AnyTarget = if ask.request.path.starts_with("/v1/queues/") {
        ask.queue(&mut query)?.into()
    } else {
        ask.topic(&mut query)?.into()
    };
    let timeout = query.span("timeout", TIMEOUT_MAX)?.unwrap_or(TIMEOUT);
    let event_type = query.take("type");
    let key = query.take("key").map(|key| Bytes::copy_from_slice(key.as_bytes()));
    let publish = publish::single(&ask, event_type.as_deref(), key.unwrap_or_default())?;
    let engines = ask.handle.engines();
    let deadline = Deadline::after(engines.embedded().clock().now(), timeout);
    let reply = engines.request(&target, publish, deadline).await?;
    let mut response = Response::empty(200);
    event::with(&reply, 0, |event, data| {
        http::write(event, |name, value| {
            response.fields.append(name, value.as_bytes());
        });
        response.content = Content::Whole(data.clone());
    })?;
    Ok(response)
}
