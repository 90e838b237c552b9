//! Answers that come later: a request is kept, carried out by its route, and its response is kept.
//!
//! A client that asks `Prefer: respond-async` is answered with the real response if that comes within
//! the time it would wait, and with 202 and the address of the operation otherwise. The request is
//! durable before either. After a crash whatever has no outcome is carried out again, so a service sees
//! a request at least once; the `Idempotency-Key` that it is sent is always the same.

mod callback;
mod execute;
mod prefer;
mod record;
mod store;

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::oneshot;
use weft_kernel::{Error, Reason, Result, SystemClock};
use weft_net::{Stop, Tasks, body::Body};
use weft_proxy::{Call, Local, Reply, WorkerClient};
use weft_wire::{Fields, Known, ResponseHead};

pub use self::callback::{Outside, is_callback_prefix};
pub(crate) use self::prefer::is_wanted;
use self::record::{BODY_BYTES_MAX, Head, Outcome, keep_fields, kept_fields};
pub(crate) use self::{
    record::Id,
    store::{DeferredResponses, Standing},
};
use crate::{
    handle::Handle,
    push_delivery::Sender,
    response::{Content, Response},
    target::RespondAsync,
    time,
};

/// The field in which a client says where the answer is to be told.
const CALLBACK: &str = "weft-callback";
/// The shortest and the longest pause between two looks for answers that need not be kept any longer.
const SWEEP_MIN: Duration = Duration::from_secs(1);
const SWEEP_MAX: Duration = Duration::from_secs(10);

/// Takes a request that is to be answered later, and answers in its stead.
///
/// # Errors
/// If the request is not kept.
pub(crate) async fn defer(
    handle: &Handle,
    local: &Rc<Local>,
    how: &RespondAsync,
    call: Call,
) -> Result<Reply> {
    let Call { route, head, body, timer, .. } = call;
    let wait = prefer::wait(&head.fields).map(|wait| wait.min(how.wait_max));
    let mut fields = head.fields;
    let callback = callback::of(&fields, how)?;
    if callback.is_some() && handle.outside().is_none() {
        return Err(Error::new(Reason::NotSupported, "callbacks are not supported on this node"));
    }
    let body = body.collect(BODY_BYTES_MAX).await?;
    for name in [CALLBACK, "prefer"] {
        fields.remove_named(name);
    }
    fields.strip_hop_by_hop(false);
    fields.remove(Known::ContentLength);
    if !fields.has(Known::IdempotencyKey) {
        fields.add(Known::IdempotencyKey, format!("\"{}\"", Id::new()?).as_bytes());
    }
    let kept = Head {
        version: 1,
        taken_ms: time::now_ms(),
        keep_ms: u64::try_from(how.keep.as_millis()).unwrap_or(u64::MAX),
        route: route.to_string(),
        method: head.method.as_str().to_owned(),
        target: head.target,
        fields: keep_fields(&fields),
        body: record::Pieces::default(),
        callback,
        outcome: None,
    };
    let deferred = handle.deferred();
    let client = Rc::new(WorkerClient::new(local.clone())?);
    let id = take(handle, &local.tasks, client, local.stop.clone(), kept, body).await?;
    if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
        let until = SystemClock::tick().plus(wait);
        let over = std::pin::pin!(deferred.over(id));
        if timer.within(until, over).await.is_ok() {
            let mut response = result(deferred, id).await?;
            let applied = format!("respond-async, wait={}", wait.as_secs());
            response.fields.append("preference-applied", applied.as_bytes());
            return Ok(reply(response));
        }
    }
    let response = Response::empty(202)
        .with("location", &format!("/v1/operations/{id}"))
        .with("retry-after", "1")
        .with("preference-applied", "respond-async");
    Ok(reply(response))
}

/// Keeps a request and has it carried out, both in a task of its own: whoever asked may leave before the
/// request is durable, and a request that is kept has to have somebody who carries it out.
async fn take(
    handle: &Handle,
    tasks: &Tasks,
    sender: Rc<impl Sender + 'static>,
    stop: Stop,
    head: Head,
    body: Bytes,
) -> Result<Id> {
    let (tell, told) = oneshot::channel();
    let handle = handle.clone();
    tasks.spawn_local(async move {
        let kept = handle.deferred().keep(head, &body).await;
        drop(body);
        let id = kept.as_ref().ok().copied();
        // Nobody listens when the client has left.
        let _ = tell.send(kept);
        if let Some(id) = id {
            execute::out(&handle, &*sender, &stop, id).await;
        }
    });
    told.await.unwrap_or_else(|_cut| Err(ends()))
}

fn ends() -> Error {
    Error::new(Reason::Draining, "the node ends")
}

