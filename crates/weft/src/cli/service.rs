//! `weft service`: the services of a running node, and their endpoints taken out and back by hand.

use std::{fmt::Write, process::ExitCode};

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::Value;
use weft_api::Noun;

use super::{
    admin::{self, Admin, or_dash},
    verbs::{Named, Verbs},
};
use crate::components::discovery::{
    api::SERVICE,
    view::{EndpointView, ServiceSummary, ServiceView},
};

/// The noun of services.
#[derive(Clone, Debug)]
pub struct Services;

impl Named for Services {
    const NOUN: &'static Noun = &SERVICE;

    fn list(answer: Value) -> anyhow::Result<String> {
        Ok(list(&admin::read::<Vec<ServiceSummary>>(answer)?))
    }

    fn show(answer: Value) -> anyhow::Result<String> {
        Ok(one(&admin::read(answer)?))
    }
}

/// Services of a running node.
#[derive(Debug, Args)]
#[command(subcommand_precedence_over_arg = true)]
pub struct Service {
    #[command(subcommand)]
    verb: Option<Verbs<Services>>,
    /// Name of the service; all services otherwise.
    #[arg(value_name = "SERVICE")]
    name: Option<String>,
    /// Action on an endpoint of the service.
    #[arg(requires = "endpoint")]
    action: Option<Action>,
    /// Endpoint: its address, or its number where several share one.
    endpoint: Option<String>,
    #[command(flatten)]
    admin: Admin,
}

/// Action on an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Send no new requests to it; requests under way finish.
    Drain,
    /// Send requests to a drained endpoint again.
    Undrain,
    /// Hold its breaker open.
    Isolate,
    /// Let its breaker decide again.
    Restore,
}

impl Action {
    const fn word(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Isolate => "isolate",
            Self::Restore => "restore",
        }
    }
}

impl Service {
    /// Exits with 0 if it is there or was done, with 1 if not, with 2 if the node could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(verb) = self.verb {
            return verb.run(&self.admin);
        }
        let Some(name) = &self.name else {
            return self.admin.show(&Method::GET, "/v1/services", None, Services::list);
        };
        let path = format!("/v1/services/{}", admin::segment(name));
        match (self.action, &self.endpoint) {
            (Some(action), Some(endpoint)) => {
                let path =
                    format!("{path}/endpoints/{}/{}", admin::segment(endpoint), action.word());
                self.admin.show(&Method::POST, &path, None, Services::show)
            }
            _ => self.admin.show(&Method::GET, &path, None, Services::show),
        }
    }
}

fn list(services: &[ServiceSummary]) -> String {
    admin::table(
        &["service", "available", "active", "balancer", "breaker"],
        services.iter().map(|service| {
            let panicking = if service.panicking { " (panic)" } else { "" };
            [
                service.name.clone(),
                format!("{} of {}{panicking}", service.available, service.endpoints),
                service.active.to_string(),
                service.algorithm.clone(),
                or_dash(service.breaker.as_deref()),
            ]
        }),
    )
}

fn one(service: &ServiceView) -> String {
    let mut out = String::new();
    let mut line = |what: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{what:<12} {value}");
    };
    line("service", service.name.clone());
    line("routes", or_dash(Some(&service.routes.join(", "))));
    line("balancer", service.algorithm.clone());
    if service.panicking {
        line("panic", "so few endpoints are well that their checks are not believed".into());
    }
    if let Some(breaker) = &service.breaker {
        line(
            "breaker",
            format!(
                "{} ({}), {} calls{}, opened {} times, {} refused",
                breaker.state,
                breaker.mode,
                breaker.calls,
                breaker
                    .failure_ratio
                    .map_or(String::new(), |share| format!(", {:.0} % failed", share * 100.0)),
                breaker.opens,
                breaker.refusals,
            ),
        );
    }
    if let Some(of) = &service.concurrency {
        let shed = of.shed_critical + of.shed_default + of.shed_sheddable;
        line("concurrency", format!("{} of {}, {shed} shed", of.in_flight, of.limit));
    }
    if let Some(of) = &service.bulkhead {
        line(
            "bulkhead",
            format!(
                "{} of {}, {} wait, {} found it full",
                of.in_flight, of.in_flight_max, of.queued, of.full
            ),
        );
    }
    for of in &service.sources {
        let error = of.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
        line("source", format!("{} {}, {} endpoints{error}", of.name, of.state, of.endpoints));
    }
    out.push('\n');
    out.push_str(&admin::table(
        &["id", "endpoint", "state", "weight", "active", "requests", "failed", "latency", "check"],
        service.endpoints.iter().map(row),
    ));
    out
}

fn row(endpoint: &EndpointView) -> [String; 9] {
    let host = endpoint.hostname.as_ref().map_or(String::new(), |host| format!(" ({host})"));
    let check = endpoint.check.as_ref().map(|check| check.detail.as_str());
    [
        endpoint.id.to_string(),
        format!("{}{host}", endpoint.address),
        endpoint.state.clone(),
        endpoint.weight.to_string(),
        endpoint.active.to_string(),
        endpoint.requests.to_string(),
        endpoint.failures.to_string(),
        format!("{:.1} ms", endpoint.latency_ms),
        or_dash(check),
    ]
}
