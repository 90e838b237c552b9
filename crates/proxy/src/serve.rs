//! A connection, from the moment it is accepted: PROXY protocol, TLS, and then HTTP or bytes.

use std::{pin::pin, rc::Rc, sync::Arc, time::Duration};

use bytes::BytesMut;
use ipnet::IpNet;
use weft_discovery::{Endpoint, Outcome, Pick};
use weft_kernel::{Error, HandshakeFault, Name, Reason, Result};
use weft_net::{
    AcceptedConnection, Address, Alpn, Io, Rewound, Socket, Stop, accept, clock, descriptors, h1,
    h2,
    message::Peer,
    pool::Wanted,
    relay::{self, Relayed},
    timer::TaskTimer,
};
use weft_telemetry::{
    access,
    metrics::{Count, ListenerMeter},
};
use weft_wire::{
    client_hello::Hello,
    proxy_protocol::{self, Ends, Parsed},
};

use crate::{
    connection,
    exchange::Exchange,
    front::Front,
    listener::{Listener, Stream},
    local::Local,
    upstream::Upstream,
};

/// How many endpoints a raw connection tries before it is given up.
const CONNECT_TRIES: usize = 3;
/// How long one of them may take.
const CONNECT_TIME: Duration = Duration::from_secs(1);

/// What a listener shows, and whom it lets in, at the moment of a handshake.
pub type ServerTls = Arc<weft_identity::ServerIdentity>;

/// What stands before a listener's protocol.
#[derive(Clone)]
pub struct Entry {
    /// The listener.
    pub listener: Name,
    /// TLS, if it is terminated here.
    pub tls: Option<ServerTls>,
    /// Whether a PROXY protocol header comes first.
    pub proxy_protocol: ProxyProtocol,
}

/// Whether a PROXY protocol header comes first.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ProxyProtocol {
    /// Never.
    #[default]
    Off,
    /// Always, from peers in these networks (any, if there is none); others are closed.
    Required(Vec<IpNet>),
    /// Perhaps, from peers in these networks (any, if there is none); others speak for themselves.
    Accepted(Vec<IpNet>),
}

/// What is to be done about a header for one peer.
#[derive(Clone, Copy, PartialEq)]
enum Header {
    Ignore,
    Allow,
    Demand,
}

impl ProxyProtocol {
    /// Whether a header is to be read from this peer.
    fn header(&self, peer: &Address) -> Result<Header> {
        let inside = |nets: &[IpNet]| match peer {
            _ if nets.is_empty() => true,
            Address::Tcp(peer) => nets.iter().any(|net| net.contains(&peer.ip().to_canonical())),
            Address::Unix(_) => true,
        };
        match self {
            Self::Accepted(nets) if inside(nets) => Ok(Header::Allow),
            Self::Off | Self::Accepted(_) => Ok(Header::Ignore),
            Self::Required(nets) if inside(nets) => Ok(Header::Demand),
            Self::Required(_) => Err(Error::new(
                Reason::MalformedRequest,
                "the peer is not among those that may send a PROXY protocol header",
            )),
        }
    }
}

/// Counts a connection on its listener for as long as it lives.
struct Counted<'a>(&'a ListenerMeter, usize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.closed(self.1);
    }
}

/// Serves a connection until it ends.
pub async fn serve(local: Rc<Local>, connection: AcceptedConnection, entry: Arc<Entry>) {
    let Some(listener) = local.current.load().listeners.get(&entry.listener).cloned() else {
        return;
    };
    let meter = listener.meter.clone();
    let full = meter.active() >= listener.http.connections_max as u64;
    let Some(_place) = (!full).then(descriptors::Place::take).flatten() else {
        meter.refused(local.index);
        return;
    };
    meter.opened(local.index);
    let _counted = Counted(&meter, local.index);
    let AcceptedConnection { socket, peer, stop } = connection;
    let name = listener.name.clone();
    if let Err(error) = run(local, listener, socket, peer, stop, &entry).await {
        tracing::debug!(listener = %name, reason = error.reason().word(), "{}", error.detail());
    }
}