fn reply(response: Response) -> Reply {
    let (status, fields, body) = response.into_whole();
    Reply::new(ResponseHead { status, fields }, Body::full(body))
}

/// What came of an operation that is over, as the response that it is.
///
/// # Errors
/// [`Reason::NoMessage`] if there is none; [`Reason::CallerGone`] if it was cancelled.
pub(crate) async fn result(deferred: &DeferredResponses, id: Id) -> Result<Response> {
    let head = deferred.head(id).await?;
    let outcome = head
        .outcome
        .ok_or_else(|| Error::new(Reason::NoMessage, "the operation has no result yet"))?;
    let Some(status) = outcome.status else {
        return Err(Error::new(Reason::NoMessage, "the operation was cancelled"));
    };
    let body = deferred.body(outcome.body).await?;
    Ok(Response { status, fields: kept_fields(&outcome.fields), content: Content::Whole(body) })
}

/// What is told of an operation.
#[derive(Debug)]
pub(crate) struct Told {
    /// How it stands.
    pub(crate) standing: Standing,
    /// When it was taken, in wall milliseconds.
    pub(crate) taken_ms: u64,
    /// Its response, once there is one; `None` when it was cancelled.
    pub(crate) response: Option<(u16, Fields, Bytes)>,
}

/// How an operation stands, with its response once there is one.
///
/// # Errors
/// [`Reason::NoMessage`] if there is none.
pub(crate) async fn tell(deferred: &DeferredResponses, id: Id) -> Result<Told> {
    let head = deferred.head(id).await?;
    let taken_ms = head.taken_ms;
    let Some(outcome) = head.outcome else {
        // Without an outcome it is not over, even if it was between two looks.
        let standing = match deferred.standing(id) {
            Standing::Over => Standing::Running,
            standing => standing,
        };
        return Ok(Told { standing, taken_ms, response: None });
    };
    let response = match outcome.status {
        None => None,
        Some(status) => {
            let body = deferred.body(outcome.body).await?;
            Some((status, kept_fields(&outcome.fields), body))
        }
    };
    Ok(Told { standing: Standing::Over, taken_ms, response })
}

/// Cancels what has not begun; once begun, that goes on even if this is dropped.
///
/// # Errors
/// [`Reason::NoMessage`] if there is none, [`Reason::VersionConflict`] if it has begun or is over.
pub(crate) async fn cancel(handle: &Handle, id: Id) -> Result<()> {
    let deferred = Arc::clone(handle.deferred());
    deferred.head(id).await?;
    if !deferred.begin(id) {
        let say = "the operation has begun, and cannot be cancelled";
        return Err(Error::new(Reason::VersionConflict, say));
    }
    let outcome = Outcome {
        done_ms: time::now_ms(),
        status: None,
        fields: Vec::new(),
        body: record::Pieces::default(),
        told: true,
    };
    let (tell, told) = oneshot::channel();
    handle.tasks().spawn(async move {
        let finished = deferred.finish(id, outcome, &Bytes::new()).await;
        if finished.is_err() {
            deferred.put_back(id);
        }
        let _ = tell.send(finished);
    });
    told.await.unwrap_or_else(|_cut| Err(ends()))
}

/// Carries out what a former process left behind, tells what it did not tell, and forgets what has been
/// kept long enough, until the worker drains.
pub(crate) async fn keep_house(handle: Handle, local: Rc<Local>, left: Vec<Id>) {
    let Ok(client) = WorkerClient::new(local.clone()) else { return };
    let stop = local.stop.clone();
    let leftovers = execute::all(&handle, &client, &stop, left);
    let sweeping = sweep(handle.deferred(), &stop);
    futures_util::future::join(leftovers, sweeping).await;
}

async fn sweep(deferred: &Arc<DeferredResponses>, stop: &Stop) {
    let mut draining = std::pin::pin!(stop.draining());
    loop {
        let swept = async {
            while deferred.sweep(time::now_ms()).await? {
                // What was asked meanwhile is answered first.
                tokio::task::yield_now().await;
            }
            Ok::<(), Error>(())
        };
        // A store that answers no more must not hold the end of the node up.
        let swept = tokio::select! {
            biased;
            () = draining.as_mut() => return,
            swept = swept => swept,
        };
        if let Err(error) = swept {
            tracing::warn!(error = %error.detail(), "old answers could not be forgotten");
        }
        let next = deferred.next_expiry().map_or(u64::MAX, |at| at.saturating_sub(time::now_ms()));
        let pause = Duration::from_millis(next).clamp(SWEEP_MIN, SWEEP_MAX);
        if tokio::time::timeout(pause, draining.as_mut()).await.is_ok() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
