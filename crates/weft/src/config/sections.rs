//! The tables of the node's own sections: the only source of their keys, types, defaults and words. Those of
//! components stand with them.

pub mod admin;
pub mod listener;
pub mod policy;
pub mod root;
pub mod route;
pub mod secret;
pub mod service;
pub mod target;

pub use admin::{Admin, AdminToken, Permission};
pub use listener::Listener;
pub use policy::Policy;
pub use route::Route;
pub use secret::SecretSource;
pub use service::Service;
