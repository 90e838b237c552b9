//! A message as it is stored: one buffer that holds form, head and body, and the views into it.
//!
//! ```text
//! form u8 (1 event, 2 AMQP 0-9-1, 3 dead letter) | head length varint | head | body
//! ```
//!
//! What a publisher sent is kept in the form in which it came, so that nothing is encoded anew between
//! two clients of one protocol; the other form is made only when a reader wants it
//! ([`Message::to_event`], [`Message::to_amqp`]). A dead letter's head says what happened
//! ([`Death`]), and its body is the whole message as it was, so that a redrive gives back the very
//! bytes. A clone is a reference count.

mod amqp;
mod build;
mod convert;
mod death;
mod event;

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};

pub use amqp::Amqp;
pub use build::MessageBuilder;
pub use death::{Cause, DeadLetterSource, Death};
pub use event::{Event, Item, Value};

use crate::varint;

/// The longest head of a message: attributes, headers and properties.
pub const HEAD_BYTES_MAX: usize = 256 * 1024;

const EVENT: u8 = 1;
const AMQP: u8 = 2;
const DEAD: u8 = 3;

/// In which form a message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A CloudEvents 1.0 event.
    Event,
    /// An AMQP 0-9-1 message: exchange, routing key, properties as published.
    Amqp,
}

/// A message with its head and body in one buffer; cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The envelope in its own form, without what a dead letter adds.
    stored: Bytes,
    form: Form,
    head_at: u32,
    body_at: u32,
    /// The head of the dead letter; empty for any other message.
    death: Bytes,
}

impl Message {
    /// Reads a stored message; the body is not looked at.
    ///
    /// # Errors
    /// [`Reason::StorageCorrupt`] when the bytes are not a message.
    pub fn from_stored(stored: Bytes) -> Result<Self> {
        Self::read(stored)
            .ok_or_else(|| Error::new(Reason::StorageCorrupt, "the stored bytes are not a message"))
    }

    /// Bytes that are no message, as the body of one without properties: nothing is swallowed.
    pub(crate) fn foreign(bytes: Bytes) -> Self {
        let mut stored = Vec::with_capacity(bytes.len() + 8);
        // An empty exchange, an empty routing key, no property flags.
        stored.extend_from_slice(&[AMQP, 4, 0, 0, 0, 0]);
        let body_at = stored.len() as u32;
        stored.extend_from_slice(&bytes);
        Self { stored: stored.into(), form: Form::Amqp, head_at: 2, body_at, death: Bytes::new() }
    }

    fn read(stored: Bytes) -> Option<Self> {
        let (form, head_at, body_at) = split(&stored)?;
        match form {
            EVENT => Self::alive(stored, Form::Event, head_at, body_at),
            AMQP => Self::alive(stored, Form::Amqp, head_at, body_at),
            DEAD => {
                let death = stored.slice(head_at..body_at);
                let inner = stored.slice(body_at..);
                let (form, head_at, body_at) = split(&inner)?;
                let form = match form {
                    EVENT => Form::Event,
                    AMQP => Form::Amqp,
                    _ => return None,
                };
                Some(Self { death, ..Self::alive(inner, form, head_at, body_at)? })
            }
            _ => None,
        }
    }

    fn alive(stored: Bytes, form: Form, head_at: usize, body_at: usize) -> Option<Self> {
        let (head_at, body_at) = (u32::try_from(head_at).ok()?, u32::try_from(body_at).ok()?);
        Some(Self { stored, form, head_at, body_at, death: Bytes::new() })
    }

    /// The form in which it is stored.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The bytes that are stored, without what a dead letter adds.
    pub fn stored(&self) -> &Bytes {
        &self.stored
    }

    /// The body; shares the message's buffer.
    pub fn body(&self) -> Bytes {
        self.stored.slice(self.body_at as usize..)
    }

    /// The body's length in bytes.
    pub fn body_len(&self) -> usize {
        self.stored.len() - self.body_at as usize
    }

    /// Head and body together, in bytes; what `message_bytes_max` bounds.
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Never: a message has at least its form.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    fn head(&self) -> &[u8] {
        self.stored.get(self.head_at as usize..self.body_at as usize).unwrap_or_default()
    }

    /// The event's attributes and headers, if it is stored as one.
    pub fn event(&self) -> Option<Event<'_>> {
        (self.form == Form::Event).then(|| Event::new(self.head()))
    }

    /// The AMQP exchange, routing key and properties, if it is stored so.
    pub fn amqp(&self) -> Option<Amqp<'_>> {
        (self.form == Form::Amqp).then(|| Amqp::read(self.head())).flatten()
    }

    /// The same event with one more attribute, at the end of its head; a message of another form is as it was.
    #[must_use]
    pub fn with_attribute(&self, name: &str, value: Value<'_>) -> Self {
        if self.form != Form::Event {
            return self.clone();
        }
        let mut item = Vec::with_capacity(name.len() + 16);
        event::write(&mut item, Item::Attribute(name, value));
        let (head, body) = (self.head(), self.body());
        let mut stored =
            Vec::with_capacity(1 + varint::WIDE + head.len() + item.len() + body.len());
        stored.push(EVENT);
        varint::put(&mut stored, (head.len() + item.len()) as u64);
        let head_at = stored.len();
        stored.extend_from_slice(head);
        stored.extend_from_slice(&item);
        let body_at = stored.len();
        stored.extend_from_slice(&body);
        let (head_at, body_at) = (head_at as u32, body_at as u32);
        Self {
            stored: stored.into(),
            form: Form::Event,
            head_at,
            body_at,
            death: self.death.clone(),
        }
    }

    /// What happened to it, if it is a dead letter.
    pub fn death(&self) -> Option<Death> {
        if self.death.is_empty() { None } else { Death::read(&self.death) }
    }

    /// The message alone, without what a dead letter adds: the very bytes that were published.
    #[must_use]
    pub fn revived(&self) -> Self {
        Self { death: Bytes::new(), ..self.clone() }
    }

    /// The bytes of this message as a dead letter.
    pub(crate) fn dead_lettered(&self, death: &Death) -> Bytes {
        let mut head = Vec::with_capacity(128 + death.history.stored().len());
        death.write(&mut head);
        let mut bytes = Vec::with_capacity(self.stored.len() + head.len() + 8);
        bytes.push(DEAD);
        varint::put_bytes(&mut bytes, &head);
        bytes.extend_from_slice(&self.stored);
        bytes.into()
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("form", &self.form)
            .field("head", &self.head().len())
            .field("body", &self.body_len())
            .field("dead", &!self.death.is_empty())
            .finish()
    }
}

/// The form, where the head begins and where the body does.
fn split(stored: &[u8]) -> Option<(u8, usize, usize)> {
    let (&form, mut rest) = stored.split_first()?;
    let head = usize::try_from(varint::take(&mut rest)?).ok()?;
    let head_at = stored.len() - rest.len();
    let body_at = head_at.checked_add(head).filter(|at| *at <= stored.len())?;
    Some((form, head_at, body_at))
}

#[cfg(test)]
mod tests;
