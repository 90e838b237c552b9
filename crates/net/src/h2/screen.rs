//! Looks at the header blocks of an HTTP/2 connection before the library does.
//!
//! The library ends a connection, with all that others have on it, over a name or a value that HTTP does not
//! have, and over a head of several times its limit; of trailers that are too large it drops a part and says
//! nothing. RFC 9113 section 8.1.1 makes that the matter of one stream. So each block is decoded here first.
//!
//! Of a request, that is the only time: whoever reads its stream is handed what was read here ([`Heads::take`]), and
//! the library is given one in a few bytes that stands for it, with the length of the body, to which it holds that.
//! Of a service, a block that is fine passes as it came. For any other the library is given one that stands for it,
//! and whoever reads the stream is told what came; from then on every block of the connection is written anew,
//! without the library's table, which has not seen what the sender's has. So are the trailers of requests.
//!
//! A block that cannot be decoded is still the end of the connection, as the tables differ after it.

mod heads;
mod look;
mod request;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_kernel::Reason;
use weft_wire::{Known, h1::HeadLimits, hpack};

use self::{
    heads::Part,
    look::{Look, Verdict},
    request::Request,
};
pub(super) use self::{
    heads::{Fault, Heads},
    request::Refused,
};

const PREFACE_LEN: usize = 24;
const HEAD_LEN: usize = 9;
/// The largest frame that is taken: the smallest limit that there is (RFC 9113 section 4.2).
const FRAME_MAX: usize = 16384;
/// How many frames of one block the library always takes.
const FRAMES_MAX: usize = 5;
/// What is kept of the room for what is written anew.
const WRITTEN_KEPT: usize = 256;
/// Room for what stands for a request.
const BLOCK_ROOM: usize = 48;

const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// GET of `/` by http, all from the static table.
const ANY_REQUEST: &[u8] = &[0x82, 0x86, 0x84];
/// A status that is no success, from the static table.
const ANY_RESPONSE: &[u8] = &[0x8e];
/// An index that no table has, which the library ends the connection for.
const NOTHING: &[u8] = &[0x80];

/// Who sends what is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    Client,
    Service,
}

/// What a block is held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The fields of a request, and of trailers.
    pub(super) fields: HeadLimits,
    /// What the library takes of a head.
    pub(super) list_max: usize,
    /// The largest block that is decoded at all.
    pub(super) block_max: usize,
    /// Most requests that may wait to be accepted, and most of their bytes.
    pub(super) waiting: (usize, usize),
}

/// A connection whose inward header blocks are looked at.
pub(super) struct Screen<S> {
    io: S,
    sight: Sight,
    /// The beginning of what is not there yet.
    held: Vec<u8>,
    /// What is to be read next.
    out: BytesMut,
}

impl<S> Screen<S> {
    pub(super) fn new(io: S, sender: Sender, limits: Limits) -> (Self, Heads) {
        let heads = Heads::new(limits.waiting);
        let sight = Sight {
            sender,
            limits,
            decoder: look::decoder(),
            skip: if sender == Sender::Client { PREFACE_LEN } else { 0 },
            // Its requests never reach the library's table.
            rewrites: sender == Sender::Client,
            lost: false,
            heads: heads.clone(),
            written: Vec::new(),
        };
        (Self { io, sight, held: Vec::new(), out: BytesMut::new() }, heads)
    }

    /// Looks at bytes that were read. So many of them, as they are now, are to be read next; what follows them is in
    /// `out`.
    fn look(&mut self, bytes: &mut [u8]) -> usize {
        if !self.held.is_empty() {
            self.held.extend_from_slice(bytes);
            self.settle();
            return 0;
        }
        // What is replaced is written over what it stands for, which most often is longer.
        let (mut read, mut written) = (0, 0);
        while read < bytes.len() {
            match self.sight.next(&bytes[read..]) {
                Step::Pass(len) => {
                    if self.out.is_empty() {
                        bytes.copy_within(read..read + len, written);
                        written += len;
                    } else {
                        self.out.extend_from_slice(&bytes[read..read + len]);
                    }
                    read += len;
                }
                Step::More => {
                    self.held.extend_from_slice(&bytes[read..]);
                    break;
                }
                Step::Replace(len) => {
                    let block = &self.sight.written;
                    read += len;
                    if self.out.is_empty() && written + block.len() <= read {
                        bytes[written..written + block.len()].copy_from_slice(block);
                        written += block.len();
                    } else {
                        self.out.extend_from_slice(block);
                    }
                }
            }
        }
        written
    }

