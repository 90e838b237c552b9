//! Answers: one message, a fault, or messages as they come; the status at the end.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use prost::Message;
use weft_kernel::Result;
use weft_net::body::{Body, Frame, Source};
use weft_proxy::Reply;
use weft_wire::{Fields, Known, Length, ResponseHead};

use crate::{fault::Fault, frame::framed};

/// One message.
pub(crate) fn message(message: &impl Message) -> Reply {
    let all = stream::iter([Ok(framed(message))]);
    messages(all)
}

/// A fault before anything else.
pub(crate) fn failing(fault: &Fault) -> Reply {
    let mut head = head();
    for (name, value) in fault.trailers().iter() {
        head.fields.append(name, value);
    }
    Reply::new(head, Body::Empty)
}

/// Messages, framed, as they come. What is not asked for is not made.
pub(crate) fn messages(all: impl Stream<Item = Result<Bytes, Fault>> + 'static) -> Reply {
    let body = Answering { messages: Some(Box::pin(all)), is_over: false };
    Reply::new(head(), Body::Source(Box::new(body)))
}

/// What makes the messages of an answer.
pub(crate) trait Producer: 'static {
    /// The next messages, framed; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Fault>;
}

/// Messages of a producer.
pub(crate) fn produced(producer: impl Producer) -> Reply {
    messages(stream::unfold(Some(producer), |producer| async {
        let mut producer = producer?;
        match producer.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(producer))),
            Ok(None) => None,
            Err(fault) => Some((Err(fault), None)),
        }
    }))
}

fn head() -> ResponseHead {
    let mut fields = Fields::new();
    fields.add(Known::ContentType, b"application/grpc");
    ResponseHead { status: 200, fields }
}

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>>>>;

/// Messages as a body, and how the call ended behind them.
struct Answering {
    messages: Option<Messages>,
    is_over: bool,
}

impl Source for Answering {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        while let Some(messages) = &mut self.messages {
            match std::task::ready!(messages.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Frame::Data(bytes)))),
                Some(Err(fault)) => {
                    (self.messages, self.is_over) = (None, true);
                    return Poll::Ready(Some(Ok(Frame::Trailers(fault.trailers()))));
                }
                None => self.messages = None,
            }
        }
        if std::mem::replace(&mut self.is_over, true) {
            return Poll::Ready(None);
        }
        let mut fields = Fields::new();
        fields.add(Known::GrpcStatus, b"0");
        Poll::Ready(Some(Ok(Frame::Trailers(fields))))
    }

    fn length(&self) -> Length {
        Length::Unknown
    }
}
