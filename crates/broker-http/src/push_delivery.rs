//! Push delivery: messages of a subscription, posted to a service by a route.
//!
//! One worker drives a subscription. What its service can take is found out ([`pace`]), its answers
//! settle ([`judge`]), and settlements of answers that came together are one transaction. A service that
//! cannot be reached costs a probe now and then, and its messages no failure.

pub(crate) mod drive;
pub(crate) mod judge;
mod pace;

use std::time::Duration;

use bytes::Bytes;
use weft_broker::SubscriptionKey;
use weft_kernel::{Name, Result};
use weft_proxy::{Answered, LocalFuture, Reading, WorkerClient};
use weft_wire::RequestHead;

/// A subscription whose messages are pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushSubscription {
    /// The subscription.
    pub subscription: SubscriptionKey,
    /// The route that leads to the service.
    pub route: Name,
    /// The path that is posted to.
    pub path: String,
    /// The most deliveries under way at once.
    pub concurrency: u32,
    /// The time for one delivery, as the route keeps it.
    pub timeout: Duration,
}

/// Sends requests by a route; in tests, a script.
pub trait Sender {
    /// Sends a request and reads the answer within bounds.
    fn send<'a>(
        &'a self,
        route: &'a Name,
        head: RequestHead,
        body: Bytes,
        reading: Reading,
    ) -> LocalFuture<'a, Result<Answered>>;
}

impl Sender for WorkerClient {
    fn send<'a>(
        &'a self,
        route: &'a Name,
        head: RequestHead,
        body: Bytes,
        reading: Reading,
    ) -> LocalFuture<'a, Result<Answered>> {
        Box::pin(Self::send(self, route, head, body, reading))
    }
}

#[cfg(test)]
mod tests;
