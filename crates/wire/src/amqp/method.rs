//! Every method, in one table: the type, its reading and its writing are views of it.

use super::{
    DecodeError, FrameKind, Table, frame,
    reader::{Field, Reader, Writer},
};

macro_rules! methods {
    ($life:lifetime; $(
        $(#[doc = $doc:literal])+
        $name:ident = $class:literal, $id:literal { $($field:ident: $type:ty),* }
    )+) => {
        /// A method with its arguments, borrowed from the frame it was read from.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Method<$life> {$(
            $(#[doc = $doc])+
            $name {$(
                #[doc = concat!("`", stringify!($field), "` of the specification.")]
                $field: $type
            ),*}
        ),+}

        impl<$life> Method<$life> {
            /// Reads the payload of a method frame.
            pub fn parse(payload: &$life [u8]) -> Result<Self, DecodeError> {
                let mut reader = Reader::new(payload, "method");
                let class = u16::read(&mut reader)?;
                let method = u16::read(&mut reader)?;
                let parsed = match (class, method) {
                    $(($class, $id) => {
                        $(let $field = <$type as Field>::read(&mut reader)?;)*
                        Self::$name { $($field),* }
                    })+
                    _ => return Err(DecodeError::Method { class, method }),
                };
                reader.end()?;
                Ok(parsed)
            }

            /// The numbers of its class and of itself.
            pub const fn id(&self) -> (u16, u16) {
                match self { $(Self::$name { .. } => ($class, $id),)+ }
            }

            /// The name as it stands in the table.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$name { .. } => stringify!($name),)+ }
            }

            fn fields(&self, writer: &mut Writer<'_>) {
                match self {
                    $(Self::$name { $($field),* } => { $($field.write(writer);)* })+
                }
            }
        }

        /// The numbers of every method.
        #[cfg(test)]
        pub(super) const IDS: &[(u16, u16)] = &[$(($class, $id)),+];
    };
}

impl Method<'_> {
    /// Appends a method frame.
    pub fn write(&self, channel: u16, out: &mut Vec<u8>) {
        frame::write(FrameKind::Method, channel, out, |out| {
            let (class, method) = self.id();
            out.extend_from_slice(&class.to_be_bytes());
            out.extend_from_slice(&method.to_be_bytes());
            self.fields(&mut Writer::new(out));
        });
    }
}

