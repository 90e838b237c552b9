//! The policies of routes that bound how much clients may have.

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use weft_gateway::{
    RATE_LIMITS, RateLimits,
    rate_limit::{self, Kind as LimitKind, Limit, Part, Sharing, WhenAway},
};
use weft_kernel::{ByteSize, Name, parse_duration};
use weft_proxy::plan::Binding;
use weft_resilience::rate::{self, Rate};

use super::cost::{ChargeText, CostText};
use crate::config::{
    catalogue::{KeyOf, PolicyKey},
    leaf::{Count, Many, Switch},
    problem::Problem,
    setting::{At, Cx, Setting, Shape, settings, words},
    source::Place,
    text::HeaderName,
    tree::{Kind, Node},
};

/// The shortest and the longest time of a rate.
const TIMES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(366 * 86_400));
/// The most units that a sliding window counts.
const WINDOW_MAX: u64 = u32::MAX as u64;

const KEY: KeyOf<Switch<Many<RateLimitSection>>> = KeyOf::new(
    "rate_limits",
    "Rate limits: how often clients may ask, and how much they may have at once.",
)
.or("off");

/// Their key in a policy.
pub(super) const RATE_LIMITS_KEY: PolicyKey = PolicyKey {
    field: KEY.field(),
    build: |policy, cx| {
        let Switch::On(sections) = KEY.read(policy, cx)? else { return None };
        let mut limits: Vec<Limit> = Vec::new();
        for (at, section) in sections.iter().enumerate() {
            let limit = section.limit(at, cx)?;
            if limits.iter().any(|other| other.name == limit.name) {
                let say = format!("two limits are named `{}`", limit.name);
                let place = section.name.as_ref().map_or(section.place, |name| name.place);
                cx.report(Problem::error(place, say).help("give each a `name` of its own"));
                return None;
            }
            limits.push(limit);
        }
        (!limits.is_empty()).then(|| Binding::new(RATE_LIMITS, RateLimits(limits)))
    },
};

words! {
    /// What becomes of requests while the store of a limit is away.
    pub enum StoreAway {
        /// they are refused
        Closed = "closed",
        /// they pass uncounted
        Open = "open",
        /// each node counts for itself, up to the whole limit
        Local = "local",
    }

    /// Algorithm of a rate limit.
    pub enum Algorithm {
        /// generic cell rate algorithm, a leaky bucket: evenly, and `burst` at once
        Gcra = "gcra",
        /// all within any window of the time, however they are spread
        SlidingWindow = "sliding_window",
    }

    /// Bodies that a bandwidth counts.
    pub enum Bodies {
        /// those of requests
        Requests = "requests",
        /// those of responses
        Responses = "responses",
        /// both together
        Both = "both",
    }
}

settings! {
    /// Rate limit: one of `rate`, `concurrent` and `bandwidth`. What is refused is answered with 429 and the reason
    /// `rate_limited`, and costs nothing.
    pub struct RateLimitSection = "rate limit", short "rate" {
        /// Units within a time: `100/s`, `5000/h`, `10/30s`. Beyond it requests are refused, with `Retry-After`.
        rate: Option<RateText>,
        /// Requests under way at once, each until its response has ended. Beyond it requests are refused.
        concurrent: Option<Count>,
        /// Bytes of bodies within a time. Beyond it they are slowed down, and nothing is refused.
        bandwidth: Option<BandwidthSection>,
        /// Name that clients and logs are told; `default`, and `limit-2` and so on for those behind it.
        name: Option<At<Name>>,
        /// Units of a `rate` that may be had at once, with `gcra`; as many as it has if it is left out.
        burst: Option<At<Count>>,
        /// Algorithm of a `rate`.
        algorithm: At<Algorithm> = "gcra",
        /// What requests are told apart by: `consumer`, `client`, `host`, `path`, `header: NAME`,
        /// `claim: NAME`, or several.
        /// Without any, all requests of a route are counted together.
        by: Many<PartText>,
        /// Units of a `rate` that a request costs: a number, or a CEL expression over `request` and `consumer`. A
        /// request whose cost cannot be worked out is refused.
        cost: At<CostText> = "1",
        /// Units of a `rate` that it has cost when its response has ended, in the place of `cost`: a CEL expression
        /// over `request`, `consumer` and `response`. If it cannot be worked out, `cost` stands.
        charge: Option<At<ChargeText>>,
        /// Store that counts a `rate` for several nodes, by name (`limit_stores`). Routes and limits of the same name
        /// are one limit on all nodes that name it.
        store: Option<At<Name>>,
        /// Units that a node takes from the `store` ahead; a hundredth of `burst`, 1 to 1000, if it is left out.
        slice: Option<At<Count>>,
        /// What becomes of requests while the `store` is away.
        when_away: At<StoreAway> = "closed",
        /// Whether it refuses nothing, and only tells in logs and metrics what it would refuse.
        shadow: At<bool> = "false",
        /// Whether responses tell what is left (`RateLimit-Policy`, `RateLimit`).
        headers: bool = "true",
        /// Keys of a `rate` or `bandwidth` that are remembered at once, at least; beyond them those are forgotten
        /// first that have used least.
        keys_max: At<Count> = "100000",
    }

    /// Bytes within a time.
    pub struct BandwidthSection = "bandwidth", short "rate" {
        /// Size within a time: `1MiB/s`, `500kB/s`, `10GiB/h`.
        rate: BytesText,
        /// Bytes that may pass at once; as many as `rate` has if it is left out.
        burst: Option<At<ByteSize>>,
        /// Bodies whose bytes count.
        of: Bodies = "responses",
    }

    /// What requests are told apart by, with a name.
    pub struct PartSection = "part of a key" {
        /// Header field by whose value requests are told apart; those without it are counted together.
        header: Option<HeaderName>,
        /// Claim of the token by whose value requests are told apart; those without it are counted together.
        claim: Option<At<String>>,
    }
}

