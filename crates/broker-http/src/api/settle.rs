//! Settling without a connection: deliveries are known by the text that they were handed out with.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_json::json;
use weft_broker::{
    Verdict,
    engine::{AnyLease, AnySource},
};
use weft_kernel::{Error, Reason, Result};

use super::{
    Ask,
    receive::{LEASE, LEASE_MAX, at_most},
};
use crate::{
    body::Body,
    handle::Handle,
    response::Response,
    schema::{
        Form, Member, Object, Shape,
        text::{ANY, REASON},
    },
    settings::Span,
};

/// The most deliveries that are settled at once.
const MAX: usize = 1_000;
/// The longest delay that a client can ask for.
const DELAY_MAX: Duration = Duration::from_secs(7 * 86_400);
/// The longest reason that is taken.
const REASON_BYTES_MAX: usize = 1_024;

/// What is said of deliveries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settlements {
    /// One for each.
    pub(crate) settle: Vec<Settlement>,
}

/// A list of settlements.
pub(super) const SETTLE: Shape = Shape::List(
    &Shape::Object(&Object {
        members: &[
            Member::must("id", Shape::Text(&ANY)),
            Member::must("how", Shape::Words(&["accept", "release", "fail", "reject", "renew"])),
            Member::may("reason", Shape::Text(&REASON)),
            Member::may("delay", Shape::Span(0, 7 * 86_400_000)),
            Member::may("lease", LEASE),
        ],
        forms: &[
            Form {
                only: Some(("how", &["accept", "release"])),
                required: &[],
                without: &["reason", "delay", "lease"],
            },
            Form { only: Some(("how", &["fail"])), required: &[], without: &["lease"] },
            Form { only: Some(("how", &["reject"])), required: &[], without: &["delay", "lease"] },
            Form { only: Some(("how", &["renew"])), required: &[], without: &["reason", "delay"] },
        ],
        rule: "`delay` is for what fails, `lease` for what is renewed, `reason` for what fails or is \
               rejected",
    }),
    1,
    MAX,
);

impl Body for Settlements {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[Member::must("settle", SETTLE)]));
}

/// What is said of one delivery.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settlement {
    /// The delivery.
    pub(crate) id: String,
    how: How,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    delay: Option<Span>,
    #[serde(default)]
    lease: Option<Span>,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum How {
    Accept,
    Release,
    Fail,
    Reject,
    Renew,
}

/// What became of a settlement.
pub(crate) type Outcome = (String, Result<()>);

/// `POST …/settle`
pub(super) async fn settle(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let source = ask.source(&mut query)?;
    let said: Settlements = ask.body()?;
    let mut outcomes = all(ask.handle, &source, said).await?;
    if outcomes.len() == 1
        && let Some((_, Err(error))) = outcomes.pop_if(|(_, outcome)| outcome.is_err())
    {
        return Err(error);
    }
    Response::json(200, &told(&outcomes))
}

/// What is told of settlements.
pub(crate) fn told(outcomes: &[Outcome]) -> serde_json::Value {
    let each: Vec<_> = outcomes
        .iter()
        .map(|(id, outcome)| match outcome {
            Ok(()) => json!({"id": id, "ok": true}),
            Err(error) => json!({
                "id": id, "ok": false, "reason": error.reason().word(), "detail": error.said(),
            }),
        })
        .collect();
    json!({"settled": each})
}

/// Settles deliveries of a source: all that are settled in one transaction, and durable when this
/// answers. One that is lost keeps no other from being settled.
///
/// # Errors
/// [`Reason::MalformedRequest`] for what cannot be said of a delivery, and what the store says; nothing
/// is settled then.
pub(crate) async fn all(
    handle: &Handle,
    source: &AnySource,
    said: Settlements,
) -> Result<Vec<Outcome>> {
    if said.settle.is_empty() || said.settle.len() > MAX {
        let say = format!("`settle` has from 1 to {MAX} deliveries");
        return Err(Error::new(Reason::MalformedRequest, say));
    }
    for (index, settlement) in said.settle.iter().enumerate() {
        check(settlement).map_err(|why| {
            Error::new(Reason::MalformedRequest, format!("settlement {index}: {why}"))
        })?;
    }
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(said.settle.len());
    let mut verdicts: Vec<(AnyLease, Verdict)> = Vec::new();
    // Which outcome each verdict belongs to.
    let mut of: Vec<usize> = Vec::new();
    let engines = handle.engines();
    for settlement in said.settle {
        let lease = AnyLease::Other(settlement.id.as_str().into());
        match verdict(&settlement) {
            Some(verdict) => {
                verdicts.push((lease, verdict));
                of.push(outcomes.len());
                outcomes.push((settlement.id, Ok(())));
            }
            None => {
                let span = settlement.lease.map_or_else(|| source.lease(), |span| span.0);
                let outcome = engines.renew(source, lease, span).await;
                outcomes.push((settlement.id, outcome));
            }
        }
    }
    if !verdicts.is_empty() {
        let settled = engines.settle(source, verdicts).await?;
        for (at, result) in of.into_iter().zip(settled) {
            if let Some((_, outcome)) = outcomes.get_mut(at) {
                *outcome = result;
            }
        }
    }
    Ok(outcomes)
}

fn check(settlement: &Settlement) -> Result<(), String> {
    let how = settlement.how;
    if settlement.delay.is_some() && how != How::Fail {
        return Err("`delay` is for what fails".into());
    }
    if settlement.lease.is_some() && how != How::Renew {
        return Err("`lease` is for what is renewed".into());
    }
    if settlement.reason.is_some() && !matches!(how, How::Fail | How::Reject) {
        return Err("`reason` is for what fails or is rejected".into());
    }
    if settlement.reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
        return Err(format!("`reason` has at most {REASON_BYTES_MAX} bytes"));
    }
    let bounds = [("delay", settlement.delay, DELAY_MAX), ("lease", settlement.lease, LEASE_MAX)];
    for (name, span, max) in bounds {
        if let Some(span) = span {
            at_most(name, span.0, max).map_err(|error| error.said().to_owned())?;
        }
    }
    Ok(())
}

/// The verdict on a delivery; `None` if it is only renewed.
fn verdict(settlement: &Settlement) -> Option<Verdict> {
    let reason = || Cow::Owned(settlement.reason.clone().unwrap_or_default());
    Some(match settlement.how {
        How::Accept => Verdict::Accept,
        How::Release => Verdict::Release,
        How::Fail => Verdict::Fail { reason: reason(), delay: settlement.delay.map(|span| span.0) },
        How::Reject => Verdict::Reject { reason: reason() },
        How::Renew => return None,
    })
}
