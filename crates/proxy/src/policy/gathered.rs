//! Bodies that policies read whole, and how much of them a worker holds at once.

use std::{
    cell::Cell,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_net::body::{Body, Frame, Source};
use weft_wire::{Fields, Length};

use super::Fact;

/// The most bytes of bodies that a worker gathers for policies at once.
const BYTES_MAX: usize = 128 << 20;

/// What a worker has gathered of bodies.
#[derive(Clone, Default)]
pub(crate) struct Gathering(Rc<Cell<usize>>);

impl Gathering {
    /// Begins to gather a body.
    pub(crate) fn begin(&self) -> Gathered {
        Gathered { all: self.clone(), bytes: 0 }
    }
}

/// What is held of one body, until its request has ended.
pub(crate) struct Gathered {
    all: Gathering,
    bytes: usize,
}

impl Fact for Gathered {}

impl Gathered {
    /// Counts a piece.
    ///
    /// # Errors
    /// [`Reason::Overload`] if too much is held already.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<()> {
        let all = self.all.0.get().saturating_add(bytes);
        if all > BYTES_MAX {
            let say = "too much of request bodies is held in memory to take another";
            return Err(Error::new(Reason::Overload, say));
        }
        self.all.0.set(all);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.all.0.set(self.all.0.get().saturating_sub(self.bytes));
    }
}

/// Reads a body whole, and puts what was read in its place.
pub(super) async fn read(
    body: &mut Body,
    bytes_max: usize,
    mut count: impl FnMut(usize) -> Result<()>,
) -> Result<Bytes> {
    let mut from = std::mem::take(body);
    let (mut all, mut trailers) = (Vec::new(), None);
    while let Some(frame) = from.frame().await {
        match frame? {
            Frame::Data(bytes) if all.len() + bytes.len() > bytes_max => {
                let say =
                    format!("the body is larger than the {bytes_max} bytes that are read of it");
                return Err(Error::new(Reason::BodyTooLarge, say));
            }
            Frame::Data(bytes) => {
                count(bytes.len())?;
                all.extend_from_slice(&bytes);
            }
            Frame::Trailers(fields) => trailers = Some(fields),
        }
    }
    all.shrink_to_fit();
    let all = Bytes::from(all);
    *body = match trailers {
        None => Body::full(all.clone()),
        Some(trailers) => {
            Body::Source(Box::new(Read { data: Some(all.clone()), trailers: Some(trailers) }))
        }
    };
    Ok(all)
}

/// A body that was read whole, with its trailers.
struct Read {
    data: Option<Bytes>,
    trailers: Option<Fields>,
}

impl Source for Read {
    fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let data = self.data.take().filter(|data| !data.is_empty()).map(Frame::Data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::Trailers)).map(Ok))
    }

    fn length(&self) -> Length {
        Length::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_holds_so_much_and_what_ends_makes_room() {
        let gathering = Gathering::default();
        let mut held: Vec<Gathered> = (0..4).map(|_| gathering.begin()).collect();
        for one in &mut held {
            one.add(BYTES_MAX / 4).unwrap();
        }
        let mut late = gathering.begin();
        assert_eq!(late.add(1).unwrap_err().reason(), Reason::Overload);
        held.pop();
        assert!(late.add(BYTES_MAX / 4).is_ok());
        drop((held, late));
        assert_eq!(gathering.0.get(), 0);
    }
}
