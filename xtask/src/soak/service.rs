//! The service behind Weft: threads of this process that answer whatever they are asked.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::Result;

/// Starts it; it ends with the process.
pub(super) fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks is closed, and Weft opens another.
            thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

fn serve(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut fails = false;
    while let Some(path) = request(&mut reader)? {
        // Every other request fails, so that a second try succeeds.
        fails = path.contains("/flaky") && !fails;
        let status = if fails { "503 Service Unavailable" } else { "200 OK" };
        write!(writer, "HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok")?;
    }
    Ok(())
}

/// Reads a request to its end; its first line, or nothing at the end of the connection.
fn request(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut first = String::new();
    if from.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let (mut line, mut length) = (String::new(), 0);
    while {
        line.clear();
        from.read_line(&mut line)?
    } > 2
    {
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    io::copy(&mut from.take(length), &mut io::sink())?;
    Ok(Some(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_to_their_end() {
        let mut from =
            &b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n"[..];
        assert_eq!(request(&mut from).unwrap().unwrap(), "POST /a HTTP/1.1\r\n");
        assert_eq!(request(&mut from).unwrap().unwrap(), "GET /b HTTP/1.1\r\n");
        assert_eq!(request(&mut from).unwrap(), None);
    }
}
