//! The sockets of Weft: everything between the kernel's file descriptors and a protocol.
//!
//! Invariants: no other room opens a socket, speaks TLS or spawns a task; every wait has a bound;
//! what is spawned is counted, so that drain can wait for all of it and then cut it. Nothing here
//! knows a route, a service or a policy: a connection is handed to a function of the caller's.
//!
//! Reading order: [`address`], [`io`] (what a connection is), [`listen`], [`accept`] and
//! [`connect`](mod@connect) (how one comes to be), [`relay`] (bytes both ways), [`tasks`] and
//! [`worker`] (who runs it), [`message`] and [`body`] (a request and its response), [`h1`] and [`h2`]
//! (how they are spoken), [`pool`] (connections to services), [`mod@clock`] and
//! [`timer`] (a timer that is armed rarely), [`handover`] (how the next process takes over),
//! [`client`] (requests of our own: checks, callbacks, exports, tools).

pub mod accept;
pub mod address;
mod age;
pub mod body;
pub mod client;
pub mod clock;
pub mod connect;
pub mod descriptors;
mod expect;
pub mod h1;
pub mod h2;
pub mod handover;
mod held;
pub mod io;
pub mod listen;
pub mod message;
pub mod pool;
pub mod relay;
pub mod tasks;
pub mod timer;
pub mod worker;

pub use address::Address;
pub use connect::{ClientTls, Connect, ConnectTarget, Connected, Network, connect};
pub use io::{Alpn, Io, Rewound, Socket, TlsInfo};
pub use listen::Listener;
pub use tasks::{Phase, Stop, Tasks};
pub use worker::{AcceptedConnection, Worker, Workers};
