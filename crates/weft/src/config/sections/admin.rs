//! Settings of the admin API.

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
    /// Admin API, metrics and readiness; a token is required beyond loopback.
    pub struct Admin = "admin", short "listen" {
        /// Addresses to bind.
        listen: At<Address> = "127.0.0.1:9901",
        /// Token that callers send as `Authorization: Bearer …`; `file:PATH` reads it from a file.
        token: Option<At<Secret>>,
    }

    /// One file, or a folder of files that are merged. `${NAME}` and `${NAME:-default}` are replaced
    /// by environment variables, `$${` is the text itself.
    pub struct Root = "configuration" {
        /// Listeners by name: sockets that Weft accepts on.
        listeners: Named<Listener>,
        /// Services by name: sets of running instances.
        services: Named<Service>,
        /// Policies by name: settings that routes refer to.
        policies: Named<Policy>,
        /// Routes: matches with their policies and targets.
        routes: Vec<Route>,
        /// Topics by name: durable logs of messages that many subscriptions read.
        topics: Named<Topic>,
        /// Queues by name: messages that are each handled once.
        queues: Named<Queue>,
        /// Subscriptions by name: durable cursors over topics.
        subscriptions: Named<Subscription>,
        /// Schedules by name: messages that are published at set times.
        schedules: Named<Schedule>,
        /// Store of messages.
        ledger: Ledger,
        /// AMQP 0-9-1 server.
        amqp: Amqp,
        /// Access log, traces and operator log.
        telemetry: Telemetry,
        /// Admin API.
        admin: Switch<Admin> = "on",
    }
}
