//! The request path without a socket: requests are handed to its front, and answered by what the tests
//! bind to its routes.

#![allow(clippy::unwrap_used, missing_docs)]

mod node;
mod policy;
