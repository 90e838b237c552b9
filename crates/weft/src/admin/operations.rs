//! What the admin API offers: one table, from which the router and the OpenAPI document are made.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, FromRequest, Path, Request, State,
        rejection::{BytesRejection, FailedToBufferBody},
    },
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use http::{StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use weft_discovery::{Endpoint, Service};
use weft_kernel::{Code, SystemClock};
use weft_messages::schema::{
    self, Member, Object, Shape,
    text::{self, Kind},
};
use weft_resilience::breaker::Mode;
use weft_telemetry::metrics::CONTENT_TYPE;

use super::{
    BODY_BYTES_MAX,
    explain::{Asked, explain},
    openapi,
    problem::Problem,
    view::{RouteView, ServiceSummary, ServiceView},
};
use crate::{config::print, node::Node};

pub(super) type App = Arc<Node>;
type Answer = Result<Response, Problem>;

/// One operation.
pub(super) struct Operation {
    pub(super) id: &'static str,
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) about: &'static str,
    /// What its body may be.
    pub(super) takes: Option<&'static Shape>,
    pub(super) gives: &'static str,
    pub(super) media: &'static str,
    /// Whether it is answered without a token.
    pub(super) open: bool,
    handler: MethodRouter<App>,
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

/// Everything that is offered.
pub(super) fn operations() -> Vec<Operation> {
    let read = |id, path, about, gives, handler| Operation {
        id,
        method: "GET",
        path,
        about,
        takes: None,
        gives,
        media: JSON,
        open: false,
        handler,
    };
    let act = |id, path, about, takes, gives, handler| Operation {
        id,
        method: "POST",
        path,
        about,
        takes,
        gives,
        media: JSON,
        open: false,
        handler,
    };
    let probe = |id, path, about, handler| Operation {
        media: TEXT,
        open: true,
        ..read(id, path, about, "string", handler)
    };
    vec![
        read("status", "/v1/status", "The state of the node.", "#Status", get(status)),
        read(
            "config",
            "/v1/config",
            "The configuration in force, with where each value came from; secrets are masked.",
            "#Config",
            get(config),
        ),
        read("listeners", "/v1/listeners", "Every listener.", "[#Listener]", get(listeners)),
        read("listener", "/v1/listeners/{name}", "A listener.", "#Listener", get(listener)),
        read("routes", "/v1/routes", "Every route, in order.", "[#Route]", get(routes)),
        read("route", "/v1/routes/{name}", "A route.", "#Route", get(route)),
        read("services", "/v1/services", "Every service.", "[#ServiceSummary]", get(services)),
        read(
            "service",
            "/v1/services/{name}",
            "A service, its endpoints and what protects it, now.",
            "#Service",
            get(service),
        ),
        act(
            "breaker",
            "/v1/services/{name}/breaker",
            "Sets the mode of the service breaker, which begins anew as closed.",
            Some(BreakerMode::SHAPE),
            "#Service",
            post(breaker),
        ),
        act(
            "drain",
            "/v1/services/{name}/endpoints/{endpoint}/drain",
            "Gives an endpoint no more requests; what is under way ends. By number or address.",
            None,
            "#Service",
            post(|app, path| by_hand(app, path, Hand::Drain)),
        ),
        act(
            "undrain",
            "/v1/services/{name}/endpoints/{endpoint}/undrain",
            "Gives a drained endpoint requests again.",
            None,
            "#Service",
            post(|app, path| by_hand(app, path, Hand::Undrain)),
        ),
        act(
            "isolate",
            "/v1/services/{name}/endpoints/{endpoint}/isolate",
            "Holds the breaker of an endpoint open until it is restored.",
            None,
            "#Service",
            post(|app, path| by_hand(app, path, Hand::Isolate)),
        ),
        act(
            "restore",
            "/v1/services/{name}/endpoints/{endpoint}/restore",
            "Lets the breaker of an endpoint decide by itself again.",
            None,
            "#Service",
            post(|app, path| by_hand(app, path, Hand::Restore)),
        ),
        act(
            "explain_route",
            "/v1/explain/route",
            "Which route a request would get, and why not another.",
            Some(Asked::SHAPE),
            "#Explained",
            post(explain_route),
        ),
        act(
            "reload",
            "/v1/reload",
            "Reads configuration and certificates anew; 409 if the configuration is refused.",
            None,
            "#Status",
            post(reload),
        ),
        read("openapi", "/v1/openapi.json", "This document.", "object", get(document)),
        probe("healthz", "/healthz", "Whether the control side answers.", get(healthz)),
        probe("readyz", "/readyz", "Whether the node takes connections; 503 if not.", get(readyz)),
        Operation {
            media: CONTENT_TYPE,
            ..read(
                "metrics",
                "/metrics",
                "Every metric as OpenMetrics text.",
                "string",
                get(metrics),
            )
        },
    ]
}

/// Whether a path is answered without a token.
pub(super) fn is_open(path: &str) -> bool {
    // Asked with each request: the paths themselves, so that no table is built for it.
    ["/healthz", "/readyz"].contains(&path)
}

/// Whether a path is one that those ask again and again who watch over the node.
pub(super) fn is_probe(path: &str) -> bool {
    is_open(path) || path == "/metrics"
}

/// The operations as a router.
pub(super) fn router(node: Arc<Node>) -> Router {
    operations()
        .into_iter()
        .fold(Router::new(), |router, operation| router.route(operation.path, operation.handler))
        .fallback(of_components)
        .method_not_allowed_fallback(async || {
            Problem::new(Code::MethodNotAllowed, "see /v1/openapi.json for what there is")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(node)
}

/// A body of JSON whose faults are told as problems, whatever media type it claims to be.
struct Body<T>(T);

/// What a body of the API is read as.
trait Shaped: DeserializeOwned {
    /// What the body may be.
    const SHAPE: &'static Shape;
}

impl Shaped for BreakerMode {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[Member::must(
        "mode",
        Shape::Words(&["enforce", "metrics_only", "isolated", "disabled"]),
    )]));
}

impl Shaped for Asked {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[
        Member::must("method", Shape::Text(&text::METHOD)),
        Member::must("url", Shape::Text(&URL)),
        Member::may("headers", Shape::Map(&Shape::Text(&FIELD_VALUE))),
        Member::may("listener", Shape::Text(&text::NAME)),
    ]));
}

