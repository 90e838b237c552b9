//! The operations of the node itself: its state, configuration, listeners and routes, and whether it is well.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use schemars::JsonSchema;
use serde_json::{Map, Value};
use weft_api::{
    Ask, Body, Gives, Noun, Permission, Response, Row, Verb,
    body::Nothing,
    get, post,
    response::JSON,
    schema::{
        Member, Object, Shape,
        text::{self, Kind},
    },
};
use weft_kernel::{Error, Reason, Result};

use super::{
    explain::{Asked, Explained, explain},
    explain_request::{self, AskedRequest, ExplainedRequest},
    view::RouteView,
};
use crate::{
    components::List as _,
    config::{load::Loaded, print},
    node::{ListenerStatus, Node, Status},
};

/// The most bytes of a request body.
const BODY_BYTES_MAX: usize = 64 * 1024;
const TEXT: &str = "text/plain; charset=utf-8";

/// A node, and the document of everything that it offers.
pub struct Admin {
    /// The node.
    pub node: Arc<Node>,
    /// The OpenAPI document, once it is written.
    pub document: Arc<OnceLock<Bytes>>,
}

/// A listener.
pub static LISTENER: Noun = Noun { name: "listener", about: "sockets that a node accepts on" };
/// A route.
pub static ROUTE: Noun = Noun { name: "route", about: "which requests go where" };

/// What the node itself offers.
pub static OPERATIONS: &[Row<Admin>] = &[
    get("status", "/v1/status", "The state of the node.", Permission::Read, |ask| {
        Box::pin(status(ask))
    })
    .shows::<Status>(),
    get(
        "config",
        "/v1/config",
        "The configuration in force, with where each value came from; secrets are masked.",
        Permission::Read,
        |ask| Box::pin(config(ask)),
    )
    .shows::<Config>(),
    get("listeners", "/v1/listeners", "Every listener.", Permission::Read, |ask| {
        Box::pin(listeners(ask))
    })
    .shows::<Vec<ListenerStatus>>()
    .verb(&LISTENER, Verb::List { help: "Every listener", member: "", columns: &[] }),
    get("listener", "/v1/listeners/{name}", "A listener.", Permission::Read, |ask| {
        Box::pin(listener(ask))
    })
    .shows::<ListenerStatus>()
    .refuses(&[Reason::NotFound])
    .verb(
        &LISTENER,
        Verb::Show { help: "One listener: its addresses, connections and certificates" },
    ),
    get("routes", "/v1/routes", "Every route, in order.", Permission::Read, |ask| {
        Box::pin(routes(ask))
    })
    .shows::<Vec<RouteView>>()
    .verb(&ROUTE, Verb::List { help: "Every route", member: "", columns: &[] }),
    get("route", "/v1/routes/{name}", "A route.", Permission::Read, |ask| Box::pin(route(ask)))
        .shows::<RouteView>()
        .refuses(&[Reason::NotFound])
        .verb(&ROUTE, Verb::Show { help: "One route: its matches, target and limits" }),
    post(
        "explain_route",
        "/v1/explain/route",
        "Which route a request would get, and why not another.",
        Permission::Read,
        |ask| Box::pin(explain_route(ask)),
    )
    .takes_media(const { &[(JSON, Asked::SHAPE)] }, BODY_BYTES_MAX)
    .shows::<Explained>()
    .refuses(&[Reason::NotFound]),
    post(
        "explain_request",
        "/v1/explain/request",
        "What would become of a request: its route, and what each policy of that would decide.",
        Permission::Read,
        |ask| Box::pin(explain_request(ask)),
    )
    .takes_media(const { &[(JSON, AskedRequest::SHAPE)] }, BODY_BYTES_MAX)
    .shows::<ExplainedRequest>()
    .refuses(&[Reason::NotFound]),
    post(
        "reload",
        "/v1/reload",
        "Reads configuration and certificates anew; 409 if the configuration is refused.",
        Permission::Manage,
        |ask| Box::pin(reload(ask)),
    )
    .takes::<Nothing>()
    .shows::<Status>()
    .refuses(&[Reason::Conflict]),
    get("openapi", "/v1/openapi.json", "This document.", Permission::Read, |ask| {
        Box::pin(document(ask))
    })
    .shows::<Map<String, Value>>(),
    get("healthz", "/healthz", "Whether the control side answers.", Permission::Read, |_| {
        Box::pin(async { Ok(Response::of(200, TEXT, "ok\n")) })
    })
    .gives(&[Gives::media(200, "text/plain")])
    .open()
    .probe(),
    get(
        "readyz",
        "/readyz",
        "Whether the node takes connections; 503 if not.",
        Permission::Read,
        |ask| Box::pin(readyz(ask)),
    )
    .gives(&[Gives::media(200, "text/plain"), Gives::media(503, "text/plain")])
    .open()
    .probe(),
];

/// A configuration: every value, and where it came from.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is written as a tree, and only its schema is used")]
struct Config {
    /// Values.
    value: Map<String, Value>,
    /// Origin of each value, by JSON pointer.
    origins: Map<String, Value>,
}

impl Body for Asked {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[
        Member::must("method", Shape::Text(&text::METHOD)),
        Member::must("url", Shape::Text(&URL)),
        Member::may("headers", Shape::Map(&Shape::Text(&FIELD_VALUE))),
        Member::may("listener", Shape::Text(&text::NAME)),
    ]));
}