    /// Turns what is held, and is whole, into what is to be read.
    fn settle(&mut self) {
        let held = std::mem::take(&mut self.held);
        let mut at = 0;
        loop {
            match self.sight.next(&held[at..]) {
                Step::More => break,
                Step::Pass(len) => {
                    self.out.extend_from_slice(&held[at..at + len]);
                    at += len;
                }
                Step::Replace(len) => {
                    self.out.extend_from_slice(&self.sight.written);
                    at += len;
                }
            }
        }
        if at == 0 {
            self.held = held;
        } else if at < held.len() {
            self.held = held[at..].to_vec();
        }
    }
}

/// What comes next in the bytes at hand.
enum Step {
    /// Not enough to say.
    More,
    /// So many bytes are fine.
    Pass(usize),
    /// So many bytes are replaced by what was written.
    Replace(usize),
}

struct Sight {
    sender: Sender,
    limits: Limits,
    decoder: hpack::Decoder<Verdict>,
    /// Bytes to pass over before the next frame.
    skip: usize,
    /// The library's table is empty and stays so.
    rewrites: bool,
    /// Nothing that comes is of use.
    lost: bool,
    heads: Heads,
    /// What stands in the place of what was looked at last.
    written: Vec<u8>,
}

/// The head of a frame.
struct Frame {
    len: usize,
    kind: u8,
    flags: u8,
    stream: u32,
    /// Its priority says so (RFC 7540 section 5.3.1).
    depends_on_itself: bool,
}

impl Frame {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, s, t, u, v, ..] = *bytes else { return None };
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let stream = u32::from_be_bytes([s & 0x7f, t, u, v]);
        Some(Self { len, kind, flags, stream, depends_on_itself: false })
    }
}

impl Sight {
    fn next(&mut self, bytes: &[u8]) -> Step {
        if bytes.is_empty() {
            return Step::More;
        }
        // Blocks that are written anew may be large; most are a few bytes.
        self.written.clear();
        self.written.shrink_to(WRITTEN_KEPT);
        if self.lost {
            return Step::Replace(bytes.len());
        }
        if self.skip > 0 {
            let skip = self.skip.min(bytes.len());
            self.skip -= skip;
            return Step::Pass(skip);
        }
        let Some(mut first) = Frame::read(bytes) else { return Step::More };
        match first.kind {
            HEADERS => self.block(&mut first, bytes),
            // No stream may be pushed here, and no block goes on that has not begun.
            PUSH_PROMISE | CONTINUATION => self.lose(bytes.len(), first.stream),
            _ => {
                self.skip = first.len;
                Step::Pass(HEAD_LEN)
            }
        }
    }

    /// Gives the connection up, as what follows cannot be read: the library is given what it does that for.
    fn lose(&mut self, len: usize, stream: u32) -> Step {
        self.lost = true;
        write_block(stream.max(1), false, NOTHING, &mut self.written);
        Step::Replace(len)
    }

    /// Gives the connection up for a block that does not end: the library is given more frames of one than
    /// it takes, which is ENHANCE_YOUR_CALM to it.
    fn overflow(&mut self, len: usize, stream: u32) -> Step {
        self.lost = true;
        let out = &mut self.written;
        write_frame(HEADERS, 0, stream, &[], out);
        let least = self.limits.list_max / FRAME_MAX;
        for _ in 0..least + least / 4 + 2 * FRAMES_MAX {
            write_frame(CONTINUATION, 0, stream, &[], out);
        }
        Step::Replace(len)
    }

    /// A block, from its HEADERS frame on.
    fn block(&mut self, first: &mut Frame, bytes: &[u8]) -> Step {
        let (mut len, mut frames) = (0, 0);
        loop {
            let Some(frame) = Frame::read(&bytes[len.min(bytes.len())..]) else {
                return Step::More;
            };
            if frame.len > FRAME_MAX {
                // The library has a code of its own for that.
                self.skip = usize::MAX;
                return Step::Pass(bytes.len());
            }
            let goes_on = frames == 0 || frame.kind == CONTINUATION && frame.stream == first.stream;
            if !goes_on || first.stream == 0 {
                return self.lose(bytes.len(), first.stream);
            }
            frames += 1;
            len += HEAD_LEN + frame.len;
            if len > self.limits.block_max {
                return self.overflow(bytes.len(), first.stream);
            }
            if frame.flags & END_HEADERS != 0 {
                break;
            }
        }
        if len > bytes.len() {
            return Step::More;
        }
        let Some(mut block) = fragment(first, &bytes[HEAD_LEN..HEAD_LEN + first.len]) else {
            return self.lose(bytes.len(), first.stream);
        };
        let mut joined = Vec::new();
        if frames > 1 {
            joined.extend_from_slice(block);
            let mut at = HEAD_LEN + first.len;
            while let Some(frame) = Frame::read(&bytes[at..len]) {
                at += HEAD_LEN;
                joined.extend_from_slice(&bytes[at..at + frame.len]);
                at += frame.len;
            }
            block = &joined;
        }
        self.judge(first, block, (len, frames), bytes.len())
    }

