//! What topics refuse, on its way to the queue that takes it.

use bytes::Bytes;
use weft_broker::{MessageBuilder, Publish, message::Value};
use weft_kernel::{Error, Result};

use crate::{event::Routed, kept::Part, options::Options};

/// Type of the message of a row that is no event.
const TYPE: &str = "io.weft.outbox.refused";

/// The message for the queue: the event itself, if it is one, with why it was refused and by which topic; else what
/// there is of the row.
///
/// # Errors
/// What is wrong with that.
pub(crate) fn publish(
    options: &Options,
    routed: Option<Routed>,
    error: &Error,
    data: Bytes,
    at: Option<Part>,
) -> Result<Publish> {
    let why = error.detail();
    if let Some(Routed { topic, publish }) = routed {
        let message = publish.message.with_attribute("refusedby", Value::Text(&topic));
        let message = message.with_attribute("refusedfor", Value::Text(&why));
        // A queue that keeps no order takes any key; the longest is shorter than some aggregate's name.
        return Ok(Publish { key: Bytes::new(), ..Publish::new(message) });
    }
    let id = at.map_or_else(String::new, |at| format!("{}-{}-{}", at.commit, at.change, at.nth));
    let message = MessageBuilder::event(512 + data.len())
        .attribute("id", Value::Text(&id))
        .attribute("source", Value::Text(&options.source))
        .attribute("type", Value::Text(TYPE))
        .attribute("datacontenttype", Value::Text("application/json"))
        .attribute("refusedfor", Value::Text(&why))
        .body(&data)
        .finish()?;
    Ok(Publish::new(message))
}
