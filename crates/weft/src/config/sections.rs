//! The tables of all sections: the only source of keys, types, defaults and words.

pub mod admin;
pub mod ledger;
pub mod listener;
pub mod messages;
pub mod policy;
pub mod route;
pub mod service;
pub mod target;
pub mod telemetry;

pub use admin::{Admin, AdminToken, Permission, Root};
pub use ledger::Ledger;
pub use listener::Listener;
pub use messages::{Amqp, Queue, Schedule, Subscription, Topic};
pub use policy::Policy;
pub use route::Route;
pub use service::Service;
pub use telemetry::Telemetry;