    /// Reads a block, of so many bytes in so many frames of all that is there.
    fn judge(
        &mut self,
        first: &Frame,
        block: &[u8],
        (len, frames): (usize, usize),
        all: usize,
    ) -> Step {
        let part = self.heads.part(self.sender, first.stream);
        let ends = first.flags & END_STREAM != 0;
        let mut look = Look::new(self.sender, part, self.limits);
        let rewrites = self.rewrites || frames > FRAMES_MAX;
        look.keeps = rewrites;
        if self
            .decoder
            .decode(block, |name, value, verdict| look.field(name, value, verdict))
            .is_err()
        {
            return self.lose(all, first.stream);
        }
        look.end(ends);
        self.heads.note(self.sender, first.stream, &look);
        if let Some(request) = look.request.take() {
            self.request(first, request, look.fault);
            return Step::Replace(len);
        }
        if look.fault.is_none() && !look.differs && !rewrites {
            return Step::Pass(len);
        }
        let mut block = Vec::new();
        if !std::mem::replace(&mut self.rewrites, true) {
            // The size of the table is 0.
            block.push(0x20);
        }
        match (look.fault, part) {
            (None, _) => block.extend_from_slice(&look.kept),
            (Some(_), Part::Trailers) => {}
            (Some(_), Part::Late | Part::Head) => block.extend_from_slice(ANY_RESPONSE),
        }
        write_block(first.stream, ends, &block, &mut self.written);
        Step::Replace(len)
    }

    /// Holds a request for who reads its stream, and writes one that stands for it.
    fn request(&mut self, first: &Frame, request: Request, fault: Option<Fault>) {
        let request = match fault {
            None if first.depends_on_itself => Err("a stream depends on itself"),
            None => request.end(),
            Some(Fault::TooLarge) => {
                Ok(Err((Reason::HeadersTooLarge, "the header section is too large")))
            }
            Some(Fault::Malformed(say)) => Err(say),
        };
        let mut block = Vec::with_capacity(BLOCK_ROOM);
        block.extend_from_slice(ANY_REQUEST);
        match request {
            Ok(request) => {
                let head = request.as_ref().ok();
                if let Some(length) = head.and_then(|head| head.fields.get(Known::ContentLength)) {
                    // The library holds the body to it.
                    hpack::encode_plain(b"content-length", length, &mut block);
                }
                self.heads.hold(first.stream, request);
            }
            // What the library resets the stream for.
            Err(_) => hpack::encode_plain(b"te", b"malformed", &mut block),
        }
        let ends = first.flags & END_STREAM != 0;
        write_block(first.stream, ends, &block, &mut self.written);
    }
}

/// What is left of the payload of HEADERS without padding and priority.
fn fragment<'a>(first: &mut Frame, mut payload: &'a [u8]) -> Option<&'a [u8]> {
    let mut padding = 0;
    if first.flags & PADDED != 0 {
        padding = usize::from(*payload.first()?);
        payload = &payload[1..];
    }
    if first.flags & PRIORITY != 0 {
        let (priority, rest) = payload.split_first_chunk::<5>()?;
        let [a, b, c, d, _] = *priority;
        first.depends_on_itself = u32::from_be_bytes([a & 0x7f, b, c, d]) == first.stream;
        payload = rest;
    }
    payload.get(..payload.len().checked_sub(padding)?)
}

fn write_frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn write_block(stream: u32, ends: bool, block: &[u8], out: &mut Vec<u8>) {
    let (mut rest, mut kind) = (block, HEADERS);
    loop {
        let (piece, after) = rest.split_at(rest.len().min(FRAME_MAX));
        let mut flags = if after.is_empty() { END_HEADERS } else { 0 };
        if kind == HEADERS && ends {
            flags |= END_STREAM;
        }
        write_frame(kind, flags, stream, piece, out);
        if after.is_empty() {
            return;
        }
        (rest, kind) = (after, CONTINUATION);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Screen<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.out.is_empty() {
                let len = this.out.len().min(buf.remaining());
                buf.put_slice(&this.out[..len]);
                this.out.advance(len);
                if this.out.is_empty() {
                    this.out = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            std::task::ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                // The end, within a frame perhaps.
                if this.held.is_empty() || buf.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
                let held = std::mem::take(&mut this.held);
                this.out.extend_from_slice(&held);
                continue;
            }
            let passed = this.look(&mut buf.filled_mut()[before..]);
            buf.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Screen<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
