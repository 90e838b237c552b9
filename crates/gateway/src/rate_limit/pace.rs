//! Bodies at the pace that a limit allows.
//!
//! A piece passes, is charged, and whoever sends the next waits until the key has its debt behind it. While it
//! waits the sender is not asked for more, so that its own flow control slows it down and nothing is gathered.
//! Pieces are small beside the rate, so that a body flows and no time limit for silence is met.

use std::{
    borrow::Cow,
    cell::Cell,
    fmt,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use weft_kernel::{Result, Tick};
use weft_net::{
    body::{Body, Frame, Source},
    clock,
    timer::TaskTimer,
};
use weft_proxy::Fact;
use weft_resilience::rate::{Hashed, Limiter, Rate};
use weft_wire::Length;

use super::Limit;

/// The smallest and the largest piece, in bytes.
const PIECES: (u64, u64) = (256, 32 * 1_024);

/// Whose bytes a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those of requests.
    Requests,
    /// Those of responses.
    Responses,
    /// Both, together.
    Both,
}

impl Direction {
    pub(super) const fn is_of_requests(self) -> bool {
        matches!(self, Self::Requests | Self::Both)
    }

    pub(super) const fn is_of_responses(self) -> bool {
        matches!(self, Self::Responses | Self::Both)
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "requests",
            Self::Responses => "responses",
            Self::Both => "requests and responses",
        })
    }
}

/// The pace of the bodies of a request.
#[derive(Clone)]
pub(super) struct Pace {
    name: Rc<str>,
    limiter: Arc<Limiter>,
    key: Hashed,
    of: Direction,
    /// Whether anybody had to wait.
    waited: Rc<Cell<bool>>,
}

/// The paces of a request, for its response and for what is told.
#[derive(Default)]
pub(super) struct Paces(Vec<Pace>);

impl Paces {
    pub(super) fn add(
        &mut self,
        limit: &Limit,
        limiter: &Arc<Limiter>,
        key: Hashed,
        of: Direction,
    ) -> &Pace {
        let (name, limiter) = (Rc::from(&*limit.name), Arc::clone(limiter));
        self.0.push(Pace { name, limiter, key, of, waited: Rc::default() });
        &self.0[self.0.len() - 1]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of_responses(&self) -> Vec<Pace> {
        self.0.iter().filter(|pace| pace.of.is_of_responses()).cloned().collect()
    }
}

impl Fact for Paces {
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        let slow = self.0.iter().find(|pace| pace.waited.get())?;
        Some(("slowed", Cow::Borrowed(&slow.name)))
    }

    fn is_counted(&self) -> bool {
        true
    }
}

/// A body at a pace.
pub(super) struct Paced {
    body: Body,
    /// As it was said to be: a body may tell how much is left.
    length: Length,
    passed: u64,
    /// What is here of a piece that was too large.
    rest: Bytes,
    piece_max: u64,
    pace: Pace,
    /// When the next piece may pass.
    until: Tick,
    timer: TaskTimer,
}

impl Paced {
    pub(super) fn wrap(body: Body, pace: Pace) -> Body {
        if body.is_empty() {
            return body;
        }
        let (length, piece_max) = (body.length(), piece_max(pace.limiter.rate()));
        let (rest, timer) = (Bytes::new(), TaskTimer::default());
        let until = Tick::ZERO;
        Body::Source(Box::new(Self {
            body,
            length,
            passed: 0,
            rest,
            piece_max,
            pace,
            until,
            timer,
        }))
    }

    /// Whether nothing is left that could be too much.
    fn is_over(&self) -> bool {
        self.length == Length::Exact(self.passed)
    }

    fn pass(&mut self, mut bytes: Bytes) -> Frame {
        let most = usize::try_from(self.piece_max).unwrap_or(usize::MAX);
        if bytes.len() > most {
            self.rest = bytes.split_off(most);
        }
        let (now, count) = (clock::now(), bytes.len() as u64);
        self.passed += count;
        self.until = now.plus(self.pace.limiter.charge(self.pace.key, count, now));
        Frame::Data(bytes)
    }
}