impl RateLimitSection {
    fn limit(&self, at: usize, cx: &mut Cx) -> Option<Limit> {
        let name = match (&self.name, at) {
            (Some(name), _) => name.as_str().into(),
            (None, 0) => "default".into(),
            (None, at) => format!("limit-{}", at + 1).into(),
        };
        let kind = match (self.rate, self.concurrent, &self.bandwidth) {
            (Some(rate), None, None) => self.rate(rate, cx)?,
            (None, Some(most), None) => {
                self.only_of_rate("a limit of requests at once", cx)?;
                self.refuse(&self.keys_max, "`keys_max` is of a `rate` or a `bandwidth`", cx)?;
                LimitKind::Concurrency(NonZeroU32::new(most.u32()).unwrap_or(NonZeroU32::MIN))
            }
            (None, None, Some(bandwidth)) => {
                self.only_of_rate("a bandwidth", cx)?;
                let say = "a bandwidth refuses nothing, so that it has no `shadow`";
                self.refuse(&self.shadow, say, cx)?;
                bandwidth.kind(cx)?
            }
            _ => {
                let say = "a limit has one of `rate`, `concurrent` and `bandwidth`";
                cx.report(Problem::error(self.place, say).help("make two limits of it, in a list"));
                return None;
            }
        };
        Some(Limit {
            name,
            kind,
            by: self.by.iter().map(|part| part.0.clone()).collect(),
            shadow: self.shadow.value,
            tells: self.headers,
            keys_max: self.keys_max.usize(),
        })
    }

    fn rate(&self, RateText { units, per }: RateText, cx: &mut Cx) -> Option<LimitKind> {
        let algorithm = match self.algorithm.value {
            Algorithm::Gcra => rate::Algorithm::Gcra,
            Algorithm::SlidingWindow => rate::Algorithm::SlidingWindow,
        };
        let burst = self.burst.as_ref().and_then(|burst| NonZeroU64::new(burst.value.0));
        if let (Some(burst), rate::Algorithm::SlidingWindow) = (&self.burst, algorithm) {
            let say = "a sliding window has no `burst`: all of it may be had at once";
            cx.report(Problem::error(burst.place, say));
            return None;
        }
        if let (true, rate::Algorithm::SlidingWindow) = (units.get() > WINDOW_MAX, algorithm) {
            let say = format!("a sliding window counts {WINDOW_MAX} units at most");
            cx.report(Problem::error(self.algorithm.place, say).help("`gcra` counts more"));
            return None;
        }
        let rate = Rate { units, per, burst: burst.unwrap_or(units), algorithm };
        let (cost, charge) = (&self.cost.value, &self.charge);
        if cost.is_beyond(rate.burst.get()) {
            let say = "one request costs more than the limit ever grants";
            let place =
                if self.cost.place == Place::BUILT_IN { self.place } else { self.cost.place };
            cx.report(Problem::error(place, say));
            return None;
        }
        let charge = charge.as_ref().map(|charge| charge.formula().clone());
        let sharing = match &self.store {
            Some(store) => Some(self.sharing(store, &rate, cx)?),
            None => {
                let alone = |key: &str| format!("`{key}` is of a limit with a `store`");
                self.refuse_some(&self.slice, &alone("slice"), cx)?;
                self.refuse(&self.when_away, &alone("when_away"), cx)?;
                None
            }
        };
        Some(LimitKind::Rate { rate, cost: cost.cost().clone(), charge, sharing })
    }

