//! A socket that is read into one buffer, from which codecs take what is complete.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::stop;

/// What is read at once.
const CHUNK: usize = 256 * 1024;
/// How long nothing may come while something is owed.
pub(super) const LATE: Duration = Duration::from_secs(20);

/// A connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// Of a fixed length but for frames that are larger; what has come is from `at` to `end`.
    kept: Vec<u8>,
    at: usize,
    end: usize,
}

impl Socket {
    pub(super) fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LATE))?;
        stream.set_write_timeout(Some(LATE))?;
        Ok(Self { stream, kept: vec![0; 2 * CHUNK], at: 0, end: 0 })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("send")
    }

    /// Waits until more has come.
    pub(super) fn fill(&mut self) -> Result<()> {
        if !self.fill_within(LATE)? {
            bail!("nothing came within {LATE:?} though something was owed");
        }
        Ok(())
    }

    /// Waits for more so long; whether more has come.
    pub(super) fn fill_within(&mut self, longest: Duration) -> Result<bool> {
        // Moved to the front only when there is little room behind.
        if self.at == self.end || self.kept.len() - self.end < CHUNK / 2 {
            self.kept.copy_within(self.at..self.end, 0);
            self.end -= self.at;
            self.at = 0;
        }
        if self.kept.len() - self.end < CHUNK / 2 {
            self.kept.resize(2 * self.kept.len(), 0);
        }
        if longest != LATE {
            self.stream.set_read_timeout(Some(longest))?;
        }
        let read = self.stream.read(&mut self.kept[self.end..]);
        if longest != LATE {
            self.stream.set_read_timeout(Some(LATE))?;
        }
        match read {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => {
                self.end += count;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(false)
            }
            // A signal: whoever waits looks at that next.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                stop::check()?;
                self.fill_within(longest)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What has come and was not taken.
    pub(super) fn rest(&self) -> &[u8] {
        &self.kept[self.at..self.end]
    }

    /// Takes so much of it.
    pub(super) fn take(&mut self, count: usize) {
        self.at = (self.at + count).min(self.end);
    }

    /// Takes a line without its end, once it is there.
    pub(super) fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = line_end(self.rest()) {
                let line = String::from_utf8_lossy(&self.rest()[..end]).into_owned();
                self.take(end + 2);
                return Ok(line);
            }
            self.fill()?;
        }
    }
}

/// Where a line ends.
pub(super) fn line_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|&byte| byte == b'\r')?;
        match bytes.get(at + 1) {
            Some(b'\n') => return Some(at),
            Some(_) => from = at + 1,
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_of_a_line() {
        for (text, end) in [
            ("ab\r\ncd", Some(2)),
            ("\r\n", Some(0)),
            ("a\rb\r\n", Some(3)),
            ("ab\r", None),
            ("", None),
        ] {
            assert_eq!(line_end(text.as_bytes()), end, "{text:?}");
        }
    }
}
