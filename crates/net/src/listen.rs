//! Listening sockets: bound before anything runs, then accepted from by each worker.
//!
//! Binding and accepting are apart, so that a configuration with a taken port is refused as a whole
//! before a thread starts. A TCP address gets one socket for each worker (SO_REUSEPORT: the kernel
//! spreads connections over them); a Unix socket is shared. What accepted connections shall have
//! (TCP_NODELAY, keep-alive) is set on the listening socket, from which Linux passes it on, so that
//! an accept costs no further system call.

use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, PermissionsExt},
    },
    path::Path,
    time::Duration,
};

use rustix::io::Errno;
use socket2::{Domain, SockAddr, SockRef, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use weft_kernel::{Error, Reason, Result};

use crate::{Address, Socket};

/// How to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where; `[::]` takes IPv4 as well, port 0 takes any free port.
    pub address: Address,
    /// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
    pub backlog: u32,
    /// Whether small writes go out at once.
    pub nodelay: bool,
    /// The silence after which the kernel probes whether the client is still there.
    pub keepalive: Option<Duration>,
    /// The permissions of a Unix socket's file.
    pub unix_mode: u32,
    /// Whether sockets of this process that listen on some of the address stay beside it for a while.
    pub beside_own: bool,
}

impl Options {
    /// The defaults at an address.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            backlog: 4096,
            nodelay: true,
            keepalive: Some(Duration::from_secs(60)),
            unix_mode: 0o660,
            beside_own: false,
        }
    }
}

/// A listening socket that no runtime holds yet.
#[derive(Debug)]
pub struct Bound {
    socket: OwnedFd,
    address: Address,
}

/// Binds and listens: `count` sockets, one for each worker, that share one address.
///
/// A TCP address on which anybody listens already is refused, although SO_REUSEPORT would let two
/// processes of one user share it unawares; to share on purpose, hand the sockets over and [`adopt`].
pub fn bind(options: &Options, count: usize) -> Result<Vec<Bound>> {
    let fail = |error: io::Error| refused(options, error);
    match &options.address {
        Address::Tcp(address) => {
            if address.port() != 0 && !options.beside_own {
                tcp(*address, false).map_err(fail)?;
            }
            let mut address = *address;
            let mut sockets = Vec::with_capacity(count);
            for _ in 0..count {
                let socket = tcp(address, true).map_err(fail)?;
                // Port 0 became a real one, which the other sockets share.
                address = socket.local_addr().map_err(fail)?.as_socket().unwrap_or(address);
                sockets.push(socket);
            }
            // Only when all are bound, or the first would already get connections.
            sockets.into_iter().map(|socket| Bound::listen(socket, options).map_err(fail)).collect()
        }
        Address::Unix(path) => {
            let first = unix(path, options.unix_mode)
                .and_then(|socket| Bound::listen(socket, options))
                .map_err(fail)?;
            Bound::spread(vec![first], count)
        }
    }
}

/// Takes over sockets that already listen, from a former process or a supervisor, for `count` workers.
///
/// Never fewer than were given: each has its own queue, and somebody must accept from it.
pub fn adopt(sockets: Vec<OwnedFd>, options: &Options, count: usize) -> Result<Vec<Bound>> {
    let fail = |error: io::Error| {
        Error::new(
            Reason::Misconfigured,
            format!("cannot take over the socket for {}: {error}", options.address),
        )
    };
    let mut adopted = Vec::with_capacity(sockets.len().max(count));
    for fd in sockets {
        let socket = socket2::Socket::from(fd);
        if !socket.is_listener().map_err(fail)? {
            return Err(fail(io::Error::other("it does not listen")));
        }
        adopted.push(Bound::listen(socket, options).map_err(fail)?);
    }
    Bound::spread(adopted, count)
}

/// Where a socket is bound; `None` if it is none, or not bound.
pub fn address_of(socket: &OwnedFd) -> Option<Address> {
    let address = SockRef::from(socket).local_addr().ok()?;
    match address.as_socket() {
        Some(address) => Some(Address::from(address)),
        None => Some(Address::Unix(address.as_pathname()?.to_path_buf())),
    }
}

/// Has the kernel ask a peer that is silent whether it is still there: three probes at a third of the idle
/// time each, so that a dead one is noticed within twice that time.
pub(crate) fn probe_when_silent(socket: &SockRef<'_>, idle: Duration) -> io::Result<()> {
    const LEAST: Duration = Duration::from_secs(1);
    let probes = TcpKeepalive::new()
        .with_time(idle.max(LEAST))
        .with_interval((idle / 3).max(LEAST))
        .with_retries(3);
    socket.set_tcp_keepalive(&probes)
}

impl Bound {
    fn listen(socket: socket2::Socket, options: &Options) -> io::Result<Self> {
        let address = match socket.local_addr()?.as_socket() {
            Some(address) => {
                socket.set_tcp_nodelay(options.nodelay)?;
                match options.keepalive {
                    Some(idle) => probe_when_silent(&SockRef::from(&socket), idle)?,
                    None => socket.set_keepalive(false)?,
                }
                Address::from(address)
            }
            None => Address::Unix(
                socket.local_addr()?.as_pathname().map(Path::to_path_buf).unwrap_or_default(),
            ),
        };
        socket.set_nonblocking(true)?;
        // For an adopted socket this only moves the limit; what waits in its queue stays.
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(Self { socket: socket.into(), address })
    }

    /// Adds further descriptors of the same sockets until there are `count`.
    fn spread(mut bound: Vec<Self>, count: usize) -> Result<Vec<Self>> {
        let given = bound.len();
        for index in given..count {
            let Some(original) = bound.get(index % given.max(1)) else { break };
            bound.push(original.try_clone()?);
        }
        Ok(bound)
    }

