//! The policies of routes about whose requests somebody else decides, and the internal routes by which that one is
//! asked.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use weft_gateway::{
    EXTERNAL_AUTHORIZATION, ExternalAuthorization,
    external::{Ask, may_change, route},
};
use weft_kernel::{ByteSize, Name};
use weft_proxy::plan::{self as proxy, Binding};
use weft_resilience::timeout;

use crate::config::{
    catalogue::{Checked, KeyOf, PolicyKey, Sections},
    leaf::{Many, Pairs, Span, Switch, Whole},
    problem::Problem,
    setting::{At, Cx, settings, words},
    source::Place,
    text::HeaderName,
};

/// The longest time for which a request may wait for a decision.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// The largest body that may be shown to the one that decides.
const BODY_BYTES_MAX: u64 = 16 << 20;

const KEY: KeyOf<Switch<Whole<ExternalSection>>> = KeyOf::new(
    "external_authorization",
    "External authorization: a service that is asked whether a request is allowed.",
)
.or("off");

/// Their key in a policy.
pub(super) const EXTERNAL_AUTHORIZATION_KEY: PolicyKey = PolicyKey {
    field: KEY.field(),
    build: |policy, cx| match KEY.read(policy, cx)? {
        Switch::On(Whole(section)) => {
            section.build(cx).map(|settings| Binding::new(EXTERNAL_AUTHORIZATION, settings))
        }
        Switch::Off => None,
    },
};

words! {
    /// Protocol by which a service is asked to decide.
    pub enum AskBy {
        /// plain requests; any 2xx allows
        Http = "http",
        /// Envoy's `envoy.service.auth.v3.Authorization/Check`
        Grpc = "grpc",
    }
}

words! {
    /// What becomes of a request about which there is no decision.
    pub enum OnFailure {
        /// it is refused with 503
        Closed = "closed",
        /// it goes on
        Open = "open",
    }
}

settings! {
    /// External authorization. Over HTTP, any 2xx allows; what else is answered is what the client gets, except
    /// 5xx, which decides nothing.
    pub struct ExternalSection = "external authorization", short "service" {
        /// Service that decides; over gRPC it must speak HTTP/2.
        service: Name,
        /// Protocol by which it is asked.
        protocol: AskBy = "http",
        /// Path that is asked, with GET, or POST where it is shown a body; method, host and URI of the request are
        /// in `X-Forwarded-Method`, `X-Forwarded-Host` and `X-Forwarded-Uri`. `/` if it is left out.
        path: Option<At<String>>,
        /// Path that is put before that of the request, which is asked with its own method. Excludes `path`.
        path_prefix: Option<At<String>>,
        /// Headers of the request that it is shown; all of them if none is named.
        headers: Many<HeaderName>,
        /// Headers of its answer that the service behind is told, and the only ones that it may add. What a client
        /// sends under these names, and under those that read like them, is taken off.
        service_headers: Many<At<HeaderName>>,
        /// Headers of its answer over HTTP that the client gets with the response.
        client_headers: Many<At<HeaderName>>,
        /// Largest body that it is shown; a longer one is refused with 413. Without it, it is shown none.
        body_max: Option<At<ByteSize>>,
        /// Words that it is told beside the request, over gRPC (`context_extensions`).
        context: Pairs<String, String>,
        /// Time for its answer.
        timeout: At<Span> = "1s",
        /// What becomes of a request about which there is no decision.
        on_failure: OnFailure = "closed",
    }
}

