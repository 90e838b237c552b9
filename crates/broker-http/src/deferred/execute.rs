//! Carries operations out.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use weft_kernel::{Error, Name, Reason, Result, Rng};
use weft_ledger::has_ended;
use weft_net::Stop;
use weft_proxy::{Answered, BodyEnd, Reading};
use weft_wire::{Known, RequestHead, Version};

use super::{
    BODY_BYTES_MAX, callback,
    record::{Head, Id, Outcome, Pieces, keep_fields, kept_fields},
};
use crate::{
    handle::Handle,
    push_delivery::{Sender, judge},
    response::Response,
    time,
};

/// How many that were left behind are carried out at once.
const LEFT_AT_ONCE: usize = 32;
/// How long an operation is tried again that has reached nobody.
const PATIENCE: Duration = Duration::from_secs(300);
/// The time for the body of a response once its head has come: it is kept whole or not at all.
const BODY_MAX: Duration = Duration::from_secs(300);
/// The first wait between such tries, and the longest.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// Carries out many operations, a few at a time.
pub(super) async fn all(handle: &Handle, sender: &dyn Sender, stop: &Stop, ids: Vec<Id>) {
    stream::iter(ids).for_each_concurrent(LEFT_AT_ONCE, |id| out(handle, sender, stop, id)).await;
}

/// Carries out one operation. What Weft could not deliver to anybody is tried again for a while; when
/// the node drains before there is an outcome, the next process begins anew.
pub(super) async fn out(handle: &Handle, sender: &dyn Sender, stop: &Stop, id: Id) {
    let deferred = handle.deferred();
    match try_out(handle, sender, stop, id).await {
        Ok(()) => {}
        Err(error) => {
            deferred.put_back(id);
            tracing::error!(%id, error = %error.detail(), "an operation was not carried out; the next start tries again");
        }
    }
}

async fn try_out(handle: &Handle, sender: &dyn Sender, stop: &Stop, id: Id) -> Result<()> {
    let deferred = handle.deferred();
    let mut head = deferred.head(id).await?;
    if head.outcome.is_none() {
        let Some((outcome, body)) = outcome(handle, sender, stop, id, &head).await? else {
            return Ok(());
        };
        finish(handle, stop, id, &outcome, &body).await?;
        head.outcome = Some(outcome);
    }
    callback::tell(handle, stop, id, &head).await
}

/// Keeps an outcome, and tries again while it is not taken: the service has been called, and is not to
/// be called again for want of room.
async fn finish(
    handle: &Handle,
    stop: &Stop,
    id: Id,
    outcome: &Outcome,
    body: &Bytes,
) -> Result<()> {
    let mut rng = Rng::from_entropy();
    let mut pause = AGAIN_FIRST;
    loop {
        match handle.deferred().finish(id, outcome.clone(), body).await {
            Ok(()) => return Ok(()),
            Err(error) if has_ended(&error) || stop.is_draining() => {
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(%id, error = %error.detail(), "an outcome was not kept yet");
            }
        }
        let wait = rng.around(pause, 0.2);
        pause = pause.saturating_mul(2).min(AGAIN_MAX);
        let _ = tokio::time::timeout(wait, stop.draining()).await;
    }
}

/// What comes of an operation; `None` if it is not to be carried out here and now.
async fn outcome(
    handle: &Handle,
    sender: &dyn Sender,
    stop: &Stop,
    id: Id,
    head: &Head,
) -> Result<Option<(Outcome, Bytes)>> {
    let deferred = handle.deferred();
    let route = Name::new(&head.route).map_err(|error| {
        Error::new(Reason::StorageCorrupt, "a kept operation has no route").because(error)
    })?;
    let body = deferred.body(head.body).await?;
    let mut rng = Rng::from_entropy();
    let mut pause = AGAIN_FIRST;
    let answered = loop {
        if stop.is_draining() || !deferred.begin_next(id).await {
            return Ok(None);
        }
        let request = RequestHead {
            method: head.method(),
            target: head.target.clone(),
            version: Version::Http11,
            fields: kept_fields(&head.fields),
            upgrade: None,
        };
        let reading = Reading { bytes_max: BODY_BYTES_MAX, whole_max: None, body_max: BODY_MAX };
        let answered = sender.send(&route, request, body.clone(), reading).await;
        let untouched = match &answered {
            Ok(Answered { reason: Some(Reason::Draining), .. }) => {
                deferred.put_back(id);
                return Ok(None);
            }
            Err(error) if error.reason() == Reason::Draining => {
                deferred.put_back(id);
                return Ok(None);
            }
            Ok(answered) => answered.reason.is_some_and(judge::never_began),
            // A route that is gone, or takes no such operations, may be there again after the next reload.
            Err(error) => judge::never_began(error.reason()),
        };
        let age = time::now_ms().saturating_sub(head.taken_ms);
        if !untouched || u128::from(age) >= PATIENCE.as_millis() {
            break answered;
        }
        // While it waits it can be cancelled.
        deferred.put_back(id);
        let wait = rng.around(pause, 0.2);
        pause = pause.saturating_mul(2).min(AGAIN_MAX);
        let _ = tokio::time::timeout(wait, stop.draining()).await;
    };
    let (status, mut fields, body) = match answered.and_then(whole) {
        Ok(answered) => (answered.status, answered.fields, answered.body),
        Err(error) => Response::problem(&error).into_whole(),
    };
    fields.strip_hop_by_hop(false);
    fields.remove(Known::ContentLength);
    let outcome = Outcome {
        done_ms: time::now_ms(),
        status: Some(status),
        fields: keep_fields(&fields),
        body: Pieces::default(),
        told: false,
    };
    Ok(Some((outcome, body)))
}

/// An answer, if its body was read to the end: a part of it is no answer.
fn whole(answered: Answered) -> Result<Answered> {
    match answered.end {
        BodyEnd::Whole => Ok(answered),
        BodyEnd::Cut => {
            let say = format!("the service's response is larger than {BODY_BYTES_MAX} bytes");
            Err(Error::new(Reason::UpstreamMalformed, say))
        }
        BodyEnd::Broken(reason) => {
            let say = "the service's response did not end as it should";
            Err(Error::new(reason, say).note(format!("status {}", answered.status)))
        }
    }
}
