//! The body of a response, which has the connection until both directions have ended.

use std::task::{Context, Poll};

use bytes::BytesMut;
use weft_kernel::{Error, Reason, Result};
use weft_wire::{
    Length,
    h1::{ChunkedDecoder, Decoded},
};

use super::{Connection, Sending, Upload};
use crate::{body::Frame, clock, pool::Home};

pub(super) enum Decoding {
    Length(u64),
    Chunked(ChunkedDecoder),
    Close,
    Done,
}

/// The body of a response, with the connection it comes from.
pub struct ResponseBody {
    pub(super) connection: Option<Box<Connection>>,
    pub(super) decoding: Decoding,
    pub(super) length: Length,
    pub(super) upload: Option<Upload>,
    /// Why the rest of the request cannot come: what has come of the response is given first.
    pub(super) failed: Option<Error>,
    pub(super) home: Option<Home>,
}

impl ResponseBody {
    pub(crate) const fn length(&self) -> Length {
        self.length
    }

    /// Gives the connection back, if it may carry another exchange.
    pub(super) fn finish(&mut self) {
        self.decoding = Decoding::Done;
        let sent = self.upload.take().is_none_or(|upload| upload.state == Sending::Done);
        let (connection, home) = (self.connection.take(), self.home.take());
        if let (Some(mut connection), Some(home), true) = (connection, home, sent) {
            // Bytes after the end of a response belong to nothing: such a connection is not to be
            // trusted with another request.
            if connection.link.inbuf.is_empty() {
                connection.link.rest();
                connection.served += 1;
                connection.idle_since = clock::now();
                home.welcome(connection);
            }
        }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        loop {
            let Some(connection) = self.connection.as_mut() else {
                return Poll::Ready(None);
            };
            let link = &mut connection.link;
            if let Some(upload) = &mut self.upload {
                match upload.poll(link, cx) {
                    Poll::Ready(Ok(Ok(()))) => self.upload = None,
                    // The service wants no more of it, and may answer all the same.
                    Poll::Ready(Ok(Err(_))) => {
                        self.upload = None;
                        self.home = None;
                    }
                    Poll::Ready(Err(error)) => {
                        self.upload = None;
                        self.home = None;
                        self.failed = Some(error);
                    }
                    Poll::Pending => {}
                }
            }
            let want = match &mut self.decoding {
                Decoding::Done => return Poll::Ready(None),
                Decoding::Length(left) => {
                    if !link.inbuf.is_empty() {
                        let len =
                            usize::try_from(*left).unwrap_or(usize::MAX).min(link.inbuf.len());
                        let data = take(&mut link.inbuf, len);
                        *left -= len as u64;
                        if *left == 0 {
                            self.finish();
                        }
                        return Poll::Ready(Some(Ok(Frame::Data(data))));
                    }
                    *left
                }
                Decoding::Chunked(decoder) => match decoder.decode(&link.inbuf) {
                    Ok(Decoded::Data { skip, len }) => {
                        let _ = link.inbuf.split_to(skip);
                        return Poll::Ready(Some(Ok(Frame::Data(take(&mut link.inbuf, len)))));
                    }
                    Ok(Decoded::End { skip, trailers }) => {
                        let _ = link.inbuf.split_to(skip);
                        self.finish();
                        return Poll::Ready(trailers.map(|fields| Ok(Frame::Trailers(fields))));
                    }
                    Ok(Decoded::More { skip }) => {
                        let _ = link.inbuf.split_to(skip);
                        u64::MAX
                    }
                    Err(error) => {
                        self.drop_connection();
                        return Poll::Ready(Some(Err(Error::new(
                            Reason::UpstreamMalformed,
                            format!("the chunks of the response are malformed: {error}"),
                        ))));
                    }
                },
                Decoding::Close => {
                    if !link.inbuf.is_empty() {
                        let len = link.inbuf.len();
                        return Poll::Ready(Some(Ok(Frame::Data(take(&mut link.inbuf, len)))));
                    }
                    u64::MAX
                }
            };
            let read = match link.poll_read_body(cx, want) {
                Poll::Ready(read) => read,
                Poll::Pending => {
                    let Some(error) = self.failed.take() else { return Poll::Pending };
                    self.drop_connection();
                    return Poll::Ready(Some(Err(error)));
                }
            };
            match read {
                Ok(1..) => {}
                Ok(0) if matches!(self.decoding, Decoding::Close) => {
                    self.drop_connection();
                    return Poll::Ready(None);
                }
                Ok(0) => {
                    self.drop_connection();
                    return Poll::Ready(Some(Err(Error::new(
                        Reason::UpstreamIncomplete,
                        "the service closed the connection within its response",
                    ))));
                }
                Err(error) => {
                    self.drop_connection();
                    return Poll::Ready(Some(Err(Error::new(
                        Reason::UpstreamIncomplete,
                        "the connection to the service broke within its response",
                    )
                    .because(error))));
                }
            }
        }
    }

    fn drop_connection(&mut self) {
        self.decoding = Decoding::Done;
        self.connection = None;
        self.home = None;
        self.upload = None;
    }
}

/// Takes bytes off a buffer; a small piece is copied, so that the buffer need not be given away.
fn take(buffer: &mut BytesMut, len: usize) -> bytes::Bytes {
    if len <= 4096 && buffer.len() == len {
        let data = bytes::Bytes::copy_from_slice(buffer);
        buffer.clear();
        return data;
    }
    buffer.split_to(len).freeze()
}
