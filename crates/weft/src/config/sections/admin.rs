//! How Weft is looked at and steered while it runs.

use weft_net::Address;

use crate::config::{
    leaf::Named,
    leaf::{Secret, Switch},
    sections::{
        Amqp, Ledger, Queue, Schedule, Subscription, Topic, listener::Listener, policy::Policy,
        route::Route, service::Service, telemetry::Telemetry,
    },
    setting::{At, settings},
};

settings! {
    /// The admin API, metrics and readiness; beyond the machine itself only with a token.
    pub struct Admin = "admin", short "listen" {
        /// Where it listens.
        listen: At<Address> = "127.0.0.1:9901",
        /// What callers must send as `Authorization: Bearer …`; `file:PATH`.
        token: Option<At<Secret>>,
    }

    /// One file, or a folder of files that are merged. `${NAME}` and `${NAME:-default}` are replaced
    /// by environment variables, `$${` is the text itself.
    pub struct Root = "configuration" {
        /// Sockets that Weft accepts on, by name.
        listeners: Named<Listener>,
        /// Named sets of running instances.
        services: Named<Service>,
        /// Named settings that routes refer to.
        policies: Named<Policy>,
        /// Matches, their policies and their targets.
        routes: Vec<Route>,
        /// Durable logs of messages that many subscriptions read, by name.
        topics: Named<Topic>,
        /// Messages that are each handled once, by name.
        queues: Named<Queue>,
        /// Cursors over topics, by name.
        subscriptions: Named<Subscription>,
        /// Messages that are published at times, by name.
        schedules: Named<Schedule>,
        /// Where messages are kept.
        ledger: Ledger,
        /// How AMQP is spoken.
        amqp: Amqp,
        /// What Weft tells about itself.
        telemetry: Telemetry,
        /// How it is looked at and steered while it runs.
        admin: Switch<Admin> = "on",
    }
}
