//! What a checked configuration asks for.

use std::{borrow::Cow, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
use weft_broker::{Publish, QueueOptions, ScheduleTarget, SubscriptionOptions, TopicOptions, When};
use weft_kernel::Name;
use weft_net::Address;
use weft_proxy::plan::Route;

use super::leaf::Secret;
pub use super::sections::listener::ProxyMode;

/// The name of what speaks AMQP on listeners.
pub const AMQP: &str = "amqp";

/// Everything that was asked for, checked, with no port open.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The request path.
    pub proxy: weft_proxy::plan::Plan,
    /// The sockets that its listeners accept on.
    pub sockets: Vec<Socket>,
    /// What Weft tells about itself.
    pub telemetry: Telemetry,
    /// The admin API, unless it is off.
    pub admin: Option<Admin>,
    /// Topics, queues and subscriptions, and where they are kept; `None` for a node that keeps nothing.
    pub messages: Option<Messages>,
}

impl Plan {
    /// The request path, together with the internal routes that no configuration names.
    pub fn whole_proxy(&self) -> Cow<'_, weft_proxy::plan::Plan> {
        match &self.messages {
            Some(messages) if !messages.services.is_empty() => {
                let mut proxy = self.proxy.clone();
                proxy.routes.extend(messages.services.iter().cloned());
                Cow::Owned(proxy)
            }
            _ => Cow::Borrowed(&self.proxy),
        }
    }
}

/// What is kept and handed on.
#[derive(Clone, Debug)]
pub struct Messages {
    /// Where.
    pub ledger: Ledger,
    /// Topics.
    pub topics: Vec<(Name, TopicOptions)>,
    /// Queues.
    pub queues: Vec<(Name, QueueOptions)>,
    /// Subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Messages that are published at times.
    pub schedules: Vec<(Name, Schedule)>,
    /// Those of them that are pushed to services.
    pub push: Vec<Push>,
    /// Internal routes, one to each service, by which what the API declares is pushed.
    pub services: Vec<Arc<Route>>,
    /// How AMQP is spoken.
    pub amqp: Amqp,
}

/// The ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Ledger {
    /// The folder of its files.
    pub path: PathBuf,
    /// What it may use, and its keys.
    pub options: weft_ledger::Options,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Its name.
    pub name: Name,
    /// The topic, or a pattern of topics.
    pub topic: String,
    /// How it is read.
    pub options: SubscriptionOptions,
}

/// A message that is published at times.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// When.
    pub when: When,
    /// Where.
    pub target: ScheduleTarget,
    /// What.
    pub publish: Publish,
}

/// How a subscription is pushed to a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// The subscription.
    pub subscription: Name,
    /// The route by which its messages go.
    pub route: Name,
    /// The path that they are posted to.
    pub path: String,
    /// The most that are under way at once.
    pub concurrency: u32,
    /// The time for one.
    pub timeout: Duration,
}

/// How AMQP is spoken.
#[derive(Clone, Debug, PartialEq)]
pub struct Amqp {
    /// Who may log in; empty for `guest` from this machine.
    pub users: Vec<AmqpUser>,
    /// The virtual hosts.
    pub vhosts: Vec<String>,
    /// The most channels of a connection.
    pub channels_max: u16,
    /// The largest frame in bytes.
    pub frame_max: u32,
    /// Seconds between heartbeats; 0 for none.
    pub heartbeat: u16,
    /// The largest body of a message in bytes.
    pub message_max: u64,
}

/// Somebody who may log in.
#[derive(Clone, Debug, PartialEq)]
pub struct AmqpUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// The virtual hosts in which everything may be done; all of them if there are no permissions either.
    pub vhosts: Vec<String>,
    /// What may be done in further virtual hosts.
    pub permissions: Vec<AmqpPermissions>,
}

/// What may be done in a virtual host: regular expressions over names.
#[derive(Clone, Debug, PartialEq)]
pub struct AmqpPermissions {
    /// The virtual host.
    pub vhost: String,
    /// What may be declared and deleted.
    pub configure: String,
    /// What may be published to.
    pub write: String,
    /// What may be consumed.
    pub read: String,
}

/// The socket of a listener.
#[derive(Clone, Debug)]
pub struct Socket {
    /// The listener.
    pub listener: Name,
    /// Where it listens; several addresses are one listener.
    pub addresses: Vec<Address>,
    /// TLS that is terminated here.
    pub tls: Option<weft_identity::server::ServerOptions>,
    /// Whether a PROXY protocol header opens each connection.
    pub proxy_protocol: ProxyMode,
    /// Peers whose PROXY protocol header is believed; empty for all.
    pub proxy_protocol_from: Vec<IpNet>,
}

/// What Weft tells about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// A line per request.
    pub access_log: weft_telemetry::access::Options,
    /// The share of traces that are kept.
    pub trace_sample: f64,
    /// Where spans are sent.
    pub otlp: Option<weft_telemetry::otlp::Options>,
    /// The log for operators.
    pub log: weft_telemetry::log::Options,
}

/// The admin API.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where it listens.
    pub listen: Address,
    /// What callers must show, as digests; without any, none.
    pub tokens: weft_api::Tokens,
}
