//! gRPC-Web on the client's side, gRPC on the service's.
//!
//! A browser can neither read trailers nor speak HTTP/2 at will: its request goes on as gRPC, and the
//! trailers of the response come back as a last message in the body (grpc/grpc `PROTOCOL-WEB.md`).

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use weft_kernel::{Error, Reason, Result};
use weft_net::body::{Body, Frame, Source};
use weft_wire::{
    Fields, Known, Length, ResponseHead,
    grpc::{ContentType, Kind},
    grpc_web::{TextDecoder, TextEncoder, write_trailers},
};

use crate::upload::Upload;

/// Makes the head of a gRPC-Web request that of a gRPC one.
pub(crate) fn request(fields: &mut Fields) {
    let mut text = Vec::new();
    if let Some(content_type) = fields.get(Known::ContentType).and_then(ContentType::of) {
        content_type.write_as(Kind::Grpc, &mut text);
    }
    fields.set(Known::ContentType, &text);
    fields.set(Known::Te, b"trailers");
    fields.remove(Known::ContentLength);
    fields.remove(Known::Accept);
}

/// Makes the body of a gRPC-Web request that of a gRPC one.
pub(crate) fn body(kind: Kind, body: Body, upload: &Rc<Upload>) -> Body {
    match kind {
        Kind::WebText => {
            let (decoder, upload) = (TextDecoder::default(), upload.clone());
            Body::Source(Box::new(FromText { body, decoder, upload }))
        }
        _ => body,
    }
}

/// Makes a gRPC response a gRPC-Web one.
pub(crate) fn response(head: &mut ResponseHead, kind: Kind, body: Body) -> Body {
    let mut text = Vec::new();
    match head.fields.get(Known::ContentType).and_then(ContentType::of) {
        Some(content_type) => content_type.write_as(kind, &mut text),
        // Not an answer of gRPC: it goes as it is.
        None => return body,
    }
    head.fields.set(Known::ContentType, &text);
    head.fields.remove(Known::ContentLength);
    // A response of trailers alone has them in its head, where a browser can read them.
    if body.is_empty() && head.fields.has(Known::GrpcStatus) {
        return body;
    }
    let encoder = (kind == Kind::WebText).then(TextEncoder::default);
    Body::Source(Box::new(ToWeb { body, encoder, over: false }))
}

struct FromText {
    body: Body,
    decoder: TextDecoder,
    upload: Rc<Upload>,
}

impl FromText {
    fn refuse(&self) -> Poll<Option<Result<Frame>>> {
        let say = "the body of grpc-web-text is not base64";
        let error = Error::new(Reason::MalformedRequest, say);
        self.upload.break_off(&error);
        Poll::Ready(Some(Err(error)))
    }
}

impl Source for FromText {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        loop {
            match std::task::ready!(self.body.poll_frame(cx)) {
                Some(Ok(Frame::Data(bytes))) => {
                    let mut out = Vec::with_capacity(bytes.len());
                    if self.decoder.push(&bytes, &mut out).is_err() {
                        return self.refuse();
                    }
                    if !out.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::Data(out.into()))));
                    }
                }
                None if !self.decoder.is_whole() => return self.refuse(),
                other => return Poll::Ready(other),
            }
        }
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        self.body.read_ahead(cx);
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.body.poll_begun(cx)
    }

    fn length(&self) -> Length {
        Length::Unknown
    }
}

struct ToWeb {
    body: Body,
    encoder: Option<TextEncoder>,
    over: bool,
}

impl ToWeb {
    fn frame(&mut self, bytes: &[u8]) -> Frame {
        match &mut self.encoder {
            None => Frame::Data(bytes.to_vec().into()),
            Some(encoder) => {
                let mut out = Vec::with_capacity(bytes.len() * 4 / 3 + 4);
                encoder.push(bytes, &mut out);
                // Each piece must be readable as it comes, for streams.
                encoder.flush(&mut out);
                Frame::Data(out.into())
            }
        }
    }

    fn trailers(&mut self, fields: &Fields) -> Frame {
        let mut out = Vec::new();
        write_trailers(fields.iter(), &mut out);
        self.frame(&out)
    }
}

impl Source for ToWeb {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        if self.over {
            return Poll::Ready(None);
        }
        Poll::Ready(match std::task::ready!(self.body.poll_frame(cx)) {
            Some(Ok(Frame::Data(bytes))) if self.encoder.is_none() => Some(Ok(Frame::Data(bytes))),
            Some(Ok(Frame::Data(bytes))) => Some(Ok(self.frame(&bytes))),
            Some(Ok(Frame::Trailers(fields))) => {
                self.over = true;
                Some(Ok(self.trailers(&fields)))
            }
            Some(Err(error)) => Some(Err(error)),
            None => {
                self.over = true;
                None
            }
        })
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        self.body.read_ahead(cx);
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.body.poll_begun(cx)
    }

    fn length(&self) -> Length {
        Length::Unknown
    }
}
