//! Publishing: from frames to messages, from messages to queues, and back to confirms.
//!
//! A publish whose frames are all in the read buffer is made into a message at once, its body copied a
//! single time; only one that is cut is put together piece by piece. What is whole is routed at once and
//! gathered; `submit` takes it from there.

use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use weft_broker::{Durability, Message, MessageBuilder, Publish, message::HEAD_BYTES_MAX};
use weft_wire::amqp::{
    ContentHeader, FrameKind, Method, Properties, ReplyCode, Table, TableWriter, Value, frame,
    write_content,
};

use super::{
    Session,
    channel::Channel,
    submit::{Mark, Pending},
    transaction::Said,
};
use crate::{
    arguments::type_name, death::copies, fault::Fault, options::Resource, reply, route::Routed,
};

/// Publishes are submitted when so many bytes have gathered, even within one read.
const GATHER_BYTES_MAX: usize = 4 << 20;
/// And when they go to so many queues together: the ledger bounds what one transaction does.
const GATHER_COPIES_MAX: usize = 4096;
/// What is reserved for a body on the word of its header alone.
const EARLY_BODY_BYTES_MAX: u64 = 1 << 20;
/// The most properties of a message: what one may have, with room for the names that it gets when it is
/// dead-lettered.
const PROPERTIES_BYTES_MAX: usize = HEAD_BYTES_MAX - (4 << 10);
/// The longest time to live that RabbitMQ takes, in milliseconds.
const EXPIRATION_MS_MAX: u64 = 315_360_000_000;

/// A publish of which not all is there.
#[derive(Debug)]
pub(crate) struct Assembly {
    exchange: Box<str>,
    key: Box<str>,
    mandatory: bool,
    body: Option<(MessageBuilder, u64)>,
}

impl Assembly {
    /// Something else came than what is awaited.
    pub(super) fn awaited(&self) -> Fault {
        Fault::new(
            ReplyCode::UnexpectedFrame,
            match self.body {
                None => {
                    "expected content header for class 60, got non content header frame instead"
                }
                Some(_) => "expected content body, got non content body frame instead",
            },
        )
    }
}

/// The header and body of a content, and how many bytes their frames take up.
type Whole<'b> = (ContentHeader<'b>, &'b [u8], usize);

impl Session {
    /// Follows a publish; answers how much of `rest` it used up, which is all of it or nothing.
    pub(super) async fn publish(
        &mut self,
        number: u16,
        method: Method<'_>,
        rest: &[u8],
    ) -> Result<usize, Fault> {
        let Method::BasicPublish { exchange, routing_key, mandatory, immediate, .. } = method
        else {
            return Ok(0);
        };
        if immediate {
            return Err(Fault::new(ReplyCode::NotImplemented, "immediate=true"));
        }
        if let Some((header, body, used)) = self.whole_content(number, rest)? {
            let message = MessageBuilder::amqp(exchange, routing_key, header.raw, body.len())?
                .body(body)
                .finish()?;
            self.published(number, message, mandatory)?;
            self.gathered().await;
            return Ok(used);
        }
        self.channel(number)?.assembly = Some(Assembly {
            exchange: exchange.into(),
            key: routing_key.into(),
            mandatory,
            body: None,
        });
        Ok(0)
    }

