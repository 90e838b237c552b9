//! The policies of routes that bound how often clients may ask.

use std::{num::NonZeroU64, time::Duration};

use weft_gateway::{
    RATE_LIMITS, RateLimits,
    rate_limit::{Limit, Part},
};
use weft_kernel::{Name, parse_duration};
use weft_proxy::plan::Binding;
use weft_resilience::rate::{self, Rate};

use crate::config::{
    catalogue::{KeyOf, PolicyKey},
    leaf::{Count, Many, Switch},
    problem::Problem,
    setting::{At, Cx, Setting, Shape, settings, words},
    text::HeaderName,
    tree::{Kind, Node},
};

/// The shortest and the longest time of a rate.
const TIMES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(366 * 86_400));

const KEY: KeyOf<Switch<Many<RateLimitSection>>> =
    KeyOf::new("rate_limits", "Rate limits: how often clients may ask.").or("off");

/// Their key in a policy.
pub(super) const RATE_LIMITS_KEY: PolicyKey = PolicyKey {
    field: KEY.field(),
    build: |policy, cx| {
        let Switch::On(sections) = KEY.read(policy, cx)? else { return None };
        let mut limits: Vec<Limit> = Vec::new();
        for (at, section) in sections.iter().enumerate() {
            let limit = section.limit(at);
            if limits.iter().any(|other| other.name == limit.name) {
                let say = format!("two limits are named `{}`", limit.name);
                let place = section.name.as_ref().map_or(section.place, |name| name.place);
                cx.report(Problem::error(place, say).help("give each a `name` of its own"));
                return None;
            }
            if limit.cost > limit.rate.burst.get().max(limit.rate.units.get()) {
                let say = "one request costs more than the limit ever grants";
                cx.report(Problem::error(section.place, say));
                return None;
            }
            limits.push(limit);
        }
        (!limits.is_empty()).then(|| Binding::new(RATE_LIMITS, RateLimits(limits)))
    },
};

words! {
    /// Algorithm of a rate limit.
    pub enum Algorithm {
        /// generic cell rate algorithm, a leaky bucket: evenly, and `burst` at once
        Gcra = "gcra",
        /// all within any window of the time, however they are spread
        SlidingWindow = "sliding_window",
    }
}

settings! {
    /// Rate limit. What is refused is answered with 429, `Retry-After` and the reason `rate_limited`, and costs
    /// nothing.
    pub struct RateLimitSection = "rate limit", short "rate" {
        /// Units within a time: `100/s`, `5000/h`, `10/30s`.
        rate: RateText,
        /// Name that clients and logs are told; `default`, and `limit-2` and so on for those behind it.
        name: Option<At<Name>>,
        /// Units that may be had at once, with `gcra`; as many as the rate has if it is left out.
        burst: Option<Count>,
        /// Algorithm.
        algorithm: Algorithm = "gcra",
        /// What requests are told apart by: `consumer`, `client`, `host`, `path`, `header: NAME`,
        /// `claim: NAME`, or several.
        /// Without any, all requests of a route are counted together.
        by: Many<PartText>,
        /// Units that a request costs.
        cost: Count = "1",
        /// Whether it refuses nothing, and only tells in logs and metrics what it would refuse.
        shadow: bool = "false",
        /// Whether responses tell what is left (`RateLimit-Policy`, `RateLimit`).
        headers: bool = "true",
        /// Keys that are remembered at once, at least; beyond them those are forgotten first that have used
        /// least.
        keys_max: Count = "100000",
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
    fn limit(&self, at: usize) -> Limit {
        let name = match (&self.name, at) {
            (Some(name), _) => name.as_str().into(),
            (None, 0) => "default".into(),
            (None, at) => format!("limit-{}", at + 1).into(),
        };
        let RateText { units, per } = self.rate;
        let burst = self.burst.and_then(|burst| NonZeroU64::new(burst.0)).unwrap_or(units);
        let algorithm = match self.algorithm {
            Algorithm::Gcra => rate::Algorithm::Gcra,
            Algorithm::SlidingWindow => rate::Algorithm::SlidingWindow,
        };
        Limit {
            name,
            rate: Rate { units, per, burst, algorithm },
            by: self.by.iter().map(|part| part.0.clone()).collect(),
            cost: self.cost.0,
            shadow: self.shadow,
            tells: self.headers,
            keys_max: self.keys_max.usize(),
        }
    }
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
        let per = per.trim();
        // `100/s` is said more often than `100/1s`.
        let spelled = if per.starts_with(|first: char| first.is_ascii_digit()) { "" } else { "1" };
        let per = parse_duration(&format!("{spelled}{per}")).ok()?;
        (TIMES.0..=TIMES.1).contains(&per).then_some(Self { units, per })
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
