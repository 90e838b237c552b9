//! Receiving without a connection: a long poll that hands deliveries out.

use std::time::Duration;

use serde::Deserialize;
use weft_broker::{ConsumerOptions, Message, engine::AnyDelivery};
use weft_kernel::{Result, format_duration};

use super::Ask;
use crate::{
    body::Body,
    event,
    response::{JSON, Response},
    schema::{Member, Object, Shape},
    settings::Span,
    time,
};
use weft_wire::{cloudevents::json, problem::write_json_string as text};

/// The most deliveries of one answer.
const MAX: u32 = 1_000;
/// How much one answer holds, but always one delivery.
const BYTES_MAX: u64 = 8 << 20;
/// The longest poll.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The longest lease.
pub(super) const LEASE_MAX: Duration = Duration::from_secs(12 * 3600);
/// What a lease may be that a client asks for.
pub(super) const LEASE: Shape = Shape::Span(1, 12 * 3_600_000);
/// What a poll may be.
pub(super) const WAIT: Shape = Shape::Span(0, 60_000);

/// What a client asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    max: Option<u32>,
    wait: Option<Span>,
    lease: Option<Span>,
}

impl Body for Wanted {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[
        Member::may("max", Shape::Int(1, MAX as u64)),
        Member::may("wait", WAIT),
        Member::may("lease", LEASE),
    ]));
}

/// `POST …/receive`
pub(super) async fn receive(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let source = ask.source(&mut query)?;
    let wanted: Wanted = ask.body()?;
    let max = within("max", wanted.max.unwrap_or(32).into(), 1, u64::from(MAX))?;
    let wait = at_most("wait", wanted.wait.map_or(Duration::ZERO, |span| span.0), WAIT_MAX)?;
    let asked = wanted.lease.map(|span| at_most("lease", span.0, LEASE_MAX)).transpose()?;
    let options = ConsumerOptions {
        prefetch: max,
        prefetch_bytes: BYTES_MAX,
        lease: asked,
        ..ConsumerOptions::default()
    };
    let lease = asked.unwrap_or_else(|| source.lease());
    let mut consumer = ask.handle.engines().consume(source, options).await?;
    // What is there at once needs no timer.
    let mut taken = consumer.try_batch(max).await?;
    if taken.is_empty() && !wait.is_zero() {
        taken = tokio::select! {
            taken = tokio::time::timeout(wait, consumer.next_batch(max)) => match taken {
                Ok(taken) => taken?,
                Err(_elapsed) => Vec::new(),
            },
            () = ask.handle.stop().draining() => Vec::new(),
        };
    }
    let mut out = Vec::with_capacity(64 + taken.len() * 512);
    out.extend_from_slice(b"{\"deliveries\":[");
    let until = until(lease);
    for (index, delivery) in taken.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(&mut out, delivery, &until);
    }
    out.extend_from_slice(b"]}");
    // From here on they are the client's; before, they would have gone back. What was leased and is not
    // shown goes back even now.
    if !taken.is_empty() {
        consumer.detach();
    }
    Ok(Response::of(200, JSON, out).with("cache-control", "no-store"))
}

/// When leases that begin now are over.
pub(super) fn until(lease: Duration) -> String {
    let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
    time::text(time::now_ms().saturating_add(lease))
}

/// Appends a delivery whose lease is over at `until`.
pub(super) fn write(out: &mut Vec<u8>, delivery: &AnyDelivery, until: &str) {
    out.extend_from_slice(b"{\"id\":");
    text(&delivery.lease.to_text(), out);
    if let Some(topic) = &delivery.topic {
        out.extend_from_slice(b",\"topic\":");
        text(&topic.name, out);
    }
    number(out, "handouts", delivery.handouts.into());
    number(out, "failures", delivery.failures.into());
    out.extend_from_slice(b",\"lease_until\":");
    text(until, out);
    out.push(b',');
    stored(out, delivery.position, delivery.published_ms, &delivery.key, Some(&delivery.message));
    out.push(b'}');
}

/// Appends what is the same for every message that is shown: position, time, key, headers and event,
/// without the braces around. Of one whose bytes are damaged there is no more than that; one that cannot
/// be shown as an event says why, so that a consumer can get past it.
pub(super) fn stored(
    out: &mut Vec<u8>,
    position: u64,
    published_ms: u64,
    key: &[u8],
    message: Option<&Message>,
) {
    out.extend_from_slice(b"\"position\":");
    out.extend_from_slice(itoa::Buffer::new().format(position).as_bytes());
    out.extend_from_slice(b",\"time\":");
    text(&time::text(published_ms), out);
    if !key.is_empty() {
        out.extend_from_slice(b",\"key\":");
        text(&String::from_utf8_lossy(key), out);
    }
    let Some(message) = message else {
        out.extend_from_slice(b",\"damaged\":true");
        return;
    };
    let headers = event::headers(message);
    if !headers.is_empty() {
        out.extend_from_slice(b",\"headers\":{");
        for (index, (name, value)) in headers.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            text(name, out);
            out.push(b':');
            text(value, out);
        }
        out.push(b'}');
    }
    out.extend_from_slice(b",\"event\":");
    if let Err(error) = event::with(message, position, |event, _| json::write(event, out)) {
        out.extend_from_slice(b"null,\"unreadable\":");
        text(error.said(), out);
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A number within its bounds.
pub(super) fn within(name: &str, value: u64, min: u64, max: u64) -> Result<u32> {
    u32::try_from(value).ok().filter(|_| (min..=max).contains(&value)).ok_or_else(|| {
        let say = format!("`{name}` is from {min} to {max}");
        weft_kernel::Error::new(weft_kernel::Reason::MalformedRequest, say)
    })
}

/// A duration within its bound.
pub(super) fn at_most(name: &str, span: Duration, max: Duration) -> Result<Duration> {
    if span <= max {
        return Ok(span);
    }
    let say = format!("`{name}` is at most {}", format_duration(max));
    Err(weft_kernel::Error::new(weft_kernel::Reason::MalformedRequest, say))
}
