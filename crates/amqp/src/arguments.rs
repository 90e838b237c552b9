//! What a queue is declared with: the arguments as RabbitMQ checks and compares them, and what they mean
//! to the broker.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use weft_broker::{
    message::HEAD_BYTES_MAX,
    options::{DeadLetter, Overflow, QueueLimit, QueueOptions},
    retry::Backoff,
};
use weft_ledger::Durability;
use weft_wire::amqp::{Table, Value};

use crate::fault::Fault;

/// How long a delivery may go unacknowledged, unless the queue says otherwise: RabbitMQ's 30 minutes.
pub(crate) const CONSUMER_TIMEOUT: Duration = Duration::from_mins(30);
/// What the lease is longer, so that the channel is told before the message is given to somebody else.
const LEASE_GRACE: Duration = Duration::from_mins(2);
/// How often a quorum queue hands a message out again, unless it says otherwise: RabbitMQ's default.
const QUORUM_DELIVERY_LIMIT: u32 = 20;

/// A queue as it was declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    /// The arguments as they came; a table of the wire.
    pub(crate) arguments: Box<[u8]>,
}

/// What a full queue does, as AMQP names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Full {
    #[default]
    DropHead,
    RejectPublish,
    RejectPublishDlx,
}

/// The arguments that mean something.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Arguments {
    pub(crate) ttl: Option<Duration>,
    pub(crate) expires: Option<Duration>,
    pub(crate) length_max: Option<u64>,
    pub(crate) bytes_max: Option<u64>,
    pub(crate) full: Full,
    pub(crate) dead_exchange: Option<String>,
    pub(crate) dead_key: Option<String>,
    pub(crate) priority_max: Option<u8>,
    pub(crate) single_active: bool,
    pub(crate) delivery_limit: Option<u32>,
    pub(crate) quorum: bool,
    pub(crate) consumer_timeout: Option<Duration>,
}

/// The largest message of a queue: the broker bounds head and body together.
pub(crate) const fn message_bytes_max(body_bytes_max: u64) -> u64 {
    body_bytes_max.saturating_add(HEAD_BYTES_MAX as u64)
}

/// Whose arguments they are; only for what is said about them.
struct Of<'a> {
    queue: &'a str,
    vhost: &'a str,
}

impl Of<'_> {
    fn invalid(&self, name: &str, why: impl fmt::Display) -> Fault {
        Fault::precondition(format_args!(
            "invalid arg '{name}' for queue '{}' in vhost '{}': {why}",
            self.queue, self.vhost
        ))
    }

    fn text<'v>(&self, name: &str, value: Value<'v>) -> Result<&'v str, Fault> {
        value.text().ok_or_else(|| {
            Fault::precondition(format_args!(
                "invalid type '{}' for arg '{name}' in queue '{}' in vhost '{}'",
                type_name(value),
                self.queue,
                self.vhost
            ))
        })
    }

    fn number(&self, name: &str, value: Value<'_>, min: i64, max: i64) -> Result<u64, Fault> {
        let Some(number) = value.integer() else {
            return Err(
                self.invalid(name, format_args!("{{unacceptable_type,{}}}", type_name(value)))
            );
        };
        if number < 0 {
            return Err(self.invalid(name, format_args!("{{value_negative,{number}}}")));
        }
        if number < min {
            return Err(self.invalid(name, format_args!("{{value_zero,{number}}}")));
        }
        if number > max {
            return Err(self.invalid(name, format_args!("{{value_too_big,{number}}}")));
        }
        Ok(number.unsigned_abs())
    }
}

/// The longest time to live or to be unused that RabbitMQ takes, in milliseconds.
const SPAN_MS_MAX: i64 = 315_360_000_000;