async fn run(
    local: Rc<Local>,
    listener: Arc<Listener>,
    socket: Socket,
    mut address: Address,
    stop: Stop,
    entry: &Entry,
) -> Result<()> {
    let mut destination = socket.local();
    let mut stream = Rewound::new(socket);
    let header = entry.proxy_protocol.header(&address)?;
    if header == Header::Demand
        || (header == Header::Allow && opens_with_header(&mut stream).await?)
    {
        let header = accept::proxy_header(&mut stream, accept::PROXY_HEADER_TIME)
            .await
            .inspect_err(|_| listener.meter.protocol_error(local.index))?;
        if let Some(ends) = header.ends {
            address = Address::Tcp(ends.source);
            destination = Some(Address::Tcp(ends.destination));
        }
    }
    if let Some(way @ Stream::ByServerName(..)) = &listener.stream {
        let name = server_name(&local, &listener, &mut stream).await?;
        let io = Io::from(stream);
        return Box::pin(raw(&local, &listener, way, name, io, (address, destination), &stop))
            .await;
    }
    let io = match &entry.tls {
        None => Io::from(stream),
        Some(tls) => {
            let io = accept::tls(stream, accept::TLS_HANDSHAKE_TIME, |hello| {
                Some(tls.config(hello.server_name()))
            })
            .await
            .and_then(|io| vet(tls, io));
            match io {
                Ok(io) => {
                    listener.meter.handshake(local.index);
                    io
                }
                Err((fault, error)) => {
                    failed(&local, &listener, &address, fault, &error);
                    return Err(error);
                }
            }
        }
    };
    if let Some(Stream::Local(acceptor)) = &listener.stream {
        let peer = Peer { address, local: destination, tls: io.tls_info().map(Rc::new) };
        return acceptor.accept(&local, &listener.name, io, peer, stop).await;
    }
    if let Some(way) = &listener.stream {
        return Box::pin(raw(&local, &listener, way, None, io, (address, destination), &stop))
            .await;
    }
    let peer = Rc::new(Peer { address, local: destination, tls: io.tls_info().map(Rc::new) });
    let (alpn, worker) = (io.alpn(), local.index);
    let front = Rc::new(Front::new(local, listener.name.clone()));
    let (io, early) = if alpn == Some(Alpn::H2) {
        (io, BytesMut::new())
    } else {
        let settings = &listener.h1;
        match h1::server::serve(io, BytesMut::new(), peer.clone(), settings, &*front, &stop).await {
            h1::server::Ended::Closed => return Ok(()),
            // Prior knowledge is for clear text: under TLS the version is agreed on by ALPN.
            h1::server::Ended::Http2(..) if peer.tls.is_some() && alpn.is_some() => return Ok(()),
            h1::server::Ended::Http2(io, early) => (io, early),
        }
    };
    Box::pin(h2::server::serve(io, early, peer, &listener.h2, front, &stop))
        .await
        .inspect_err(|_| listener.meter.protocol_error(worker))
}

/// Counts a failed handshake, and tells of it now and then: whoever may connect can make floods of them.
fn failed(
    local: &Local,
    listener: &Listener,
    client: &Address,
    fault: HandshakeFault,
    error: &Error,
) {
    let due = listener.meter.handshake_failed(local.index, fault, clock::now());
    // Those that go away within it are the checks of load balancers, and browsers' spare connections.
    if let Some(before) = due
        && fault != HandshakeFault::Closed
    {
        tracing::warn!(
            listener = %listener.name,
            reason = fault.word(),
            %client,
            not_told_before = before,
            "a TLS handshake failed: {}",
            error.detail()
        );
    }
}

/// Holds a session that was resumed to what a full handshake would ask now.
fn vet(tls: &ServerTls, io: Io) -> Result<Io, (HandshakeFault, Error)> {
    if io.may_be_resumed()
        && let Some(info) = io.tls_info()
    {
        tls.vet(&info.peer_certificates, info.sni.as_deref()).map_err(|error| {
            let say = "the certificate of the client that resumed its session is good no more";
            (HandshakeFault::Certificate, Error::new(Reason::MalformedRequest, say).because(error))
        })?;
    }
    Ok(io)
}

/// Whether the first bytes are those of a PROXY protocol header; a client that stays silent has none.
async fn opens_with_header(stream: &mut Rewound<Socket>) -> Result<bool> {
    let look = |bytes: &[u8]| match proxy_protocol::parse(bytes) {
        Ok(Parsed::Incomplete) => None,
        Ok(Parsed::Absent) => Some(false),
        Ok(Parsed::Complete(..)) | Err(_) => Some(true),
    };
    let peeked = pin!(accept::peek(stream, proxy_protocol::BYTES_MAX, look));
    let timer = TaskTimer::default();
    let limit = clock::now().plus(accept::PROXY_HEADER_TIME);
    match timer.within(limit, peeked).await {
        Ok(Ok(found)) => Ok(found.unwrap_or(false)),
        Ok(Err(error)) => {
            Err(Error::new(Reason::CallerGone, "the connection broke before its first byte")
                .because(error))
        }
        Err(_) => Ok(false),
    }
}

