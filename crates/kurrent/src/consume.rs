//! A consumer of a persistent subscription: events go out, and what has become of them comes back on the same call.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use weft_events::shared::{Consumer, GiveBack, Handed, SharedName};
use weft_kernel::{Error, Reason};
use weft_proxy::Reply;
use weft_wire::grpc::Status;

use crate::{
    answer::{self, Producer},
    event::read_uuid,
    fault::Fault,
    frame::{Requests, put},
    links::{Links, Shown},
    messages::{
        PersistentEvent, PersistentRead, Uuid,
        persistent_event::{Content as Told, Read, read},
        persistent_read::{Content, Nack, options},
        read_request::uuid_form,
        read_response::{Confirmation, ReadEvent, read_event},
    },
    persistent::{failed, named, note, wanted},
    target::Kurrent,
};

/// The longest silence.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes that are gathered into one piece.
const PIECE: usize = 64 * 1024;
/// Events that a client takes at once if it does not say.
const ROOM: usize = 10;
/// Ids that are known beyond those that the client has.
const IDS_SPARE: usize = 1_000;

/// What a client does with events that it cannot deal with.
const PARK: i32 = 1;
const SKIP: i32 = 3;
const STOP: i32 = 4;

/// `PersistentSubscriptions/Read`
pub(crate) async fn consume(kurrent: &Kurrent, mut requests: Requests) -> Result<Reply, Fault> {
    let Some(Content::Options(asked)) = requests.only::<PersistentRead>().await?.content else {
        return Err(Fault::invalid("a persistent subscription begins with its options"));
    };
    let of = match &asked.of {
        Some(options::Of::StreamIdentifier(stream)) => Some(stream),
        _ => None,
    };
    let name = named(of, &asked.group_name)?;
    let room = usize::try_from(asked.buffer_size).ok().filter(|room| *room > 0).unwrap_or(ROOM);
    let joined = kurrent.shared.join(&name, room, wanted).await;
    let consumer = joined.map_err(|error| match error.reason() {
        Reason::Conflict => {
            let say = format!(
                "Maximum subscriptions reached for subscription group {} on stream {}.",
                name.group, name.stream
            );
            let exception = "maximum-subscribers-reached";
            Fault::persistent(Status::FailedPrecondition, say, exception, &name)
        }
        _ => failed(&name, error),
    })?;
    let form = asked.uuid_option.and_then(|option| option.form);
    let is_structured = matches!(form, Some(uuid_form::Form::Structured(_)));
    let settings = note(consumer.definition()).settings.unwrap_or_default();
    let links = Links::of(&name.stream)?;
    let shown = Shown { is_structured, links, is_resolved: settings.resolve_links };
    Ok(answer::produced(Consuming {
        kurrent: kurrent.clone(),
        name,
        room,
        requests,
        consumer,
        shown,
        places: HashMap::new(),
        is_confirmed: false,
        is_over: false,
    }))
}

struct Consuming {
    kurrent: Kurrent,
    name: SharedName,
    room: usize,
    requests: Requests,
    consumer: Consumer,
    shown: Shown,
    /// Where events of these ids are. Of all events several may have the same.
    places: HashMap<u128, Vec<u64>>,
    is_confirmed: bool,
    is_over: bool,
}

impl Producer for Consuming {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.is_confirmed, true) {
            let subscription_id = format!("{}::{}", self.name.stream, self.name.group);
            let content = Some(Told::SubscriptionConfirmation(Confirmation { subscription_id }));
            put(&mut out, &PersistentEvent { content });
            return Ok(Some(out.into()));
        }
        while !self.is_over {
            while out.len() < PIECE
                && let Some(handed) = self.consumer.take()
            {
                self.tell(&handed, &mut out);
            }
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
            tokio::select! {
                biased;
                () = self.kurrent.stop.draining() => {
                    return Err(Fault::new(Status::Unavailable, "the node is about to stop"));
                }
                request = self.requests.next::<PersistentRead>() => match request? {
                    Some(request) => self.settle(request).await?,
                    None => self.is_over = true,
                },
                ready = self.consumer.ready() => ready.map_err(|error| dropped(&self.name, error))?,
                () = tokio::time::sleep(SILENCE) => {
                    put(&mut out, &PersistentEvent::default());
                    return Ok(Some(out.into()));
                }
            }
        }
        Ok(None)
    }
}

impl Consuming {
    fn tell(&mut self, handed: &Handed, out: &mut Vec<u8>) {
        let id = self.shown.id(&handed.event);
        let places = self.places.entry(id).or_default();
        if !places.contains(&handed.place) {
            places.push(handed.place);
        }
        if self.places.len() > self.room + IDS_SPARE {
            // Those whose time was over, and which others have done.
            let consumer = &self.consumer;
            self.places.retain(|_, places| places.iter().any(|place| consumer.waits(*place)));
        }
        let ReadEvent { event, link, position } = self.shown.event(&handed.event);
        let position = position.map(|position| match position {
            read_event::Position::CommitPosition(place) => read::Position::CommitPosition(place),
            read_event::Position::NoPosition(empty) => read::Position::NoPosition(empty),
        });
        let tries = i32::try_from(handed.tries).unwrap_or(i32::MAX);
        let count = Some(read::Count::RetryCount(tries));
        let content = Some(Told::Event(Read { event, link, position, count }));
        put(out, &PersistentEvent { content });
    }

    async fn settle(&mut self, request: PersistentRead) -> Result<(), Fault> {
        let done = match request.content {
            Some(Content::Ack(ack)) => {
                let places = self.places_of(&ack.ids)?;
                self.consumer.accept(&places).await
            }
            Some(Content::Nack(nack)) => self.nack(nack).await?,
            Some(Content::Options(_)) => {
                return Err(Fault::invalid("the options of a subscription are said once"));
            }
            None => Ok(()),
        };
        done.map_err(|error| dropped(&self.name, error))
    }

    async fn nack(&mut self, nack: Nack) -> Result<weft_kernel::Result<()>, Fault> {
        let places = self.places_of(&nack.ids)?;
        // The reason of a parked event is bounded by what one row may have.
        let why: String = nack.reason.chars().take(1_000).collect();
        Ok(match nack.action {
            PARK => self.consumer.give_back(&places, &GiveBack::Park(why)).await,
            SKIP => self.consumer.accept(&places).await,
            STOP => {
                self.is_over = true;
                self.consumer.give_back(&places, &GiveBack::Untried).await
            }
            _ => self.consumer.give_back(&places, &GiveBack::Retry(why)).await,
        })
    }

    /// The places of events; those of ids that are not known are left out, as others have done them.
    fn places_of(&mut self, ids: &[Uuid]) -> Result<Vec<u64>, Fault> {
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            all.extend(self.places.remove(&read_uuid(Some(id))?).unwrap_or_default());
        }
        Ok(all)
    }
}

/// A fault of a subscription that was read.
fn dropped(name: &SharedName, error: Error) -> Fault {
    match error.reason() {
        Reason::NoSubscription => {
            let say =
                format!("Subscription group {} on stream {} was dropped.", name.group, name.stream);
            Fault::persistent(Status::Cancelled, say, "persistent-subscription-dropped", name)
        }
        _ => error.into(),
    }
}
