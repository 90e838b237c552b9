//! The request path without a socket: requests are handed to its front, and answered by what the tests
//! bind to its routes, or by services that follow a script in paused time.

#![allow(clippy::unwrap_used, missing_docs)]

mod chance;
mod completion;
mod node;
mod path;
mod play;
mod policy;
mod stage;
