//! Which method is which.

use weft_proxy::{Call, Reply};
use weft_wire::{Known, grpc::Status};

use crate::{
    answer, append, batch, change, consume, fault::Fault, frame::Requests, messages::Empty, node,
    persistent, persistent_info, read, session, target::Kurrent,
};

/// The service of persistent subscriptions.
pub(crate) const PERSISTENT: &str =
    "event_store.client.persistent_subscriptions.PersistentSubscriptions";

/// The methods that there are, as `service/method`.
pub(crate) const METHODS: &[(&str, &str)] = &[
    ("event_store.client.streams.Streams", "Read"),
    ("event_store.client.streams.Streams", "Append"),
    ("event_store.client.streams.Streams", "BatchAppend"),
    ("event_store.client.streams.Streams", "Delete"),
    ("event_store.client.streams.Streams", "Tombstone"),
    (PERSISTENT, "Create"),
    (PERSISTENT, "Update"),
    (PERSISTENT, "Delete"),
    (PERSISTENT, "Read"),
    (PERSISTENT, "GetInfo"),
    (PERSISTENT, "ReplayParked"),
    (PERSISTENT, "List"),
    (PERSISTENT, "RestartSubsystem"),
    ("event_store.client.gossip.Gossip", "Read"),
    ("event_store.client.server_features.ServerFeatures", "GetSupportedMethods"),
    ("kurrentdb.protocol.v2.streams.StreamsService", "AppendSession"),
    ("kurrentdb.protocol.v2.streams.StreamsService", "AppendRecords"),
];

/// Services of KurrentDB that Weft does not have, and what there is instead.
const ABSENT: &[(&str, &str)] = &[
    (
        "event_store.client.projections.",
        "projections are not there: fold a subscription in a service",
    ),
    (
        "event_store.client.users.",
        "users are not kept here: who may do what is said by the policies of the route",
    ),
    (
        "event_store.client.operations.",
        "operations are not done by this protocol: see `weft stream` and the admin API",
    ),
    ("event_store.client.monitoring.", "statistics are at /metrics of the admin API"),
];

/// Answers a call.
pub(crate) async fn answer(kurrent: &Kurrent, call: Call) -> Reply {
    let host = call.head.fields.get_str(Known::Host).unwrap_or_default().to_owned();
    let requests = Requests::of(call.body);
    let path = call.head.target.split('?').next().unwrap_or_default().trim_start_matches('/');
    let (service, method) = path.rsplit_once('/').unwrap_or((path, ""));
    let answered = match (service, method) {
        ("event_store.client.streams.Streams", "Read") => read::read(kurrent, requests).await,
        ("event_store.client.streams.Streams", "Append") => append::append(kurrent, requests).await,
        ("event_store.client.streams.Streams", "BatchAppend") => {
            Ok(batch::batch(kurrent, requests))
        }
        ("event_store.client.streams.Streams", "Delete") => {
            change::change(kurrent, requests, weft_events::store::Change::Delete).await
        }
        ("event_store.client.streams.Streams", "Tombstone") => {
            change::change(kurrent, requests, weft_events::store::Change::End).await
        }
        (PERSISTENT, "Create") => persistent::create(kurrent, requests).await,
        (PERSISTENT, "Update") => persistent::update(kurrent, requests).await,
        (PERSISTENT, "Delete") => persistent::delete(kurrent, requests).await,
        (PERSISTENT, "Read") => consume::consume(kurrent, requests).await,
        (PERSISTENT, "GetInfo") => persistent_info::info(kurrent, requests).await,
        (PERSISTENT, "ReplayParked") => persistent::replay(kurrent, requests).await,
        (PERSISTENT, "List") => persistent_info::list(kurrent, requests).await,
        // There is nothing that could be started again.
        (PERSISTENT, "RestartSubsystem") => Ok(answer::message(&Empty {})),
        ("event_store.client.gossip.Gossip", "Read") => Ok(node::gossip(&host)),
        ("event_store.client.server_features.ServerFeatures", "GetSupportedMethods") => {
            Ok(node::features())
        }
        ("kurrentdb.protocol.v2.streams.StreamsService", "AppendSession") => {
            session::append_session(kurrent, requests).await
        }
        ("kurrentdb.protocol.v2.streams.StreamsService", "AppendRecords") => {
            session::append_records(kurrent, requests).await
        }
        _ => Err(absent(service, method)),
    };
    answered.unwrap_or_else(|fault| answer::failing(&fault))
}

fn absent(service: &str, method: &str) -> Fault {
    let known = ABSENT.iter().find(|(prefix, _)| service.starts_with(prefix));
    let say = match known {
        Some((_, say)) => (*say).to_owned(),
        None => format!("there is no method `{service}/{method}`"),
    };
    Fault::new(Status::Unimplemented, say)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_says_so() {
        let fault = absent("event_store.client.projections.Projections", "Create");
        assert_eq!(fault.status, Status::Unimplemented);
        assert!(fault.say.contains("projections are not there"), "{}", fault.say);
        assert!(absent("x.Y", "Z").say.contains("x.Y/Z"));
    }
}