methods! { 'a;
    /// The server says who it is, and how one may log in.
    ConnectionStart = 10, 10 {
        version_major: u8, version_minor: u8, server_properties: Table<'a>,
        mechanisms: &'a [u8], locales: &'a [u8]
    }
    /// The client says who it is.
    ConnectionStartOk = 10, 11 {
        client_properties: Table<'a>, mechanism: &'a str, response: &'a [u8], locale: &'a str
    }
    /// The server challenges the client.
    ConnectionSecure = 10, 20 { challenge: &'a [u8] }
    /// The client's answer.
    ConnectionSecureOk = 10, 21 { response: &'a [u8] }
    /// The server's limits.
    ConnectionTune = 10, 30 { channel_max: u16, frame_max: u32, heartbeat: u16 }
    /// The limits that hold.
    ConnectionTuneOk = 10, 31 { channel_max: u16, frame_max: u32, heartbeat: u16 }
    /// Chooses the virtual host.
    ConnectionOpen = 10, 40 { virtual_host: &'a str, capabilities: &'a str, insist: bool }
    /// The connection is open.
    ConnectionOpenOk = 10, 41 { known_hosts: &'a str }
    /// Ends the connection.
    ConnectionClose = 10, 50 {
        reply_code: u16, reply_text: &'a str, class_id: u16, method_id: u16
    }
    /// The connection is over.
    ConnectionCloseOk = 10, 51 {}
    /// The server takes no more publishes for now.
    ConnectionBlocked = 10, 60 { reason: &'a str }
    /// It takes them again.
    ConnectionUnblocked = 10, 61 {}
    /// A new secret in place of one that expires.
    ConnectionUpdateSecret = 10, 70 { new_secret: &'a [u8], reason: &'a str }
    /// The new secret holds.
    ConnectionUpdateSecretOk = 10, 71 {}
    /// Opens a channel.
    ChannelOpen = 20, 10 { reserved: &'a str }
    /// The channel is open.
    ChannelOpenOk = 20, 11 { reserved: &'a [u8] }
    /// Stops or resumes deliveries or publishes.
    ChannelFlow = 20, 20 { active: bool }
    /// They have stopped or resumed.
    ChannelFlowOk = 20, 21 { active: bool }
    /// Ends the channel.
    ChannelClose = 20, 40 { reply_code: u16, reply_text: &'a str, class_id: u16, method_id: u16 }
    /// The channel is over.
    ChannelCloseOk = 20, 41 {}
    /// Asks for an access ticket, as clients of 0-8 do.
    AccessRequest = 30, 10 {
        realm: &'a str, exclusive: bool, passive: bool, active: bool, write: bool, read: bool
    }
    /// The ticket.
    AccessRequestOk = 30, 11 { ticket: u16 }
    /// Makes an exchange, or checks it.
    ExchangeDeclare = 40, 10 {
        ticket: u16, exchange: &'a str, kind: &'a str, passive: bool, durable: bool,
        auto_delete: bool, internal: bool, no_wait: bool, arguments: Table<'a>
    }
    /// The exchange is there.
    ExchangeDeclareOk = 40, 11 {}
    /// Deletes an exchange.
    ExchangeDelete = 40, 20 { ticket: u16, exchange: &'a str, if_unused: bool, no_wait: bool }
    /// The exchange is gone.
    ExchangeDeleteOk = 40, 21 {}
    /// Binds an exchange to another.
    ExchangeBind = 40, 30 {
        ticket: u16, destination: &'a str, source: &'a str, routing_key: &'a str,
        no_wait: bool, arguments: Table<'a>
    }
    /// The binding is there.
    ExchangeBindOk = 40, 31 {}
    /// Unbinds an exchange from another.
    ExchangeUnbind = 40, 40 {
        ticket: u16, destination: &'a str, source: &'a str, routing_key: &'a str,
        no_wait: bool, arguments: Table<'a>
    }
    /// The binding is gone.
    ExchangeUnbindOk = 40, 51 {}
    /// Makes a queue, or checks it.
    QueueDeclare = 50, 10 {
        ticket: u16, queue: &'a str, passive: bool, durable: bool, exclusive: bool,
        auto_delete: bool, no_wait: bool, arguments: Table<'a>
    }
    /// The queue is there.
    QueueDeclareOk = 50, 11 { queue: &'a str, message_count: u32, consumer_count: u32 }
    /// Binds a queue to an exchange.
    QueueBind = 50, 20 {
        ticket: u16, queue: &'a str, exchange: &'a str, routing_key: &'a str,
        no_wait: bool, arguments: Table<'a>
    }
    /// The binding is there.
    QueueBindOk = 50, 21 {}
    /// Empties a queue.
    QueuePurge = 50, 30 { ticket: u16, queue: &'a str, no_wait: bool }
    /// The queue is empty.
    QueuePurgeOk = 50, 31 { message_count: u32 }
    /// Deletes a queue.
    QueueDelete = 50, 40 {
        ticket: u16, queue: &'a str, if_unused: bool, if_empty: bool, no_wait: bool
    }
    /// The queue is gone.
    QueueDeleteOk = 50, 41 { message_count: u32 }
    /// Unbinds a queue from an exchange.
    QueueUnbind = 50, 50 {
        ticket: u16, queue: &'a str, exchange: &'a str, routing_key: &'a str, arguments: Table<'a>
    }
    /// The binding is gone.
    QueueUnbindOk = 50, 51 {}
    /// How much may be unacknowledged.
    BasicQos = 60, 10 { prefetch_size: u32, prefetch_count: u16, global: bool }
    /// The prefetch holds.
    BasicQosOk = 60, 11 {}
    /// Begins to consume.
    BasicConsume = 60, 20 {
        ticket: u16, queue: &'a str, consumer_tag: &'a str, no_local: bool, no_ack: bool,
        exclusive: bool, no_wait: bool, arguments: Table<'a>
    }
    /// The consumer is there.
    BasicConsumeOk = 60, 21 { consumer_tag: &'a str }
    /// Ends a consumer; sent by the server when the queue is gone.
    BasicCancel = 60, 30 { consumer_tag: &'a str, no_wait: bool }
    /// The consumer is over.
    BasicCancelOk = 60, 31 { consumer_tag: &'a str }
    /// Publishes a message.
    BasicPublish = 60, 40 {
        ticket: u16, exchange: &'a str, routing_key: &'a str, mandatory: bool, immediate: bool
    }
    /// Gives back a message that led nowhere.
    BasicReturn = 60, 50 {
        reply_code: u16, reply_text: &'a str, exchange: &'a str, routing_key: &'a str
    }
    /// Delivers a message to a consumer.
    BasicDeliver = 60, 60 {
        consumer_tag: &'a str, delivery_tag: u64, redelivered: bool, exchange: &'a str,
        routing_key: &'a str
    }
    /// Asks for one message.
    BasicGet = 60, 70 { ticket: u16, queue: &'a str, no_ack: bool }
    /// The message that was asked for.
    BasicGetOk = 60, 71 {
        delivery_tag: u64, redelivered: bool, exchange: &'a str, routing_key: &'a str,
        message_count: u32
    }
    /// There is none.
    BasicGetEmpty = 60, 72 { cluster_id: &'a str }
    /// Accepts deliveries, or confirms publishes.
    BasicAck = 60, 80 { delivery_tag: u64, multiple: bool }
    /// Rejects one delivery.
    BasicReject = 60, 90 { delivery_tag: u64, requeue: bool }
    /// Gives back what is unacknowledged, without an answer.
    BasicRecoverAsync = 60, 100 { requeue: bool }
    /// Gives back what is unacknowledged.
    BasicRecover = 60, 110 { requeue: bool }
    /// It was given back.
    BasicRecoverOk = 60, 111 {}
    /// Rejects deliveries, or refuses publishes.
    BasicNack = 60, 120 { delivery_tag: u64, multiple: bool, requeue: bool }
    /// Asks that publishes are confirmed.
    ConfirmSelect = 85, 10 { no_wait: bool }
    /// They will be.
    ConfirmSelectOk = 85, 11 {}
    /// Begins a transaction.
    TxSelect = 90, 10 {}
    /// It has begun.
    TxSelectOk = 90, 11 {}
    /// Commits it.
    TxCommit = 90, 20 {}
    /// It is committed.
    TxCommitOk = 90, 21 {}
    /// Takes it back.
    TxRollback = 90, 30 {}
    /// It is taken back.
    TxRollbackOk = 90, 31 {}
}
