//! Stores that count rate limits for several nodes, as they are written and as they come to be.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::Notify;
use weft_discovery::resolve::Hickory;
use weft_gateway::{
    RATE_LIMITS, RateLimits,
    rate_limit::{Kind as LimitKind, Stores},
};
use weft_kernel::Name;
use weft_proxy::plan::Route;
use weft_redis_limits::{Options, RedisLimits};
use weft_resilience::rate::shared::Store;
use weft_telemetry::metrics::{Def, Kind, Writer};

use crate::{
    components::trust::trust,
    config::{
        catalogue::{Checked, KeyOf},
        leaf::{InputFile, Named, Secret, Span},
        problem::Problem,
        setting::{At, Cx, settings},
        source::Place,
    },
};

/// Stores of rate limits.
pub const LIMIT_STORES: KeyOf<Named<StoreSection>> = KeyOf::new(
    "limit_stores",
    "Stores by name that count rate limits for several nodes: servers of Redis or Valkey.",
);

settings! {
    /// Store of rate limits: a server of Redis or Valkey.
    pub struct StoreSection = "limit store", short "url" {
        /// URL of the server: `redis://HOST:PORT/DATABASE`, or `rediss://` with TLS.
        url: At<String>,
        /// User, if it is not the default one.
        username: Option<String>,
        /// Password; `file:PATH` reads it from a file.
        password: Option<At<Secret>>,
        /// Authority of its certificate, in PEM; those of the system if it is left out.
        ca_file: Option<At<InputFile>>,
        /// Time for an answer, beyond which a limit counts as its `when_away` says.
        timeout: At<Span> = "100ms",
        /// What the keys there begin with. Nodes that share limits have the same.
        prefix: String = "weft/limit/",
    }
}

/// The shortest and the longest time for an answer.
const TIMES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(10));

pub(super) const QUESTIONS: Def = Def {
    name: "weft_limit_store_questions_total",
    kind: Kind::Counter,
    unit: "",
    labels: &["store", "outcome"],
    help: "Questions of rate limits to a store, by outcome: `answered` or `failed`.",
};

pub(super) const UP: Def = Def {
    name: "weft_limit_store_up",
    kind: Kind::Gauge,
    unit: "",
    labels: &["store"],
    help: "Whether a store of rate limits answers: 1 or 0.",
};

/// A store as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    options: Options,
    ca_file: Option<PathBuf>,
}

/// The stores that can be built; what is wrong with the others was reported.
pub(super) fn build(said: &[(At<Name>, StoreSection)], cx: &mut Cx) -> Vec<Plan> {
    said.iter().filter_map(|(name, section)| store(name, section, cx)).collect()
}

fn store(name: &At<Name>, section: &StoreSection, cx: &mut Cx) -> Option<Plan> {
    let Some(Url { tls, host, port, database }) = Url::parse(&section.url) else {
        if section.url.contains('@') {
            cx.secrets.push(section.url.place);
        }
        let say = "expected a URL such as redis://redis.internal:6379/0, or of `rediss` for TLS";
        let help = "user and password are settings of their own";
        cx.report(Problem::error(section.url.place, say).help(help));
        return None;
    };
    if let (Some(ca_file), false) = (&section.ca_file, tls) {
        let say = "`ca_file` is of a URL of `rediss`";
        cx.report(Problem::error(ca_file.place, say));
        return None;
    }
    let is_local = ["localhost", "127.0.0.1", "::1"].contains(&&*host);
    if let (Some(password), false, false) = (&section.password, tls, is_local) {
        let say = "whoever is on the way to this server reads the password";
        cx.report(Problem::warning(password.place, say).help("use `rediss`"));
    }
    let timeout = section.timeout.value.0;
    if !(TIMES.0..=TIMES.1).contains(&timeout) {
        let say = "the time for an answer is from 1ms to 10s";
        let place = match section.timeout.place {
            Place::BUILT_IN => section.place,
            place => place,
        };
        cx.report(Problem::error(place, say));
        return None;
    }
    Some(Plan {
        options: Options {
            name: name.value.clone(),
            host,
            port,
            tls,
            username: section.username.clone(),
            password: section.password.as_ref().map(|of| of.reveal().to_owned()),
            database,
            timeout,
            prefix: section.prefix.clone(),
        },
        ca_file: section.ca_file.as_ref().map(|file| file.value.0.clone()),
    })
}

/// What a URL of a server says.
#[derive(Debug, PartialEq)]
struct Url {
    tls: bool,
    host: String,
    port: u16,
    database: u32,
}

impl Url {
    fn parse(text: &str) -> Option<Self> {
        let url: http::Uri = text.parse().ok()?;
        let tls = match url.scheme_str()? {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return None,
        };
        let authority = url.authority().filter(|of| !of.as_str().contains('@'))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let database = match url.path().trim_start_matches('/') {
            "" => 0,
            number => number.parse().ok()?,
        };
        let is_plain = url.query().is_none() && !host.is_empty();
        let port = authority.port_u16().unwrap_or(6_379);
        is_plain.then_some(Self { tls, host, port, database })
    }
}

