//! A client that keeps its connections for the next request to the same server.
//!
//! An idle connection belongs to a task, which reads what the server says meanwhile and ends with the
//! connection or its time; whoever wants it asks the task for it. What was sent on a kept connection that
//! turns out to be closed goes over a new one, if nothing of it had left or it may be repeated.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::sync::{Semaphore, oneshot};
use weft_kernel::{Error, Reason, Result};

use super::{
    Answer, Connection, Longer, Version, completed,
    connection::Failed,
    late,
    resolver::{Resolver, addresses},
};
use crate::{Alpn, ClientTls, ConnectTarget, Stop, Tasks};

/// How many servers may be known before those are forgotten to which nothing is open.
const HOSTS_KEPT: usize = 64;

/// The bounds of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most connections to one server; further requests wait. Default: 64.
    pub connections_max: usize,
    /// The most idle connections to one server. Default: 8.
    pub idle_max: usize,
    /// An idle connection is closed after this. Default: 30 s.
    pub idle_timeout: Duration,
    /// For one address, TLS included. Default: 5 s.
    pub connect_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 64,
            idle_max: 8,
            idle_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// Gives the TLS configuration as it is now; the ALPN identifiers are the client's own.
pub type Tls = Box<dyn Fn() -> Arc<ClientConfig> + Send + Sync>;

/// Where connections are kept for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Server {
    is_secure: bool,
    host: String,
    port: u16,
    version: Version,
}

impl Server {
    fn of(uri: &Uri, version: Version) -> Result<Self> {
        let wrong = |say: &str| Error::new(Reason::MalformedRequest, format!("`{uri}` {say}"));
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("is neither an http nor an https URL")),
        };
        let host = uri.host().ok_or_else(|| wrong("has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        Ok(Self { is_secure, host, port, version })
    }
}

/// A connection that waits for its next request, within a task.
struct Idle {
    /// Asks for it; dropped, it is closed.
    take: oneshot::Sender<oneshot::Sender<Connection>>,
}

impl Idle {
    async fn take(self) -> Option<Connection> {
        let (give, given) = oneshot::channel();
        self.take.send(give).ok()?;
        given.await.ok()
    }
}

/// One server, and what is open to it.
struct Host {
    slots: Semaphore,
    /// The one that was used last is taken first, so that those in excess grow old.
    idle: Mutex<Vec<Idle>>,
}

impl Host {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self) -> Option<Connection> {
        loop {
            let idle = self.idle().pop()?;
            if let Some(connection) = idle.take().await {
                return Some(connection);
            }
        }
    }
}

struct Shared {
    options: Options,
    resolver: Arc<dyn Resolver>,
    tls: Option<Tls>,
    hosts: Mutex<HashMap<Server, Arc<Host>>>,
    /// The tasks of idle connections.
    tasks: Tasks,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tasks.stop().close();
    }
}

