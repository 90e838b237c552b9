//! HTTP/1.1 connections: the server side of a client's, the client side of a service's.
//!
//! One task owns a client's connection and, while a request is under way, the connection to the service
//! as well: there is no task and no channel in between. What is read goes through a buffer that all
//! connections of a worker share, and a connection without a request in progress holds no buffer.

pub mod client;
mod link;
pub mod server;