    /// The header and the one body frame of a publish, if both are there; and their length.
    fn whole_content<'b>(&self, number: u16, rest: &'b [u8]) -> Result<Option<Whole<'b>>, Fault> {
        let bytes_max = self.tuned.frame_bytes_max;
        // Frames that cannot be read are told of when it is their turn.
        let Ok(Some((head, head_used))) = frame::parse(rest, bytes_max) else { return Ok(None) };
        if head.kind != FrameKind::Header || head.channel != number {
            return Ok(None);
        }
        let header = ContentHeader::parse(head.payload)?;
        self.check_size(&header)?;
        if header.body_bytes == 0 {
            return Ok(Some((header, &[], head_used)));
        }
        let Ok(Some((body, body_used))) = frame::parse(&rest[head_used..], bytes_max) else {
            return Ok(None);
        };
        let whole = body.kind == FrameKind::Body
            && body.channel == number
            && body.payload.len() as u64 == header.body_bytes;
        Ok(whole.then_some((header, body.payload, head_used + body_used)))
    }

    fn check_size(&self, header: &ContentHeader<'_>) -> Result<(), Fault> {
        let (bytes, max) = (header.body_bytes, self.server.options.message_bytes_max);
        if bytes > max {
            return Err(Fault::precondition(format_args!(
                "message size {bytes} is larger than configured max size {max}"
            )));
        }
        let bytes = header.raw.len();
        if bytes > PROPERTIES_BYTES_MAX {
            return Err(Fault::precondition(format_args!(
                "properties of {bytes} bytes are larger than the {PROPERTIES_BYTES_MAX} that a \
                 message may have"
            )));
        }
        Ok(())
    }

    pub(super) async fn content_header(
        &mut self,
        number: u16,
        payload: &[u8],
    ) -> Result<(), Fault> {
        if !self.expects_content(number)? {
            return Ok(());
        }
        let header = ContentHeader::parse(payload)?;
        self.check_size(&header)?;
        let channel = self.channel(number)?;
        let Some(assembly) = channel.assembly.as_mut() else { return Ok(()) };
        if assembly.body.is_some() {
            return Err(assembly.awaited());
        }
        let room = header.body_bytes.min(EARLY_BODY_BYTES_MAX) as usize;
        let builder = MessageBuilder::amqp(&assembly.exchange, &assembly.key, header.raw, room)?;
        assembly.body = Some((builder, header.body_bytes));
        if header.body_bytes == 0 {
            self.assembled(number).await?;
        }
        Ok(())
    }

    pub(super) async fn content_body(&mut self, number: u16, payload: &[u8]) -> Result<(), Fault> {
        if !self.expects_content(number)? {
            return Ok(());
        }
        let channel = self.channel(number)?;
        let Some(assembly) = channel.assembly.as_mut() else { return Ok(()) };
        let Some((builder, left)) = &mut assembly.body else { return Err(assembly.awaited()) };
        let Some(less) = left.checked_sub(payload.len() as u64) else {
            return Err(Fault::new(
                ReplyCode::FrameError,
                "the body is longer than its header said",
            ));
        };
        builder.append(payload);
        *left = less;
        if less == 0 {
            self.assembled(number).await?;
        }
        Ok(())
    }

    /// Whether a channel waits for content; nothing is said about content of a channel that is closing.
    fn expects_content(&mut self, number: u16) -> Result<bool, Fault> {
        match self.channels.get(&number) {
            Some(Channel { assembly: Some(_), .. }) => return Ok(true),
            Some(_) if !self.is_live(number) => return Ok(false),
            _ => {}
        }
        Err(Fault::new(
            ReplyCode::UnexpectedFrame,
            "expected method frame, got non method frame instead",
        ))
    }

    async fn assembled(&mut self, number: u16) -> Result<(), Fault> {
        let assembly = self.channel(number)?.assembly.take();
        if let Some(Assembly { mandatory, body: Some((builder, _)), .. }) = assembly {
            self.published(number, builder.finish()?, mandatory)?;
            self.gathered().await;
        }
        Ok(())
    }

    /// A whole message was published: finds its queues and gathers it.
    fn published(&mut self, number: u16, message: Message, mandatory: bool) -> Result<(), Fault> {
        let corrupt = || Fault::new(ReplyCode::InternalError, "a message cannot be read again");
        let amqp = message.amqp().ok_or_else(corrupt)?;
        let (exchange, key) = (amqp.exchange, amqp.routing_key);
        let properties = Properties::parse(amqp.properties)?;
        let headers = properties.headers.unwrap_or_default();
        if exchange.is_empty() && key.starts_with(reply::QUEUE) {
            self.may_write(Resource::Exchange(""))?;
            return self.answered(number, &message, &properties, mandatory);
        }
        let vhost = self.vhost()?;
        let user = self.server.users.get(self.user).map_or("", |user| &user.name);
        let targets = {
            let keys = keys(key, headers)?;
            let routed = Routed { exchange, keys: &keys, headers };
            self.routes.find(&vhost, &self.grant, user, routed)?
        };
        check_user(&properties, user)?;
        let ttl = properties.expiration.map(expiration).transpose()?;
        let durability = (properties.delivery_mode != Some(2)).then_some(Durability::Memory);
        let priority = properties.priority;
        let changed = self.rewritten(number, &message, &properties)?;
        let message = changed.unwrap_or(message);
        let tag = self.numbered(number)?;
        if targets.is_empty() {
            if mandatory && self.is_transactional(number) {
                return self.hold_publish(number, Said::Unrouted(message));
            }
            if mandatory {
                self.give_back_unrouted(number, &message);
            }
            return Ok(());
        }
        let serial = self.channel(number)?.serial;
        let publish = Publish { ttl, durability, ..Publish::new(message) };
        let pending = Pending { channel: number, serial, tag, targets, publish, priority };
        if self.is_transactional(number) {
            return self.hold_publish(number, Said::Routed { one: pending, mandatory });
        }
        self.publishing.bytes += pending.publish.message.len() * pending.targets.len();
        self.publishing.copies += pending.targets.len();
        self.publishing.pending.push(pending);
        Ok(())
    }

    /// Gives a publish its number if the channel confirms, and notes that it will have to be told.
    fn numbered(&mut self, number: u16) -> Result<u64, Fault> {
        let channel = self.channel(number)?;
        let serial = channel.serial;
        let Some(tag) = channel.confirms.as_mut().map(|confirms| confirms.next()) else {
            return Ok(0);
        };
        match self.publishing.marks.last_mut() {
            Some(mark) if mark.serial == serial => mark.tag = tag,
            _ => self.publishing.marks.push(Mark { channel: number, serial, tag }),
        }
        Ok(tag)
    }

    /// A publish to the address of somebody who waits for an answer.
    fn answered(
        &mut self,
        number: u16,
        message: &Message,
        properties: &Properties<'_>,
        mandatory: bool,
    ) -> Result<(), Fault> {
        check_user(properties, self.user_name())?;
        if self.is_transactional(number) {
            return self.hold_publish(number, Said::Reply { message: message.clone(), mandatory });
        }
        self.numbered(number)?;
        self.reply(number, message, mandatory);
        Ok(())
    }

    /// Hands an answer to who waits for it.
    pub(super) fn reply(&mut self, number: u16, message: &Message, mandatory: bool) {
        let to = message.amqp().map_or("", |amqp| amqp.routing_key);
        if !self.server.replies.send(to, message) && mandatory {
            self.give_back_unrouted(number, message);
        }
    }

    /// The message as others are to see it, if that is not as it came: without `BCC`, and with the
    /// channel's own address where it asks for direct replies.
    fn rewritten(
        &mut self,
        number: u16,
        message: &Message,
        properties: &Properties<'_>,
    ) -> Result<Option<Message>, Fault> {
        let asks = properties.reply_to == Some(reply::QUEUE);
        let blind = properties.headers.filter(|headers| headers.get("BCC").is_some());
        if !asks && blind.is_none() {
            return Ok(None);
        }
        let mut properties = *properties;
        let address = match (asks, &self.channel(number)?.reply) {
            (false, _) => None,
            (true, Some((_, address))) => Some(address.text()),
            (true, None) => {
                return Err(Fault::precondition("fast reply consumer does not exist"));
            }
        };
        if address.is_some() {
            properties.reply_to = address.as_deref();
        }
        let mut table = Vec::new();
        if let Some(headers) = blind {
            {
                let mut table = TableWriter::new(&mut table);
                for entry in headers.entries().filter(|entry| entry.name != b"BCC") {
                    table.copy(entry);
                }
            }
            properties.headers = Some(Table::parse(&table[4..])?);
        }
        let mut raw = Vec::new();
        properties.write(&mut raw);
        let (exchange, key) =
            message.amqp().map_or(("", ""), |amqp| (amqp.exchange, amqp.routing_key));
        let body = message.body();
        let built = MessageBuilder::amqp(exchange, key, &raw, body.len())?.body(&body).finish()?;
        Ok(Some(built))
    }

    pub(super) fn give_back_unrouted(&mut self, number: u16, message: &Message) {
        let Some(amqp) = message.amqp() else { return };
        let method = Method::BasicReturn {
            reply_code: ReplyCode::NoRoute.number(),
            reply_text: ReplyCode::NoRoute.name(),
            exchange: amqp.exchange,
            routing_key: amqp.routing_key,
        };
        let bytes_max = self.tuned.frame_bytes_max;
        let body = message.body();
        write_content(number, &method, amqp.properties, &body, bytes_max, &mut self.out);
    }

    /// Submits early when much has gathered.
    async fn gathered(&mut self) {
        let publishing = &self.publishing;
        if publishing.bytes > GATHER_BYTES_MAX || publishing.copies > GATHER_COPIES_MAX {
            self.flush_publishes().await;
        }
    }
}

