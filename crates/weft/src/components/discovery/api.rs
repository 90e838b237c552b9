//! The operations of services and endpoints: what they are like now, and what is done to them by hand.

use std::sync::Arc;

use serde::Deserialize;
use weft_api::{
    Ask, Body, Noun, Permission, Response, Row, Verb,
    body::Nothing,
    get, post,
    schema::{Member, Object, Parameter, Shape, text},
};
use weft_discovery::{Endpoint, Service, Services};
use weft_kernel::{Error, Reason, Result, SystemClock};
use weft_resilience::breaker::Mode;

use super::view::{ServiceSummary, ServiceView};
use crate::{admin::no, node::Node};

/// The services, and the node that has them.
pub struct Seen {
    pub(super) services: Arc<Services>,
    pub(super) node: Arc<Node>,
}

/// A service.
pub static SERVICE: Noun = Noun {
    name: "service",
    about: "named sets of running instances, whose endpoints are taken out and back",
};

/// The place of an endpoint in a path.
const ENDPOINT: &[Parameter] = &[Parameter {
    name: "endpoint",
    about: "The address of an endpoint, or its number where several share one.",
    shape: Shape::Text(&text::NAME),
    required: true,
}];

/// Makes a handler that does something to an endpoint.
macro_rules! hand {
    ($id:literal, $about:literal, $hand:ident) => {
        post(
            $id,
            concat!("/v1/services/{name}/endpoints/{endpoint}/", $id),
            $about,
            Permission::Manage,
            |ask| Box::pin(by_hand(ask, Hand::$hand)),
        )
        .places(ENDPOINT)
        .takes::<Nothing>()
        .shows::<ServiceView>()
        .refuses(&[Reason::NotFound, Reason::Conflict])
    };
}

/// What is offered.
pub static OPERATIONS: &[Row<Seen>] = &[
    get("services", "/v1/services", "Every service.", Permission::Read, |ask| {
        Box::pin(services(ask))
    })
    .shows::<Vec<ServiceSummary>>()
    .verb(&SERVICE, Verb::List { help: "Every service", member: "", columns: &[] }),
    get(
        "service",
        "/v1/services/{name}",
        "A service, its endpoints and what protects it, now.",
        Permission::Read,
        |ask| Box::pin(async move { show(ask.state, ask.names.at(0)) }),
    )
    .shows::<ServiceView>()
    .refuses(&[Reason::NotFound])
    .verb(&SERVICE, Verb::Show { help: "One service: its endpoints, breaker and limits" }),
    post(
        "breaker",
        "/v1/services/{name}/breaker",
        "Sets the mode of the service breaker, which begins anew as closed.",
        Permission::Manage,
        |ask| Box::pin(breaker(ask)),
    )
    .takes_media(const { &[(weft_api::response::JSON, BreakerMode::SHAPE)] }, BODY_BYTES_MAX)
    .shows::<ServiceView>()
    .refuses(&[Reason::NotFound, Reason::Conflict]),
    hand!(
        "drain",
        "Gives an endpoint no more requests; what is under way ends. By number or address.",
        Drain
    ),
    hand!("undrain", "Gives a drained endpoint requests again.", Undrain),
    hand!("isolate", "Holds the breaker of an endpoint open until it is restored.", Isolate),
    hand!("restore", "Lets the breaker of an endpoint decide by itself again.", Restore),
];

/// The most bytes of a request body.
const BODY_BYTES_MAX: usize = 64 * 1024;

async fn services(ask: Ask<'_, Seen>) -> Result<Response> {
    let now = SystemClock::tick();
    let snapshot = ask.state.node.current.load();
    let summary = |service: Arc<Service>| {
        let upstream = snapshot.services.get(service.name());
        ServiceSummary::of(&service, upstream.map(|upstream| &**upstream), now)
    };
    let services = ask.state.services.services();
    Response::json(200, &services.into_iter().map(summary).collect::<Vec<_>>())
}

