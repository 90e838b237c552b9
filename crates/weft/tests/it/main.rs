//! Tests of the binary's room, in one binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accounts;
mod admin;
mod amqp;
mod blame;
mod change;
mod config;
mod docs;
mod drain;
mod faults;
mod forwarding;
mod grpc;
mod h2_abuse;
mod h2_conformance;
mod h2_streams;
mod http1;
mod http2;
mod idle;
mod leaving;
mod ledger;
mod message_sockets;
mod messages;
mod nouns;
mod plain;
mod proxy_protocol;
mod push;
mod reload;
mod resilience;
mod routing;
mod sockets;
mod strict;
mod tls;
mod tls_failures;
mod trace_context;
mod tunnel;
mod websocket;