    /// How several nodes share it.
    fn sharing(&self, store: &At<Name>, rate: &Rate, cx: &mut Cx) -> Option<Sharing> {
        if rate.algorithm == rate::Algorithm::SlidingWindow {
            let say = "a store counts by `gcra`";
            cx.report(Problem::error(self.algorithm.place, say));
            return None;
        }
        if let Some(slice) = &self.slice
            && slice.value.0 > rate.burst.get()
        {
            let say = "a slice is no more than may be had at once";
            cx.report(Problem::error(slice.place, say));
            return None;
        }
        let when_away = match self.when_away.value {
            StoreAway::Closed => WhenAway::Closed,
            StoreAway::Open => WhenAway::Open,
            StoreAway::Local => WhenAway::Local,
        };
        let slice = self.slice.as_ref().map(|slice| slice.value.0);
        Some(Sharing { store: store.value.clone(), slice, when_away })
    }

    /// Reports what only a rate can have.
    fn only_of_rate(&self, what: &str, cx: &mut Cx) -> Option<()> {
        let say = |key: &str| format!("`{key}` is of a `rate`, and this is {what}");
        self.refuse_some(&self.burst, &say("burst"), cx)?;
        self.refuse_some(&self.charge, &say("charge"), cx)?;
        self.refuse_some(&self.store, &say("store"), cx)?;
        self.refuse_some(&self.slice, &say("slice"), cx)?;
        self.refuse(&self.when_away, &say("when_away"), cx)?;
        self.refuse(&self.algorithm, &say("algorithm"), cx)?;
        self.refuse(&self.cost, &say("cost"), cx)
    }

    /// Reports a setting that is there.
    fn refuse_some<T>(&self, setting: &Option<At<T>>, say: &str, cx: &mut Cx) -> Option<()> {
        let Some(setting) = setting else { return Some(()) };
        cx.report(Problem::error(setting.place, say));
        None
    }

    /// Reports a setting that is said.
    fn refuse<T>(&self, setting: &At<T>, say: &str, cx: &mut Cx) -> Option<()> {
        if setting.place == Place::BUILT_IN {
            return Some(());
        }
        cx.report(Problem::error(setting.place, say));
        None
    }
}

impl BandwidthSection {
    fn kind(&self, cx: &mut Cx) -> Option<LimitKind> {
        let BytesText { bytes, per } = self.rate;
        let burst = match &self.burst {
            None => bytes,
            Some(burst) => {
                let some = NonZeroU64::new(burst.value.0);
                if some.is_none() {
                    let say = "at least a byte must be able to pass at once";
                    cx.report(Problem::error(burst.place, say));
                }
                some?
            }
        };
        let rate = Rate { units: bytes, per, burst, algorithm: rate::Algorithm::Gcra };
        let of = match self.of {
            Bodies::Requests => rate_limit::Direction::Requests,
            Bodies::Responses => rate_limit::Direction::Responses,
            Bodies::Both => rate_limit::Direction::Both,
        };
        Some(LimitKind::Bandwidth { rate, of })
    }
}

/// Bytes within a time.
#[derive(Clone, Copy, Debug)]
pub struct BytesText {
    bytes: NonZeroU64,
    per: Duration,
}

impl BytesText {
    fn parse(text: &str) -> Option<Self> {
        let (bytes, per) = text.split_once('/')?;
        let bytes = bytes.trim().parse::<ByteSize>().ok()?.0;
        Some(Self { bytes: NonZeroU64::new(bytes)?, per: time(per)? })
    }
}

