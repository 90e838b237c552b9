//! Bodies at the pace that a limit allows.
//!
//! A piece is charged to its key when it is there, and passes once the key has behind it what it owed before: the
//! pieces of all bodies of a key pass in the order in which they came. While one waits the sender is not asked for
//! more, so that its own flow control slows it down and nothing is gathered. Pieces are small beside the rate, so that
//! a body flows and no time limit for silence is met.

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
    /// What is here of a piece that was too large.
    rest: Bytes,
    piece_max: u64,
    pace: Pace,
    /// What is charged and has not passed, and when it may.
    charged: Option<(Bytes, Tick)>,
    timer: TaskTimer,
}

impl Paced {
    pub(super) fn wrap(body: Body, pace: Pace) -> Body {
        if body.is_empty() {
            return body;
        }
        let (length, piece_max) = (body.length(), piece_max(pace.limiter.rate()));
        let (rest, timer) = (Bytes::new(), TaskTimer::default());
        Body::Source(Box::new(Self { body, length, rest, piece_max, pace, charged: None, timer }))
    }

    /// Charges as much of what is here as a piece is.
    fn charge(&mut self, mut bytes: Bytes) {
        let most = usize::try_from(self.piece_max).unwrap_or(usize::MAX);
        if bytes.len() > most {
            self.rest = bytes.split_off(most);
        }
        let now = clock::now();
        let wait = self.pace.limiter.reserve(self.pace.key, bytes.len() as u64, now);
        self.charged = Some((bytes, now.plus(wait)));
    }
}

impl Drop for Paced {
    /// What has not passed was not had.
    fn drop(&mut self) {
        if let Some((bytes, _)) = self.charged.take() {
            self.pace.limiter.give_back(self.pace.key, bytes.len() as u64, clock::now());
        }
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
        if self.charged.is_none() {
            let bytes = match std::mem::take(&mut self.rest) {
                rest if !rest.is_empty() => rest,
                _ => match ready!(self.body.poll_frame(cx)) {
                    Some(Ok(Frame::Data(bytes))) => bytes,
                    other => return Poll::Ready(other),
                },
            };
            self.charge(bytes);
        }
        if let Some((_, until)) = &self.charged
            && *until > clock::now()
        {
            self.pace.waited.set(true);
            self.body.read_ahead(cx);
            ready!(self.timer.poll(cx, *until));
        }
        let passed = self.charged.take().map(|(bytes, _)| Ok(Frame::Data(bytes)));
        Poll::Ready(passed)
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        self.body.read_ahead(cx);
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.rest.is_empty() && self.charged.is_none() {
            true => self.body.poll_begun(cx),
            false => Poll::Ready(()),
        }
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

    /// Nobody asks a body of a known length for more once all of it is there.
    async fn first_piece(mut body: Body) -> usize {
        match body.frame().await {
            Some(Ok(Frame::Data(data))) => data.len(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_of_one_piece_pass_at_the_rate_whether_one_by_one_or_together() {
        let (began, pace) = (clock::now(), pace(10_000, 5_000));
        let body = || Paced::wrap(Body::full(vec![7; 500]), pace.clone());
        for _ in 0..30 {
            assert_eq!(first_piece(body()).await, 500);
        }
        let took = clock::now().since(began).as_secs_f64();
        assert!((0.9..1.05).contains(&took), "{took}");
        let began = clock::now();
        let together = (0..100).map(|_| first_piece(body()));
        futures_util::future::join_all(together).await;
        let took = clock::now().since(began).as_secs_f64();
        assert!((4.9..5.1).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_while_it_waits_leaves_no_debt() {
        let pace = pace(1_000, 1_000);
        let body = || Paced::wrap(Body::full(vec![7; 100]), pace.clone());
        for _ in 0..11 {
            first_piece(body()).await;
        }
        for _ in 0..1_000 {
            let mut waits = Box::pin(first_piece(body()));
            assert!(futures_util::poll!(waits.as_mut()).is_pending());
        }
        let began = clock::now();
        first_piece(body()).await;
        assert!(clock::now().since(began) < Duration::from_secs(1));
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