/// Reports limits of a route that name a store which is not there.
pub(super) fn check(route: &Route, place: Place, whole: &Checked<'_>, cx: &mut Cx) {
    let stores = whole.names(&LIMIT_STORES);
    let bindings = route.policy.policies.iter().filter(|of| of.handler == RATE_LIMITS);
    for limit in bindings.filter_map(|of| of.settings::<RateLimits>().ok()).flat_map(|of| of.0) {
        let LimitKind::Rate { sharing: Some(sharing), .. } = limit.kind else { continue };
        let store = sharing.store.as_str();
        if !stores.contains(store) {
            let say = format!(
                "limit `{}` of route `{}` names store `{store}`, which is not there",
                limit.name, route.name
            );
            let there: Vec<&str> = stores.iter().map(|(name, _)| name).collect();
            cx.report(Problem::error(place, say).near(store, there));
        }
    }
}

/// Stores of a node, each with what it was made of.
pub(super) type Made = Vec<(Plan, Arc<RedisLimits>)>;

/// The stores of a node that are in force.
#[derive(Default)]
pub(super) struct LimitStores {
    made: ArcSwap<Made>,
    changed: Notify,
}

impl LimitStores {
    /// The stores of a plan; one that is there already stays, and with it its connection.
    ///
    /// # Errors
    /// What is wrong with their authorities.
    pub(super) fn prepare(&self, plans: &[Plan], dns: &Hickory) -> Result<Made, Vec<String>> {
        let (now, mut made, mut wrong) = (self.made.load(), Made::new(), Vec::new());
        for plan in plans {
            let there = now.iter().find(|(there, _)| there == plan);
            let store = there.map(|(_, store)| Ok(Arc::clone(store)));
            match store.unwrap_or_else(|| make(plan, dns)) {
                Ok(store) => made.push((plan.clone(), store)),
                Err(error) => wrong.push(format!("limit store {}: {error:#}", plan.options.name)),
            }
        }
        if wrong.is_empty() { Ok(made) } else { Err(wrong) }
    }

    /// Has limits counted by these, and by no others.
    pub(super) fn commit(&self, made: Made, stores: &Stores) {
        stores.replace(made.iter().map(|(plan, store)| {
            let store: Arc<dyn Store> = Arc::<RedisLimits>::clone(store);
            (plan.options.name.clone(), store)
        }));
        let former = self.made.swap(Arc::new(made));
        let now = self.made.load();
        let gone = former.iter().filter(|(_, store)| !has(&now, store));
        gone.for_each(|(_, store)| store.close());
        self.changed.notify_one();
    }

    /// Asks all of them, for as long as it is polled.
    pub(super) async fn run(&self) {
        let (mut running, mut known) = (FuturesUnordered::new(), Arc::new(Made::new()));
        loop {
            let now = self.made.load_full();
            for (_, store) in now.iter().filter(|(_, store)| !has(&known, store)) {
                let store = Arc::clone(store);
                running.push(async move { store.run().await });
            }
            known = now;
            tokio::select! {
                () = self.changed.notified() => {}
                Some(()) = running.next() => {}
            }
        }
    }

    /// Tells a scrape how they are.
    pub(super) fn measure(&self, questions: &'static Def, up: &'static Def, to: &mut Writer) {
        for (plan, store) in self.made.load().iter() {
            let name = plan.options.name.as_str();
            let (answered, failed) = store.counts();
            for (outcome, count) in [("answered", answered), ("failed", failed)] {
                to.counter(questions, &[("store", name), ("outcome", outcome)], count);
            }
            to.gauge(up, &[("store", name)], if store.is_away() { 0.0 } else { 1.0 });
        }
    }
}

fn has(made: &Made, store: &Arc<RedisLimits>) -> bool {
    made.iter().any(|(_, other)| Arc::ptr_eq(other, store))
}

fn make(plan: &Plan, dns: &Hickory) -> anyhow::Result<Arc<RedisLimits>> {
    let tls = match plan.options.tls {
        false => None,
        true => {
            let (identity, tls) = trust(plan.ca_file.clone())?;
            let name = plan.options.name.clone();
            let shown: weft_net::client::Tls = Box::new(move || {
                if let Err(faults) = identity.reload() {
                    tracing::warn!(store = %name, "the authority in use stays: {faults}");
                }
                tls()
            });
            Some(shown)
        }
    };
    Ok(Arc::new(RedisLimits::new(plan.options.clone(), Arc::new(dns.clone()), tls)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers_are_read() {
        let url = |tls, host: &str, port, database| {
            Some(Url { tls, host: host.to_owned(), port, database })
        };
        for (text, expect) in [
            ("redis://127.0.0.1", url(false, "127.0.0.1", 6_379, 0)),
            ("rediss://cache.internal:6380/3", url(true, "cache.internal", 6_380, 3)),
            ("valkey://[::1]:7000/", url(false, "::1", 7_000, 0)),
            ("valkeys://v", url(true, "v", 6_379, 0)),
            ("redis://user:secret@host", None),
            ("redis://host/x", None),
            ("redis://host/0?timeout=1", None),
            ("http://host", None),
            ("host:6379", None),
            ("", None),
        ] {
            assert_eq!(Url::parse(text), expect, "{text}");
        }
    }
}
