//! Input of which no line is longer than a bound, so that a server that lies fills no memory.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes of a line of a reply. Those that are expected have a few dozen.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A connection whose lines are bounded; what is written passes as it is.
pub(super) struct Bounded<T> {
    within: T,
    /// Bytes since the end of the last line.
    since: usize,
}

impl<T> Bounded<T> {
    pub(super) const fn new(within: T) -> Self {
        Self { within, since: 0 }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Bounded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.within).poll_read(cx, buf))?;
        let came = buf.filled().get(before..).unwrap_or_default();
        self.since = match came.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => came.len() - end - 1,
            None => self.since.saturating_add(came.len()),
        };
        if self.since > LINE_BYTES_MAX {
            // What ends with an error has read nothing.
            buf.set_filled(before);
            let say = "a line of a reply is too long";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, say)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Bounded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.within).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.within).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.within).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_line_has_a_bound_and_a_reply_of_many_has_none() {
        let line = [vec![b'a'; LINE_BYTES_MAX - 1], b"\r\n".to_vec()].concat();
        let (mut read, many) = (Vec::new(), line.repeat(4));
        Bounded::new(io::Cursor::new(many.clone())).read_to_end(&mut read).await.unwrap();
        assert_eq!(read, many);
        let endless = vec![b'a'; LINE_BYTES_MAX * 2];
        let failed = Bounded::new(io::Cursor::new(endless)).read_to_end(&mut read).await;
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
