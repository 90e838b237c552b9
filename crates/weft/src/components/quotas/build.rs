//! From the section of quotas to its plan.

use std::sync::Arc;

use jiff::tz::TimeZone;
use weft_gateway::{
    QUOTAS,
    quota::{
        Quota,
        period::{Calendar, Every},
    },
    rate_limit::Part,
};
use weft_kernel::{ByteSize, Name};

use super::{
    plan,
    sections::{Per, QUOTAS_SECTION, QuotaSection, WhenAway},
};
use crate::{
    components::messages::sections::TOPICS,
    config::{
        catalogue::Sections,
        merge::NameSet,
        problem::Problem,
        setting::{At, Cx},
        source::Place,
    },
};

/// More than an account takes in the store.
const ROW_BYTES: ByteSize = ByteSize(4_096);
/// The most thresholds.
const THRESHOLDS_MAX: usize = 8;
/// Header fields that hold secrets, by which nothing is kept.
const SECRETS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];

/// The quotas; `None` if there are none.
pub(super) fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<plan::Quotas> {
    let sections = said.entries(&QUOTAS_SECTION, cx);
    let place = said.place(&QUOTAS_SECTION);
    let asks = |route: &weft_proxy::plan::Route| {
        route.policy.policies.iter().any(|of| of.handler == QUOTAS)
    };
    if place.is_none() && !said.proxy.routes.iter().any(|route| asks(route)) {
        return None;
    }
    let topics = said.names(&TOPICS);
    let quotas = sections.iter().filter_map(|(name, section)| quota(name, section, &topics, cx));
    let quotas = quotas.map(Arc::new).collect();
    said.keep(At { value: ROW_BYTES, place: place.unwrap_or(Place::BUILT_IN) });
    Some(plan::Quotas { quotas })
}

fn quota(name: &At<Name>, section: &QuotaSection, topics: &NameSet, cx: &mut Cx) -> Option<Quota> {
    let zone = TimeZone::get(&section.time_zone.value);
    let Ok(zone) = zone else {
        let say = format!("there is no time zone `{}`", section.time_zone.value);
        let help = "name one of the IANA database, such as `Europe/Berlin`";
        cx.report(Problem::error(section.time_zone.place, say).help(help));
        return None;
    };
    let by: Vec<Part> = section.by.iter().map(|part| part.part().clone()).collect();
    for part in &by {
        if let Part::Header(header) = part
            && SECRETS.contains(&&**header)
        {
            let say =
                format!("what `{header}` holds is a secret, and a quota keeps and shows its keys");
            let help = "count by `consumer`, whom authentication finds out";
            cx.report(Problem::error(section.place, say).help(help));
            return None;
        }
    }
    if section.cost.is_beyond(section.limit.units) {
        let say = "one request costs more than the quota ever grants";
        let place =
            if section.cost.place == Place::BUILT_IN { section.place } else { section.cost.place };
        cx.report(Problem::error(place, say));
        return None;
    }
    let mut thresholds: Vec<u8> =
        section.warn_at.iter().filter_map(|percent| u8::try_from(percent.value.0).ok()).collect();
    thresholds.sort_unstable();
    thresholds.dedup();
    if let Some(beyond) = section.warn_at.get(THRESHOLDS_MAX) {
        let say = format!("a quota warns at {THRESHOLDS_MAX} percentages at most");
        cx.report(Problem::error(beyond.place, say));
        return None;
    }
    if let Some(topic) = &section.publish_to {
        topics.require("topic", topic.value.as_str(), topic.place, cx);
    }
    let every = match section.limit.per {
        Per::Day => Every::Day,
        Per::Week => Every::Week,
        Per::Month => Every::Month,
    };
    Some(Quota {
        name: name.value.clone(),
        limit: section.limit.units,
        calendar: Calendar { every, zone },
        by,
        cost: section.cost.cost().clone(),
        charge: section.charge.as_ref().map(|charge| charge.formula().clone()),
        shadow: section.shadow,
        tells: section.headers,
        thresholds,
        publish_to: section.publish_to.as_ref().map(|topic| topic.value.clone()),
        keys_max: section.keys_max.usize(),
        opens: matches!(section.when_away, WhenAway::Open),
    })
}