/// Sends requests to any server, and keeps connections; its clones share them.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that finds hosts by `resolver`. `tls` is asked with each new connection, so that certificates
    /// may change; without it the client sends to `http` URLs alone.
    pub fn new(options: Options, resolver: Arc<dyn Resolver>, tls: Option<Tls>) -> Self {
        Self(Arc::new(Shared {
            options,
            resolver,
            tls,
            hosts: Mutex::default(),
            tasks: Tasks::new(Stop::new()),
        }))
    }

    /// Sends a request to where its URI says, and reads the whole answer, all within `timeout`: waiting
    /// for a connection and looking the host up included. A body of more than `body_bytes_max` is an
    /// error. Dropping the future gives the request up and closes its connection.
    ///
    /// To be called within a tokio runtime.
    pub async fn request(
        &self,
        version: Version,
        request: Request<Bytes>,
        body_bytes_max: usize,
        timeout: Duration,
    ) -> Result<Answer> {
        self.send(version, request, (body_bytes_max, Longer::Refused), timeout).await
    }

    /// Sends a request for the sake of its status, as [`Client::request`] does; a longer body is cut.
    pub async fn status(
        &self,
        version: Version,
        request: Request<Bytes>,
        body_bytes_max: usize,
        timeout: Duration,
    ) -> Result<StatusCode> {
        let answer = self.send(version, request, (body_bytes_max, Longer::Cut), timeout).await?;
        Ok(answer.status)
    }

    /// Sends a request as [`Client::request`] does, for an answer whose status stands whatever becomes of its
    /// body: one that is longer or breaks off is left out, trailers included.
    pub async fn request_leniently(
        &self,
        version: Version,
        request: Request<Bytes>,
        body_bytes_max: usize,
        timeout: Duration,
    ) -> Result<Answer> {
        self.send(version, request, (body_bytes_max, Longer::Dropped), timeout).await
    }

    async fn send(
        &self,
        version: Version,
        request: Request<Bytes>,
        bound: (usize, Longer),
        timeout: Duration,
    ) -> Result<Answer> {
        let server = Server::of(request.uri(), version)?;
        let sent = self.send_to(&server, &request, bound);
        tokio::time::timeout(timeout, sent).await.unwrap_or_else(|_elapsed| Err(late(timeout)))
    }

    async fn send_to(
        &self,
        server: &Server,
        request: &Request<Bytes>,
        bound: (usize, Longer),
    ) -> Result<Answer> {
        let host = self.host(server);
        // Never closed, so that this is a permit.
        let _slot = host.slots.acquire().await;
        let completed = || {
            // Its URI names the server, or there would be none.
            completed(server.is_secure, || server.host.clone(), server.version, request.clone())
        };
        while let Some(mut connection) = host.take().await {
            match connection.exchange(completed()?, bound).await {
                Ok(answer) => {
                    self.keep(&host, connection);
                    return Ok(answer);
                }
                Err(Failed { is_untouched: true, .. }) => {}
                // It may have been closed while the request was on its way (RFC 9112, section 9.3.1).
                Err(Failed { error, .. })
                    if error.reason() == Reason::UpstreamClosed
                        && request.method().is_idempotent() =>
                {
                    break;
                }
                Err(Failed { error, .. }) => return Err(error),
            }
        }
        let mut last = None;
        let mut target = self.target(server)?;
        for address in addresses(&*self.0.resolver, &server.host, server.port).await? {
            target.address = address.into();
            let opened =
                Connection::open(&target, server.version, self.0.options.connect_timeout).await;
            match opened {
                Ok(mut connection) => {
                    let answer = connection.exchange(completed()?, bound).await;
                    let answer = answer.map_err(|failed| failed.error)?;
                    self.keep(&host, connection);
                    return Ok(answer);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(Reason::DnsFailed, "no address")))
    }

    /// Where a new connection goes, but for its address.
    fn target(&self, server: &Server) -> Result<ConnectTarget> {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], server.port));
        let mut target = ConnectTarget::plain(nowhere.into());
        if server.is_secure {
            let none = || Error::new(Reason::Misconfigured, "this client speaks no TLS");
            let tls = self.0.tls.as_ref().ok_or_else(none)?;
            let name = ServerName::try_from(server.host.clone()).map_err(|error| {
                let say = format!("`{}` cannot be the name of a TLS server", server.host);
                Error::new(Reason::MalformedRequest, say).because(error)
            })?;
            let alpn = if server.version == Version::Http2 { Alpn::H2 } else { Alpn::H1 };
            let mut config = (*tls()).clone();
            config.alpn_protocols = vec![alpn.id().to_vec()];
            target.tls = Some(ClientTls { config: Arc::new(config), name });
        }
        Ok(target)
    }

    fn host(&self, server: &Server) -> Arc<Host> {
        let mut hosts = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() > HOSTS_KEPT && !hosts.contains_key(server) {
            hosts.retain(|_, host| {
                let mut idle = host.idle();
                idle.retain(|idle| !idle.take.is_closed());
                !idle.is_empty() || Arc::strong_count(host) > 1
            });
        }
        let new = || {
            let slots = Semaphore::new(self.0.options.connections_max.max(1));
            Arc::new(Host { slots, idle: Mutex::default() })
        };
        Arc::clone(hosts.entry(server.clone()).or_insert_with(new))
    }

    /// Keeps a connection for the next request, if it may serve one.
    fn keep(&self, host: &Host, mut connection: Connection) {
        if !connection.is_reusable() {
            return;
        }
        let (take, taken) = oneshot::channel::<oneshot::Sender<Connection>>();
        {
            let mut idle = host.idle();
            idle.retain(|idle| !idle.take.is_closed());
            if idle.len() >= self.0.options.idle_max {
                return;
            }
            idle.push(Idle { take });
        }
        let time = self.0.options.idle_timeout;
        self.0.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = connection.closed() => {}
                asked = taken => if let Ok(give) = asked {
                    // Dropped, and closed, if whoever asked has gone.
                    let _ = give.send(connection);
                },
                () = tokio::time::sleep(time) => {}
            }
        });
    }
}
