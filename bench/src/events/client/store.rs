//! The store as a library: what a node does of an append but HTTP.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use weft_broker::{MessageBuilder, message::Value};
use weft_events::{
    AppendBatch, Direction, EventStore, Expected, PageLimits, Rejected, StreamName,
    projection::{Definition, Projections, Rule, Runner, Source},
};

use super::{Append, Found, KIND, NewEvent, Of, PAGE, SOURCE, Told, check};
use crate::events::scenario::{Filling, stream};

pub(super) async fn append(store: &EventStore, appends: Vec<Append>) -> Result<()> {
    let of = |append: &Append| -> weft_kernel::Result<weft_events::Append> {
        let Append { stream, next, events } = append;
        let expected = next.checked_sub(1).map_or(Expected::None, Expected::Version);
        let events = events.iter().map(event).collect::<weft_kernel::Result<_>>()?;
        Ok(weft_events::Append { stream: StreamName::new(stream)?, expected, events })
    };
    let batch = appends.iter().map(of).collect::<weft_kernel::Result<_>>().map_err(said)?;
    let batch = AppendBatch { appends: batch, ..AppendBatch::default() };
    let receipt = store.append(batch).await.map_err(|rejected| match rejected {
        Rejected::Failed(error) => said(error),
        refused @ (Rejected::Conflict(_) | Rejected::Matched(_)) => anyhow!("{refused:?}"),
    })?;
    ensure!(receipt.written.len() == appends.len(), "not every append was answered");
    for (append, written) in appends.iter().zip(&receipt.written) {
        ensure!(!written.is_known, "{} was taken for known", append.stream);
        check(append, written.versions.start, written.versions.end - 1)?;
    }
    Ok(())
}

/// As a node makes it of a request: what has no correlation id gets its own id for that.
fn event(new: &NewEvent) -> weft_kernel::Result<weft_events::NewEvent> {
    let id = format!("{:032x}", new.id);
    let message = MessageBuilder::event(400)
        .attribute("id", Value::Text(&id))
        .attribute("source", Value::Text(SOURCE))
        .attribute("type", Value::Text(KIND))
        .attribute("datacontenttype", Value::Text("text/plain"))
        .attribute("correlationid", Value::Text(&id))
        .body(&new.body);
    weft_events::NewEvent::new(message.finish()?)
}

pub(super) async fn page(store: &EventStore, of: Of<'_>, told: Told<'_>) -> Result<()> {
    let limits = PageLimits { events: PAGE, bytes: 8 << 20, ..PageLimits::default() };
    let page = match of {
        Of::Stream(stream, from) => {
            let stream = StreamName::new(stream).map_err(said)?;
            store.read(&stream, from, Direction::Forward, limits).await
        }
        Of::All(from) => store.read_all(from, Direction::Forward, limits).await,
    };
    for event in page.map_err(said)?.events {
        let body = event.message.body();
        told(Found { version: event.version, position: event.position, body: &body })?;
    }
    Ok(())
}

/// A projection of its own each time, from the first event on.
pub(super) async fn project(store: &EventStore, filling: Filling) -> Result<Duration> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let name = format!("bench-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let fields = |field: &str, text: &str| BTreeMap::from([(field.to_owned(), text.to_owned())]);
    let rule =
        Rule { set: fields("last", "event.id"), add: fields("count", "1"), ..Rule::default() };
    let definition = Definition {
        from: vec![Source { category: Some("order".to_owned()), tags: Vec::new() }],
        key: "stream.name".to_owned(),
        on: BTreeMap::from([(KIND.to_owned(), rule)]),
    };
    let declared = BTreeMap::from([(name.clone(), definition)]);
    let (projections, runners) = Projections::open(store, declared).await.map_err(said)?;
    let projection = projections.get(&name).map_err(said)?;
    let began = Instant::now();
    let running = futures_util::future::join_all(runners.into_iter().map(Runner::run));
    tokio::select! {
        _ = running => bail!("a projection runs for ever"),
        () = projection.reached(store.next_position()) => {}
    }
    let time = began.elapsed();
    let Filling { streams, events } = filling;
    let applied = projection.status().applied;
    ensure!(applied == streams * events, "{applied} of {} events were applied", streams * events);
    let document = projection.document(&stream(streams / 2)).await.map_err(said)?;
    let document = document.context("a document of each stream")?;
    let json: serde_json::Value = serde_json::from_slice(&document.json)?;
    ensure!(json["count"] == events, "{json}");
    Ok(time)
}

fn said(error: weft_kernel::Error) -> anyhow::Error {
    anyhow!("{}", error.detail())
}
