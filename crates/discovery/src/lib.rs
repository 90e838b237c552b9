//! Who answers: services, their endpoints, whether these are well, and which one takes the next
//! request.
//!
//! A [`Service`] holds one immutable [`EndpointSet`] at a time, with its balancing tables; it is
//! built on the control runtime and swapped in. [`Service::pick`] runs on the request path: no lock,
//! no allocation, no wait. What changes with each request (load, ejection, verdict) are atomics in
//! the [`Endpoint`], which outlives every set that holds it.
//!
//! Invariants: a drained or removed endpoint is never picked; an ejected one only for its single
//! probe; one with a bad verdict only when so few are left that the verdicts are not believed
//! (panic), or when nothing else is left. At most half of a service's endpoints are ejected. An
//! endpoint keeps its state over reloads and new sets of its sources for as long as it stays.
//!
//! Deliberately absent: connections and pools (they ask [`Endpoint::is_gone`]), retries, and how a
//! request becomes a hash (the caller hands in a number).
//!
//! Reading order: [`options`], [`endpoint`], [`set`], [`balance`], [`service`], [`source`],
//! [`resolve`], [`health`], [`services`].

pub mod balance;
pub mod endpoint;
pub mod health;
pub mod options;
pub mod resolve;
pub mod service;
pub mod services;
pub mod set;
pub mod source;

pub use endpoint::{Endpoint, InFlight, Outcome};
pub use options::{
    Algorithm, Check, Dns, EndpointOptions, Family, Health, Location, ProbeTls, ServiceOptions,
};
pub use service::{Pick, Service};
pub use services::{Changed, Services};
pub use set::{EndpointSet, Member};
pub use source::{Feed, Instance, Source};
