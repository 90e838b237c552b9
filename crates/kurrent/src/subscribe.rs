//! Subscriptions: a stream or all events from a place on, through history, and then as they come.
//!
//! Nothing is made that the client does not ask for by its flow control, so one that does not read costs a page. A
//! message without content goes when nothing else has gone for a while, so that nobody takes the call for dead.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use weft_events::{
    PageLimits, Recorded, StreamName,
    follow::{Followed, Told},
};
use weft_kernel::{Result, Rng};
use weft_net::clock;
use weft_proxy::Reply;
use weft_wire::grpc::Status;

use crate::{
    answer::{self, Producer},
    event::{place, text_of},
    fault::Fault,
    filter::Filter,
    frame::put,
    links::Shown,
    messages::{
        Position, ReadResponse, Timestamp,
        read_request::{of_all, of_stream},
        read_response::{Checkpoint, Confirmation, Content, Standing},
    },
    metadata,
    target::Kurrent,
};

/// The longest silence.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes that are gathered into one piece.
const PIECE: usize = 64 * 1024;
/// Events that a client is behind the end when it is told so.
const BEHIND: u64 = 1_000;
/// Events that nobody wants until others get their turn.
const TURN: u64 = 1_024;

/// Subscribes to a stream, behind a version.
pub(crate) async fn to_stream(
    kurrent: &Kurrent,
    stream: StreamName,
    from: Option<of_stream::From>,
    shown: Shown,
) -> Result<Reply, Fault> {
    if let Some(links) = &shown.links {
        let from = match from {
            Some(of_stream::From::Revision(position)) => position.saturating_add(1),
            Some(of_stream::From::Start(_)) | None => 0,
            Some(of_stream::From::End(_)) => kurrent.events.next_position(),
        };
        let followed = Followed::Matching { query: Arc::clone(links.query()), from };
        return Ok(subscribe(kurrent, followed, Wanted::All, shown, from.checked_sub(1)));
    }
    let info = kurrent.events.stream(&stream).await?;
    let next = info.map_or(0, |info| info.next);
    let metadata = metadata::of(kurrent, &stream).await?;
    let from = match from {
        Some(of_stream::From::Revision(version)) => version.saturating_add(1),
        Some(of_stream::From::Start(_)) | None => 0,
        Some(of_stream::From::End(_)) => next,
    };
    let from = from.max(metadata.first(next));
    let followed = Followed::Stream { name: stream, from };
    let is_wanted = Wanted::Since(metadata.since_ms());
    Ok(subscribe(kurrent, followed, is_wanted, shown, from.checked_sub(1)))
}

/// Subscribes to all events, behind a place.
pub(crate) fn to_all(
    kurrent: &Kurrent,
    from: Option<of_all::From>,
    filter: Option<Filter>,
    shown: Shown,
) -> Result<Reply, Fault> {
    let from = match from {
        // A place is the position and one.
        Some(of_all::From::Position(at)) => at.commit_position,
        Some(of_all::From::Start(_)) | None => 0,
        Some(of_all::From::End(_)) => kurrent.events.next_position(),
    };
    let followed = Followed::All { from };
    let is_wanted = filter.map_or(Wanted::All, Wanted::Filtered);
    Ok(subscribe(kurrent, followed, is_wanted, shown, Some(from)))
}

fn subscribe(
    kurrent: &Kurrent,
    followed: Followed,
    wanted: Wanted,
    shown: Shown,
    last: Option<u64>,
) -> Reply {
    let is_all = matches!(followed, Followed::All { .. });
    let limits = PageLimits { events: 256, bytes: 1 << 20, ..PageLimits::default() };
    // What is being read is not given up when nobody waits for it for a moment.
    let told = stream::unfold(kurrent.events.follow(followed, limits), |mut follower| async {
        let told = follower.next().await;
        Some((told, follower))
    });
    answer::produced(Subscription {
        told: Box::pin(told),
        kurrent: kurrent.clone(),
        wanted,
        shown,
        is_all,
        is_confirmed: false,
        is_live: false,
        last,
        looked_at: 0,
    })
}