/// The URL of a request, or its path.
const URL: Kind = Kind {
    word: "URL",
    what: "a URL such as https://shop.example/orders/7, or a path that begins with /",
    pattern: "(/[!-~]*|[Hh][Tt][Tt][Pp][Ss]?://[A-Za-z0-9._:-]+(/[!-~]*)?)",
    format: None,
    fits: |text| {
        let is_http = |(scheme, _): (&str, &str)| {
            ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        };
        text.starts_with('/') || text == "*" || text.split_once("://").is_some_and(is_http)
    },
};

/// The value of a header field.
const FIELD_VALUE: Kind = Kind {
    word: "text",
    what: "the value of a header field, without control characters",
    pattern: "([!-~]([ -~]*[!-~])?)?",
    format: None,
    fits: |text| !text.chars().any(|c| c.is_control() && c != '\t'),
};

impl<T: Shaped> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let bytes =
            Bytes::from_request(request, app).await.map_err(|rejection| match rejection {
                BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
                    Problem::new(Code::TooLarge, format!("more than {BODY_BYTES_MAX} bytes"))
                }
                other => Problem::new(Code::Invalid, other.body_text()),
            })?;
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            Problem::new(Code::Invalid, format!("the body is not JSON: {error}"))
        })?;
        schema::check(T::SHAPE, &value).map_err(|say| Problem::new(Code::Invalid, say))?;
        // What passes the shape can be read, but for a member that is there twice.
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|_error| Problem::new(Code::Invalid, "the body: a member is there twice"))
    }
}

fn json(value: impl serde::Serialize) -> Response {
    Json(value).into_response()
}

async fn status(State(node): State<App>) -> Response {
    json(node.status())
}

async fn config(State(node): State<App>) -> Response {
    let loaded = node.loaded();
    let tree = loaded.tree(&|name| std::env::var(name).ok());
    json(print::json(&tree, &loaded.sources))
}

async fn listeners(State(node): State<App>) -> Response {
    json(node.status().listeners)
}

async fn listener(State(node): State<App>, Path(name): Path<String>) -> Answer {
    let found = node.status().listeners.into_iter().find(|listener| listener.name == name);
    found.map(json).ok_or_else(|| Problem::no("listener", &name))
}

async fn routes(State(node): State<App>) -> Response {
    let loaded = node.loaded();
    json(loaded.plan.proxy.routes.iter().map(|route| RouteView::of(route)).collect::<Vec<_>>())
}

async fn route(State(node): State<App>, Path(name): Path<String>) -> Answer {
    let loaded = node.loaded();
    let routes = &loaded.plan.proxy.routes;
    let found = routes.iter().find(|route| route.name.as_str() == name);
    found.map(|route| json(RouteView::of(route))).ok_or_else(|| Problem::no("route", &name))
}

async fn services(State(node): State<App>) -> Response {
    let now = SystemClock::tick();
    let snapshot = node.current.load();
    let summary = |service: Arc<Service>| {
        let upstream = snapshot.services.get(service.name());
        ServiceSummary::of(&service, upstream.map(|upstream| &**upstream), now)
    };
    json(node.services.services().into_iter().map(summary).collect::<Vec<_>>())
}

