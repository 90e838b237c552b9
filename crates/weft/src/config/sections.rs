//! The tables of all sections: the only source of keys, types, defaults and words.

pub mod admin;
pub mod listener;
pub mod policy;
pub mod route;
pub mod service;
pub mod target;
pub mod telemetry;

pub use admin::{Admin, Root};
pub use listener::Listener;
pub use policy::Policy;
pub use route::Route;
pub use service::Service;
pub use telemetry::Telemetry;