/// Which events are told.
enum Wanted {
    All,
    Filtered(Filter),
    /// Those that are not older.
    Since(u64),
}

struct Subscription {
    kurrent: Kurrent,
    told: Pin<Box<dyn Stream<Item = Result<Told>>>>,
    wanted: Wanted,
    shown: Shown,
    is_all: bool,
    is_confirmed: bool,
    /// Whether the client has been told that it has caught up.
    is_live: bool,
    /// The place, or version, of what was looked at last.
    last: Option<u64>,
    /// Events that were looked at since the last checkpoint.
    looked_at: u64,
}

impl Producer for Subscription {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.is_confirmed, true) {
            let mut rng = Rng::from_entropy();
            let id = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
            let subscription_id = text_of(id);
            tell(&mut out, Content::Confirmation(Confirmation { subscription_id }));
            return Ok(Some(out.into()));
        }
        let mut passed = 0;
        while out.len() < PIECE {
            // What is there goes together; it is waited only if there is nothing to be told.
            let told = match self.told.next().now_or_never() {
                Some(told) => told,
                None if !out.is_empty() => break,
                None => tokio::select! {
                    biased;
                    () = self.kurrent.stop.draining() => {
                        return Err(Fault::new(Status::Unavailable, "the node is about to stop"));
                    }
                    told = self.told.next() => told,
                    () = tokio::time::sleep(SILENCE) => {
                        put(&mut out, &ReadResponse::default());
                        break;
                    }
                },
            };
            let Some(told) = told else { return Ok(None) };
            match told? {
                Told::Event(event) => self.event(&event, &mut out),
                Told::CaughtUp => self.caught_up(&mut out),
            }
            passed += 1;
            if passed % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(Some(out.into()))
    }
}

impl Subscription {
    fn event(&mut self, event: &Recorded, out: &mut Vec<u8>) {
        let next = self.kurrent.events.next_position();
        if self.is_live && event.position.saturating_add(BEHIND) < next {
            self.is_live = false;
            tell(out, Content::FellBehind(self.standing()));
        }
        self.last =
            Some(if self.is_all { place(event.position) } else { self.shown.revision(event) });
        let is_wanted = match &self.wanted {
            Wanted::All => self.shown.has(event),
            Wanted::Since(time_ms) => event.time_ms >= *time_ms,
            Wanted::Filtered(filter) => filter.takes(event),
        };
        if is_wanted {
            put(out, &self.shown.response(event));
        }
        if let Wanted::Filtered(filter) = &self.wanted {
            self.looked_at += 1;
            if self.looked_at >= filter.interval {
                self.checkpoint(out);
            }
        }
    }

    fn caught_up(&mut self, out: &mut Vec<u8>) {
        // It is told again and again; a client is told when it was not so before.
        if std::mem::replace(&mut self.is_live, true) {
            return;
        }
        if matches!(self.wanted, Wanted::Filtered(_)) && self.looked_at > 0 {
            self.checkpoint(out);
        }
        tell(out, Content::CaughtUp(self.standing()));
    }

    fn checkpoint(&mut self, out: &mut Vec<u8>) {
        self.looked_at = 0;
        let place = self.last.unwrap_or(0);
        let (commit_position, prepare_position, timestamp) = (place, place, Some(now()));
        tell(out, Content::Checkpoint(Checkpoint { commit_position, prepare_position, timestamp }));
    }

    fn standing(&self) -> Standing {
        let place = self.last.unwrap_or(0);
        let position = Position { commit_position: place, prepare_position: place };
        let revision = self.last.map_or(-1, |last| i64::try_from(last).unwrap_or(i64::MAX));
        Standing {
            timestamp: Some(now()),
            stream_revision: (!self.is_all).then_some(revision),
            position: self.is_all.then_some(position),
        }
    }
}

fn tell(out: &mut Vec<u8>, content: Content) {
    put(out, &ReadResponse { content: Some(content) });
}

fn now() -> Timestamp {
    let now = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(now.subsec_nanos()).unwrap_or_default(),
    }
}
