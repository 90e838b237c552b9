//! The edge as a component: the consumers of a node and the issuers that it believes, and the policies of routes
//! that ask for them.

pub mod authorization;
mod build;
mod callbacks;
pub mod cors;
pub mod cost;
pub mod external;
mod fetch;
pub mod limits;
pub mod plan;
pub mod policies;
pub mod sections;
pub mod security_headers;
pub mod service_credentials;
pub mod stores;

use std::{cell::LazyCell, collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::{join_all, join4};
use tokio::sync::Notify;
use weft_api::Row;
use weft_discovery::resolve::Hickory;
use weft_gateway::{
    AUTHENTICATION, AUTHORIZATION, Authentication, AuthorizationMaker, CORS, CorsMaker, Directory,
    EXTERNAL_AUTHORIZATION, ExternalMaker, Issuer, LOGIN_COOKIES, Login, LoginCookiesMaker, Maker,
    RATE_LIMITS, Roster, SECURITY_HEADERS, SERVICE_CREDENTIALS, SecurityHeadersMaker, TokenClient,
    TokenClients,
    authentication::Scheme,
    introspection::Introspection,
    issuer::Keys,
    jwks::{self, Remote},
    kept::Kept,
    login, rate_limit, token_client,
};
use weft_identity::ServerOptions;
use weft_kernel::{Name, SystemClock};
use weft_net::Stop;
use weft_proxy::Handlers;
use weft_telemetry::metrics::{Def, Kind, Writer};

use self::{fetch::Fetcher, stores::LimitStores};
use crate::{
    cli::verbs::OfTable,
    component::{Component, Host},
    config::{
        catalogue::{Checked, PolicyKey, Sections},
        problem::Problem,
        setting::{Cx, Field},
    },
    node::Node,
};

/// How often the limiters give back what floods of keys have left behind.
const TRIM: Duration = Duration::from_secs(30);

/// The makers of the policies of routes.
#[derive(Clone, Default)]
pub struct Locals {
    authentication: Maker,
    limits: rate_limit::Limiters,
    clients: TokenClients,
}

/// The consumers and issuers of a node, and the limits of its routes.
pub struct Gateway {
    authentication: Maker,
    limits: rate_limit::Limiters,
    clients: TokenClients,
    dns: Hickory,
    /// Consumers of the registry, who are found beside those of the configuration.
    kept: Arc<Kept>,
    /// The stores that limits of several nodes are counted in.
    stores: LimitStores,
    /// Rings when others are to be asked for keys, of tokens and for tokens.
    changed: Notify,
}

/// What is ready to be put in force.
#[derive(Default)]
pub struct Ready {
    roster: Roster,
    clients: HashMap<Name, Arc<TokenClient>>,
    stores: stores::Made,
}

static METRICS: [Def; 8] = [
    Def {
        name: "weft_introspections_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["issuer", "outcome"],
        help: "Questions to an issuer about a token, by outcome: `active`, `inactive` or `failed`.",
    },
    Def {
        name: "weft_introspections_waiting",
        kind: Kind::Gauge,
        unit: "",
        labels: &["issuer"],
        help: "Tokens that an issuer is asked about, or that wait for it.",
    },
    Def {
        name: "weft_issuer_fetches_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["issuer", "outcome"],
        help: "Fetches of the keys of an issuer, by outcome: `ok` or `failed`.",
    },
    Def {
        name: "weft_issuer_keys_age_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &["issuer"],
        help: "Time since the keys of an issuer were fetched; absent while there are none.",
    },
    Def {
        name: "weft_token_fetches_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["client", "outcome"],
        help: "Tokens that an OAuth client asked for, by outcome: `ok`, `refused` or `failed`.",
    },
    Def {
        name: "weft_token_fetches_waiting",
        kind: Kind::Gauge,
        unit: "",
        labels: &["client"],
        help: "Tokens that an OAuth client is asking for, or that wait for it.",
    },
    stores::QUESTIONS,
    stores::UP,
];

impl Gateway {
    /// The consumers of the configuration in force.
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.authentication.roster().consumers)
    }

    /// An OAuth client as it can be put in force: one that is there already stays, with its tokens.
    fn client(&self, options: &token_client::Options) -> Result<Arc<TokenClient>, String> {
        let now = self.clients.all();
        if let Some(there) = now.get(&options.name).filter(|there| there.options() == options) {
            return Ok(Arc::clone(there));
        }
        let fetcher = Fetcher::new(self.dns.clone(), options.ca_file.clone())
            .map_err(|error| format!("OAuth client {}: {error:#}", options.name))?;
        Ok(Arc::new(TokenClient::new(options.clone(), fetcher)))
    }

    /// An issuer as it can be put in force: a set of keys that is there already stays.
    fn issuer(&self, plan: &plan::Issuer, now: &Roster) -> Result<Issuer, String> {
        let fetcher = |ca_file: &Option<PathBuf>| {
            Fetcher::new(self.dns.clone(), ca_file.clone())
                .map_err(|error| format!("issuer {}: {error:#}", plan.name))
        };
        let keys = match &plan.keys {
            None => None,
            Some(plan::Keys::Fixed(keys)) => Some(Keys::Fixed(Arc::clone(keys))),
            Some(plan::Keys::Url { url, ca_file, cache, stale }) => {
                let options = jwks::Options {
                    issuer: plan.name.clone(),
                    url: url.clone(),
                    ca_file: ca_file.clone(),
                    algorithms: plan.rules.algorithms.clone(),
                    cache: *cache,
                    stale: *stale,
                };
                let there = now.remotes().find(|remote| *remote.options() == options);
                let remote = match there {
                    Some(remote) => Arc::clone(remote),
                    None => {
                        let generation = self.authentication.generation();
                        Arc::new(Remote::new(options, fetcher(ca_file)?, generation))
                    }
                };
                Some(Keys::Remote(remote))
            }
        };
        let introspection = match &plan.introspection {
            None => None,
            Some(options) => {
                let there = now.introspections().find(|there| there.options() == options);
                Some(match there {
                    Some(endpoint) => Arc::clone(endpoint),
                    None => {
                        let fetcher = fetcher(&options.ca_file)?;
                        Arc::new(Introspection::new(options.clone(), fetcher))
                    }
                })
            }
        };
        Ok(Issuer {
            name: plan.name.clone(),
            rules: plan.rules.clone(),
            audiences: plan.audiences.clone().map(Into::into),
            keys,
            introspection,
            consumer_claim: plan.consumer_claim.as_deref().map(Into::into),
            consumers: plan.consumers.as_slice().into(),
        })
    }
}

