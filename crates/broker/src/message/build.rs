//! Writes a message into the one buffer in which it is stored; the body is copied once.

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};

use super::{AMQP, EVENT, Form, HEAD_BYTES_MAX, Item, Message, Value, event::write};
use crate::varint::{self, WIDE};

/// Builds a [`Message`]: first its head, then its body in as many parts as it comes.
#[derive(Debug)]
pub struct MessageBuilder {
    stored: Vec<u8>,
    form: Form,
    head_at: usize,
    /// 0 while the head is written.
    body_at: usize,
    /// Which of `id`, `source` and `type` are there.
    required: u8,
}

impl MessageBuilder {
    /// An event of which attributes, headers and body follow.
    ///
    /// `room` is how many bytes head and body will take, about.
    pub fn event(room: usize) -> Self {
        let mut stored = Vec::with_capacity(room + 1 + WIDE);
        stored.push(EVENT);
        stored.extend_from_slice(&[0; WIDE]);
        Self { stored, form: Form::Event, head_at: 1 + WIDE, body_at: 0, required: 0 }
    }

    /// A message as an AMQP 0-9-1 client published it; its body of `body_len` bytes follows.
    ///
    /// `properties` are the flags and the list of the content header, as on the wire.
    ///
    /// # Errors
    /// [`Reason::MessageTooLarge`] when a name is longer than a short string, or the properties than
    /// [`HEAD_BYTES_MAX`].
    pub fn amqp(
        exchange: &str,
        routing_key: &str,
        properties: &[u8],
        body_len: usize,
    ) -> Result<Self> {
        let (Ok(exchange_len), Ok(key_len)) =
            (u8::try_from(exchange.len()), u8::try_from(routing_key.len()))
        else {
            return Err(Error::new(
                Reason::MessageTooLarge,
                "an exchange and a routing key have at most 255 bytes",
            ));
        };
        let head = exchange.len() + routing_key.len() + 2 + properties.len();
        if head > HEAD_BYTES_MAX {
            return Err(too_large());
        }
        let mut stored = Vec::with_capacity(1 + WIDE + head + body_len);
        stored.push(AMQP);
        varint::put(&mut stored, head as u64);
        let head_at = stored.len();
        stored.push(exchange_len);
        stored.extend_from_slice(exchange.as_bytes());
        stored.push(key_len);
        stored.extend_from_slice(routing_key.as_bytes());
        stored.extend_from_slice(properties);
        let body_at = stored.len();
        Ok(Self { stored, form: Form::Amqp, head_at, body_at, required: 0 })
    }

    /// Adds an attribute of an event; call it before the body.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: Value<'_>) -> Self {
        self.required |= match name {
            "id" => 1,
            "source" => 2,
            "type" => 4,
            _ => 0,
        };
        self.item(Item::Attribute(name, value));
        self
    }

    /// Adds a header that is no attribute; call it before the body.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.item(Item::Header(name, value));
        self
    }

    /// Says that there is no data, not even empty data; call it before the body.
    #[must_use]
    pub fn no_data(mut self) -> Self {
        self.item(Item::NoData);
        self
    }

    fn item(&mut self, item: Item<'_>) {
        if self.body_at == 0 {
            write(&mut self.stored, item);
        }
    }

    /// Appends to the body.
    #[must_use]
    pub fn body(mut self, bytes: &[u8]) -> Self {
        self.append(bytes);
        self
    }

    /// Appends to the body, for who builds a message over several reads.
    pub fn append(&mut self, bytes: &[u8]) {
        self.close_head();
        self.stored.extend_from_slice(bytes);
    }

    /// How many bytes of the body are there.
    pub fn body_len(&self) -> usize {
        if self.body_at == 0 { 0 } else { self.stored.len() - self.body_at }
    }

    fn close_head(&mut self) {
        if self.body_at == 0 {
            self.body_at = self.stored.len();
            let head = self.body_at - self.head_at;
            if let Some(room) = self.stored.get_mut(1..1 + WIDE) {
                varint::put_wide(room, head);
            }
        }
    }

    /// The message.
    ///
    /// # Errors
    /// [`Reason::MalformedMessage`] when an event lacks its id, source or type;
    /// [`Reason::MessageTooLarge`] when the head is larger than [`HEAD_BYTES_MAX`].
    pub fn finish(mut self) -> Result<Message> {
        self.close_head();
        if self.body_at - self.head_at > HEAD_BYTES_MAX || u32::try_from(self.stored.len()).is_err()
        {
            return Err(too_large());
        }
        if self.form == Form::Event && self.required != 7 {
            return Err(Error::new(
                Reason::MalformedMessage,
                "an event has an id, a source and a type",
            ));
        }
        Ok(Message {
            stored: self.stored.into(),
            form: self.form,
            head_at: self.head_at as u32,
            body_at: self.body_at as u32,
            death: Bytes::new(),
        })
    }
}

fn too_large() -> Error {
    Error::new(Reason::MessageTooLarge, "the head of a message has at most 256 KiB")
}
