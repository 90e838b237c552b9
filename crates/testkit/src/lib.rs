//! What tests of a running Weft stand on: the real binary, scripted services, and clients that may
//! misbehave.
//!
//! What is here is blocking and works on the bytes of a socket, so that a test can send and answer
//! what no proper library would; [`http2`] alone is not, where many streams and somebody else's idea of
//! the protocol are wanted. Every wait has a limit, and no wait is a sleep: conditions are polled
//! until [`PATIENCE`] is over. What goes wrong here ends the test, so that it panics with the story.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod certs;
pub mod conn;
pub mod frames;
pub mod grpc;
pub mod http2;
pub mod limit;
pub mod message;
pub mod port;
pub mod upstream;
pub mod wait;
pub mod websocket;
pub mod weft;

pub use certs::{Authority, Issued};
pub use conn::Conn;
pub use message::HttpMessage;
pub use port::Port;
pub use upstream::Upstream;
pub use wait::{PATIENCE, until};
pub use weft::Weft;
