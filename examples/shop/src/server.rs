//! One instance of one service: its routes, the socket, and how it ends.

use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use axum::{
    Json, Router,
    extract::{Request, State},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tonic::{body::Body, codegen::Service, server::NamedService};

use crate::{
    accounts,
    cli::{self, Serve},
    failure::Failure,
    inventory, invoices,
    knobs::{self, Instance, Setting},
    notifications, orders, payments, proto, shipping,
    upstream::Upstream,
    users,
};

/// How long requests in flight may take once the instance was asked to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT, then drains.
pub(crate) async fn run(service: cli::Service, options: Serve) -> Result<()> {
    let name = format!("{}-{}", service.word(), options.name);
    let setting = Setting {
        latency_ms: options.latency.as_secs_f64() * 1e3,
        jitter_ms: options.latency_jitter.as_secs_f64() * 1e3,
        fail_ratio: options.fail,
        hang: false,
    };
    let setting = setting.checked().map_err(|failure| anyhow::anyhow!(failure.detail))?;
    let me = Arc::new(Instance::new(name, setting, options.verbose)?);
    let (stop, stopped) = watch::channel(false);
    let routes = routes(service, &options, stopped).await?;
    let routes = routes
        .merge(
            Router::new()
                .route("/health", get(health))
                .route("/knobs", get(knobs::show).put(knobs::turn))
                .with_state(Arc::clone(&me)),
        )
        .fallback(nowhere)
        .layer(middleware::from_fn_with_state(Arc::clone(&me), knobs::gate));

    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("listen on {}", options.listen))?;
    // Whoever started the instance on port 0 reads its port from this line.
    println!("{} listens on {}", me.name(), listener.local_addr()?);
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let asked = async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        stop.send_replace(true);
    };
    let (late, mut began) = watch::channel(false);
    let serve = axum::serve(listener, routes).with_graceful_shutdown(async move {
        asked.await;
        late.send_replace(true);
    });
    tokio::select! {
        served = async { serve.await } => served.context("serve"),
        () = async {
            if began.wait_for(|asked| *asked).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(DRAIN).await;
        } => Ok(()),
    }
}

/// Waits until the instance was asked to end.
pub(crate) async fn end(stopped: &mut watch::Receiver<bool>) {
    // An error means that nobody can ask any more, which is an end too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// What the service offers, gRPC and REST side by side on one port.
async fn routes(
    service: cli::Service,
    options: &Serve,
    stopped: watch::Receiver<bool>,
) -> Result<Router> {
    Ok(match service {
        cli::Service::Users => with_grpc(Router::new(), users::service()).await?,
        cli::Service::Orders => {
            let orders = orders::Orders::new(Upstream::new(options.weft.clone()), stopped);
            with_grpc(orders::rest::routes(orders.clone()), orders::grpc::service(orders)).await?
        }
        cli::Service::Inventory => inventory::routes(),
        cli::Service::Payments => payments::routes(),
        cli::Service::Shipping => shipping::routes(options.amqp.clone(), stopped),
        cli::Service::Invoices => {
            let upstream = options.weft.clone().map(|weft| Upstream::new(Some(weft)));
            invoices::routes(upstream, stopped)
        }
        cli::Service::Notifications => notifications::routes(),
        cli::Service::Accounts => accounts::routes()?,
    })
}

/// Adds a gRPC service with health checks and reflection.
async fn with_grpc<S>(router: Router, service: S) -> Result<Router>
where
    S: Grpc,
{
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<S>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("gRPC reflection")?;
    let router = mount(router, service);
    let router = mount(router, health);
    Ok(mount(router, reflection))
}

/// Routes the methods of a gRPC service to it.
fn mount<S: Grpc>(router: Router, service: S) -> Router {
    router.route_service(&format!("/{}/{{*method}}", S::NAME), service)
}

/// A gRPC service as the router takes it: a name for a long bound.
trait Grpc:
    NamedService
    + Service<Request, Response = http::Response<Body>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Grpc for S where
    S: NamedService
        + Service<
            Request,
            Response = http::Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// `GET /health`
async fn health(State(me): State<Arc<Instance>>) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "ok", "instance": me.name() }))
}

/// What no route matches, refused in the words of its protocol.
async fn nowhere(request: Request) -> Response {
    let what = format!("there is nothing at {} {}", request.method(), request.uri().path());
    if knobs::is_grpc(&request) {
        return tonic::Status::unimplemented(what).into_http();
    }
    Failure::new(StatusCode::NOT_FOUND, what).into_response()
}
