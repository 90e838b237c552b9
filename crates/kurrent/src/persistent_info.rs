//! What is told of persistent subscriptions.

use weft_events::shared::{SharedInfo, Source, definition::ALL};
use weft_proxy::Reply;

use crate::{
    answer,
    append::stream,
    event::place,
    fault::Fault,
    frame::Requests,
    messages::{
        PersistentInfo, PersistentInfoRequest, PersistentInfoResponse, PersistentInfos,
        PersistentList, persistent_change::settings, persistent_info::Connection,
        persistent_info_request, persistent_list,
    },
    persistent::{failed, named, note, strategy},
    target::Kurrent,
};

/// `PersistentSubscriptions/GetInfo`
pub(crate) async fn info(kurrent: &Kurrent, mut requests: Requests) -> Result<Reply, Fault> {
    let options = requests.only::<PersistentInfoRequest>().await?.options.unwrap_or_default();
    let of = match &options.of {
        Some(persistent_info_request::options::Of::StreamIdentifier(stream)) => Some(stream),
        _ => None,
    };
    let name = named(of, &options.group_name)?;
    let info = kurrent.shared.info(&name).await.map_err(|error| failed(&name, error))?;
    let subscription_info = Some(told(kurrent, info).await?);
    Ok(answer::message(&PersistentInfoResponse { subscription_info }))
}

/// `PersistentSubscriptions/List`
pub(crate) async fn list(kurrent: &Kurrent, mut requests: Requests) -> Result<Reply, Fault> {
    use persistent_list::{of_stream, options};
    let which = requests.only::<PersistentList>().await?.options.unwrap_or_default().which;
    let of = match which {
        Some(options::Which::ListForStream(of)) => match of.of {
            Some(of_stream::Of::Stream(identifier)) => Some(stream(Some(&identifier))?),
            _ => Some(weft_events::StreamName::new(ALL)?),
        },
        _ => None,
    };
    let mut subscriptions = Vec::new();
    for info in kurrent.shared.list(of.as_ref()).await? {
        subscriptions.push(told(kurrent, info).await?);
    }
    Ok(answer::message(&PersistentInfos { subscriptions }))
}

async fn told(kurrent: &Kurrent, info: SharedInfo) -> Result<PersistentInfo, Fault> {
    let note = note(&info.definition);
    let said = note.settings.unwrap_or_default();
    let next = match &info.definition.source {
        Source::Stream(_) => {
            let stream = kurrent.events.stream(&info.name.stream).await?;
            stream.map_or(0, |stream| stream.next)
        }
        _ => kurrent.events.next_position(),
    };
    let is_all = info.definition.source == Source::All;
    // Of what is before a place, in the terms of what is read.
    let last = |next: u64| match next.checked_sub(1) {
        Some(last) if is_all => format!("C:{0}/P:{0}", place(last)),
        Some(last) => last.to_string(),
        None => String::new(),
    };
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let connections = info.consumers.iter().map(|one| Connection {
        total_items: i64::try_from(one.told).unwrap_or(i64::MAX),
        available_slots: number(one.room.saturating_sub(one.held)),
        in_flight_messages: number(one.held),
        ..Connection::default()
    });
    let total: u64 = info.consumers.iter().map(|one| one.told).sum();
    let checkpoint_after = match said.checkpoint_after {
        Some(settings::CheckpointAfter::CheckpointAfterMs(ms)) => ms,
        Some(settings::CheckpointAfter::CheckpointAfterTicks(ticks)) => {
            i32::try_from(ticks / 10_000).unwrap_or(i32::MAX)
        }
        None => 0,
    };
    Ok(PersistentInfo {
        event_source: info.name.stream.to_string(),
        group_name: info.name.group.to_string(),
        status: if info.read >= next { "Live" } else { "Behind" }.to_owned(),
        connections: connections.collect(),
        total_items: i64::try_from(total).unwrap_or(i64::MAX),
        last_checkpointed_event_position: last(info.done),
        last_known_event_position: last(next),
        resolve_link_tos: said.resolve_links,
        start_from: note.start_from,
        message_timeout_milliseconds: i32::try_from(info.definition.lease_ms).unwrap_or(i32::MAX),
        extra_statistics: said.extra_statistics,
        max_retry_count: said.max_retry_count,
        live_buffer_size: said.live_buffer_size,
        buffer_size: said.history_buffer_size,
        read_batch_size: said.read_batch_size,
        check_point_after_milliseconds: checkpoint_after,
        min_check_point_count: said.min_checkpoint_count,
        max_check_point_count: said.max_checkpoint_count,
        read_buffer_count: number(info.waiting),
        live_buffer_count: 0,
        retry_buffer_count: 0,
        total_in_flight_messages: number(info.held),
        outstanding_messages_count: number(info.held),
        named_consumer_strategy: strategy(&said)?.to_owned(),
        max_subscriber_count: said.max_subscriber_count,
        parked_message_count: i64::try_from(info.parked).unwrap_or(i64::MAX),
    })
}