impl ExternalSection {
    fn build(&self, cx: &mut Cx) -> Option<ExternalAuthorization> {
        let is_grpc = matches!(self.protocol, AskBy::Grpc);
        let of_http = [
            (self.path.as_ref().map(|path| path.place), "path"),
            (self.path_prefix.as_ref().map(|prefix| prefix.place), "path_prefix"),
            (self.client_headers.first().map(|name| name.place), "client_headers"),
        ];
        if let Some((place, key)) =
            of_http.iter().find_map(|(place, key)| Some(((*place)?, key))).filter(|_| is_grpc)
        {
            let say =
                format!("`{key}` is for `protocol: http`: over gRPC the answer itself says it");
            cx.report(Problem::error(place, say));
            return None;
        }
        if !self.context.0.is_empty() && !is_grpc {
            cx.report(Problem::error(self.place, "`context` is for `protocol: grpc`"));
            return None;
        }
        let ask = match (&self.path, &self.path_prefix) {
            _ if is_grpc => Ask::Grpc(self.context.0.clone()),
            (Some(_), Some(prefix)) => {
                let say = "`path` and `path_prefix` exclude each other";
                cx.report(Problem::error(prefix.place, say));
                return None;
            }
            (Some(path), None) => Ask::Path(target(path, cx)?),
            (None, Some(prefix)) => Ask::Prefix(target(prefix, cx)?),
            (None, None) => Ask::Path("/".into()),
        };
        let both = [&self.service_headers, &self.client_headers];
        for name in both.into_iter().flat_map(|names| names.iter()) {
            if !may_change(name.0.as_str()) {
                let say = format!("`{}` is not for others to say", name.0.as_str());
                cx.report(Problem::error(name.place, say));
                return None;
            }
        }
        if self.timeout.0.is_zero() || self.timeout.0 > TIMEOUT_MAX {
            let say = "a decision takes more than nothing and at most 60s";
            cx.report(Problem::error(self.timeout.place, say));
            return None;
        }
        let too_large = self.body_max.as_ref().filter(|most| most.0 > BODY_BYTES_MAX);
        if let Some(most) = too_large {
            let say = format!("at most {} of a body are shown", ByteSize(BODY_BYTES_MAX));
            cx.report(Problem::error(most.place, say));
            return None;
        }
        let at = |names: &Many<At<HeaderName>>| {
            names.iter().map(|name| name.0.as_str().into()).collect()
        };
        Some(ExternalAuthorization {
            service: self.service.clone(),
            ask,
            shown: self.headers.iter().map(|name| name.0.as_str().into()).collect(),
            to_service: at(&self.service_headers),
            to_client: at(&self.client_headers),
            body_bytes_max: self.body_max.as_ref().and_then(|most| usize::try_from(most.0).ok()),
            timeout: self.timeout.0,
            opens: matches!(self.on_failure, OnFailure::Open),
        })
    }
}

/// A path that can be asked.
fn target(said: &At<String>, cx: &mut Cx) -> Option<Box<str>> {
    let fits = said.starts_with('/') && said.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
    if !fits || said.contains('#') {
        let say = "expected a path such as /verify, with what is not ASCII escaped";
        cx.report(Problem::error(said.place, say));
        return None;
    }
    Some(said.as_str().into())
}

/// Checks that the service is there by which a route's requests are decided about.
pub(super) fn check(route: &proxy::Route, place: Place, whole: &Checked<'_>, cx: &mut Cx) {
    let bindings = route.policy.policies.iter();
    let ours = bindings.filter(|binding| binding.handler == EXTERNAL_AUTHORIZATION);
    for of in ours.filter_map(|binding| binding.settings::<ExternalAuthorization>().ok()) {
        let name = of.service.as_str();
        let there = whole.plan.proxy.services.iter().map(|service| service.discovery.name.as_str());
        if !there.clone().any(|service| service == name) {
            let say = format!(
                "the external authorization of route `{}` names service `{name}`, which is not there",
                route.name
            );
            cx.report(Problem::error(place, say).near(name, there));
        }
    }
}

/// Adds the internal routes to the services that are asked.
pub(super) fn lead(said: &mut Sections<'_>) {
    let routes = said.proxy.routes.iter();
    let bindings = routes.flat_map(|route| route.policy.policies.iter());
    let ours = bindings.filter(|binding| binding.handler == EXTERNAL_AUTHORIZATION);
    let asked: BTreeSet<Name> = ours
        .filter_map(|binding| binding.settings::<ExternalAuthorization>().ok())
        .map(|settings| settings.service)
        .filter(|service| said.services().contains(service.as_str()))
        .collect();
    for service in asked {
        said.lead(route_to(service));
    }
}

/// An internal route to a service that decides. Each question has a time of its own.
fn route_to(service: Name) -> proxy::Route {
    let policy = proxy::RoutePolicies {
        timeout: timeout::Options { request: Some(TIMEOUT_MAX), ..timeout::Options::default() },
        body_bytes_max: proxy::BodyLimit(None),
        ..proxy::RoutePolicies::default()
    };
    proxy::Route {
        name: route(&service),
        listeners: Vec::new(),
        is_internal: true,
        matches: Vec::new(),
        policy: Arc::new(policy),
        rewrite: proxy::Rewrite::default(),
        target: proxy::Target::Services(vec![proxy::Weighted { service, weight: 1 }]),
    }
}
