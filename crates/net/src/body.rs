//! The body of a message, whatever connection it comes from.
//!
//! A body belongs to one worker thread. It is pulled a frame at a time, so that the reader's pace is the
//! sender's; nothing is gathered on the way.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_wire::{Fields, Length};

use crate::{h1, h2};

/// A piece of a body.
#[derive(Debug)]
pub enum Frame {
    /// Bytes; never empty.
    Data(Bytes),
    /// Fields after the last byte.
    Trailers(Fields),
}

/// A body made of other bodies, or from elsewhere.
pub trait Source {
    /// The next frame; `None` at the end.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>>;
    /// How long it will be.
    fn length(&self) -> Length;
    /// See [`Body::read_ahead`]; passed on by what is made of another body.
    fn read_ahead(&mut self, _cx: &mut Context<'_>) {}
    /// See [`Body::poll_begun`]; passed on by what is made of another body.
    fn poll_begun(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// The body of a message.
#[derive(Default)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// All of it, here.
    Full(Bytes),
    /// From an HTTP/1.1 client.
    H1Request(h1::server::RequestBody),
    /// From an HTTP/1.1 service.
    H1Response(Box<h1::client::ResponseBody>),
    /// From an HTTP/2 peer; boxed, since bodies are moved often.
    H2(Box<h2::Incoming>),
    /// From elsewhere.
    Source(Box<dyn Source>),
}

impl Body {
    /// A body of these bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }

    /// The next frame; `None` at the end, and ever after.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::Data(bytes))))
            }
            Self::H1Request(body) => body.poll_frame(cx),
            Self::H1Response(body) => body.poll_frame(cx),
            Self::H2(body) => body.poll_frame(cx),
            Self::Source(body) => body.poll_frame(cx),
        }
    }

    /// Gathers what has come in small pieces while its reader cannot take it, so that it costs no more than
    /// its bytes, which flow control bounds. Called instead of [`Body::poll_frame`] by who is held up.
    pub fn read_ahead(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::H2(body) => body.read_ahead(cx),
            Self::Source(body) => body.read_ahead(cx),
            Self::Empty | Self::Full(_) | Self::H1Request(_) | Self::H1Response(_) => {}
        }
    }

    /// Ready once some of it, or its end, is here. Unlike [`Body::poll_frame`] it asks nobody for more: a
    /// client that waits for `100 Continue` goes on waiting.
    pub fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::H1Request(body) => body.poll_begun(cx),
            Self::H2(body) => body.poll_begun(cx),
            Self::Source(body) => body.poll_begun(cx),
            Self::Empty | Self::Full(_) | Self::H1Response(_) => Poll::Ready(()),
        }
    }

    /// The next frame; `None` at the end. Cancel-safe.
    pub async fn frame(&mut self) -> Option<Result<Frame>> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// How long it will be, as far as the peer said.
    pub fn length(&self) -> Length {
        match self {
            Self::Empty => Length::Exact(0),
            Self::Full(bytes) => Length::Exact(bytes.len() as u64),
            Self::H1Request(body) => body.length(),
            Self::H1Response(body) => body.length(),
            Self::H2(body) => body.length(),
            Self::Source(body) => body.length(),
        }
    }

    /// Whether it is known to hold nothing.
    pub fn is_empty(&self) -> bool {
        self.length().is_none()
    }

    /// All of it in one piece, if it is no longer than `bytes_max`.
    pub async fn collect(mut self, bytes_max: usize) -> Result<Bytes> {
        let mut all = Vec::new();
        while let Some(frame) = self.frame().await {
            if let Frame::Data(bytes) = frame? {
                if all.len() + bytes.len() > bytes_max {
                    return Err(Error::new(
                        Reason::BodyTooLarge,
                        format!("the body is larger than {bytes_max} bytes"),
                    ));
                }
                all.extend_from_slice(&bytes);
            }
        }
        Ok(all.into())
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({:?})", self.length())
    }
}