async fn service(State(node): State<App>, Path(name): Path<String>) -> Answer {
    show(&node, &name)
}

/// A service as it is now: also the answer to whatever changes it.
fn show(node: &Node, name: &str) -> Answer {
    let missing = || Problem::no("service", name);
    let service = node.services.get(name).ok_or_else(missing)?;
    let status = node.services.status_of(name).ok_or_else(missing)?;
    let snapshot = node.current.load();
    let upstream = snapshot.services.get(service.name()).map(|upstream| &**upstream);
    let (loaded, now) = (node.loaded(), SystemClock::tick());
    Ok(json(ServiceView::of(&service, status, upstream, &loaded.plan.proxy, now)))
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

async fn breaker(
    State(node): State<App>,
    Path(name): Path<String>,
    Body(asked): Body<BreakerMode>,
) -> Answer {
    {
        let snapshot = node.current.load();
        let upstream =
            snapshot.services.get(name.as_str()).ok_or_else(|| Problem::no("service", &name))?;
        let breaker = upstream.breaker.as_ref().ok_or_else(|| {
            Problem::new(Code::Conflict, format!("service `{name}` has no breaker configured"))
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
    show(&node, &name)
}

/// What is done to an endpoint by hand.
#[derive(Clone, Copy, Debug)]
enum Hand {
    Drain,
    Undrain,
    Isolate,
    Restore,
}

async fn by_hand(
    State(node): State<App>,
    Path((name, endpoint)): Path<(String, String)>,
    hand: Hand,
) -> Answer {
    let service = node.services.get(&name).ok_or_else(|| Problem::no("service", &name))?;
    let endpoint = find(&service, &endpoint)?;
    let gone = || Problem::no("endpoint", endpoint.label());
    match hand {
        Hand::Drain | Hand::Undrain => {
            let drained = matches!(hand, Hand::Drain);
            node.services.drain(endpoint.id(), drained).ok_or_else(gone)?;
        }
        Hand::Isolate | Hand::Restore => {
            let ejection = endpoint.ejection().ok_or_else(|| {
                let what = "its breaker is off, and it can only be drained";
                Problem::new(Code::Conflict, format!("endpoint {}: {what}", endpoint.label()))
            })?;
            match hand {
                Hand::Isolate => ejection.force_out(),
                _ => ejection.unforce(),
            }
        }
    }
    tracing::info!(service = %name, endpoint = %endpoint.label(), ?hand, "endpoint set by hand");
    show(&node, &name)
}

/// An endpoint by its number or its address.
fn find(service: &Service, asked: &str) -> Result<Arc<Endpoint>, Problem> {
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
        (None, _) => Err(Problem::no("endpoint", asked)),
        (Some(_), Some(_)) => {
            let what = format!("several endpoints listen at {asked}: name one by its number");
            Err(Problem::new(Code::Conflict, what))
        }
    }
}

async fn explain_route(State(node): State<App>, Body(asked): Body<Asked>) -> Answer {
    let (loaded, snapshot) = (node.loaded(), node.current.load_full());
    if let Some(name) = &asked.listener
        && !loaded.plan.proxy.listeners.iter().any(|one| one.name.as_str() == name)
    {
        return Err(Problem::no("listener", name));
    }
    let table = |listener: &weft_proxy::plan::Listener| {
        Some(&*snapshot.listeners.get(&listener.name)?.table)
    };
    let explained = explain(&loaded.plan.proxy, table, &asked);
    explained.map(json).map_err(|what| Problem::new(Code::Invalid, what))
}

async fn reload(State(node): State<App>) -> Answer {
    match node.reload().await {
        Ok(()) => Ok(json(node.status())),
        Err(why) => {
            let what = format!("the last good configuration stays in force: {why}");
            Err(Problem::new(Code::Conflict, what))
        }
    }
}

/// Answers what the node's own operations do not.
async fn of_components(State(node): State<App>, request: Request) -> Response {
    let answered = node.components.answer(request).await;
    answered.unwrap_or_else(|| {
        Problem::new(Code::NotFound, "see /v1/openapi.json for what there is").into_response()
    })
}

async fn document(State(node): State<App>) -> Response {
    json(openapi::document(&operations(), |paths| node.components.describe(paths)))
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(node): State<App>) -> (StatusCode, String) {
    if node.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned())
    } else if let Err(error) = node.components.health() {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", error.reason().word()))
    } else {
        (StatusCode::OK, "ready\n".to_owned())
    }
}

async fn metrics(State(node): State<App>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], node.metrics.encode()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_what_the_table_says() {
        for operation in operations() {
            assert_eq!(operation.open, is_open(operation.path), "{}", operation.path);
        }
    }
}
