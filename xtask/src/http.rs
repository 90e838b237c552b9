//! A small blocking HTTP/1.1 client: enough to see what a caller sees, and not a line more.
//!
//! It never sends anything twice, so that each failure behind Weft shows.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longer than any deadline of what is asked.
const PATIENCE: Duration = Duration::from_secs(20);
const HEAD_MAX: u64 = 64 * 1024;
const BODY_MAX: u64 = 16 * 1024 * 1024;

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header field, by its lower-case name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The values of a field that may come several times.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The instance of the shop that answered.
    pub(crate) fn instance(&self) -> &str {
        self.field("x-shop-instance").unwrap_or("nobody of the shop")
    }

    fn is_chunked(&self) -> bool {
        self.field("transfer-encoding").is_some_and(|coding| coding.contains("chunked"))
    }
}

/// One connection, opened when it is first needed and kept while it can be.
#[derive(Debug)]
pub(crate) struct Client {
    to: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, stream: None }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn send(&mut self, method: &str, path: &str, json: &str) -> io::Result<Answer> {
        self.send_with(method, path, "", json)
    }

    /// As [`Client::send`], with more header fields, each with its line's end.
    pub(crate) fn send_with(
        &mut self,
        method: &str,
        path: &str,
        fields: &str,
        json: &str,
    ) -> io::Result<Answer> {
        let mut stream = self.open()?;
        write(stream.get_mut(), method, path, fields, json)?;
        let mut answer = head(&mut stream)?;
        answer.body = body(&mut stream, &answer)?;
        if answer.field("connection").is_none_or(|word| !word.eq_ignore_ascii_case("close")) {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send("GET", path, "")
    }

    /// Asks for an event stream and gives its lines as they come; the connection is used up.
    pub(crate) fn events(mut self, path: &str) -> io::Result<Events> {
        let mut stream = self.open()?;
        write(stream.get_mut(), "GET", path, "accept: text/event-stream\r\n", "")?;
        let answer = head(&mut stream)?;
        if answer.status != 200 {
            return Err(bad(&format!("status {}", answer.status)));
        }
        Ok(Events(stream))
    }

    /// Asks for a WebSocket and gives the connection once it is one.
    pub(crate) fn web_socket(mut self, path: &str) -> io::Result<TcpStream> {
        let mut stream = self.open()?;
        let fields = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                      sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        write(stream.get_mut(), "GET", path, fields, "")?;
        let answer = head(&mut stream)?;
        if answer.status != 101 {
            return Err(bad(&format!("status {}", answer.status)));
        }
        Ok(stream.into_inner())
    }

    fn open(&mut self) -> io::Result<BufReader<TcpStream>> {
        if let Some(stream) = self.stream.take() {
            return Ok(stream);
        }
        let stream = TcpStream::connect_timeout(&self.to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

/// An event stream.
#[derive(Debug)]
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    /// Waits for the data of the next event.
    pub(crate) fn next(&mut self) -> io::Result<String> {
        // Lines that frame chunks never begin like this.
        loop {
            let line = line(&mut self.0)?;
            if let Some(data) = line.strip_prefix("data: ") {
                return Ok(data.to_owned());
            }
        }
    }
}

fn write(to: &mut TcpStream, method: &str, path: &str, fields: &str, json: &str) -> io::Result<()> {
    let host = to.peer_addr()?;
    let kind = if json.is_empty() { "" } else { "content-type: application/json\r\n" };
    let length = json.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{fields}{kind}content-length: {length}\r\n\r\n{json}"
    );
    to.write_all(request.as_bytes())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if from.take(HEAD_MAX).read_line(&mut line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended"));
    }
    Ok(line.trim_end().to_owned())
}

fn head(from: &mut impl BufRead) -> io::Result<Answer> {
    let first = line(from)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut answer = Answer {
        status: status.ok_or_else(|| bad(&format!("`{first}` is no status line")))?,
        ..Answer::default()
    };
    loop {
        let field = line(from)?;
        if field.is_empty() {
            return Ok(answer);
        }
        let (name, value) = field.split_once(':').ok_or_else(|| bad("a field without a colon"))?;
        answer.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn body(from: &mut impl BufRead, answer: &Answer) -> io::Result<String> {
    let mut bytes = Vec::new();
    if answer.is_chunked() {
        loop {
            let size = line(from)?;
            let size = size.split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(|_error| bad("a bad chunk size"))?;
            if size.saturating_add(bytes.len() as u64) > BODY_MAX {
                return Err(bad("the answer is too large"));
            }
            exactly(from, size, &mut bytes)?;
            // After the last chunk come trailers, which end with an empty line, as each chunk does.
            while !line(from)?.is_empty() {}
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = answer.field("content-length") {
        let length = length.parse().map_err(|_error| bad("a bad content length"))?;
        if length > BODY_MAX {
            return Err(bad("the answer is too large"));
        }
        exactly(from, length, &mut bytes)?;
    } else if !matches!(answer.status, 204 | 304) {
        return Err(bad("an answer without a length"));
    }
    String::from_utf8(bytes).map_err(|_error| bad("the answer is not text"))
}

fn exactly(from: &mut impl BufRead, length: u64, into: &mut Vec<u8>) -> io::Result<()> {
    if from.take(length).read_to_end(into)? as u64 != length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is cut short"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &str) -> io::Result<Answer> {
        let mut from = bytes.as_bytes();
        let mut answer = head(&mut from)?;
        answer.body = body(&mut from, &answer)?;
        Ok(answer)
    }

    #[test]
    fn answers_of_either_framing() {
        let plain =
            "HTTP/1.1 201 Created\r\nX-Shop-Instance: orders-1\r\nContent-Length: 2\r\n\r\nhi";
        let answer = read(plain).unwrap();
        assert_eq!(
            (answer.status, answer.body.as_str(), answer.instance()),
            (201, "hi", "orders-1")
        );
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n\
                       0\r\ntrailer: x\r\n\r\n";
        assert_eq!(read(chunked).unwrap().body, "hello");
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n").unwrap().status, 204);
    }

    #[test]
    fn a_broken_answer_is_an_error() {
        for bytes in [
            "",
            "hello\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nunbounded",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhe",
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }
}
