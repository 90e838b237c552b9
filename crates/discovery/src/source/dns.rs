//! Names: one source for each, which asks when its [`Resolution`] says so.

use std::sync::Arc;

use tokio::sync::Semaphore;
use weft_kernel::{Clock, Reason, Rng};

use super::{Feed, Instance, Running, Source};
use crate::{
    options::{Dns, Location},
    resolve::{Lookup, Query, Record, Resolution},
};

/// A name that is resolved.
pub(crate) struct DnsSource {
    pub(crate) query: Query,
    pub(crate) dns: Dns,
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Rng,
    /// Bounds the look-ups of all names together.
    pub(crate) at_once: Arc<Semaphore>,
}

impl Source for DnsSource {
    fn start(self: Box<Self>, feed: Feed) -> Option<Running> {
        Some(Box::pin(self.run(feed)))
    }

    fn failure(&self) -> Reason {
        Reason::DnsFailed
    }
}

impl DnsSource {
    async fn run(mut self: Box<Self>, feed: Feed) {
        let mut resolution = Resolution::new(self.clock.now());
        loop {
            feed.next_try(resolution.due());
            while let Some(due) = resolution.due() {
                let wait = due.since(self.clock.now());
                if wait.is_zero() {
                    break;
                }
                tokio::select! {
                    biased;
                    () = feed.wanted() => resolution.want(&self.dns),
                    () = tokio::time::sleep(wait) => {}
                }
            }
            // Closed never, so that this is a permit.
            let permit = self.at_once.acquire().await;
            resolution.begin();
            let result = {
                let lookup = self.lookup.lookup(&self.query);
                tokio::pin!(lookup);
                loop {
                    tokio::select! {
                        biased;
                        result = &mut lookup => break result,
                        () = feed.wanted() => resolution.want(&self.dns),
                    }
                }
            };
            drop(permit);
            let now = self.clock.now();
            resolution.end(result, &self.dns, now, &mut self.rng);
            match resolution.error() {
                None => feed.push(resolution.records().iter().map(instance).collect()),
                Some(why) if resolution.records().is_empty() => feed.withdraw(why),
                Some(why) => feed.fail(why),
            }
        }
    }
}

fn instance(record: &Record) -> Instance {
    Instance {
        hostname: Some(Arc::clone(&record.hostname)),
        weight: record.weight,
        priority: record.priority,
        ..Instance::new(Location::Address(record.address.into()))
    }
}