impl Declared {
    /// Reads and checks the arguments.
    pub(crate) fn arguments(&self, queue: &str, vhost: &str) -> Result<Arguments, Fault> {
        let of = Of { queue, vhost };
        let mut found = Arguments::default();
        let mut unlimited = false;
        let span = |name: &str, value, min| {
            of.number(name, value, min, SPAN_MS_MAX).map(|ms| Some(Duration::from_millis(ms)))
        };
        for (name, value) in self.table().iter() {
            match name {
                "x-message-ttl" => found.ttl = span(name, value, 0)?,
                "x-expires" => found.expires = span(name, value, 1)?,
                "x-consumer-timeout" => found.consumer_timeout = span(name, value, 1)?,
                "x-max-length" => found.length_max = Some(of.number(name, value, 0, i64::MAX)?),
                "x-max-length-bytes" => {
                    found.bytes_max = Some(of.number(name, value, 0, i64::MAX)?)
                }
                "x-max-priority" => {
                    found.priority_max = Some(of.number(name, value, 0, 255)? as u8);
                }
                // Without a limit, as RabbitMQ has it since 4.0.
                "x-delivery-limit" if value.integer() == Some(-1) => unlimited = true,
                "x-delivery-limit" => {
                    found.delivery_limit = Some(of.number(name, value, 0, 1 << 31)? as u32);
                }
                "x-dead-letter-exchange" => {
                    found.dead_exchange = Some(of.text(name, value)?.to_owned());
                }
                "x-dead-letter-routing-key" => {
                    found.dead_key = Some(of.text(name, value)?.to_owned());
                }
                "x-single-active-consumer" => match value {
                    Value::Bool(set) => found.single_active = set,
                    other => {
                        let why = format!("{{unacceptable_type,{}}}", type_name(other));
                        return Err(of.invalid(name, why));
                    }
                },
                "x-overflow" => {
                    found.full = match of.text(name, value)? {
                        "drop-head" => Full::DropHead,
                        "reject-publish" => Full::RejectPublish,
                        "reject-publish-dlx" => Full::RejectPublishDlx,
                        _ => return Err(of.invalid(name, "invalid_overflow")),
                    };
                }
                "x-queue-type" => match of.text(name, value)? {
                    "classic" => {}
                    "quorum" => found.quorum = true,
                    "stream" => {
                        let why = "streams are not offered: use a topic and a subscription";
                        return Err(of.invalid(name, why));
                    }
                    _ => return Err(of.invalid(name, "unsupported queue type")),
                },
                // What says how RabbitMQ keeps a queue says nothing here.
                _ => {}
            }
        }
        if found.dead_key.is_some() && found.dead_exchange.is_none() {
            let name = "x-dead-letter-routing-key";
            return Err(of.invalid(name, "routing_key_but_no_dlx_defined"));
        }
        if found.quorum {
            self.check_quorum(&found, &of)?;
            if !unlimited {
                found.delivery_limit.get_or_insert(QUORUM_DELIVERY_LIMIT);
            }
        }
        Ok(found)
    }

    fn check_quorum(&self, found: &Arguments, of: &Of<'_>) -> Result<(), Fault> {
        let wrong = [
            (!self.durable, "non-durable"),
            (self.exclusive, "exclusive"),
            (self.auto_delete, "auto-delete"),
        ];
        if let Some((_, property)) = wrong.iter().find(|(wrong, _)| *wrong) {
            return Err(Fault::precondition(format_args!(
                "invalid property '{property}' for queue '{}' in vhost '{}'",
                of.queue, of.vhost
            )));
        }
        if found.priority_max.is_some() {
            return Err(of.invalid("x-max-priority", "quorum queues have no priorities"));
        }
        if found.full == Full::RejectPublishDlx {
            return Err(of.invalid("x-overflow", "quorum queues know drop-head and reject-publish"));
        }
        Ok(())
    }

    fn table(&self) -> Table<'_> {
        Table::parse(&self.arguments).unwrap_or_default()
    }

    /// Whether a second declaration says the same; else the first difference, in RabbitMQ's words.
    pub(crate) fn same(&self, asked: &Self, queue: &str, vhost: &str) -> Result<(), Fault> {
        let differs = |name: &str, received: &dyn fmt::Display, current: &dyn fmt::Display| {
            Fault::precondition(format_args!(
                "inequivalent arg '{name}' for queue '{queue}' in vhost '{vhost}': received \
                 {received} but current is {current}"
            ))
        };
        for (name, current, received) in [
            ("durable", self.durable, asked.durable),
            ("auto_delete", self.auto_delete, asked.auto_delete),
        ] {
            if current != received {
                let quoted = |set: bool| format!("'{set}'");
                return Err(differs(name, &quoted(received), &quoted(current)));
            }
        }
        let (current, received) = (self.table(), asked.table());
        for name in COMPARED {
            let (current, received) = (current.get(name), received.get(name));
            if !equal(current, received) {
                let (received, current) = shown_both(received, current);
                return Err(differs(name, &received, &current));
            }
        }
        Ok(())
    }

    /// What the broker makes of it.
    pub(crate) fn options(
        &self,
        arguments: &Arguments,
        owner: Option<u64>,
        body_bytes_max: u64,
    ) -> QueueOptions {
        let dead_letters = arguments.dead_exchange.is_some();
        let limited = arguments.length_max.is_some() || arguments.bytes_max.is_some();
        QueueOptions {
            durability: Durability::Fsync,
            transient: !self.durable || self.exclusive,
            lease: arguments.timeout().saturating_add(LEASE_GRACE),
            failures_max: arguments.delivery_limit.map(|limit| limit.saturating_add(1)),
            retry: Backoff::default(),
            priorities: arguments.priority_max.is_some(),
            message_ttl: arguments.ttl,
            expired_to_dead_letter: dead_letters,
            expires: arguments.expires,
            limit: QueueLimit {
                messages: arguments.length_max,
                bytes: arguments.bytes_max,
                overflow: match arguments.full {
                    Full::DropHead if limited => Overflow::DropOldest { dead_letter: dead_letters },
                    _ => Overflow::Refuse,
                },
            },
            single_active: arguments.single_active,
            exclusive: owner,
            auto_delete: self.auto_delete,
            dead_letter: match &arguments.dead_exchange {
                Some(_) => DeadLetter::Hook(String::new()),
                None => DeadLetter::None,
            },
            message_bytes_max: message_bytes_max(body_bytes_max),
            annotation: self.annotation(),
            ..QueueOptions::default()
        }
    }

    /// The declaration as text that the broker keeps beside the queue.
    fn annotation(&self) -> String {
        let flags = [(self.durable, 'd'), (self.exclusive, 'e'), (self.auto_delete, 'a')];
        let mut text = String::from("amqp:");
        text.extend(flags.iter().filter(|(set, _)| *set).map(|(_, letter)| letter));
        text.push(':');
        STANDARD.encode_string(&self.arguments, &mut text);
        text
    }

    /// The declaration of a queue that exists; of one that was not declared over AMQP, what comes
    /// nearest to it.
    pub(crate) fn of_queue(options: &QueueOptions) -> Self {
        let read = || {
            let (flags, arguments) = options.annotation.strip_prefix("amqp:")?.split_once(':')?;
            let arguments = STANDARD.decode(arguments).ok()?.into_boxed_slice();
            Table::parse(&arguments).ok()?;
            Some(Self {
                durable: flags.contains('d'),
                exclusive: flags.contains('e'),
                auto_delete: flags.contains('a'),
                arguments,
            })
        };
        read().unwrap_or_else(|| Self {
            durable: !options.transient,
            exclusive: options.exclusive.is_some(),
            auto_delete: options.auto_delete,
            arguments: Box::default(),
        })
    }
}

