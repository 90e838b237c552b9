//! Settings of the admin API.

use weft_net::Address;

use crate::config::{
    leaf::Named,
    leaf::{Many, Secret, Switch},
    sections::{
        Amqp, Ledger, Queue, Schedule, Subscription, Topic, listener::Listener, policy::Policy,
        route::Route, service::Service, telemetry::Telemetry,
    },
    setting::{At, settings, words},
};

words! {
    /// Permission of a token.
    pub enum Permission {
        /// look at configuration, state and metrics, but not at what messages hold
        Read = "read",
        /// publish messages
        Publish = "publish",
        /// take, settle and read messages
        Consume = "consume",
        /// declare, change, steer and delete
        Manage = "manage",
    }
}

settings! {
    /// Admin API, metrics and readiness; a token is required beyond loopback.
    pub struct Admin = "admin", short "listen" {
        /// Addresses to bind.
        listen: At<Address> = "127.0.0.1:9901",
        /// Token that callers send as `Authorization: Bearer …`; `file:PATH` reads it from a file. It may do
        /// everything.
        token: Option<At<Secret>>,
        /// Tokens by name that may do some things.
        tokens: Named<AdminToken>,
    }

    /// A token of the admin API that may do some things.
    pub struct AdminToken = "admin token" {
        /// Token that callers send as `Authorization: Bearer …`; `file:PATH` reads it from a file.
        token: At<Secret>,
        /// What it may do; at least one thing.
        permissions: At<Many<Permission>>,
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
