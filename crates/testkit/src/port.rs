//! Ports for processes that must be told theirs before they start.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, SockAddr, Socket, Type};

/// A port of the loopback interface that nobody else gets for as long as this lives.
///
/// It is bound, but not listened at: a connection to it is refused until a process that shares ports
/// (`SO_REUSEPORT`) listens there.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _socket: Socket,
}

impl Port {
    /// Reserves a port.
    pub fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { address, _socket: socket }
    }

    /// Its address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}