impl Setting for BytesText {
    fn shape() -> Shape {
        let pattern = r"^[0-9.]+ ?([KMGT]i?B|kB|B)? ?/ ?([0-9.]+)?(ms|s|m|h|d)$";
        Shape::Text { what: "size within a time", pattern: Some(pattern) }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let what = "a size within a time such as 1MiB/s or 10GiB/h";
        let text = cx.text(node, what)?;
        let bytes = Self::parse(text);
        if bytes.is_none() {
            cx.expected(node, what);
        }
        bytes
    }
}

/// A time within which something may be had: `100/s` is said more often than `100/1s`.
fn time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let spelled = if text.starts_with(|first: char| first.is_ascii_digit()) { "" } else { "1" };
    let time = parse_duration(&format!("{spelled}{text}")).ok()?;
    (TIMES.0..=TIMES.1).contains(&time).then_some(time)
}

/// Units within a time.
#[derive(Clone, Copy, Debug)]
pub struct RateText {
    units: NonZeroU64,
    per: Duration,
}

impl RateText {
    fn parse(text: &str) -> Option<Self> {
        let (units, per) = text.split_once('/')?;
        let units = units.trim().replace('_', "").parse().ok()?;
        Some(Self { units, per: time(per)? })
    }
}

impl Setting for RateText {
    fn shape() -> Shape {
        Shape::Text { what: "rate", pattern: Some("^[0-9_]+ ?/ ?([0-9.]+)?(ms|s|m|h|d)$") }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let what = "a rate such as 100/s, 5000/h or 10/30s";
        let text = cx.text(node, what)?;
        let rate = Self::parse(text);
        if rate.is_none() {
            cx.expected(node, what);
        }
        rate
    }
}

/// What requests are told apart by.
#[derive(Clone, Debug)]
pub struct PartText(Part);

impl PartText {
    /// What it comes to.
    pub const fn part(&self) -> &Part {
        &self.0
    }
}

impl Setting for PartText {
    fn shape() -> Shape {
        const WORDS: &[(&str, &str)] = &[
            ("consumer", "the consumer; a request that comes from none is counted by its client"),
            ("client", "the client's address, of IPv6 its first 64 bits"),
            ("host", "the host that is asked for"),
            ("path", "the path that is asked for"),
        ];
        Shape::Either(vec![Shape::Words(WORDS), PartSection::shape()])
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let part = match (&node.kind, node.text()) {
            (_, Some("consumer")) => Part::Consumer,
            (_, Some("client")) => Part::Client,
            (_, Some("host")) => Part::Host,
            (_, Some("path")) => Part::Path,
            (Kind::Map(_), _) => {
                let section = PartSection::read(node, cx)?;
                match (section.header, section.claim) {
                    (Some(header), None) => Part::Header(header.0.as_str().into()),
                    (None, Some(claim)) if !claim.is_empty() => {
                        Part::Claim(claim.value.as_str().into())
                    }
                    _ => {
                        cx.expected(node, "one of `header: NAME` and `claim: NAME`");
                        return None;
                    }
                }
            }
            _ => {
                cx.expected(
                    node,
                    "`consumer`, `client`, `host`, `path`, `header: NAME` or `claim: NAME`",
                );
                return None;
            }
        };
        Some(Self(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_within_a_time_are_read_as_they_are_said() {
        for (text, bytes, per) in
            [("1MiB/s", 1_048_576, 1), ("500 kB / 2s", 500_000, 2), ("7/m", 7, 60)]
        {
            let said = BytesText::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((said.bytes.get(), said.per), (bytes, Duration::from_secs(per)), "{text}");
        }
        for text in ["", "1MiB", "0B/s", "1MiB/", "/s", "1XB/s", "1MiB/0s", "1MiB/400d"] {
            assert!(BytesText::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn rates_are_read_as_they_are_said() {
        for (text, units, per) in [
            ("100/s", 100, Duration::from_secs(1)),
            ("5_000 / h", 5_000, Duration::from_secs(3_600)),
            ("10/30s", 10, Duration::from_secs(30)),
            ("1/1.5s", 1, Duration::from_millis(1_500)),
            ("7/d", 7, Duration::from_secs(86_400)),
        ] {
            let rate = RateText::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((rate.units.get(), rate.per), (units, per), "{text}");
        }
        for text in
            ["", "100", "0/s", "-1/s", "1/", "/s", "1/0s", "1/400d", "1/us", "1/week", "1.5/s"]
        {
            assert!(RateText::parse(text).is_none(), "{text}");
        }
    }
}