/// The server name that a TLS handshake asks for, which is left unread.
async fn server_name(
    local: &Local,
    listener: &Listener,
    stream: &mut Rewound<Socket>,
) -> Result<Option<String>> {
    match accept::server_name(stream, listener.http.header_timeout).await? {
        Hello::Sni(name) => Ok(name),
        // It is nobody's name, so it goes where connections without one go.
        Hello::NoHost(_) => Ok(None),
        _ => {
            listener.meter.protocol_error(local.index);
            Err(Error::new(Reason::MalformedRequest, "this is not TLS"))
        }
    }
}

/// Relays a connection that is not HTTP, and tells of it.
async fn raw(
    local: &Rc<Local>,
    listener: &Listener,
    way: &Stream,
    name: Option<String>,
    mut stream: Io,
    (client, destination): (Address, Option<Address>),
    stop: &Stop,
) -> Result<()> {
    let began = clock::now();
    let tls = stream.tls_info();
    let entry = access::Entry {
        listener: listener.name.as_str(),
        protocol: if matches!(way, Stream::ByServerName(..)) { "TLS" } else { "TCP" },
        client: connection::client(&client),
        tls_version: tls.as_ref().map_or("", |tls| tls.version),
        sni: name.as_deref().or(tls.as_ref().and_then(|tls| tls.sni.as_deref())).unwrap_or(""),
        ..access::Entry::default()
    };
    let ends = match (&client, &destination) {
        (Address::Tcp(source), Some(Address::Tcp(destination))) => {
            Some(Ends { source: *source, destination: *destination })
        }
        _ => None,
    };
    let upstream = way.choose(name.as_deref(), &mut local.rng.borrow_mut()).cloned();
    let reached = match &upstream {
        Some(upstream) => reach(local, upstream, ends).await,
        None => {
            let name = name.as_deref().unwrap_or("none");
            let say = format!("no service for the server name `{name}`");
            Err(Error::new(Reason::NoRoute, say))
        }
    };
    let service = upstream.as_ref().map_or("", |upstream| upstream.name.as_str());
    let (mut io, in_flight) = match reached {
        Ok(reached) => reached,
        Err(error) => {
            let reason = Some(error.reason());
            let detail = &error.detail();
            connection::log(local, began, access::Entry { service, reason, detail, ..entry });
            return Err(error);
        }
    };
    let connected = clock::now().since(began);
    let idle = listener.http.stream_idle_timeout;
    let Relayed { up_bytes, down_bytes, end } =
        relay::relay(&mut stream, &mut io, idle, stop).await;
    listener.meter.relayed(local.index, up_bytes, down_bytes);
    let endpoint = in_flight.endpoint().clone();
    if let Some(upstream) = &upstream {
        upstream.meter.passed(local.index, up_bytes, down_bytes);
        let outcome = connection::outcome(&end, down_bytes);
        Exchange::settle(local, upstream, in_flight, outcome, clock::now());
    }
    let why = connection::why(&end);
    let entry = access::Entry {
        service,
        endpoint: endpoint.label(),
        reason: why.map(|(reason, _)| reason),
        detail: why.map_or("", |(_, detail)| detail),
        upstream: Some(connected),
        bytes_in: up_bytes,
        bytes_out: down_bytes,
        ..entry
    };
    connection::log(local, began, entry);
    Ok(())
}

/// Connects to an endpoint of a service; to another if that fails.
async fn reach(
    local: &Rc<Local>,
    upstream: &Arc<Upstream>,
    ends: Option<Ends>,
) -> Result<(Io, weft_discovery::InFlight)> {
    let mut tried = Vec::new();
    loop {
        let now = clock::now();
        let endpoint: Arc<Endpoint> = {
            let mut rng = local.rng.borrow_mut();
            let mut pick = Pick {
                hash: None,
                tried: &tried,
                zone: local.zone.as_deref(),
                insist: true,
                now,
                rng: &mut rng,
            };
            upstream.discovered.pick(&mut pick).map_err(|reason| {
                Error::new(reason, "no endpoint may be used")
                    .at(format!("service {}", upstream.name))
            })?
        };
        let mut in_flight = endpoint.clone().begin(now);
        match local.pool.connect(&upstream.target(&endpoint, Wanted::H1, ends), CONNECT_TIME).await
        {
            Ok(connected) => {
                in_flight.responded(clock::now());
                upstream.meter.count(local.index, Count::PoolOpened);
                return Ok((connected.io, in_flight));
            }
            Err(error) => {
                upstream.meter.count(local.index, Count::ConnectFailure);
                upstream.meter.failed(local.index, error.reason());
                let now = clock::now();
                if error.side() == weft_kernel::Side::Upstream {
                    Exchange::settle(local, upstream, in_flight, Outcome::UNREACHABLE, now);
                }
                tried.push(endpoint.id());
                if tried.len() >= CONNECT_TRIES {
                    return Err(error.at(format!("service {}", upstream.name)));
                }
            }
        }
    }
}
