//! Where a connection's publishes go: routes that were found are remembered until routes change.

use std::{collections::HashMap, sync::Arc};

use weft_wire::amqp::Table;

use crate::{
    fault::Fault,
    options::{Grant, Resource},
    vhost::{Entry, Vhost},
};

/// The queues of a route.
pub(crate) type Targets = Arc<[Arc<Entry>]>;

/// How many routes are remembered before all are forgotten.
const ROUTES_MAX: usize = 4096;

/// The routes that a connection has used.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    version: u64,
    known: HashMap<Box<str>, Exchange>,
    count: usize,
    found: Vec<Arc<Entry>>,
}

#[derive(Debug)]
struct Exchange {
    by_headers: bool,
    keys: HashMap<Box<str>, Targets>,
}

/// A message that is to be routed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routed<'a> {
    pub(crate) exchange: &'a str,
    /// Its own, and those of its copies.
    pub(crate) keys: &'a [&'a str],
    pub(crate) headers: Table<'a>,
}

impl Routes {
    /// The queues that a message reaches by its keys; an error if it may not be published there.
    pub(crate) fn find(
        &mut self,
        vhost: &Vhost,
        grant: &Grant,
        user: &str,
        message: Routed<'_>,
    ) -> Result<Targets, Fault> {
        let Routed { exchange, keys, headers } = message;
        let version = vhost.version();
        if version != self.version || self.count > ROUTES_MAX {
            self.known.clear();
            self.count = 0;
            self.version = version;
        }
        if let ([key], Some(known)) = (keys, self.known.get(exchange))
            && let Some(targets) = known.keys.get(*key)
            && targets.iter().all(|entry| !entry.queue.is_deleted())
        {
            return Ok(Arc::clone(targets));
        }
        if !self.known.contains_key(exchange) {
            allowed(vhost, grant, user, exchange)?;
            let by_headers = vhost.reads_headers(exchange);
            self.known.insert(exchange.into(), Exchange { by_headers, keys: HashMap::new() });
        }
        self.found.clear();
        if !vhost.route(exchange, keys, headers, &mut self.found) {
            self.known.remove(exchange);
            return Err(Fault::no_exchange(exchange, &vhost.name));
        }
        let targets: Targets = self.found.drain(..).collect();
        // What leads to a queue that is not there is dropped, and told where that is asked for; what leads to
        // one that cannot be reached this way is refused.
        if targets.is_empty()
            && exchange.is_empty()
            && let Some(fault) = keys.iter().find_map(|key| vhost.elsewhere(key))
        {
            return Err(fault);
        }
        // What leads nowhere is not remembered: a queue may be made that the version does not tell of.
        if let [key] = keys
            && !targets.is_empty()
            && let Some(known) = self.known.get_mut(exchange).filter(|known| !known.by_headers)
        {
            known.keys.insert((*key).into(), Arc::clone(&targets));
            self.count += 1;
        }
        Ok(targets)
    }
}

/// Whether a user may publish to an exchange.
fn allowed(vhost: &Vhost, grant: &Grant, user: &str, exchange: &str) -> Result<(), Fault> {
    let resource = Resource::Exchange(exchange);
    if !grant.write.allows(resource) {
        return Err(Fault::no_access(resource, &vhost.name, user));
    }
    if exchange.is_empty() {
        return Ok(());
    }
    match vhost.exchange(exchange) {
        None => Err(Fault::no_exchange(exchange, &vhost.name)),
        Some(definition) if definition.internal => Err(Fault::refused(format_args!(
            "cannot publish to internal exchange '{exchange}' in vhost '{}'",
            vhost.name
        ))),
        Some(_) => Ok(()),
    }
}