/// A service as it is now: also the answer to whatever changes it.
fn show(seen: &Seen, name: &str) -> Result<Response> {
    let missing = || no("service", name);
    let service = seen.services.get(name).ok_or_else(missing)?;
    let status = seen.services.status_of(name).ok_or_else(missing)?;
    let snapshot = seen.node.current.load();
    let upstream = snapshot.services.get(service.name()).map(|upstream| &**upstream);
    let (loaded, now) = (seen.node.loaded(), SystemClock::tick());
    let view = ServiceView::of(&service, status, upstream, &loaded.plan.proxy, now);
    Response::json(200, &view)
}

/// How a breaker is to behave.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BreakerMode {
    mode: ModeWord,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ModeWord {
    Enforce,
    MetricsOnly,
    Isolated,
    Disabled,
}

impl Body for BreakerMode {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[Member::must(
        "mode",
        Shape::Words(&["enforce", "metrics_only", "isolated", "disabled"]),
    )]));
}

async fn breaker(ask: Ask<'_, Seen>) -> Result<Response> {
    let asked: BreakerMode = ask.body()?;
    let name = ask.names.at(0);
    {
        let snapshot = ask.state.node.current.load();
        let upstream = snapshot.services.get(name).ok_or_else(|| no("service", name))?;
        let breaker = upstream.breaker.as_ref().ok_or_else(|| {
            Error::new(Reason::Conflict, format!("service `{name}` has no breaker configured"))
        })?;
        let mode = match asked.mode {
            ModeWord::Enforce => Mode::Enforce,
            ModeWord::MetricsOnly => Mode::MetricsOnly,
            ModeWord::Isolated => Mode::Isolated,
            ModeWord::Disabled => Mode::Disabled,
        };
        breaker.set_mode(mode, SystemClock::tick());
        tracing::info!(service = %name, mode = mode.word(), "breaker set by hand");
    }
    show(ask.state, name)
}

/// What is done to an endpoint by hand.
#[derive(Clone, Copy, Debug)]
enum Hand {
    Drain,
    Undrain,
    Isolate,
    Restore,
}

async fn by_hand(ask: Ask<'_, Seen>, hand: Hand) -> Result<Response> {
    let Nothing {} = ask.body()?;
    let (name, services) = (ask.names.at(0), &ask.state.services);
    let service = services.get(name).ok_or_else(|| no("service", name))?;
    let endpoint = find(&service, ask.names.at(1))?;
    match hand {
        Hand::Drain | Hand::Undrain => {
            let drained = matches!(hand, Hand::Drain);
            let gone = || no("endpoint", endpoint.label());
            services.drain(endpoint.id(), drained).ok_or_else(gone)?;
        }
        Hand::Isolate | Hand::Restore => {
            let ejection = endpoint.ejection().ok_or_else(|| {
                let what = "its breaker is off, and it can only be drained";
                Error::new(Reason::Conflict, format!("endpoint {}: {what}", endpoint.label()))
            })?;
            match hand {
                Hand::Isolate => ejection.force_out(),
                _ => ejection.unforce(),
            }
        }
    }
    tracing::info!(service = %name, endpoint = %endpoint.label(), ?hand, "endpoint set by hand");
    show(ask.state, name)
}

/// An endpoint by its number or its address.
fn find(service: &Service, asked: &str) -> Result<Arc<Endpoint>> {
    let set = service.set();
    let number = asked.parse::<u64>().ok();
    let fits = |endpoint: &Endpoint| match number {
        Some(number) => endpoint.id() == number,
        None => &**endpoint.label() == asked,
    };
    let mut fitting =
        set.members().iter().map(|member| &member.endpoint).filter(|endpoint| fits(endpoint));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(Arc::clone(one)),
        (None, _) => Err(no("endpoint", asked)),
        (Some(_), Some(_)) => {
            let what = format!("several endpoints listen at {asked}: name one by its number");
            Err(Error::new(Reason::Conflict, what))
        }
    }
}
