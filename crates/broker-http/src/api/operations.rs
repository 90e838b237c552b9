//! Operations: requests that are answered later.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::stream;
use serde_json::{Map, Value, json};
use weft_kernel::{Error, Reason, Result};
use weft_wire::{Fields, Known, cloudevents::Shape};

use super::Ask;
use crate::{
    deferred::{self, Id, Standing, Told},
    handle::Handle,
    response::{EVENT_STREAM, Response},
    sse, time,
};

/// The longest poll.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// `GET /v1/operations/{id}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    let id: Id = ask.names.at(0).parse()?;
    let mut query = ask.query()?;
    let wait = query.span("wait", WAIT_MAX)?;
    let deferred = ask.handle.deferred();
    if ask.request.accepts(EVENT_STREAM) {
        // That there is none is told at once, not in a stream.
        deferred::tell(deferred, id).await?;
        return Ok(Response::stream(EVENT_STREAM, Box::pin(tail(ask.handle.clone(), id))));
    }
    let mut told = deferred::tell(deferred, id).await?;
    if let (Some(wait), true) = (wait, told.standing != Standing::Over) {
        tokio::select! {
            _ = tokio::time::timeout(wait, deferred.over(id)) => {}
            () = ask.handle.stop().draining() => {}
        }
        told = deferred::tell(deferred, id).await?;
    }
    let response = Response::json(200, &view(&told))?.with("cache-control", "no-store");
    Ok(if told.standing == Standing::Over { response } else { response.with("retry-after", "1") })
}

/// `GET /v1/operations/{id}/result`
pub(super) async fn result(ask: Ask<'_>) -> Result<Response> {
    deferred::result(ask.handle.deferred(), ask.names.at(0).parse()?).await
}

/// `DELETE /v1/operations/{id}`
pub(super) async fn cancel(ask: Ask<'_>) -> Result<Response> {
    deferred::cancel(ask.handle, ask.names.at(0).parse()?).await?;
    Ok(Response::empty(204))
}

/// What is told of an operation.
fn view(told: &Told) -> Value {
    let mut view = Map::new();
    let state = match (told.standing, &told.response) {
        (Standing::Waiting, _) => "waiting",
        (Standing::Running, _) => "running",
        (Standing::Over, Some(_)) => "done",
        (Standing::Over, None) => "cancelled",
    };
    view.insert("state".into(), state.into());
    view.insert("taken".into(), time::text(told.taken_ms).into());
    if let Some((status, fields, body)) = &told.response {
        view.insert("status".into(), (*status).into());
        view.insert("headers".into(), headers(fields));
        let (name, body) = shown(fields, body);
        view.insert(name.into(), body);
    }
    view.into()
}

/// Fields by their names; one that is there several times as a list.
fn headers(fields: &Fields) -> Value {
    let mut all = Map::new();
    for (name, value) in fields.iter() {
        let value = Value::from(String::from_utf8_lossy(value).into_owned());
        match all.get_mut(name) {
            None => {
                all.insert(name.to_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
    all.into()
}

/// A body as JSON shows it best.
fn shown(fields: &Fields, body: &[u8]) -> (&'static str, Value) {
    let shape = Shape::of(fields.get_str(Known::ContentType));
    if shape == Shape::Json
        && let Ok(value) = serde_json::from_slice(body)
    {
        return ("body", value);
    }
    match std::str::from_utf8(body) {
        Ok(text) if body.is_empty() || shape == Shape::Text => ("body", text.into()),
        _ => ("body_base64", STANDARD.encode(body).into()),
    }
}

/// One event, once the operation is over.
fn tail(handle: Handle, id: Id) -> impl stream::Stream<Item = Result<bytes::Bytes>> + Send {
    enum Step {
        Hello,
        Wait,
        End,
    }
    stream::unfold((handle, Step::Hello), move |(handle, step)| async move {
        match step {
            Step::Hello => Some((Ok(sse::HELLO), (handle, Step::Wait))),
            Step::End => None,
            Step::Wait => {
                let over = tokio::select! {
                    biased;
                    () = handle.stop().draining() => return None,
                    over = tokio::time::timeout(sse::HEARTBEAT, handle.deferred().over(id)) => over,
                };
                if over.is_err() {
                    return Some((Ok(sse::ALIVE), (handle, Step::Wait)));
                }
                let told = deferred::tell(handle.deferred(), id).await.and_then(|told| {
                    serde_json::to_vec(&view(&told)).map_err(|error| {
                        Error::new(Reason::Internal, "an answer could not be written")
                            .because(error)
                    })
                });
                let event = told.map(|data| {
                    let mut out = Vec::with_capacity(data.len() + 64);
                    sse::write(&mut out, &id.to_string(), "done", &data);
                    out.into()
                });
                Some((event, (handle, Step::End)))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_as_what_it_is() {
        for (media, body, name, expected) in [
            (Some("application/json"), &b"{\"a\":1}"[..], "body", json!({"a": 1})),
            (Some("application/json"), b"{", "body_base64", json!("ew==")),
            (Some("text/plain; charset=utf-8"), b"hello", "body", json!("hello")),
            (Some("text/plain"), b"\xff", "body_base64", json!("/w==")),
            (Some("image/png"), b"abc", "body_base64", json!("YWJj")),
            (None, b"", "body", json!("")),
        ] {
            let mut fields = Fields::new();
            if let Some(media) = media {
                fields.add(Known::ContentType, media.as_bytes());
            }
            assert_eq!(shown(&fields, body), (name, expected), "{media:?}");
        }
    }

    #[test]
    fn fields_that_repeat_are_a_list() {
        let mut fields = Fields::new();
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")] {
            fields.append(name, value.as_bytes());
        }
        assert_eq!(headers(&fields), json!({"a": ["1", "3", "4"], "b": "2"}));
    }
}