    /// Where it listens; a port 0 has become the real one.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Another descriptor of the same socket, with the same queue.
    pub fn try_clone(&self) -> Result<Self> {
        let socket = self.socket.try_clone().map_err(|error| {
            Error::new(Reason::Internal, "a listening socket could not be duplicated")
                .because(error)
        })?;
        Ok(Self { socket, address: self.address.clone() })
    }

    /// Begins to accept on the runtime this is called in.
    pub fn into_listener(self) -> Result<Listener> {
        let socket = match &self.address {
            Address::Tcp(_) => TcpListener::from_std(self.socket.into()).map(Inner::Tcp),
            Address::Unix(_) => UnixListener::from_std(self.socket.into()).map(Inner::Unix),
        };
        let socket = socket.map_err(|error| {
            Error::new(Reason::Internal, "a listening socket could not be watched").because(error)
        })?;
        Ok(Listener { socket, address: self.address })
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A listening socket on a runtime.
#[derive(Debug)]
pub struct Listener {
    socket: Inner,
    address: Address,
}

#[derive(Debug)]
enum Inner {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection and its peer; cancel-safe.
    ///
    /// An error is about the machine (no descriptor, no memory), never about one connection: one
    /// that was gone before it was accepted is passed over. Wait a moment before the next call.
    pub async fn accept(&self) -> io::Result<(Socket, Address)> {
        loop {
            let accepted = match &self.socket {
                Inner::Tcp(tcp) => {
                    tcp.accept().await.map(|(tcp, peer)| (Socket::Tcp(tcp), Address::from(peer)))
                }
                Inner::Unix(unix) => unix
                    .accept()
                    .await
                    .map(|(unix, peer)| (Socket::Unix(unix), Address::unix(&peer))),
            };
            match accepted {
                Err(error) if concerns_one_connection(&error) => {}
                other => return other,
            }
        }
    }

    /// A connection that waits already, whatever the runtime knows of it yet; for closing in peace.
    pub fn accept_waiting(&self) -> Option<(Socket, Address)> {
        let socket = match &self.socket {
            Inner::Tcp(tcp) => SockRef::from(tcp),
            Inner::Unix(unix) => SockRef::from(unix),
        };
        loop {
            match socket.accept() {
                Ok((socket, peer)) => match attach(socket, &peer) {
                    Ok(accepted) => return Some(accepted),
                    Err(error) => tracing::warn!(%error, "a connection was lost while closing"),
                },
                Err(error) if concerns_one_connection(&error) => {}
                Err(_nothing_waits) => return None,
            }
        }
    }
}

/// What accept(2) gives back, on the runtime this is called in.
fn attach(socket: socket2::Socket, peer: &SockAddr) -> io::Result<(Socket, Address)> {
    socket.set_nonblocking(true)?;
    match peer.as_socket() {
        Some(peer) => Ok((Socket::Tcp(TcpStream::from_std(socket.into())?), Address::from(peer))),
        None => {
            let peer = peer.as_pathname().map(Path::to_path_buf).unwrap_or_default();
            Ok((Socket::Unix(UnixStream::from_std(socket.into())?), Address::Unix(peer)))
        }
    }
}

/// accept(2): these are the errors of a connection that failed while it was waiting.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::PROTO
                | Errno::INTR
                | Errno::PERM
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::OPNOTSUPP
                | Errno::NOPROTOOPT
        )
    )
}

fn tcp(address: SocketAddr, reuse_port: bool) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Lets a restart bind while old connections linger in TIME_WAIT; never beside a live listener.
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn unix(path: &Path, mode: u32) -> io::Result<socket2::Socket> {
    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux makes the file with the socket's own mode, so it is at no time open to more than asked.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(mode))?;
    socket.bind(&SockAddr::unix(path)?)?;
    // What the process's umask took away.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(socket)
}

/// Removes the file of a Unix socket on which nobody listens any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file that is not a socket is there",
            ));
        }
        Ok(_) => {}
    }
    let probe = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A live listener whose queue is full must not hold the start up.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn refused(options: &Options, error: io::Error) -> Error {
    let address = &options.address;
    let hint = match (error.kind(), address) {
        (io::ErrorKind::AddrInUse, Address::Tcp(tcp)) => {
            format!(
                "another process listens on it; find it with `ss -ltnp sport = :{}`",
                tcp.port()
            )
        }
        (io::ErrorKind::AddrInUse, Address::Unix(_)) => "another process listens on it".into(),
        (io::ErrorKind::PermissionDenied, Address::Tcp(tcp)) => format!(
            "port {} needs root or CAP_NET_BIND_SERVICE \
             (`setcap cap_net_bind_service+ep`, or `AmbientCapabilities` under systemd)",
            tcp.port()
        ),
        (io::ErrorKind::PermissionDenied, Address::Unix(path)) => {
            format!("no permission to write in {}", path.parent().unwrap_or(path).display())
        }
        (io::ErrorKind::NotFound, Address::Unix(path)) => {
            format!("the folder {} does not exist", path.parent().unwrap_or(path).display())
        }
        (io::ErrorKind::AddrNotAvailable, _) => "no interface of this machine has it".into(),
        _ => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::AFNOSUPPORT) => "this machine has no IPv6; write 0.0.0.0 for IPv4".into(),
            Some(Errno::MFILE) => "the limit of open files is reached; raise `ulimit -n`".into(),
            _ => error.to_string(),
        },
    };
    Error::new(Reason::Misconfigured, format!("cannot listen on {address}: {hint}")).because(error)
}
