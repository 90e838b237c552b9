//! One connection, from either side, down to its bytes.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
    pki_types::ServerName,
};

use crate::{
    message::{HttpMessage, field},
    wait::PATIENCE,
};

/// A connection with what has been read ahead from it.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    tls: Option<Box<Connection>>,
    ahead: Vec<u8>,
}

impl Conn {
    /// Connects; panics if that is refused.
    pub fn to(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
    }

    /// A connection that stands.
    pub fn of(stream: TcpStream) -> Self {
        // A socket that is not of TCP has nothing to delay.
        let _ = stream.set_nodelay(true);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, tls: None, ahead: Vec::new() }
    }

    /// Connects to a Unix socket; panics if that is refused.
    pub fn unix(path: &Path) -> Self {
        Self::of_unix(UnixStream::connect(path).unwrap())
    }

    /// A Unix connection that stands. Reading, writing, limits and half-closes are the same for every
    /// kind of stream socket, so that it can pass for one of TCP.
    pub fn of_unix(stream: UnixStream) -> Self {
        Self::of(TcpStream::from(OwnedFd::from(stream)))
    }

    /// Connects and speaks TLS; an error if the handshake fails.
    pub fn secure(address: SocketAddr, name: &str, tls: &Arc<ClientConfig>) -> io::Result<Self> {
        Self::to(address).upgrade(name, tls)
    }

    /// Begins TLS as the client on a connection that stands.
    pub fn upgrade(self, name: &str, tls: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let session = ClientConnection::new(tls.clone(), name).map_err(io::Error::other)?;
        self.shake(session.into())
    }

    /// Begins TLS as the server on a connection that stands.
    pub fn accept(self, tls: Arc<ServerConfig>) -> io::Result<Self> {
        self.shake(ServerConnection::new(tls).map_err(io::Error::other)?.into())
    }

    fn shake(mut self, mut session: Connection) -> io::Result<Self> {
        while session.is_handshaking() {
            session.complete_io(&mut self.stream)?;
        }
        self.tls = Some(Box::new(session));
        Ok(self)
    }

    /// The TLS session, if there is one.
    pub fn tls(&self) -> Option<&Connection> {
        self.tls.as_deref()
    }

    /// The socket.
    pub const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes; says whether the other side took them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        match &mut self.tls {
            None => self.stream.write_all(bytes.as_ref()).is_ok(),
            Some(tls) => write_secure(tls, &mut self.stream, bytes.as_ref()).is_ok(),
        }
    }

    /// Says that nothing more comes.
    pub fn finish(&mut self) {
        self.finish_tls();
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Says so by TLS alone; TCP stays as it is.
    pub fn finish_tls(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.stream);
        }
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads more; `false` at the end, on an error, or if nothing came in time.
    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = match &mut self.tls {
                None => self.stream.read(&mut buffer),
                Some(tls) => read_secure(tls, &mut self.stream, &mut buffer),
            };
            match read {
                Ok(0) => return false,
                Ok(read) => {
                    self.ahead.extend_from_slice(&buffer[..read]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let slow = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    assert!(!slow, "nothing came for {PATIENCE:?}; so far: {:?}", self.peek());
                    return false;
                }
            }
        }
    }

    fn peek(&self) -> String {
        String::from_utf8_lossy(&self.ahead[..self.ahead.len().min(512)]).into_owned()
    }

    /// Whether the other side has closed, without a further byte; waits for it.
    pub fn is_closed(&mut self) -> bool {
        self.ahead.is_empty() && !self.more()
    }

    /// Everything that comes until the end.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.ahead)
    }

    /// Exactly so many bytes, or fewer at the end.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count && self.more() {}
        let count = count.min(self.ahead.len());
        self.ahead.drain(..count).collect()
    }

    /// A line without its end.
    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|two| two == b"\r\n") {
                let line = self.ahead.drain(..end + 2).collect::<Vec<_>>();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// A head, without its body.
    pub fn head(&mut self) -> Option<HttpMessage> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.ahead.drain(..end + 4).collect::<Vec<_>>();
                return Some(HttpMessage::parse(&String::from_utf8_lossy(&head[..end])));
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// A whole request.
    pub fn request(&mut self) -> Option<HttpMessage> {
        let mut message = self.head()?;
        self.body(&mut message, false);
        Some(message)
    }

    /// The final response to a request that was not HEAD; interim responses are skipped. Panics if
    /// none comes.
    pub fn response(&mut self) -> HttpMessage {
        loop {
            let Some(mut message) = self.head() else {
                panic!("the connection ended without a response: {:?}", self.peek());
            };
            if (100..200).contains(&message.status()) && message.status() != 101 {
                continue;
            }
            if !matches!(message.status(), 101 | 204 | 304) {
                self.body(&mut message, true);
            }
            return message;
        }
    }

    /// Sends a request and reads its response.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> HttpMessage {
        self.send(request);
        self.response()
    }

    /// Reads the body that a head announces.
    pub fn body(&mut self, message: &mut HttpMessage, until_close: bool) {
        let chunked = message.get("transfer-encoding").is_some_and(|value| {
            value.rsplit(',').next().is_some_and(|last| last.trim().eq_ignore_ascii_case("chunked"))
        });
        if chunked {
            message.complete = self.chunks(message).is_some();
        } else if let Some(length) = message.get("content-length").and_then(|n| n.parse().ok()) {
            message.body = self.take(length);
            message.complete = message.body.len() == length;
        } else if until_close {
            message.body = self.rest();
            message.complete = true;
        } else {
            message.complete = true;
        }
    }

    fn chunks(&mut self, message: &mut HttpMessage) -> Option<()> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).ok()?;
            if size == 0 {
                break;
            }
            let data = self.take(size);
            let whole = data.len() == size;
            message.body.extend(data);
            if !whole || self.take(2) != b"\r\n" {
                return None;
            }
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(());
            }
            message.trailers.extend(field(&line));
        }
    }
}

fn read_secure(tls: &mut Connection, stream: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match tls.reader().read(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            done => return done,
        }
        if tls.read_tls(stream)? == 0 {
            return Ok(0);
        }
        let processed = tls.process_new_packets().map_err(io::Error::other);
        while tls.wants_write() {
            tls.write_tls(stream)?;
        }
        processed?;
    }
}

fn write_secure(tls: &mut Connection, stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let taken = tls.writer().write(bytes)?;
        bytes = &bytes[taken..];
        while tls.wants_write() {
            tls.write_tls(stream)?;
        }
    }
    Ok(())
}
