//! One connection, from either side, down to its bytes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    message::{Message, field},
    wait::PATIENCE,
};

/// A connection with what has been read ahead from it.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Conn {
    /// Connects; panics if that is refused.
    pub fn to(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
    }

    /// A connection that stands.
    pub fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, ahead: Vec::new() }
    }

    /// The socket.
    pub const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes; says whether the other side took them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Says that nothing more comes.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads more; `false` at the end, on an error, or if nothing came in time.
    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
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
    pub fn head(&mut self) -> Option<Message> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.ahead.drain(..end + 4).collect::<Vec<_>>();
                return Some(Message::parse(&String::from_utf8_lossy(&head[..end])));
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// A whole request.
    pub fn request(&mut self) -> Option<Message> {
        let mut message = self.head()?;
        self.body(&mut message, false);
        Some(message)
    }

    /// The final response to a request that was not HEAD; interim responses are skipped. Panics if
    /// none comes.
    pub fn response(&mut self) -> Message {
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
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request);
        self.response()
    }

    /// Reads the body that a head announces.
    pub fn body(&mut self, message: &mut Message, until_close: bool) {
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

    fn chunks(&mut self, message: &mut Message) -> Option<()> {
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
