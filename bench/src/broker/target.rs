//! What is measured: the table of targets, each with its server, its protocol and the durability of what
//! it acknowledges.

use super::client::Kind;
use crate::record::durable;

/// A server that is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Weft,
    RabbitMq,
    Nats,
    /// NATS that syncs before it acknowledges.
    NatsAlways,
}

impl Server {
    pub(super) const ALL: [Self; 4] = [Self::Weft, Self::RabbitMq, Self::Nats, Self::NatsAlways];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Weft => "weft",
            Self::RabbitMq => "rabbitmq",
            Self::Nats => "nats",
            Self::NatsAlways => "nats-always",
        }
    }
}

/// How a target is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Amqp(Kind),
    Nats,
    /// Weft's own API.
    Http,
}

/// One way to use one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Target {
    WeftAmqp,
    WeftHttp,
    RabbitmqQuorum,
    RabbitmqClassic,
    NatsAlways,
    Nats,
}

impl Target {
    pub(super) const ALL: [Self; 6] = [
        Self::WeftAmqp,
        Self::WeftHttp,
        Self::RabbitmqQuorum,
        Self::RabbitmqClassic,
        Self::NatsAlways,
        Self::Nats,
    ];

    pub(super) fn server(self) -> Server {
        match self {
            Self::WeftAmqp | Self::WeftHttp => Server::Weft,
            Self::RabbitmqQuorum | Self::RabbitmqClassic => Server::RabbitMq,
            Self::NatsAlways => Server::NatsAlways,
            Self::Nats => Server::Nats,
        }
    }

    pub(super) fn protocol(self) -> Protocol {
        match self {
            Self::WeftAmqp | Self::RabbitmqClassic => Protocol::Amqp(Kind::Classic),
            Self::RabbitmqQuorum => Protocol::Amqp(Kind::Quorum),
            Self::WeftHttp => Protocol::Http,
            Self::NatsAlways | Self::Nats => Protocol::Nats,
        }
    }

    /// What an acknowledgement means, stated beside every figure.
    pub(super) fn durability(self) -> &'static str {
        match self {
            Self::WeftAmqp | Self::WeftHttp | Self::RabbitmqQuorum | Self::NatsAlways => "fsync",
            Self::RabbitmqClassic => "batched fsync",
            Self::Nats => "page cache",
        }
    }

    pub(super) fn is_weft(self) -> bool {
        self.server() == Server::Weft
    }
}

impl durable::Target for Target {
    fn name(self) -> &'static str {
        match self {
            Self::WeftAmqp => "weft-amqp",
            Self::WeftHttp => "weft-http",
            Self::RabbitmqQuorum => "rabbitmq-quorum",
            Self::RabbitmqClassic => "rabbitmq-classic",
            Self::NatsAlways => "nats-always",
            Self::Nats => "nats",
        }
    }
}
