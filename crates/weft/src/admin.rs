//! The admin API: the socket on which the table of operations is offered, and who may use it.
//!
//! It is served on the control runtime, so that no scrape or question ever meets a request. What is offered
//! is the node's own rows (`operations`) and those of the components, in one [`weft_api::Table`].
//!
//! Invariants: a body is as large as its operation says and ends in time; so many requests
//! are answered at once as `seats::places` says, on a few more connections, and neither connections
//! without a request nor consumers that wait keep out who operates the node; with a
//! token, everything but liveness and readiness needs one that has the permission of the operation; without
//! one, what only a browser sends is refused; no secret is ever shown.
//!
//! Reading order: `operations`, [`view`], [`explain`](mod@explain), `guard`, `seats`, `body`, `handover`.

mod body;
pub mod explain;
pub mod explain_request;
mod guard;
mod handover;
mod operations;
mod seats;
pub mod view;

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use bytes::Bytes;
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
use weft_api::{Part, Permission, Request, Response, Table, Tokens, openapi};
use weft_kernel::{Error, Reason};
use weft_net::Address;
use weft_wire::Method;

pub use self::operations::{LISTENER, OPERATIONS, ROUTE};
pub(crate) use self::operations::{no, page};
use self::{
    handover::{Handover, Payload},
    operations::Admin,
    seats::{Answering, Place, Seat, Seats, Turn},
};
use crate::{components::List as _, node::Node};

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

/// What a node offers, and to whom. The table is made anew when a reload has opened further components.
struct Offered {
    node: Arc<Node>,
    table: ArcSwap<Offer>,
    tokens: Tokens,
}

/// A table, and how many components were open when it was made.
struct Offer {
    opened: usize,
    table: Table,
}

impl Offer {
    fn new(node: &Arc<Node>) -> Self {
        // Asked before the table is made: one that is opened meanwhile is in the next table for sure.
        Self { opened: node.components.opened(), table: table(node) }
    }
}

impl Offered {
    fn now(&self) -> Arc<Offer> {
        let offer = self.table.load_full();
        if offer.opened == self.node.components.opened() {
            return offer;
        }
        let offer = Arc::new(Offer::new(&self.node));
        self.table.store(offer.clone());
        offer
    }
}

/// Everything that a node offers.
fn table(node: &Arc<Node>) -> Table {
    let document = Arc::new(OnceLock::new());
    let own = Admin { node: node.clone(), document: document.clone() };
    let mut parts = vec![Part::new(OPERATIONS, own)];
    parts.extend(node.components.parts(node));
    let table = Table::new(parts);
    let written = openapi::document(INFO, table.operations()).to_string();
    // It is set here alone.
    let _ = document.set(Bytes::from(written));
    table
}

/// The head of the OpenAPI document.
const INFO: openapi::Info = openapi::Info {
    title: "Weft admin API",
    version: env!("CARGO_PKG_VERSION"),
    description: "Looks at a running node and steers it. What was not done is told as problem+json (RFC 9457). \
                  `x-weft-permission` is the permission that a token needs for an operation.",
};

/// Serves the admin API until `stop` is ready, and what is then under way a little longer.
pub async fn serve(
    node: Arc<Node>,
    listener: Listener,
    tokens: Tokens,
    stop: impl Future<Output = ()>,
) {
    let table = ArcSwap::from_pointee(Offer::new(&node));
    let offered = Arc::new(Offered { node, table, tokens });
    let mut seats = Seats::new(weft_net::descriptors::admin_max());
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
                    let served = converse(connection, offered.clone(), seat.clone());
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
async fn converse(connection: Box<dyn Connection>, offered: Arc<Offered>, seat: Arc<Seat>) {
    let handover = Handover::default();
    let service = service_fn(|request: http::Request<Incoming>| {
        let (offered, seat, handover) = (offered.clone(), seat.clone(), handover.clone());
        async move {
            let turn = seat.turn();
            if request.body().is_end_stream() {
                turn.begin();
            }
            let (response, place) = answer(&offered, request, &seat, &turn, &handover).await;
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

/// Has the operation answer that a request is for, if it may be asked.
async fn answer(
    offered: &Offered,
    request: http::Request<Incoming>,
    seat: &Arc<Seat>,
    turn: &Arc<Turn>,
    handover: &Handover,
) -> (http::Response<Payload>, Option<Arc<Place>>) {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let method = Method::of(parts.method.as_str());
    let is_head = method == Method::Head;
    let whole = |response: Response| handover::response(response.headless(&method), is_head, None);
    let offer = offered.now();
    let found = offer.table.find(&method, &path);
    let operation = found.as_ref().ok().map(|found| found.operation);
    if let Err(refused) = guard::check(&parts, operation, &offered.tokens) {
        return (whole(refused), None);
    }
    let found = match found {
        Ok(found) => found,
        Err(refused) => return (whole(*refused), None),
    };
    let place = match found.operation.probe {
        true => None,
        false => match seat.place(found.operation.permission).await {
            Some(place) => Some(Arc::new(place)),
            None => return (whole(busy(found.operation.permission)), None),
        },
    };
    let body = body::Timed::new(body, turn.clone(), place.clone());
    let body = match handover::whole(found.operation, body).await {
        Ok(body) => body,
        Err(error) => return (whole(Response::problem(&error)), place),
    };
    let (request, upgrade) = handover::request(&mut parts, method.clone(), body);
    let response = match found.operation.permission {
        Some(Permission::Manage) => carry_out(offer.clone(), request, place.clone()).await,
        _ => found.answer(&request).await,
    };
    let upgrade = upgrade.map(|upgrade| (upgrade, handover));
    (handover::response(response, is_head, upgrade), place)
}

/// Has a change carried out to its end, whether whoever asked for it stays or not: what it changes stands on the disk
/// and in memory, and neither may be changed without the other.
async fn carry_out(offer: Arc<Offer>, request: Request, place: Option<Arc<Place>>) -> Response {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is no request of a route; its place bounds it"
    )]
    let change = tokio::spawn(async move {
        let _place = place;
        match offer.table.find(&request.method, &request.path) {
            Ok(found) => found.answer(&request).await,
            Err(refused) => *refused,
        }
    });
    change.await.unwrap_or_else(|error| {
        let say = "the change was broken off, and may have been made";
        Response::problem(&Error::new(Reason::Internal, say).because(error))
    })
}

/// The answer to one too many.
fn busy(permission: Option<Permission>) -> Response {
    let most = seats::places(permission);
    let kind = permission.map_or("open to all", |permission| permission.word());
    let say = format!("{most} requests ({kind}) to the admin API are under way");
    Response::problem(&Error::new(Reason::Overload, say))
}
