//! The admin API: looks at a running node and steers it.
//!
//! It is served on the control runtime, so that no scrape or question ever meets a request. One table of
//! operations makes the router and the OpenAPI document. What was not done is told as problem+json.
//!
//! Invariants: a body has at most [`BODY_BYTES_MAX`] and ends in time; at most [`CONNECTIONS_MAX`] requests
//! are answered at once on a few more connections, and connections without a request keep nobody out; with a token, everything but liveness and readiness needs it; without one, what
//! only a browser sends is refused; no secret is ever shown.
//!
//! Reading order: `operations`, [`view`], [`explain`](mod@explain), `guard`, `seats`, `body`, `problem`,
//! `openapi`.

mod body;
pub mod explain;
mod guard;
mod openapi;
mod operations;
pub(crate) mod problem;
mod seats;
pub mod view;

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum::{Router, response::IntoResponse, response::Response};
use http::Request;
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    task::JoinSet,
};
use tower::ServiceExt as _;
use weft_kernel::Code;
use weft_net::Address;

use self::{
    problem::Problem,
    seats::{Answering, Seat, Seats, Turn},
};
use crate::{components::Handover, config::leaf::Secret, node::Node};

/// The most bytes of a request body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The most requests at once that are no probes, fewer where the process may open few files.
pub const CONNECTIONS_MAX: usize = 64;
/// Time for a header section to arrive, also on a connection that is kept.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// Time for what is under way when the API stops.
const STOP_TIME: Duration = Duration::from_secs(2);
/// The wait after a connection could not be accepted, as when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket of the admin API.
#[derive(Debug)]
pub enum Listener {
    /// An IP address and a port.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Where it listens, with the port that port 0 has become.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.into()),
            Self::Unix(listener) => {
                let address = listener.local_addr()?;
                Ok(Address::Unix(address.as_pathname().unwrap_or(Path::new("")).to_owned()))
            }
        }
    }

    /// Another descriptor of the same socket, to be handed to a successor.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Self::Unix(listener) => listener.as_fd().try_clone_to_owned(),
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// What bytes come and go by.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Opens the socket of the admin API. A Unix socket that nobody listens on any more is replaced; it is
/// for its owner alone.
pub async fn bind(address: &Address) -> anyhow::Result<Listener> {
    let place = || format!("the admin API cannot listen at {address}");
    match address {
        Address::Tcp(address) => {
            Ok(Listener::Tcp(TcpListener::bind(address).await.with_context(place)?))
        }
        Address::Unix(path) => {
            if UnixStream::connect(path)
                .await
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            {
                std::fs::remove_file(path).with_context(place)?;
            }
            let listener = UnixListener::bind(path).with_context(place)?;
            let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(path, owner).with_context(place)?;
            Ok(Listener::Unix(listener))
        }
    }
}

/// Takes over the socket of a former process, if it listens at `address`.
pub fn adopt(address: &Address, socket: OwnedFd) -> Option<Listener> {
    if weft_net::listen::address_of(&socket).as_ref() != Some(address) {
        return None;
    }
    match address {
        Address::Tcp(_) => TcpListener::from_std(socket.into()).ok().map(Listener::Tcp),
        Address::Unix(_) => UnixListener::from_std(socket.into()).ok().map(Listener::Unix),
    }
}

/// Serves the admin API until `stop` is ready, and what is then under way a little longer.
pub async fn serve(
    node: Arc<Node>,
    listener: Listener,
    token: Option<Secret>,
    stop: impl Future<Output = ()>,
) {
    let router = operations::router(node);
    let mut seats = Seats::new(CONNECTIONS_MAX, weft_net::descriptors::admin_max());
    let left = seats.left();
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let full = seats.is_full();
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            () = left.notified(), if full => {}
            accepted = listener.accept(), if !full => match accepted {
                Ok(connection) => {
                    let seat = seats.seat();
                    let served = converse(connection, router.clone(), token.clone(), seat.clone());
                    seats.take(seat, connections.spawn(served));
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin API could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    // What is kept alive without a request would hold the end up; dropping the set cuts it.
    let _ = tokio::time::timeout(STOP_TIME, ended).await;
}

/// Answers the requests of one connection.
async fn converse(
    connection: Box<dyn Connection>,
    router: Router,
    token: Option<Secret>,
    seat: Arc<Seat>,
) {
    let handover = Handover::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(handover.clone());
        let refused = refuse(&request, token.as_ref());
        let (router, seat) = (router.clone(), seat.clone());
        async move {
            let turn = seat.turn();
            if request.body().is_end_stream() {
                turn.begin();
            }
            let (response, place) = match refused {
                Some(response) => (response, None),
                None if operations::is_probe(request.uri().path()) => {
                    (answer(router, request, &turn).await, None)
                }
                None => match seat.place().await {
                    Some(place) => (answer(router, request, &turn).await, Some(place)),
                    None => (busy(), None),
                },
            };
            turn.begin();
            Ok::<_, Infallible>(response.map(|body| Answering { body, turn, _place: place }))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .serve_connection(TokioIo::new(connection), service)
        .with_upgrades()
        .await;
    match served {
        Ok(()) if handover.is_taken() => {
            // The answer that it began with has given its place back.
            let _place = seat.place_at_last().await;
            let turn = seat.turn();
            turn.begin();
            handover.talk().await;
        }
        Ok(()) => {}
        Err(error) => tracing::debug!(%error, "a connection of the admin API broke off"),
    }
}

/// Has the operation answer that a request is for.
async fn answer(router: Router, request: Request<Incoming>, turn: &Arc<Turn>) -> Response {
    let request = request.map(|body| body::Timed::new(body, turn.clone()));
    let answered: Result<Response, Infallible> = router.oneshot(request).await;
    answered.unwrap_or_else(|never| match never {})
}

/// The answer to one too many.
fn busy() -> Response {
    let say = format!("{CONNECTIONS_MAX} requests to the admin API are under way");
    Problem::new(Code::Overloaded, say).into_response()
}

/// The answer to who may not ask.
fn refuse(request: &Request<Incoming>, token: Option<&Secret>) -> Option<Response> {
    let headers = request.headers();
    if headers.get_all(http::header::HOST).iter().nth(1).is_some() {
        let problem = Problem::new(Code::Invalid, "the field Host is there more than once");
        return Some(problem.into_response());
    }
    if operations::is_open(request.uri().path()) {
        return None;
    }
    let host = request.uri().authority().map(http::uri::Authority::as_str);
    let checked = guard::check(headers, host, token.map(Secret::reveal));
    checked.err().map(IntoResponse::into_response)
}
