//! The admin API: looks at a running node and steers it.
//!
//! It is served on the control runtime, so that no scrape or question ever meets a request. One table of
//! operations makes the router and the OpenAPI document. What was not done is told as problem+json.
//!
//! Invariants: a body has at most [`BODY_BYTES_MAX`] and ends in time, and at most [`CONNECTIONS_MAX`]
//! connections are open; with a token, everything but liveness and readiness needs it; without one, what
//! only a browser sends is refused; no secret is ever shown.
//!
//! Reading order: `operations`, [`view`], [`explain`](mod@explain), `guard`, `body`, `problem`, `openapi`.

mod body;
pub mod explain;
mod guard;
mod messages;
mod openapi;
mod operations;
mod problem;
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
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    task::JoinSet,
};
use tower::ServiceExt as _;
use weft_net::Address;

use crate::{config::leaf::Secret, node::Node};

/// The most bytes of a request body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The most connections at once, fewer where the process may open few files; more wait in the queue of the
/// socket.
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
    let most = CONNECTIONS_MAX.min(weft_net::descriptors::admin_max());
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < most => match accepted {
                Ok(connection) => {
                    connections.spawn(converse(connection, router.clone(), token.clone()));
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
async fn converse(connection: Box<dyn Connection>, router: Router, token: Option<Secret>) {
    let handover = messages::Handover::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(handover.clone());
        let refused = refuse(&request, token.as_ref());
        let router = router.clone();
        async move {
            match refused {
                Some(response) => Ok(response),
                None => {
                    router.oneshot(request.map(body::Timed::new)).await
                        as Result<Response, Infallible>
                }
            }
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .serve_connection(TokioIo::new(connection), service)
        .with_upgrades()
        .await;
    match served {
        Ok(()) => handover.talk().await,
        Err(error) => tracing::debug!(%error, "a connection of the admin API broke off"),
    }
}

/// The answer to who may not ask.
fn refuse(request: &Request<Incoming>, token: Option<&Secret>) -> Option<Response> {
    if operations::is_open(request.uri().path()) {
        return None;
    }
    let checked = guard::check(request.headers(), token.map(Secret::reveal));
    checked.err().map(IntoResponse::into_response)
}
