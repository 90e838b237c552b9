//! What is known of one connection: its phase, its channels and consumers, and what is to be sent.
//!
//! Frames come in by [`Session::frame`] in the order in which they arrived, and everything that is to be
//! sent is appended to one buffer. Publishes and settlements of one read are gathered and go to the
//! broker together ([`Session::flush`]) before anything else that depends on them is done. What needs
//! the disk is waited for in place: frames of a connection are worked off one after the other.
//!
//! Invariants: after a channel is closed by a fault nothing of it is followed until its end is
//! acknowledged; what was unsettled on a channel that ends is given back; the buffer of what is to be
//! sent is bounded, because nothing is fetched for consumers beyond [`OUT_BYTES_MAX`].

mod admission;
mod channel;
mod consume;
mod deliver;
mod exchange;
mod publish;
mod queue;
mod settle;
mod submit;
mod transaction;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use slab::Slab;
use tokio::sync::mpsc;
use weft_wire::amqp::{FRAME_BYTES_MIN, Frame, FrameKind, Method, ReplyCode};

use self::channel::Channel;
pub(crate) use self::{
    consume::Slot,
    settle::Settling,
    submit::{Flight, Publishing},
};
use crate::{
    fault::Fault, options::Grant, ready::Ready, reply::Reply, route::Routes, server::Inner,
    vhost::Vhost,
};

/// Nothing is fetched for consumers while so much waits to be sent.
pub(crate) const OUT_BYTES_MAX: usize = 1 << 20;
/// The largest frame that is taken before a size was agreed on.
const EARLY_FRAME_BYTES_MAX: u32 = 2 * FRAME_BYTES_MIN;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing was said yet.
    Greeting,
    /// Waiting for who the client is.
    Starting,
    /// Waiting for the limits.
    Tuning,
    /// Waiting for the virtual host.
    Opening,
    /// Open.
    Running,
    /// Waiting for the end to be acknowledged.
    Closing,
    /// Over: send what is left, and close.
    Over,
}

impl Phase {
    /// The name that RabbitMQ has for it.
    const fn word(self) -> &'static str {
        match self {
            Self::Greeting => "pre_init",
            Self::Starting => "starting",
            Self::Tuning => "tuning",
            Self::Opening => "opening",
            Self::Running => "running",
            Self::Closing => "closing",
            Self::Over => "closed",
        }
    }
}

/// Who is at the other end, and how it got here.
#[derive(Clone, Debug)]
pub struct ClientPeer {
    /// Its address, for logs.
    pub address: String,
    /// Whether it is on this machine.
    pub loopback: bool,
    /// The name in the certificate it has shown, for the mechanism EXTERNAL.
    pub certificate: Option<String>,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuned {
    pub(crate) channels_max: u16,
    /// 0 is no bound.
    pub(crate) frame_bytes_max: u32,
    /// Seconds; 0 is none.
    pub(crate) heartbeat: u16,
}

/// What a client says it can do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Abilities {
    pub(crate) cancel_notify: bool,
    pub(crate) blocked: bool,
    pub(crate) failure_close: bool,
}

/// One connection.
pub(crate) struct Session {
    pub(crate) server: Arc<Inner>,
    /// The number that exclusive queues belong to.
    pub(crate) id: u64,
    pub(crate) peer: ClientPeer,
    pub(crate) phase: Phase,
    pub(crate) tuned: Tuned,
    pub(crate) abilities: Abilities,
    pub(crate) user: usize,
    pub(crate) grant: Grant,
    /// There once the connection is open.
    vhost: Option<Arc<Vhost>>,
    pub(crate) out: Vec<u8>,
    channels: HashMap<u16, Channel>,
    next_serial: u64,
    consumers: Slab<Slot>,
    pub(crate) ready: Ready,
    /// Consumers that could not be served for want of room in `out`.
    hungry: Vec<usize>,
    /// How often consumers were given something.
    feeds: u64,
    /// Consumers whose queue could not be read; it is tried again.
    unread: Vec<usize>,
    routes: Routes,
    publishing: Publishing,
    pub(crate) flights: VecDeque<Flight>,
    settling: Settling,
    /// The server ends the connection: what is unsettled is given back without fault.
    forgives: bool,
    /// What open transactions hold.
    transactions_bytes: usize,
    exclusive: Vec<Arc<str>>,
    replies: mpsc::Sender<Reply>,
    pub(crate) inbox: mpsc::Receiver<Reply>,
    /// Whether the client was told that publishes are not taken now.
    pub(crate) blocked: bool,
    /// Whether the client takes nothing more: nothing is fetched for its consumers.
    pub(crate) deaf: bool,
    /// Whether the client has ended the connection: closing the socket is left to it.
    pub(crate) left: bool,
}