/// A tenth of what may pass within a second, and of what may pass at once.
fn piece_max(rate: &Rate) -> u64 {
    let per_second = u128::from(rate.units.get()) * 1_000_000_000 / rate.per.as_nanos().max(1);
    let tenth = u64::try_from(per_second / 10).unwrap_or(u64::MAX).min(rate.burst.get());
    tenth.clamp(PIECES.0, PIECES.1)
}

impl Source for Paced {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        // Whoever knows the length asks once more to let a body see its end.
        if !self.is_over() && self.until > clock::now() {
            self.pace.waited.set(true);
            self.body.read_ahead(cx);
            ready!(self.timer.poll(cx, self.until));
        }
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(self.pass(rest))));
        }
        Poll::Ready(match ready!(self.body.poll_frame(cx)) {
            Some(Ok(Frame::Data(bytes))) => Some(Ok(self.pass(bytes))),
            other => other,
        })
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        self.body.read_ahead(cx);
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.rest.is_empty() { self.body.poll_begun(cx) } else { Poll::Ready(()) }
    }

    fn length(&self) -> Length {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, time::Duration};

    use weft_resilience::rate::Algorithm;

    use super::*;

    fn pace(bytes: u64, burst: u64) -> Pace {
        let some = |of| NonZeroU64::new(of).unwrap();
        let (per, algorithm) = (Duration::from_secs(1), Algorithm::Gcra);
        let rate = Rate { units: some(bytes), per, burst: some(burst), algorithm };
        let limiter = Arc::new(Limiter::new(rate, 10));
        let key = limiter.key("all");
        Pace { name: "slow".into(), limiter, key, of: Direction::Both, waited: Rc::default() }
    }

    async fn read(mut body: Body) -> (usize, usize) {
        let (mut bytes, mut pieces) = (0, 0);
        while let Some(frame) = body.frame().await {
            if let Frame::Data(data) = frame.unwrap() {
                (bytes, pieces) = (bytes + data.len(), pieces + 1);
            }
        }
        (bytes, pieces)
    }

    /// The clock of the runtime is paused: time passes only where somebody waits for it.
    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_after_the_burst_and_two_bodies_share_it() {
        let began = clock::now();
        let pace = pace(10_000, 5_000);
        let body = Paced::wrap(Body::full(vec![7; 25_000]), pace.clone());
        assert_eq!(body.length(), Length::Exact(25_000));
        let (bytes, pieces) = read(body).await;
        assert_eq!((bytes, pieces, pace.waited.get()), (25_000, 25, true));
        // All but the burst and the last piece, after which nobody waits.
        let took = clock::now().since(began).as_secs_f64();
        assert!((1.9..2.05).contains(&took), "{took}");
        let began = clock::now();
        let both = [(); 2].map(|()| Paced::wrap(Body::full(vec![7; 10_000]), pace.clone()));
        let [one, other] = both;
        let (one, other) = tokio::join!(read(one), read(other));
        assert_eq!((one.0, other.0), (10_000, 10_000));
        let took = clock::now().since(began).as_secs_f64();
        assert!((1.9..2.2).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_within_the_burst_does_not_wait() {
        let (began, pace) = (clock::now(), pace(1_000, 100_000));
        let body = Paced::wrap(Body::full(vec![7; 50_000]), pace.clone());
        assert_eq!(read(body).await.0, 50_000);
        assert!(!pace.waited.get() && clock::now() == began);
        assert!(matches!(Paced::wrap(Body::Empty, pace), Body::Empty));
    }

    #[test]
    fn pieces_are_small_beside_the_rate() {
        for (rate, burst, piece) in [
            (1, 1, 256),
            (100_000, 100_000, 10_000),
            (100_000, 500, 500),
            (u64::MAX, u64::MAX, 32_768),
        ] {
            let pace = pace(rate, burst);
            assert_eq!(piece_max(pace.limiter.rate()), piece, "{rate}");
        }
    }
}
