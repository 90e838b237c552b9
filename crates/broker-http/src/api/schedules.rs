//! Schedules: messages that are published at their time.

use aws_lc_rs::rand;
use bytes::Bytes;
use serde_json::{Value, json};
use weft_api::Settings as _;
use weft_broker::{Key, Missed, Publish, Schedule, ScheduleTarget, When};
use weft_kernel::{Error, Reason, Result, format_duration};
use weft_wire::cloudevents::Event;

use super::{Ask, ask::space, view::ScheduleView};
use crate::{
    body,
    event::{self, Origin},
    response::Response,
    settings::schedule::{Destination, ScheduleSettings},
    time,
};

/// How many schedules one answer lists.
pub(super) const LIST_MAX: u64 = 1_000;

/// `GET /v1/schedules`
pub(super) async fn list(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let space = space(&mut query)?;
    let after = query.take("after");
    let max = query.number("max", 1, LIST_MAX)?.unwrap_or(100);
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    // One more tells whether there are more.
    let mut all =
        ask.handle.engines().embedded().schedules(&space, after.as_deref(), max + 1).await?;
    let more = all.len() > max;
    all.truncate(max);
    let views = all.iter().map(view).collect::<Result<Vec<_>>>()?;
    let mut answer = json!({"schedules": views});
    if let (true, Some(last)) = (more, all.last()) {
        answer["next"] = json!(*last.id.name);
    }
    Response::json(200, &answer)
}

/// `GET /v1/schedules/{id}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let id = ask.key(&mut query)?;
    Response::json(200, &view(&find(&ask, &id).await?)?)
}

async fn find(ask: &Ask<'_>, id: &Key) -> Result<Schedule> {
    let found = ask.handle.engines().embedded().schedule_of(id).await?;
    found.ok_or_else(|| Error::new(Reason::NoMessage, format!("there is no schedule {id}")))
}

/// `PUT /v1/schedules/{id}`
pub(super) async fn put(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let id = ask.key(&mut query)?;
    let settings: ScheduleSettings = ask.body()?;
    body::refuse(&settings.faults())?;
    let (target, when) = (settings.to().clone().into(), settings.when()?);
    let body = settings.body()?;
    let mut bits = [0; 16];
    rand::fill(&mut bits)
        .map_err(|_error| Error::new(Reason::Internal, "there are no random bits"))?;
    let event = Event {
        id: format!("{:032x}", u128::from_be_bytes(bits)).into(),
        source: format!("/v1/schedules/{}", ask.names.at(0).replace([' ', '"'], "-")).into(),
        kind: settings.event_type().into(),
        data_content_type: body.as_ref().map(|_| settings.media().into()),
        data: body.as_deref().map(Into::into),
        ..Event::default()
    };
    event.check().map_err(|fault| event::refused(&fault))?;
    let publish = Publish::new(event::store(event, &Origin::traced(ask.request.traceparent()))?)
        .keyed(Bytes::copy_from_slice(settings.key().as_bytes()));
    let was = ask.handle.engines().embedded().schedule_of(&id).await?;
    if let Some(was) = &was
        && options(&was.when, &was.target, &was.publish, &event_of(&was.publish)?)?
            == options(&when, &target, &publish, &event_of(&publish)?)?
    {
        return Response::json(200, &view(was)?);
    }
    let schedule = ask.handle.engines().schedule(&id, target, when, &publish).await?;
    Response::json(if was.is_none() { 201 } else { 200 }, &view(&schedule)?)
}

/// The settings that a schedule of these stands for; `event` is the one that it publishes.
fn options(
    when: &When,
    target: &ScheduleTarget,
    publish: &Publish,
    event: &Value,
) -> Result<Value> {
    let settings = ScheduleSettings::of(when, target, &publish.key, event);
    serde_json::to_value(settings).map_err(unwritten)
}

/// The event that is published.
fn event_of(publish: &Publish) -> Result<Value> {
    let mut text = Vec::new();
    event::with(&publish.message, 0, |read, _| {
        weft_wire::cloudevents::json::write(read, &mut text);
    })?;
    serde_json::from_slice(&text).map_err(unwritten)
}

fn unwritten(error: serde_json::Error) -> Error {
    Error::new(Reason::Internal, "an answer could not be written").because(error)
}

/// `DELETE /v1/schedules/{id}`
pub(super) async fn delete(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let id = ask.key(&mut query)?;
    ask.handle.engines().embedded().cancel_schedule(&id).await?;
    Ok(Response::empty(204))
}

fn view(schedule: &Schedule) -> Result<ScheduleView> {
    let event = event_of(&schedule.publish)?;
    let options = options(&schedule.when, &schedule.target, &schedule.publish, &event)?;
    let key = &schedule.publish.key;
    let mut view = ScheduleView {
        id: schedule.id.name.to_string(),
        kind: "message",
        at: None,
        cron: None,
        time_zone: None,
        missed: None,
        jitter: None,
        to: Destination::from(&schedule.target),
        next: time::text(schedule.due_ms),
        made: time::text(schedule.made_ms),
        fired: schedule.fired,
        origin: if schedule.declared { "configuration" } else { "api" },
        key: (!key.is_empty()).then(|| String::from_utf8_lossy(key).into_owned()),
        event,
        options,
    };
    match &schedule.when {
        When::At(at) => view.at = Some(time::text(*at)),
        When::Recurring { cron, zone, missed, jitter } => {
            view.kind = "recurring";
            view.cron = Some(cron.as_str().to_owned());
            let zone = if zone.is_empty() { "UTC" } else { zone };
            view.time_zone = Some(zone.to_owned());
            view.missed = Some(match missed {
                Missed::Once => "once",
                Missed::Skip => "skip",
            });
            view.jitter = Some(format_duration(*jitter));
        }
    }
    Ok(view)
}
