//! What a policy does once a request that it has let through is answered, whoever still waits for that.
//!
//! A request with a [`Completion`] is carried out in a task of its own: a client that leaves takes nothing
//! back, and the policy is told what came of it all the same. What it is shown is the answer of the target,
//! before the response sides of policies have changed it; so an answer that is kept and given again passes
//! them as the first one did, and tells each client what is for that client.

use tokio::sync::oneshot;
use weft_kernel::{Error, Reason, Result, Retry, Side};
use weft_net::{body::Body, message::InterimSender, timer::TaskTimer};
use weft_wire::ResponseHead;

use crate::{
    answer::Answer,
    exchange::Exchange,
    front::{self, Walk},
    handler::LocalFuture,
    route::Target,
};

/// What is told of the end of a request.
pub trait Completion: 'static {
    /// The target has answered. What this gives takes the place of the body, and the answer goes on its way
    /// once the future is done. Nothing is told if the body breaks off: it is this that reads it.
    fn answered(self: Box<Self>, head: &ResponseHead, body: Body) -> LocalFuture<'static, Body>;

    /// The target has not answered, or something else stands in for its answer.
    fn failed(self: Box<Self>, failure: TargetFailure) -> LocalFuture<'static, ()>;
}

/// How a request has ended that no target has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetFailure {
    /// Whether a service may have begun with it.
    pub reached: bool,
    /// The status that a service has answered, if a fixed response stands in for that.
    pub status: Option<u16>,
}

impl TargetFailure {
    /// Nobody has seen the request.
    pub(crate) const NEVER_BEGAN: Self = Self { reached: false, status: None };

    /// What an error says of the request that ended so.
    pub(crate) fn of(exchange: &Exchange, error: &Error) -> Self {
        let route = exchange.record.route.as_deref();
        let is_sent = route.is_some_and(|route| matches!(route.target, Target::Services(_)));
        let reached = if is_sent {
            exchange.record.sending.has_reached()
        } else {
            let reason = error.reason();
            let never = reason.retry() == Retry::Safe
                || reason.side() == Side::Caller
                || reason == Reason::Misconfigured;
            !never
        };
        Self { reached, status: None }
    }
}

/// Carries a request out in a task of its own, tells its completion, and gives the answer if somebody still
/// waits for it.
pub(crate) async fn carry_out(
    exchange: &mut Exchange,
    walk: Walk<'_>,
    completion: Box<dyn Completion>,
    body: Body,
    interim_sender: &InterimSender,
) -> Result<Answer> {
    let tasks = exchange.local.tasks.clone();
    let mut whole = exchange.take();
    let Walk { route, found, captures } = walk;
    let captures = captures.clone();
    // It keeps nothing of a connection that is gone.
    let interim_sender = interim_sender.clone();
    let (tell, told) = oneshot::channel();
    tasks.spawn_local(async move {
        let timer = TaskTimer::default();
        let walk = Walk { route, found, captures: &captures };
        let result = front::to_target(&mut whole, walk, body, &timer, &interim_sender).await;
        let result = complete(&whole, completion, result).await;
        // Nobody listens when the client has left: the request ends here then.
        let _ = tell.send((whole, result));
    });
    let (whole, result) = told.await.map_err(|_cut| {
        Error::new(Reason::Draining, "the node ends before the request was answered")
    })?;
    *exchange = whole;
    result
}

/// Tells what came of a request.
pub(crate) async fn complete(
    exchange: &Exchange,
    completion: Box<dyn Completion>,
    result: Result<Answer>,
) -> Result<Answer> {
    let doubt = exchange.record.fell;
    match result {
        Ok(mut answer) if answer.tunnel.is_none() && !exchange.record.stands_in => {
            let body = std::mem::take(&mut answer.body);
            answer.body = completion.answered(&answer.head, body).await;
            Ok(answer)
        }
        Ok(answer) => {
            let unknown = TargetFailure { reached: true, status: None };
            completion.failed(doubt.unwrap_or(unknown)).await;
            Ok(answer)
        }
        Err(error) => {
            let failure = TargetFailure::of(exchange, &error);
            // The service that failed first may have begun, if the one behind it has not.
            let reached = failure.reached
                || doubt.is_some_and(|first| first.reached && first.status.is_none());
            completion.failed(TargetFailure { reached, ..failure }).await;
            Err(error)
        }
    }
}