impl Gateway {
    /// A login as it can be put in force: one that is there already stays.
    fn login(&self, options: &login::Options, now: &Roster) -> Result<Arc<Login>, String> {
        if let Some(there) = now.logins.get(&options.name).filter(|it| it.options() == options) {
            return Ok(Arc::clone(there));
        }
        let fetcher = || {
            Fetcher::new(self.dns.clone(), options.ca_file.clone())
                .map_err(|error| format!("login {}: {error:#}", options.name))
        };
        let generation = self.authentication.generation();
        let post = fetcher()?.patient();
        Ok(Arc::new(Login::new(options.clone(), fetcher()?, post, generation)))
    }
}

impl Component for Gateway {
    type Plan = plan::Gateway;
    type Ready = Ready;
    type Fixed = ();
    type Locals = Locals;
    type Api = ();
    type Noun = OfTable<Self>;

    fn sections() -> &'static [Field] {
        sections::ALL
    }

    fn policies() -> &'static [PolicyKey] {
        &policies::ALL
    }

    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<plan::Gateway> {
        build::build(said, cx)
    }

    fn check(whole: &Checked<'_>, cx: &mut Cx) {
        // There may be very many, and few rules that name one.
        let consumers = LazyCell::new(|| whole.names(&sections::CONSUMERS));
        let issuers = whole.names(&sections::ISSUERS);
        let signature_keys = whole.names(&sections::SIGNATURE_KEYS);
        let logins = whole.names(&sections::logins::LOGINS);
        let built = Self::plan(whole.plan);
        let mut lacking = Vec::new();
        let mut unasked = Vec::new();
        for (route, place) in whole.routes() {
            external::check(route, place, whole, cx);
            if route.matches.iter().any(|of| !of.certificate.is_empty()) && !asks(whole, route) {
                let say = format!(
                    "route `{}` matches client certificates, and no listener that it is offered on asks for them",
                    route.name
                );
                let help = "say `client_auth` under `tls` of the listener";
                cx.report(Problem::error(place, say).help(help));
            }
            service_credentials::check(route, place, whole, cx);
            stores::check(route, place, whole, cx);
            let mut misses = |noun: &str, name: &str, there: Vec<&str>| {
                let say = format!(
                    "the authentication of route `{}` names {noun} `{name}`, which is not there",
                    route.name
                );
                cx.report(Problem::error(place, say).near(name, there));
            };
            let bindings = route.policy.policies.iter();
            let settings = bindings.filter(|binding| binding.handler == AUTHENTICATION);
            for of in settings.filter_map(|binding| binding.settings::<Authentication>().ok()) {
                let anonymous = of.anonymous.iter().map(Name::as_str);
                for name in anonymous.filter(|name| !consumers.contains(name)) {
                    misses("consumer", name, consumers.iter().map(|(name, _)| name).collect());
                }
                if of.methods.contains(&Scheme::ClientCertificate) && !asks(whole, route) {
                    let say = format!(
                        "route `{}` asks for client certificates, and no listener that it is offered on does",
                        route.name
                    );
                    let help = "say `client_auth` under `tls` of the listener";
                    unasked.push(Problem::error(place, say).help(help));
                }
                for method in &of.methods {
                    let (named, has, lacks): (_, fn(&plan::Issuer) -> bool, _) = match method {
                        Scheme::Jwt(method) => (&method.issuers, |it| it.keys.is_some(), "keys"),
                        Scheme::Introspection(method) => {
                            let has = |it: &plan::Issuer| it.introspection.is_some();
                            (&method.issuers, has, "introspection")
                        }
                        Scheme::Oidc(method) => {
                            let name = method.login.as_str();
                            if !logins.contains(name) {
                                misses(
                                    "login",
                                    name,
                                    logins.iter().map(|(name, _)| name).collect(),
                                );
                            }
                            continue;
                        }
                        Scheme::Signature(method) => {
                            for name in method
                                .keys
                                .iter()
                                .filter(|name| !signature_keys.contains(name.as_str()))
                            {
                                let there = signature_keys.iter().map(|(name, _)| name).collect();
                                misses("key of signatures", name.as_str(), there);
                            }
                            continue;
                        }
                        _ => continue,
                    };
                    for name in named {
                        if !issuers.contains(name.as_str()) {
                            let there = issuers.iter().map(|(name, _)| name).collect();
                            misses("issuer", name.as_str(), there);
                        } else if built.is_some_and(|all| all.lacks(name, has)) {
                            lacking.push((place, &route.name, name.clone(), lacks));
                        }
                    }
                }
            }
        }
        cx.problems.extend(unasked);
        if let Some(built) = built {
            callbacks::check(whole, built, cx);
        }
        for (place, route, issuer, lacks) in lacking {
            let say =
                format!("route `{route}` needs `{lacks}` of issuer `{issuer}`, which has none");
            cx.report(Problem::error(place, say));
        }
    }

    async fn open(_plan: &plan::Gateway, host: &Host, locals: &Locals) -> anyhow::Result<Self> {
        let Locals { authentication, limits, clients } = locals.clone();
        host.kept.tell(authentication.generation());
        let (dns, kept) = (host.dns.clone(), Arc::clone(&host.kept));
        let (stores, changed) = (LimitStores::default(), Notify::new());
        Ok(Self { authentication, limits, clients, dns, kept, stores, changed })
    }

    fn register(locals: &Locals, handlers: Handlers) -> Handlers {
        handlers
            .with_policy(AUTHENTICATION, locals.authentication.clone())
            .with_policy(RATE_LIMITS, locals.limits.clone())
            .with_policy(CORS, CorsMaker)
            .with_policy(LOGIN_COOKIES, LoginCookiesMaker)
            .with_policy(SECURITY_HEADERS, SecurityHeadersMaker)
            .with_policy(AUTHORIZATION, AuthorizationMaker)
            .with_policy(EXTERNAL_AUTHORIZATION, ExternalMaker)
            .with_policy(SERVICE_CREDENTIALS, locals.clients.clone())
    }

    fn fixed(_plan: Option<&plan::Gateway>) {}

    fn awaits_restart((): &(), _plan: Option<&plan::Gateway>) -> Vec<&'static str> {
        Vec::new()
    }

    async fn prepare(&self, plan: Option<&plan::Gateway>) -> Result<Ready, Vec<String>> {
        let Some(plan) = plan else { return Ok(Ready::default()) };
        let now = self.authentication.roster();
        plan.consumers.attach(Arc::clone(&self.kept));
        let mut roster = Roster {
            consumers: Arc::clone(&plan.consumers),
            signature_keys: Arc::clone(&plan.signature_keys),
            ..Roster::default()
        };
        let mut wrong = Vec::new();
        for issuer in &plan.issuers {
            match self.issuer(issuer, &now) {
                Ok(made) => {
                    roster.issuers.insert(issuer.name.clone(), Arc::new(made));
                }
                Err(why) => wrong.push(why),
            }
        }
        for options in &plan.logins {
            match self.login(options, &now) {
                Ok(login) => {
                    roster.logins.insert(options.name.clone(), login);
                }
                Err(why) => wrong.push(why),
            }
        }
        let mut clients = HashMap::new();
        for options in &plan.clients {
            match self.client(options) {
                Ok(client) => {
                    clients.insert(options.name.clone(), client);
                }
                Err(why) => wrong.push(why),
            }
        }
        let stores = self.stores.prepare(&plan.stores, &self.dns).unwrap_or_else(|faults| {
            wrong.extend(faults);
            stores::Made::new()
        });
        if wrong.is_empty() { Ok(Ready { roster, clients, stores }) } else { Err(wrong) }
    }

    async fn commit(&self, Ready { roster, clients, stores }: Ready) {
        self.authentication.replace(roster);
        self.clients.replace(clients);
        self.stores.commit(stores, self.limits.stores());
        self.changed.notify_one();
    }

    /// Keeps the keys of all issuers fresh, asks them about tokens, fetches tokens for services, asks stores about limits, and keeps the limiters
    /// small.
    async fn run(self: Arc<Self>, stop: Stop) {
        let refresh = async {
            loop {
                let (roster, clients) = (self.authentication.roster(), self.clients.all());
                let keys = join_all(roster.remotes().map(|remote| remote.refresh()));
                let tokens = join_all(roster.introspections().map(|endpoint| endpoint.run()));
                let fetches = join_all(clients.values().map(|client| client.run()));
                let logins = join_all(roster.logins.values().map(|login| login.run()));
                let all = join4(keys, tokens, fetches, logins);
                tokio::select! {
                    () = self.changed.notified() => {}
                    () = async { all.await; std::future::pending().await } => {}
                }
            }
        };
        let trim = async {
            loop {
                tokio::time::sleep(TRIM).await;
                self.limits.trim(SystemClock::tick());
            }
        };
        tokio::select! {
            () = refresh => {}
            () = self.stores.run() => {}
            () = trim => {}
            () = stop.closed() => {}
        }
    }

    fn metrics() -> &'static [Def] {
        &METRICS
    }

    fn measure(&self, to: &mut Writer) {
        let now = SystemClock::tick();
        let roster = self.authentication.roster();
        for endpoint in roster.introspections() {
            let (issuer, counts) = (endpoint.options().issuer.as_str(), endpoint.counts());
            for (outcome, count) in
                [("active", counts.good), ("inactive", counts.bad), ("failed", counts.failed)]
            {
                to.counter(&METRICS[0], &[("issuer", issuer), ("outcome", outcome)], count);
            }
            to.gauge(&METRICS[1], &[("issuer", issuer)], counts.waiting as f64);
        }
        let clients = self.clients.all();
        for (name, client) in clients.iter() {
            let (name, counts) = (name.as_str(), client.counts());
            for (outcome, count) in
                [("ok", counts.good), ("refused", counts.bad), ("failed", counts.failed)]
            {
                to.counter(&METRICS[4], &[("client", name), ("outcome", outcome)], count);
            }
            to.gauge(&METRICS[5], &[("client", name)], counts.waiting as f64);
        }
        let of_logins = roster.logins.values().map(|login| login.keys());
        for remote in roster.remotes().chain(of_logins) {
            let (fetched, failed, age) = remote.counts(now);
            let issuer = remote.options().issuer.as_str();
            for (outcome, count) in [("ok", fetched), ("failed", failed)] {
                to.counter(&METRICS[2], &[("issuer", issuer), ("outcome", outcome)], count);
            }
            if let Some(age) = age {
                to.gauge(&METRICS[3], &[("issuer", issuer)], age.as_secs_f64());
            }
        }
        self.stores.measure(&METRICS[6], &METRICS[7], to);
    }

    fn operations() -> &'static [Row<()>] {
        &[]
    }

    fn api(self: &Arc<Self>, _node: &Arc<Node>) {}
}

/// Whether a listener that a route is offered on asks clients for certificates.
fn asks(whole: &Checked<'_>, route: &weft_proxy::plan::Route) -> bool {
    whole.plan.sockets.iter().any(|socket| {
        let is_offered = route.listeners.is_empty() || route.listeners.contains(&socket.listener);
        let asks = |tls: &ServerOptions| {
            tls.client_auth.is_some() || tls.hosts.iter().any(|(_, auth)| auth.is_some())
        };
        is_offered && socket.tls.as_ref().is_some_and(asks)
    })
}