/// All keys that a message is routed by.
fn keys<'a>(key: &'a str, headers: Table<'a>) -> Result<SmallVec<[&'a str; 4]>, Fault> {
    let mut keys = smallvec![key];
    if headers.is_empty() {
        return Ok(keys);
    }
    for name in ["CC", "BCC"] {
        match headers.get(name) {
            None => {}
            Some(Value::Array(_)) => keys.extend(copies(headers, name)),
            Some(other) => {
                return Err(Fault::precondition(format_args!(
                    "invalid message: {{unacceptable_type_in_header,<<\"{name}\">>,{}}}",
                    type_name(other)
                )));
            }
        }
    }
    Ok(keys)
}

fn check_user(properties: &Properties<'_>, user: &str) -> Result<(), Fault> {
    match properties.user_id {
        Some(id) if id != user => Err(Fault::precondition(format_args!(
            "user_id property set to '{id}' but authenticated user was '{user}'"
        ))),
        _ => Ok(()),
    }
}

fn expiration(text: &str) -> Result<Duration, Fault> {
    let number = text.parse().ok().filter(|ms: &u64| *ms <= EXPIRATION_MS_MAX);
    number.map(Duration::from_millis).ok_or_else(|| {
        Fault::precondition(format_args!(
            "invalid expiration '{text}': it must be a number of milliseconds up to {EXPIRATION_MS_MAX}"
        ))
    })
}