impl Body for AskedRequest {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[
        Member::must("method", Shape::Text(&text::METHOD)),
        Member::must("url", Shape::Text(&URL)),
        Member::may("headers", Shape::Map(&Shape::Text(&FIELD_VALUE))),
        Member::may("listener", Shape::Text(&text::NAME)),
        Member::may("client", Shape::Text(&CLIENT)),
    ]));
}

/// The address of a client.
const CLIENT: Kind = Kind {
    word: "address",
    what: "an IP address such as 192.0.2.1 or 2001:db8::1",
    pattern: "[0-9A-Fa-f:.]+",
    format: None,
    fits: |text| text.parse::<std::net::IpAddr>().is_ok(),
};

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

/// That nothing has a name.
pub(crate) fn no(noun: &str, name: &str) -> Error {
    Error::new(Reason::NotFound, format!("there is no {noun} `{name}`"))
}

/// A page of what was found when one more was asked for than the page holds, and the name of its last if there is
/// more.
pub(crate) fn page<T>(
    mut found: Vec<T>,
    max: usize,
    name: impl Fn(&T) -> String,
) -> (Vec<T>, Option<String>) {
    let is_more = found.len() > max;
    found.truncate(max);
    let next = found.last().filter(|_| is_more).map(name);
    (found, next)
}

async fn status(ask: Ask<'_, Admin>) -> Result<Response> {
    Response::json(200, &ask.state.node.status())
}

async fn config(ask: Ask<'_, Admin>) -> Result<Response> {
    let loaded = ask.state.node.loaded();
    Response::json(200, &print::json(&loaded, &|name| std::env::var(name).ok()))
}

async fn listeners(ask: Ask<'_, Admin>) -> Result<Response> {
    Response::json(200, &ask.state.node.status().listeners)
}

async fn listener(ask: Ask<'_, Admin>) -> Result<Response> {
    let name = ask.names.at(0);
    let listeners = ask.state.node.status().listeners;
    let found = listeners.iter().find(|listener| listener.name == name);
    Response::json(200, found.ok_or_else(|| no("listener", name))?)
}

async fn routes(ask: Ask<'_, Admin>) -> Result<Response> {
    let loaded = ask.state.node.loaded();
    let routes = loaded.plan.proxy.routes.iter();
    Response::json(200, &routes.map(|route| RouteView::of(route)).collect::<Vec<_>>())
}

async fn route(ask: Ask<'_, Admin>) -> Result<Response> {
    let (name, loaded) = (ask.names.at(0), ask.state.node.loaded());
    let found = loaded.plan.proxy.routes.iter().find(|route| route.name.as_str() == name);
    Response::json(200, &RouteView::of(found.ok_or_else(|| no("route", name))?))
}

async fn explain_route(ask: Ask<'_, Admin>) -> Result<Response> {
    let asked: Asked = ask.body()?;
    let node = &ask.state.node;
    let (loaded, snapshot) = (node.loaded(), node.current.load_full());
    check_listener(&loaded, asked.listener.as_deref())?;
    let table = |listener: &weft_proxy::plan::Listener| {
        Some(&*snapshot.listeners.get(&listener.name)?.table)
    };
    let explained = explain(&loaded.plan.proxy, table, &asked)
        .map_err(|what| Error::new(Reason::MalformedRequest, what))?;
    Response::json(200, &explained)
}

async fn explain_request(ask: Ask<'_, Admin>) -> Result<Response> {
    let asked: AskedRequest = ask.body()?;
    let node = &ask.state.node;
    let (loaded, snapshot) = (node.loaded(), node.current.load_full());
    check_listener(&loaded, asked.listener.as_deref())?;
    let explained = explain_request::explain(&loaded.plan.proxy, &snapshot, asked)
        .map_err(|what| Error::new(Reason::MalformedRequest, what))?;
    Response::json(200, &explained)
}

/// Checks that a listener is there.
fn check_listener(loaded: &Loaded, name: Option<&str>) -> Result<()> {
    let Some(name) = name else { return Ok(()) };
    let mut all = loaded.plan.proxy.listeners.iter();
    match all.any(|one| one.name.as_str() == name) {
        true => Ok(()),
        false => Err(no("listener", name)),
    }
}

async fn reload(ask: Ask<'_, Admin>) -> Result<Response> {
    let Nothing {} = ask.body()?;
    let node = &ask.state.node;
    node.reload().await.map_err(|why| {
        let what = format!("the last good configuration stays in force: {why}");
        Error::new(Reason::Conflict, what)
    })?;
    Response::json(200, &node.status())
}

async fn document(ask: Ask<'_, Admin>) -> Result<Response> {
    let document = ask.state.document.get().cloned().unwrap_or_default();
    Ok(Response::of(200, JSON, document))
}

async fn readyz(ask: Ask<'_, Admin>) -> Result<Response> {
    let node = &ask.state.node;
    let (status, text) = if node.is_draining() {
        (503, "draining\n".to_owned())
    } else if let Err(error) = node.components.health() {
        (503, format!("{}\n", error.reason().word()))
    } else {
        (200, "ready\n".to_owned())
    };
    Ok(Response::of(status, TEXT, text))
}
