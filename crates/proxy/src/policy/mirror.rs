//! Copies of requests, sent to another service whose answers are dropped.

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use weft_discovery::Pick;
use weft_kernel::Deadline;
use weft_net::{body::Body, clock, h1::client::Then, message::InterimSender, timer::TaskTimer};
use weft_wire::{Known, RequestHead};

use super::{OutgoingContext, Policy, Sides, Stage};
use crate::{
    attempt::Try,
    body::Copied,
    exchange::Exchange,
    local::Local,
    plan,
    upload::{Queued, Times},
    upstream::Upstream,
};

/// How long a copy may take.
const LIMIT: Duration = Duration::from_secs(15);
/// Most of an answer that is read, so that its connection can be kept.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Copies a share of the requests that services are sent.
pub(crate) struct Mirror {
    pub(crate) plan: plan::Mirror,
    pub(crate) to: Arc<Upstream>,
}

impl Policy for Mirror {
    fn stage(&self) -> Stage {
        Stage::Mirror
    }

    fn sides(&self) -> Sides {
        Sides { outgoing: true, ..Sides::default() }
    }

    fn outgoing(&self, cx: &mut OutgoingContext<'_>) {
        // One copy, of what the first service is sent.
        if cx.first.is_none() || cx.head().upgrade.is_some() || !cx.rng().chance(self.plan.share) {
            return;
        }
        let (local, head) = (cx.local().clone(), cx.head().clone());
        let send = sender(local, self.to.clone(), head, cx.is_grpc());
        let Some(first) = &mut cx.first else { return };
        if first.body.is_empty() {
            // There is nothing to pass by which it would be seen that the request has left.
            *first.on_try = Some(Box::new(move || send(Bytes::new())));
        } else {
            *first.body = Copied::wrap(std::mem::take(first.body), self.plan.body_bytes_max, send);
        }
    }
}

/// What sends a copy once its body is there.
fn sender(
    local: Rc<Local>,
    upstream: Arc<Upstream>,
    mut head: RequestHead,
    is_grpc: bool,
) -> impl FnOnce(Bytes) + 'static {
    move |body| {
        if let Some(host) = head.fields.get_str(Known::Host).and_then(shadow) {
            head.fields.set(Known::Host, host.as_bytes());
        }
        head.upgrade = None;
        // The copy is whole and has no trailers.
        head.fields.remove(Known::Trailer);
        head.fields.remove(Known::Expect);
        // Nobody waits for it.
        head.fields.remove(Known::GrpcTimeout);
        head.fields.remove(Known::XRequestTimeout);
        let tasks = local.tasks.clone();
        tasks.spawn_local(async move { send(local, upstream, head, body, is_grpc).await });
    }
}

/// The host of a copy: the name with `-shadow` after it, before the dot of the root and the port. An
/// address has no name to change.
fn shadow(host: &str) -> Option<String> {
    if host.starts_with('[') {
        return None;
    }
    let (name, port) = host.find(':').map_or((host, ""), |colon| host.split_at(colon));
    let (name, dot) = name.strip_suffix('.').map_or((name, ""), |name| (name, "."));
    if name.is_empty() || name.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    Some(format!("{name}-shadow{dot}{port}"))
}

/// Sends a copy. Nobody waits for it, so whatever goes wrong is told by the service's metrics alone.
async fn send(
    local: Rc<Local>,
    upstream: Arc<Upstream>,
    mut head: RequestHead,
    body: Bytes,
    is_grpc: bool,
) {
    let now = clock::now();
    let endpoint = {
        let mut rng = local.rng.borrow_mut();
        let mut pick = Pick {
            hash: None,
            tried: &[],
            zone: local.zone.as_deref(),
            insist: false,
            now,
            rng: &mut rng,
        };
        upstream.discovered.pick(&mut pick)
    };
    let Ok(endpoint) = endpoint else { return };
    if !head.fields.has(Known::Host) {
        head.fields.add(Known::Host, upstream.host(&endpoint).as_bytes());
    }
    let (timer, interim_sender) = (TaskTimer::default(), InterimSender::default());
    let times = Times {
        began: now,
        asked: Deadline::NONE,
        request: Some(LIMIT),
        per_try: None,
        upload: Rc::default(),
        queued: Queued::default(),
    };
    times.queued.admit(now);
    let attempt = Try {
        local: &local,
        upstream: &upstream,
        timer: &timer,
        interim_sender: &interim_sender,
        wanted: upstream.wanted(is_grpc, false),
        is_grpc,
        idempotent: false,
        connect: Duration::from_secs(1),
        times: &times,
        ends: None,
    };
    if let Ok(success) = attempt.run(endpoint, &head, Body::full(body), now).await {
        if let Then::Body(body) = success.then {
            let read = std::pin::pin!(body.collect(ANSWER_BYTES_MAX));
            let _ = timer.within(now.plus(LIMIT), read).await;
        }
        Exchange::settle(&local, &upstream, success.in_flight, success.outcome, clock::now());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_of_a_copy_stands_before_its_port() {
        for (host, copy) in [
            ("t.example", Some("t.example-shadow")),
            ("t.example:8080", Some("t.example-shadow:8080")),
            ("t.example.", Some("t.example-shadow.")),
            ("t.example.:80", Some("t.example-shadow.:80")),
            ("10.0.0.1:80", None),
            ("[::1]:80", None),
            ("", None),
        ] {
            assert_eq!(super::shadow(host).as_deref(), copy, "{host}");
        }
    }
}
