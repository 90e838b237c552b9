//! Persistent subscriptions: created, changed, deleted and told about. They are the shared subscriptions of the store.

use std::sync::Arc;

use prost::Message;
use weft_events::{
    Recorded, StreamName,
    shared::{Definition, SharedName, Source, Strategy, Wanted, definition::ALL},
};
use weft_kernel::{Error, Reason, Result as Kernel};
use weft_proxy::Reply;
use weft_wire::grpc::Status;

use crate::{
    answer,
    append::stream,
    fault::Fault,
    filter::Filter,
    frame::Requests,
    links::Links,
    messages::{
        Empty, PersistentChange, PersistentDelete, PersistentNote, PersistentReplay,
        StreamIdentifier,
        persistent_change::{Settings, of_all, options, settings},
        persistent_replay, persistent_target,
        read_request::of_stream,
    },
    target::Kurrent,
};

/// `PersistentSubscriptions/Create`
pub(crate) async fn create(kurrent: &Kurrent, mut requests: Requests) -> Result<Reply, Fault> {
    let options = requests.only::<PersistentChange>().await?.options.unwrap_or_default();
    let (name, start) = target(kurrent, &options).await?;
    if let Some(filter) = &start.filter {
        // One that is not understood is refused here, and not when somebody reads.
        Filter::of(filter.clone())?;
    }
    let settings = options.settings.unwrap_or_default();
    let definition = Definition {
        source: start.source,
        from: start.from,
        ..definition(
            &settings,
            &PersistentNote {
                settings: Some(settings.clone()),
                filter: start.filter,
                start_from: start.text,
            },
        )?
    };
    match kurrent.shared.create(&name, &definition).await {
        Ok(()) => Ok(answer::message(&Empty {})),
        Err(error) if error.reason() == Reason::DefinitionConflict => {
            let say =
                format!("Subscription group {} on stream {} exists.", name.group, name.stream);
            Err(Fault::persistent(
                Status::AlreadyExists,
                say,
                "persistent-subscription-exists",
                &name,
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// `PersistentSubscriptions/Update`: how it hands out, and not what it reads nor where it is.
pub(crate) async fn update(kurrent: &Kurrent, mut requests: Requests) -> Result<Reply, Fault> {
    let options = requests.only::<PersistentChange>().await?.options.unwrap_or_default();
    let (name, _) = target(kurrent, &options).await?;
    let settings = options.settings.unwrap_or_default();
    let new = definition(&settings, &PersistentNote::default())?;
    let changed = kurrent.shared.update(&name, |old| {
        let note = PersistentNote { settings: Some(settings), ..note(&old) };
        Definition { source: old.source, from: old.from, note: note.encode_to_vec(), ..new }
    });
    changed.await.map_err(|error| failed(&name, error))?;
    Ok(answer::message(&Empty {}))
}

/// `PersistentSubscriptions/Delete`
pub(crate) async fn delete(kurrent: &Kurrent, mut requests: Requests) -> Result<Reply, Fault> {
    let options = requests.only::<PersistentDelete>().await?.options.unwrap_or_default();
    let of = match &options.of {
        Some(persistent_target::Of::StreamIdentifier(stream)) => Some(stream),
        _ => None,
    };
    let name = named(of, &options.group_name)?;
    kurrent.shared.delete(&name).await.map_err(|error| failed(&name, error))?;
    Ok(answer::message(&Empty {}))
}

/// `PersistentSubscriptions/ReplayParked`
pub(crate) async fn replay(kurrent: &Kurrent, mut requests: Requests) -> Result<Reply, Fault> {
    let options = requests.only::<PersistentReplay>().await?.options.unwrap_or_default();
    let of = match &options.of {
        Some(persistent_replay::options::Of::StreamIdentifier(stream)) => Some(stream),
        _ => None,
    };
    let name = named(of, &options.group_name)?;
    let most = match options.stop {
        Some(persistent_replay::options::Stop::StopAt(most)) => u64::try_from(most).ok(),
        _ => None,
    };
    let replayed = kurrent.shared.replay(&name, most, wanted).await;
    replayed.map_err(|error| failed(&name, error))?;
    Ok(answer::message(&Empty {}))
}

/// The name of a subscription to a stream, or to all.
pub(crate) fn named(of: Option<&StreamIdentifier>, group: &str) -> Result<SharedName, Fault> {
    let stream = match of {
        Some(identifier) => stream(Some(identifier))?,
        None => StreamName::new(ALL)?,
    };
    let group = StreamName::new(group)
        .map_err(|error| Fault::invalid(format!("the name of a group: {error}")))?;
    Ok(SharedName { stream, group })
}

/// A fault of what was done with a subscription.
pub(crate) fn failed(name: &SharedName, error: Error) -> Fault {
    match error.reason() {
        Reason::NoSubscription => {
            let say = format!(
                "Subscription group {} on stream {} does not exist.",
                name.group, name.stream
            );
            Fault::persistent(Status::NotFound, say, "persistent-subscription-does-not-exist", name)
        }
        _ => error.into(),
    }
}

/// What else is kept of a subscription.
pub(crate) fn note(definition: &Definition) -> PersistentNote {
    PersistentNote::decode(&definition.note[..]).unwrap_or_default()
}

/// The events that a subscription wants of those that it reads.
pub(crate) fn wanted(definition: &Definition) -> Kernel<Option<Wanted>> {
    if let Some(filter) = note(definition).filter {
        let filter =
            Filter::of(filter).map_err(|fault| Error::new(Reason::MalformedRequest, fault.say))?;
        return Ok(Some(Arc::new(move |event: &Recorded| filter.takes(event))));
    }
    let Source::Category(category) = &definition.source else { return Ok(None) };
    let links = StreamName::new(&format!("$ce-{category}")).ok();
    let links = links.and_then(|name| Links::of(&name).ok().flatten());
    Ok(links.map(|links| -> Wanted { Arc::new(move |event: &Recorded| links.has(event)) }))
}

/// Where a subscription begins.
struct Start {
    source: Source,
    from: u64,
    filter: Option<crate::messages::read_request::Filter>,
    /// As it is told.
    text: String,
}

async fn target(
    kurrent: &Kurrent,
    asked: &crate::messages::persistent_change::Options,
) -> Result<(SharedName, Start), Fault> {
    let events = &kurrent.events;
    let settings = asked.settings.as_ref();
    match &asked.of {
        Some(options::Of::All(all)) => {
            let name = named(None, &asked.group_name)?;
            let (from, text) = match &all.from {
                // A place is the position and one.
                Some(of_all::From::Position(at)) => (
                    at.commit_position.saturating_sub(1),
                    format!("C:{}/P:{}", at.commit_position, at.prepare_position),
                ),
                Some(of_all::From::End(_)) => (events.next_position(), "C:-1/P:-1".to_owned()),
                _ => (0, "C:0/P:0".to_owned()),
            };
            let filter = match &all.filtered {
                Some(of_all::Filtered::Filter(filter)) => Some(filter.clone()),
                _ => None,
            };
            Ok((name, Start { source: Source::All, from, filter, text }))
        }
        of => {
            let (identifier, from) = match of {
                Some(options::Of::Stream(of)) => (of.stream_identifier.as_ref(), of.from),
                // As clients did it that knew of streams alone.
                _ => {
                    let from = settings.map(|said| of_stream::From::Revision(said.revision));
                    (asked.stream_identifier.as_ref(), from)
                }
            };
            let missing = StreamIdentifier::default();
            let name = named(Some(identifier.unwrap_or(&missing)), &asked.group_name)?;
            let is_links = Links::of(&name.stream)?.is_some();
            let (from, text) = match from {
                Some(of_stream::From::Revision(version)) => (version, version.to_string()),
                Some(of_stream::From::End(_)) if is_links => {
                    (events.next_position(), "-1".to_owned())
                }
                Some(of_stream::From::End(_)) => {
                    let info = events.stream(&name.stream).await?;
                    (info.map_or(0, |info| info.next), "-1".to_owned())
                }
                _ => (0, "0".to_owned()),
            };
            let text_of = name.stream.as_str();
            let source = if let Some(category) = text_of.strip_prefix("$ce-") {
                Source::Category(category.to_owned())
            } else if let Some(kind) = text_of.strip_prefix("$et-") {
                Source::Type(kind.to_owned())
            } else {
                Source::Stream(text_of.to_owned())
            };
            Ok((name, Start { source, from, filter: None, text }))
        }
    }
}

/// How a subscription hands out.
fn definition(said: &Settings, note: &PersistentNote) -> Result<Definition, Fault> {
    let count = |count: i32| u32::try_from(count).unwrap_or(0);
    let lease_ms = match said.message_timeout {
        Some(settings::MessageTimeout::MessageTimeoutMs(ms)) => u64::try_from(ms).unwrap_or(0),
        Some(settings::MessageTimeout::MessageTimeoutTicks(ticks)) => {
            u64::try_from(ticks / 10_000).unwrap_or(0)
        }
        None => 30_000,
    };
    Ok(Definition {
        source: Source::All,
        from: 0,
        strategy: match strategy(said)? {
            "RoundRobin" => Strategy::RoundRobin,
            "Pinned" => Strategy::Pinned,
            "PinnedByCorrelation" => Strategy::PinnedByCorrelation,
            _ => Strategy::First,
        },
        lease_ms,
        retries_max: count(said.max_retry_count),
        consumers_max: count(said.max_subscriber_count),
        ahead: count(said.history_buffer_size.max(said.live_buffer_size)),
        note: note.encode_to_vec(),
    })
}

/// The name of the strategy that is asked for.
pub(crate) fn strategy(said: &Settings) -> Result<&'static str, Fault> {
    const ALL: [&str; 4] = ["DispatchToSingle", "RoundRobin", "Pinned", "PinnedByCorrelation"];
    let asked = if said.consumer_strategy.is_empty() {
        usize::try_from(said.named_consumer_strategy).ok().and_then(|at| ALL[..3].get(at))
    } else {
        ALL.iter().find(|name| **name == said.consumer_strategy)
    };
    asked.copied().ok_or_else(|| {
        let say = format!("there is no strategy of consumers `{}`", said.consumer_strategy);
        Fault::invalid(format!("{say}: it is one of {}", ALL.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_old_and_new_clients() {
        let said = Settings {
            message_timeout: Some(settings::MessageTimeout::MessageTimeoutTicks(50_000)),
            max_retry_count: -1,
            named_consumer_strategy: 1,
            ..Settings::default()
        };
        let made = definition(&said, &PersistentNote::default()).unwrap();
        assert_eq!((made.lease_ms, made.retries_max), (5, 0));
        assert_eq!(made.strategy, Strategy::RoundRobin);
        let said = Settings { consumer_strategy: "PinnedByCorrelation".into(), ..said };
        assert_eq!(strategy(&said).unwrap(), "PinnedByCorrelation");
        let said = Settings { consumer_strategy: "Other".into(), ..said };
        assert!(strategy(&said).unwrap_err().say.contains("RoundRobin"));
    }
}
