//! The record of a request: who was asked, what came of it, and what is held until it has ended.

use std::sync::Arc;

use weft_discovery::{Endpoint, InFlight, Outcome};
use weft_kernel::{Reason, Tick};
use weft_resilience::{adaptive, bulkhead};

use crate::{
    policy::{Completion, Facts, TargetFailure},
    repeat::Sending,
    route::Route,
    upstream::Upstream,
};

/// What became of a request; metrics, access log and span are written from it.
pub(crate) struct Record {
    pub(crate) route: Option<Arc<Route>>,
    /// The service that was asked last.
    pub(crate) upstream: Option<Arc<Upstream>>,
    /// The endpoint that was asked last.
    pub(crate) endpoint: Option<Arc<Endpoint>>,
    /// How often any service was asked.
    pub(crate) attempts: u32,
    /// When the head of the response came.
    pub(crate) answered: Option<Tick>,
    pub(crate) status: u16,
    /// The status that an injected fault asks for.
    pub(crate) forced_status: Option<u16>,
    pub(crate) reason: Option<Reason>,
    /// Why the last try failed, which its service's meter has counted.
    pub(crate) counted: Option<Reason>,
    pub(crate) detail: Option<String>,
    /// What policies have found out.
    pub(crate) facts: Facts,
    /// Who is told what comes of it, whoever waits.
    pub(crate) completion: Option<Box<dyn Completion>>,
    /// What decides whether it may be sent again.
    pub(crate) sending: Sending,
    /// How the target failed that a fallback has taken the place of.
    pub(crate) fell: Option<TargetFailure>,
    /// Whether a fixed response stands in for the target's.
    pub(crate) stands_in: bool,
    /// What is in flight until the response has ended.
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) outcome: Outcome,
    pub(crate) admitted: Option<adaptive::Permit>,
    pub(crate) places: [Option<bulkhead::Permit>; 2],
    /// Whether its end has been told.
    pub(crate) told: bool,
}

impl Record {
    /// Nothing: the request has only come.
    #[inline]
    pub(crate) const fn none() -> Self {
        Self {
            route: None,
            upstream: None,
            endpoint: None,
            attempts: 0,
            answered: None,
            status: 0,
            forced_status: None,
            reason: None,
            counted: None,
            detail: None,
            facts: Facts::none(),
            completion: None,
            sending: Sending::none(),
            fell: None,
            stands_in: false,
            in_flight: None,
            outcome: Outcome::OK,
            admitted: None,
            places: [None, None],
            told: false,
        }
    }
}
