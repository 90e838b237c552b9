//! Messages of a request's body, one by one, and messages as a body has them.

use bytes::{Bytes, BytesMut};
use prost::Message;
use weft_net::body::{Body, Frame};
use weft_wire::grpc::{COMPRESSED, PREFIX_BYTES, Prefix, Status};

use crate::fault::Fault;

/// The largest message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 9 << 20;

/// The messages of a request.
pub(crate) struct Requests {
    body: Body,
    held: BytesMut,
    is_over: bool,
}

impl Requests {
    pub(crate) fn of(body: Body) -> Self {
        Self { body, held: BytesMut::new(), is_over: false }
    }

    /// The next message; `None` at the end. Cancel-safe.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Fault> {
        loop {
            if let Some(message) = take(&mut self.held)? {
                let read = M::decode(message);
                return read
                    .map(Some)
                    .map_err(|error| Fault::invalid(format!("a message cannot be read: {error}")));
            }
            if self.is_over && self.held.is_empty() {
                return Ok(None);
            }
            if self.is_over {
                return Err(Fault::invalid("the request ends in the middle of a message"));
            }
            match self.body.frame().await {
                Some(Ok(Frame::Data(bytes))) => self.held.extend_from_slice(&bytes),
                Some(Ok(Frame::Trailers(_))) => {}
                Some(Err(error)) => return Err(error.into()),
                None => self.is_over = true,
            }
        }
    }

    /// The only message.
    pub(crate) async fn only<M: Message + Default>(&mut self) -> Result<M, Fault> {
        self.next().await?.ok_or_else(|| Fault::invalid("the request has no message"))
    }
}

/// The first message of what has come, if it is whole.
fn take(held: &mut BytesMut) -> Result<Option<Bytes>, Fault> {
    let Some((prefix, _)) = held.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let prefix = Prefix::parse(*prefix).map_err(|error| Fault::invalid(error.to_string()))?;
    if prefix.flags & COMPRESSED != 0 {
        return Err(Fault::new(Status::Unimplemented, "compressed messages are not read here"));
    }
    if prefix.flags != 0 {
        return Err(Fault::invalid("a message has flags that gRPC does not have"));
    }
    let length = prefix.len as usize;
    if length > MESSAGE_BYTES_MAX {
        let say = format!("a message of {length} bytes is larger than {MESSAGE_BYTES_MAX} bytes");
        return Err(Fault::new(Status::ResourceExhausted, say));
    }
    if held.len() < PREFIX_BYTES + length {
        return Ok(None);
    }
    let mut message = held.split_to(PREFIX_BYTES + length);
    Ok(Some(message.split_off(PREFIX_BYTES).freeze()))
}

/// Appends a message as a body has it.
pub(crate) fn put(out: &mut Vec<u8>, message: &impl Message) {
    let len = message.encoded_len();
    out.reserve(PREFIX_BYTES + len);
    let prefix = Prefix { flags: 0, len: u32::try_from(len).unwrap_or(u32::MAX) };
    out.extend_from_slice(&prefix.bytes());
    message.encode_raw(out);
}

/// A message as a body has it.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let mut out = Vec::new();
    put(&mut out, message);
    out.into()
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use proptest::{collection::vec, prelude::*};
    use weft_net::body::Source;
    use weft_wire::Length;

    use super::*;
    use crate::messages::{
        AppendRequest, BatchAppendRequest, PersistentChange, PersistentRead, ReadRequest,
        SessionRequest, StreamIdentifier,
    };

    struct Pieces(Vec<Vec<u8>>);

    impl Source for Pieces {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<weft_kernel::Result<Frame>>> {
            let piece = (!self.0.is_empty()).then(|| self.0.remove(0));
            Poll::Ready(piece.map(|piece| Ok(Frame::Data(piece.into()))))
        }

        fn length(&self) -> Length {
            Length::Unknown
        }
    }

    fn all<M: Message + Default>(pieces: Vec<Vec<u8>>) -> Result<Vec<M>, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut requests = Requests::of(Body::Source(Box::new(Pieces(pieces))));
            let mut all = Vec::new();
            while let Some(message) = requests.next().await? {
                all.push(message);
            }
            Ok(all)
        })
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(names in vec(vec(any::<u8>(), 0..30), 0..6), cut in 1_usize..9) {
            let sent: Vec<_> =
                names.into_iter().map(|stream_name| StreamIdentifier { stream_name }).collect();
            let mut body = Vec::new();
            sent.iter().for_each(|message| put(&mut body, message));
            let pieces = body.chunks(cut).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(all::<StreamIdentifier>(pieces).unwrap(), sent);
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in vec(any::<u8>(), 0..200), is_framed in any::<bool>()) {
            let mut bytes = Vec::new();
            if is_framed {
                bytes.extend_from_slice(&Prefix { flags: 0, len: body.len() as u32 }.bytes());
            }
            bytes.extend_from_slice(&body);
            let _ = all::<ReadRequest>(vec![bytes.clone()]);
            let _ = all::<PersistentChange>(vec![bytes.clone()]);
            let _ = all::<PersistentRead>(vec![bytes.clone()]);
            let _ = all::<AppendRequest>(vec![bytes.clone()]);
            let _ = all::<BatchAppendRequest>(vec![bytes.clone()]);
            let _ = all::<SessionRequest>(vec![bytes]);
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (bytes, status) in [
            (&[0, 0, 0, 0, 2, 1][..], Status::InvalidArgument),
            (&[1, 0, 0, 0, 0], Status::Unimplemented),
            (&[0x80, 0, 0, 0, 0], Status::InvalidArgument),
            (&[2, 0, 0, 0, 0], Status::InvalidArgument),
            (&[0, 0xff, 0, 0, 0], Status::ResourceExhausted),
        ] {
            let fault = all::<StreamIdentifier>(vec![bytes.to_vec()]).unwrap_err();
            assert_eq!(fault.status, status, "{bytes:?}");
        }
    }
}
