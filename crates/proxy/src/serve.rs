//! A connection, from the moment it is accepted: PROXY protocol, TLS, and then HTTP or bytes.

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::BytesMut;
use ipnet::IpNet;
use weft_discovery::{Endpoint, Outcome, Pick};
use weft_kernel::{Error, Name, Reason, Result, SystemClock};
use weft_net::{
    Address, Alpn, Connection, Io, Rewound, Socket, Stop, accept, connect, h1, h2,
    message::Peer,
    pool::Wanted,
    relay::{self, End, Relayed},
};
use weft_telemetry::metrics::{Count, ListenerMeter};
use weft_wire::{client_hello::Hello, proxy_protocol::Ends};

use crate::{
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

/// Where the certificates of a listener come from, at the moment of a handshake.
pub type ServerTls = Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

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
    /// From peers in these networks; others speak for themselves.
    From(Vec<IpNet>),
}

impl ProxyProtocol {
    /// Whether a header is to be read from this peer.
    fn covers(&self, peer: &Address) -> Result<bool> {
        let inside = |nets: &[IpNet]| match peer {
            Address::Tcp(peer) => nets.iter().any(|net| net.contains(&peer.ip().to_canonical())),
            Address::Unix(_) => true,
        };
        match self {
            Self::Off => Ok(false),
            Self::From(nets) => Ok(inside(nets)),
            Self::Required(nets) if nets.is_empty() || inside(nets) => Ok(true),
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
pub async fn serve(local: Rc<Local>, connection: Connection, entry: Arc<Entry>) {
    let Some(listener) = local.current.load().listeners.get(&entry.listener).cloned() else {
        return;
    };
    let meter = listener.meter.clone();
    if meter.active() >= listener.http.connections_max as u64 {
        meter.refused(local.index);
        return;
    }
    meter.opened(local.index);
    let _counted = Counted(&meter, local.index);
    let Connection { socket, peer, stop } = connection;
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
    if entry.proxy_protocol.covers(&address)? {
        let header = accept::proxy_header(&mut stream, accept::PROXY_HEADER_TIME)
            .await
            .inspect_err(|_| listener.meter.protocol_error(local.index))?;
        if let Some(ends) = header.ends {
            address = Address::Tcp(ends.source);
            destination = Some(Address::Tcp(ends.destination));
        }
    }
    if let Some(way) = &listener.stream {
        return raw(&local, &listener, way, stream, (address, destination), &stop).await;
    }
    let io = match &entry.tls {
        None => Io::from(stream),
        Some(tls) => {
            let io = accept::tls(stream, accept::TLS_HANDSHAKE_TIME, |_| Some(tls())).await;
            listener.meter.handshake(local.index, io.is_ok());
            io?
        }
    };
    let peer = Rc::new(Peer { address, local: destination, tls: io.tls_info().map(Rc::new) });
    let alpn = io.alpn();
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
    h2::server::serve(io, early, peer, &listener.h2, front, &stop).await;
    Ok(())
}

/// Relays a connection that is not HTTP.
async fn raw(
    local: &Rc<Local>,
    listener: &Listener,
    way: &Stream,
    mut stream: Rewound<Socket>,
    (client, destination): (Address, Option<Address>),
    stop: &Stop,
) -> Result<()> {
    let name = match way {
        Stream::Tcp(_) => None,
        Stream::ByServerName(..) => {
            match accept::server_name(&mut stream, listener.http.header_timeout).await? {
                Hello::Sni(name) => name,
                _ => {
                    listener.meter.protocol_error(local.index);
                    return Err(Error::new(Reason::MalformedRequest, "this is not TLS"));
                }
            }
        }
    };
    let upstream = way.choose(name.as_deref(), &mut local.rng.borrow_mut()).cloned();
    let upstream = upstream.ok_or_else(|| {
        let name = name.as_deref().unwrap_or("none");
        Error::new(Reason::NoRoute, format!("no service for the server name `{name}`"))
    })?;
    let ends = match (&client, &destination) {
        (Address::Tcp(source), Some(Address::Tcp(destination))) => {
            Some(Ends { source: *source, destination: *destination })
        }
        _ => None,
    };
    let (mut service, in_flight) = reach(local, &upstream, ends).await?;
    let idle = listener.http.stream_idle_timeout;
    let Relayed { up_bytes, down_bytes, end } =
        relay::relay(&mut stream, &mut service, idle, stop).await;
    listener.meter.relayed(local.index, up_bytes, down_bytes);
    let outcome = match &end {
        End::UpstreamFailed(_) if down_bytes == 0 => Outcome::FAILED,
        _ => Outcome::OK,
    };
    Exchange::settle(local, &upstream, in_flight, outcome, SystemClock::tick());
    tracing::debug!(
        listener = %listener.name, service = %upstream.name, client = %client,
        up_bytes, down_bytes, end = ?end, "connection relayed"
    );
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
        let now = SystemClock::tick();
        let endpoint: Arc<Endpoint> = {
            let mut rng = local.rng.borrow_mut();
            let mut pick =
                Pick { hash: None, tried: &tried, zone: local.zone.as_deref(), now, rng: &mut rng };
            upstream.discovered.pick(&mut pick).map_err(|reason| {
                Error::new(reason, "no endpoint may be used")
                    .at(format!("service {}", upstream.name))
            })?
        };
        let mut in_flight = endpoint.clone().begin(now);
        match connect(&upstream.target(&endpoint, Wanted::H1, ends), CONNECT_TIME).await {
            Ok(connected) => {
                in_flight.responded(SystemClock::tick());
                upstream.meter.count(local.index, Count::PoolOpened);
                return Ok((connected.io, in_flight));
            }
            Err(error) => {
                upstream.meter.count(local.index, Count::ConnectFailure);
                upstream.meter.failed(local.index, error.reason());
                let now = SystemClock::tick();
                Exchange::settle(local, upstream, in_flight, Outcome::FAILED, now);
                tried.push(endpoint.id());
                if tried.len() >= CONNECT_TRIES {
                    return Err(error.at(format!("service {}", upstream.name)));
                }
            }
        }
    }
}