impl Session {
    pub(crate) fn new(server: Arc<Inner>, peer: ClientPeer) -> Self {
        let (replies, inbox) = mpsc::channel(crate::reply::WAITING_MAX);
        let id = server.next_connection();
        let tuned = Tuned {
            channels_max: server.options.channels_max,
            frame_bytes_max: EARLY_FRAME_BYTES_MAX,
            heartbeat: 0,
        };
        Self {
            server,
            id,
            peer,
            phase: Phase::Greeting,
            tuned,
            abilities: Abilities::default(),
            user: 0,
            grant: Grant::all("/"),
            vhost: None,
            out: Vec::with_capacity(4096),
            channels: HashMap::new(),
            next_serial: 1,
            consumers: Slab::new(),
            ready: Ready::default(),
            hungry: Vec::new(),
            feeds: 0,
            unread: Vec::new(),
            routes: Routes::default(),
            publishing: Publishing::default(),
            flights: VecDeque::new(),
            settling: Settling::default(),
            forgives: false,
            transactions_bytes: 0,
            exclusive: Vec::new(),
            replies,
            inbox,
            blocked: false,
            deaf: false,
            left: false,
        }
    }

    /// Follows a frame. `rest` is what was read behind it; answers how much of that was used up too.
    pub(crate) async fn frame(&mut self, frame: Frame<'_>, rest: &[u8]) -> usize {
        let result = match (frame.kind, frame.channel) {
            (FrameKind::Heartbeat, _) if frame.payload.is_empty() && frame.channel == 0 => Ok(0),
            _ if matches!(self.phase, Phase::Closing | Phase::Over) => {
                self.closing(frame);
                Ok(0)
            }
            (FrameKind::Heartbeat, _) if !frame.payload.is_empty() => Err(Fault::unknown(frame)),
            (FrameKind::Method, 0) => self.connection_method(frame.payload).await.map(|()| 0),
            (FrameKind::Heartbeat, _) | (_, 0) => Err(Fault::out_of_place(frame)),
            _ if self.phase != Phase::Running => Err(Fault::out_of_place(frame)),
            _ => return self.channel_frame(frame, rest).await,
        };
        match result {
            Ok(used) => used,
            Err(fault) => {
                let framing =
                    matches!(fault.code, ReplyCode::UnexpectedFrame | ReplyCode::FrameError);
                let at = if framing { (0, 0) } else { method_id(frame) };
                self.end_connection(&fault, at).await;
                0
            }
        }
    }

    /// What still comes after the connection's end was told.
    fn closing(&mut self, frame: Frame<'_>) {
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            return;
        }
        match Method::parse(frame.payload) {
            Ok(Method::ConnectionCloseOk {}) => self.phase = Phase::Over,
            Ok(Method::ConnectionClose { .. }) => {
                Method::ConnectionCloseOk {}.write(0, &mut self.out);
                self.phase = Phase::Over;
            }
            _ => {}
        }
    }

    /// Tells the client that the connection ends, and lets go of all that it held.
    pub(crate) async fn end_connection(&mut self, fault: &Fault, at: (u16, u16)) {
        if matches!(self.phase, Phase::Closing | Phase::Over) {
            return;
        }
        self.forgives |= fault.code == ReplyCode::ConnectionForced;
        let opened = matches!(self.phase, Phase::Running | Phase::Opening | Phase::Tuning);
        if opened || self.abilities.failure_close {
            Method::ConnectionClose {
                reply_code: fault.code.number(),
                reply_text: &fault.text,
                class_id: at.0,
                method_id: at.1,
            }
            .write(0, &mut self.out);
            self.phase = Phase::Closing;
        } else {
            self.phase = Phase::Over;
        }
        self.release().await;
    }

    /// Lets go of all that the connection held; nothing is sent.
    pub(crate) async fn release(&mut self) {
        // What was published before the end is published, and seen when the end is told; nobody is told
        // any more what comes of it.
        self.flush().await;
        self.sink().await;
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        for number in numbers {
            self.release_channel(number).await;
        }
        self.channels.clear();
        let Some(vhost) = self.vhost.clone() else { return };
        for name in std::mem::take(&mut self.exclusive) {
            if let Some(entry) =
                vhost.entry(&name).filter(|entry| entry.queue.exclusive() == Some(self.id))
                && let Err(fault) = vhost.delete_queue(&entry, self.id).await
            {
                tracing::warn!(queue = %name, error = fault.text, "an exclusive queue could not be deleted");
            }
        }
    }

    fn vhost(&self) -> Result<Arc<Vhost>, Fault> {
        self.vhost
            .clone()
            .ok_or_else(|| Fault::new(ReplyCode::CommandInvalid, "no virtual host was chosen"))
    }

    pub(crate) fn user_name(&self) -> &str {
        self.server.users.get(self.user).map_or("", |user| &user.name)
    }
}

/// The numbers of the method that a frame holds; zeros for any other frame.
pub(crate) fn method_id(frame: Frame<'_>) -> (u16, u16) {
    match (frame.kind, frame.payload) {
        (FrameKind::Method, [a, b, c, d, ..]) => {
            (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
        }
        _ => (0, 0),
    }
}