impl Arguments {
    /// How long a delivery may go unacknowledged.
    pub(crate) fn timeout(&self) -> Duration {
        self.consumer_timeout.unwrap_or(CONSUMER_TIMEOUT)
    }

    /// The priority of a message in the broker's terms.
    pub(crate) fn priority(&self, asked: Option<u8>) -> u8 {
        match self.priority_max {
            None => 0,
            Some(max) => asked.unwrap_or(0).min(max),
        }
    }
}

/// The arguments that a second declaration has to repeat.
const COMPARED: [&str; 12] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-single-active-consumer",
    "x-queue-type",
    "x-delivery-limit",
];

fn equal(one: Option<Value<'_>>, other: Option<Value<'_>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            one == other || (one.integer().is_some() && one.integer() == other.integer())
        }
        (None, None) => true,
        // The type that a queue has without saying so.
        (Some(said), None) | (None, Some(said)) => said == Value::Long(b"classic"),
    }
}

/// Two values as RabbitMQ shows them where they differ: with their types only if one is not there.
pub(crate) fn shown_both(one: Option<Value<'_>>, other: Option<Value<'_>>) -> (String, String) {
    let both = one.is_some() && other.is_some();
    let shown = |value: Option<Value<'_>>| match value {
        None => "none".to_owned(),
        Some(value) if both => format!("'{}'", Plain(value)),
        Some(value) => format!("the value '{}' of type '{}'", Plain(value), type_name(value)),
    };
    (shown(one), shown(other))
}

/// A value without its type.
struct Plain<'a>(Value<'a>);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Bool(set) => write!(f, "{set}"),
            Value::Long(bytes) | Value::Bytes(bytes) => {
                f.write_str(&String::from_utf8_lossy(bytes))
            }
            Value::F32(number) => write!(f, "{number}"),
            Value::F64(number) => write!(f, "{number}"),
            Value::Timestamp(seconds) => write!(f, "{seconds}"),
            other => match other.integer() {
                Some(number) => write!(f, "{number}"),
                None => write!(f, "{other:?}"),
            },
        }
    }
}

/// The priority that a consumer asks for.
pub(crate) fn consumer_priority(
    arguments: Table<'_>,
    queue: &str,
    vhost: &str,
) -> Result<i64, Fault> {
    let invalid = |name: &str, value| {
        let why = format_args!("{{unacceptable_type,{}}}", type_name(value));
        Err(Of { queue, vhost }.invalid(name, why))
    };
    if let Some(value) = arguments.get("x-cancel-on-ha-failover")
        && !matches!(value, Value::Bool(_))
    {
        return invalid("x-cancel-on-ha-failover", value);
    }
    match arguments.get("x-priority") {
        None => Ok(0),
        Some(value) => value.integer().map_or_else(|| invalid("x-priority", value), Ok),
    }
}

/// The name RabbitMQ has for a type.
pub(crate) fn type_name(value: Value<'_>) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::I8(_) => "byte",
        Value::U8(_) => "unsignedbyte",
        Value::I16(_) => "short",
        Value::U16(_) => "unsignedshort",
        Value::I32(_) => "signedint",
        Value::U32(_) => "unsignedint",
        Value::I64(_) => "long",
        Value::F32(_) => "float",
        Value::F64(_) => "double",
        Value::Decimal(..) => "decimal",
        Value::Long(_) => "longstr",
        Value::Array(_) => "array",
        Value::Timestamp(_) => "timestamp",
        Value::Table(_) => "table",
        Value::Void => "void",
        Value::Bytes(_) => "binary",
    }
}

#[cfg(test)]
mod tests;
