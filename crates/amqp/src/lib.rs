//! AMQP 0-9-1 in front of the broker, for applications that were written for RabbitMQ.
//!
//! A client sees what RabbitMQ 3.10 would show it, codes and texts of errors included; what differs is
//! listed in `docs/patterns/amqp.md`. Queues are the broker's own: what is published here can be
//! consumed over HTTP, and the other way round. Exchanges and bindings are kept here.
//!
//! Invariants: a publish is confirmed when it is as durable as it asked to be, not before; a queue that
//! cannot take a message has it refused, never dropped unseen; what a client does not read, and what it
//! sends faster than the disk takes it, is bounded by its own socket, and so is the time for which it reads
//! nothing; what was published is seen by what the same channel asks next; a transaction happens whole or
//! not at all.
//!
//! Reading order: [`options`], [`server`](Server), `connection` (the shell), `session` (what is known of
//! a connection), `vhost`, `topology` (exchanges and bindings, pure).

mod arguments;
mod confirms;
mod connection;
mod death;
mod fault;
mod name;
pub mod options;
mod ready;
mod reply;
mod route;
mod sasl;
mod server;
mod session;
mod topology;
mod unacked;
mod vhost;

pub use options::{Grant, Options, Password, PermissionPattern, User};
pub use server::Server;
pub use session::ClientPeer;
