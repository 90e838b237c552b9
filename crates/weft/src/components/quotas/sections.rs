//! What is said about quotas, and how routes name them.

use weft_gateway::{QUOTAS, Quotas};
use weft_kernel::Name;
use weft_proxy::plan::Binding;

use crate::{
    components::gateway::{
        cost::{ChargeText, CostText},
        limits::PartText,
    },
    config::{
        catalogue::{KeyOf, PolicyKey},
        leaf::{Count, Int, Many, Named, Switch},
        problem::Problem,
        setting::{At, Cx, Field, Setting, Shape, settings, words},
        tree::Node,
    },
};

/// Quotas.
pub const QUOTAS_SECTION: KeyOf<Named<QuotaSection>> = KeyOf::new(
    "quotas",
    "Quotas by name: how much clients may have in a day, week or month, over all routes that name them.",
);

/// All of them.
pub const ALL: &[Field] = &[QUOTAS_SECTION.field()];

const KEY: KeyOf<Switch<Many<At<Name>>>> =
    KeyOf::new("quotas", "Quotas that requests are counted by, by name.").or("off");

/// Its keys of a policy.
pub(super) static POLICIES: [PolicyKey; 1] = [PolicyKey {
    field: KEY.field(),
    build: |policy, cx| {
        let Switch::On(Many(names)) = KEY.read(policy, cx)? else { return None };
        for (at, name) in names.iter().enumerate() {
            if names[..at].iter().any(|other| other.value == name.value) {
                let say = format!("the quota `{}` stands here twice", name.value);
                cx.report(Problem::error(name.place, say));
                return None;
            }
        }
        let names: Vec<Name> = names.into_iter().map(|name| name.value).collect();
        (!names.is_empty()).then(|| Binding::new(QUOTAS, Quotas(names)))
    },
}];

words! {
    /// What becomes of requests that cannot be counted.
    pub enum WhenAway {
        /// they are refused
        Closed = "closed",
        /// they pass uncounted
        Open = "open",
    }

    /// Period of a quota.
    pub enum Per {
        /// from midnight to midnight
        Day = "day",
        /// from Monday to Monday
        Week = "week",
        /// from the first of a month to the first of the next
        Month = "month",
    }
}

settings! {
    /// Quota. What is beyond it is refused with 429, `Retry-After` and the reason `quota_exceeded`.
    pub struct QuotaSection = "quota", short "limit" {
        /// Units within a period: `1000/day`, `5000/week`, `100000/month`.
        limit: LimitText,
        /// Time zone of the periods, such as `Europe/Berlin`.
        time_zone: At<String> = "UTC",
        /// What requests are told apart by: `consumer`, `client`, `host`, `path`, `header: NAME`,
        /// `claim: NAME`, or several. What it says is kept and shown.
        /// Without any, all requests are counted together.
        by: Many<PartText>,
        /// Units that a request costs: a number, or a CEL expression over `request` and `consumer`. A request whose
        /// cost cannot be worked out is refused.
        cost: At<CostText> = "1",
        /// Units that it has cost when its response has ended, in the place of `cost`: a CEL expression over
        /// `request`, `consumer` and `response`. If it cannot be worked out, `cost` stands.
        charge: Option<ChargeText>,
        /// Whether it refuses nothing, and only tells in logs and metrics what it would refuse.
        shadow: bool = "false",
        /// Whether responses tell what is left (`RateLimit-Policy`, `RateLimit`).
        headers: bool = "true",
        /// Percentages of the limit that are told when a key reaches them, in log and metrics.
        warn_at: Many<At<Int<1, 100>>> = "[80, 100]",
        /// Topic to which an event is published when a key reaches one of those percentages, once in a period.
        publish_to: Option<At<Name>>,
        /// Keys that are counted each for itself in a period; those that come later are counted together.
        keys_max: Count = "100000",
        /// What becomes of requests while the store cannot keep what they use.
        when_away: WhenAway = "closed",
    }
}

/// Units within a period.
#[derive(Clone, Copy, Debug)]
pub struct LimitText {
    /// The units.
    pub units: u64,
    /// The period.
    pub per: Per,
}

impl LimitText {
    fn parse(text: &str) -> Option<Self> {
        let (units, per) = text.split_once('/')?;
        let units = units.trim().replace('_', "").parse().ok()?;
        let per = match per.trim() {
            "day" => Per::Day,
            "week" => Per::Week,
            "month" => Per::Month,
            _ => return None,
        };
        // As much as an integer of a structured field holds.
        (1..=999_999_999_999_999).contains(&units).then_some(Self { units, per })
    }
}

impl Setting for LimitText {
    fn shape() -> Shape {
        Shape::Text { what: "quota", pattern: Some("^[0-9_]+ ?/ ?(day|week|month)$") }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let what = "units within a period such as 1000/day, 5000/week or 100000/month";
        let text = cx.text(node, what)?;
        let limit = Self::parse(text);
        if limit.is_none() {
            cx.expected(node, what);
        }
        limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_they_are_said() {
        for (text, units, per) in [
            ("1000/day", 1_000, Per::Day),
            ("5_000 / week", 5_000, Per::Week),
            ("1/month", 1, Per::Month),
        ] {
            let limit = LimitText::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((limit.units, limit.per as u8), (units, per as u8), "{text}");
        }
        for text in
            ["", "10", "0/day", "-1/day", "10/s", "10/days", "1e3/day", "9999999999999999/day"]
        {
            assert!(LimitText::parse(text).is_none(), "{text}");
        }
    }
}
