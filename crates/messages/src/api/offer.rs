//! The table of what is offered.

use super::{
    Handler, Operation, browse, engines, ledger, operations, publish, queues, receive, request,
    schedules, settle, stream, subscriptions, topics,
};
use crate::response::{EVENT_STREAM, JSON};

/// The largest body of JSON.
const JSON_BYTES_MAX: usize = 1 << 20;
/// Any media type.
const ANY: &str = "*/*";

type Parameters = &'static [(&'static str, &'static str)];

const NO_QUERY: Parameters = &[];
const SPACE: (&str, &str) =
    ("space", "The space of the name: an AMQP virtual host; the default one otherwise.");
const IN_SPACE: Parameters = &[SPACE];

const fn get(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    query: Parameters,
    handler: Handler,
) -> Operation {
    Operation {
        id,
        method: "GET",
        path,
        about,
        query,
        takes: None,
        gives: (200, Some(JSON)),
        body_bytes_max: 0,
        admin_only: false,
        handler,
    }
}

const fn put(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    query: Parameters,
    handler: Handler,
) -> Operation {
    Operation { method: "PUT", gives: (201, Some(JSON)), ..post(id, path, about, query, handler) }
}

const fn delete(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    query: Parameters,
    handler: Handler,
) -> Operation {
    Operation { method: "DELETE", gives: (204, None), ..get(id, path, about, query, handler) }
}

const fn post(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    query: Parameters,
    handler: Handler,
) -> Operation {
    Operation {
        method: "POST",
        takes: Some(JSON),
        body_bytes_max: JSON_BYTES_MAX,
        ..get(id, path, about, query, handler)
    }
}

const fn publishes(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    query: Parameters,
    handler: Handler,
) -> Operation {
    Operation {
        takes: Some(ANY),
        body_bytes_max: publish::BODY_BYTES_MAX,
        ..post(id, path, about, query, handler)
    }
}

const fn streams(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    query: Parameters,
    handler: Handler,
) -> Operation {
    Operation { gives: (200, Some(EVENT_STREAM)), ..get(id, path, about, query, handler) }
}

/// Makes a handler of an async function.
macro_rules! by {
    ($($handler:ident)::+) => {
        |ask| Box::pin($($handler)::+(ask))
    };
}

/// Everything that is offered.
pub static OPERATIONS: &[Operation] = &[
    get("topics", "/v1/topics", "Every topic.", IN_SPACE, by!(topics::list)),
    get("topic", "/v1/topics/{topic}", "A topic, and what it holds.", IN_SPACE, by!(topics::show)),
    put(
        "put_topic",
        "/v1/topics/{topic}",
        "Declares a topic; 200 if it is there with the same options, 409 if with others.",
        IN_SPACE,
        by!(topics::put),
    ),
    delete(
        "delete_topic",
        "/v1/topics/{topic}",
        "Deletes a topic, its messages and its subscriptions.",
        IN_SPACE,
        by!(topics::delete),
    ),
    publishes(
        "publish",
        "/v1/topics/{topic}/messages",
        "Publishes one message or a batch, and answers once they are kept.",
        &[
            SPACE,
            ("key", "The key of events without the attribute partitionkey."),
            ("type", "The type of an event that is made of a body."),
            ("durability", "memory, os or fsync; at least what the topic says."),
        ],
        by!(publish::to_topic),
    ),
    get(
        "browse",
        "/v1/topics/{topic}/messages",
        "Reads a topic without a subscription: a page, a replay as lines, or a tail as server-sent events.",
        &[
            SPACE,
            ("from", "first, last, next, a position, or a time."),
            ("max", "How many messages at most."),
            ("filter", "A CEL expression that must be true of a message."),
            ("wait", "How long to wait for a message if there is none."),
        ],
        by!(browse::browse),
    ),
    get(
        "last",
        "/v1/topics/{topic}/last",
        "The newest message of a topic, or of a key of a compacted one.",
        &[SPACE, ("key", "The key.")],
        by!(browse::last),
    ),
    publishes(
        "request_by_topic",
        "/v1/topics/{topic}/request",
        "Publishes a request and answers with the first reply.",
        REQUEST,
        by!(request::request),
    ),
    get(
        "subscriptions",
        "/v1/subscriptions",
        "Every subscription.",
        IN_SPACE,
        by!(subscriptions::list),
    ),
    get(
        "subscription",
        "/v1/subscriptions/{name}",
        "A subscription, and how it stands.",
        IN_SPACE,
        by!(subscriptions::show),
    ),
    put(
        "put_subscription",
        "/v1/subscriptions/{name}",
        "Declares a subscription; 200 if it is there with the same options, 409 if with others.",
        IN_SPACE,
        by!(subscriptions::put),
    ),
    delete(
        "delete_subscription",
        "/v1/subscriptions/{name}",
        "Deletes a subscription.",
        IN_SPACE,
        by!(subscriptions::delete),
    ),
    post(
        "pause",
        "/v1/subscriptions/{name}/pause",
        "Hands out nothing until it is resumed.",
        IN_SPACE,
        by!(subscriptions::pause),
    ),
    post(
        "resume",
        "/v1/subscriptions/{name}/resume",
        "Hands out again.",
        IN_SPACE,
        by!(subscriptions::resume),
    ),
    post(
        "seek",
        "/v1/subscriptions/{name}/seek",
        "Moves a subscription; retries and leases are forgotten.",
        IN_SPACE,
        by!(subscriptions::seek),
    ),
    post(
        "skip",
        "/v1/subscriptions/{name}/skip",
        "Passes over one message, or over the next ones.",
        IN_SPACE,
        by!(subscriptions::skip),
    ),
    post(
        "receive_subscription",
        "/v1/subscriptions/{name}/receive",
        "Hands out messages under a lease; waits for some if there are none.",
        IN_SPACE,
        by!(receive::receive),
    ),
    post(
        "settle_subscription",
        "/v1/subscriptions/{name}/settle",
        "Settles deliveries: accept, release, fail, reject or renew.",
        IN_SPACE,
        by!(settle::settle),
    ),
    streams(
        "stream_subscription",
        "/v1/subscriptions/{name}/stream",
        "Hands out messages as server-sent events, or over a WebSocket.",
        STREAM,
        by!(stream::stream),
    ),
    get("queues", "/v1/queues", "Every queue.", IN_SPACE, by!(queues::list)),
    get("queue", "/v1/queues/{queue}", "A queue, and what it holds.", IN_SPACE, by!(queues::show)),
    put(
        "put_queue",
        "/v1/queues/{queue}",
        "Declares a queue; 200 if it is there with the same options, 409 if with others.",
        IN_SPACE,
        by!(queues::put),
    ),
    delete(
        "delete_queue",
        "/v1/queues/{queue}",
        "Deletes a queue and its messages.",
        IN_SPACE,
        by!(queues::delete),
    ),
    publishes(
        "enqueue",
        "/v1/queues/{queue}/messages",
        "Puts one message or a batch into a queue, and answers once they are kept.",
        &[
            SPACE,
            ("key", "The key of events without the attribute partitionkey."),
            ("type", "The type of an event that is made of a body."),
            ("durability", "memory, os or fsync; at least what the queue says."),
            ("delay", "Handed out only after so long."),
            ("at", "Handed out only from this time on."),
            ("ttl", "How long it may wait to be handed out."),
            ("priority", "0 to 9, in a queue with priorities."),
        ],
        by!(publish::to_queue),
    ),
    get(
        "peek",
        "/v1/queues/{queue}/messages",
        "Shows messages as they stand; nothing is handed out.",
        &[
            SPACE,
            ("state", "ready, leased or waiting; all of them otherwise."),
            ("from", "The first position."),
            ("max", "How many positions are looked at."),
        ],
        by!(queues::peek),
    ),
    Operation {
        gives: (200, Some(JSON)),
        ..delete(
            "purge",
            "/v1/queues/{queue}/messages",
            "Drops every message that nobody holds.",
            &[SPACE, ("confirm", "The name of the queue once more.")],
            by!(queues::purge),
        )
    },
    get(
        "message",
        "/v1/queues/{queue}/messages/{position}",
        "One message, with each attempt that failed.",
        IN_SPACE,
        by!(queues::one),
    ),
    post(
        "receive_queue",
        "/v1/queues/{queue}/receive",
        "Hands out messages under a lease; waits for some if there are none.",
        IN_SPACE,
        by!(receive::receive),
    ),
    post(
        "settle_queue",
        "/v1/queues/{queue}/settle",
        "Settles deliveries: accept, release, fail, reject or renew.",
        IN_SPACE,
        by!(settle::settle),
    ),
    streams(
        "stream_queue",
        "/v1/queues/{queue}/stream",
        "Hands out messages as server-sent events, or over a WebSocket.",
        STREAM,
        by!(stream::stream),
    ),
    post(
        "redrive",
        "/v1/queues/{queue}/redrive",
        "Sends dead letters back to where they came from, or elsewhere.",
        IN_SPACE,
        by!(queues::redrive),
    ),
    publishes(
        "request_by_queue",
        "/v1/queues/{queue}/request",
        "Sends a request and answers with its reply.",
        REQUEST,
        by!(request::request),
    ),
    get(
        "schedules",
        "/v1/schedules",
        "Every schedule, and every message that is scheduled.",
        &[SPACE, ("after", "The id to go on after."), ("max", "How many at most.")],
        by!(schedules::list),
    ),
    get("schedule", "/v1/schedules/{id}", "A schedule.", IN_SPACE, by!(schedules::show)),
    put(
        "put_schedule",
        "/v1/schedules/{id}",
        "Makes or changes a schedule.",
        IN_SPACE,
        by!(schedules::put),
    ),
    delete(
        "delete_schedule",
        "/v1/schedules/{id}",
        "Cancels a schedule.",
        IN_SPACE,
        by!(schedules::delete),
    ),
    get(
        "operation",
        "/v1/operations/{id}",
        "How a request that is answered later stands, and its answer.",
        &[("wait", "How long to wait for the answer.")],
        by!(operations::show),
    ),
    Operation {
        gives: (200, Some(ANY)),
        ..get(
            "result",
            "/v1/operations/{id}/result",
            "The answer itself.",
            NO_QUERY,
            by!(operations::result),
        )
    },
    delete(
        "cancel",
        "/v1/operations/{id}",
        "Cancels what has not begun.",
        NO_QUERY,
        by!(operations::cancel),
    ),
    get("engines", "/v1/engines", "What keeps messages.", NO_QUERY, by!(engines::list)),
    get(
        "engine",
        "/v1/engines/{name}",
        "What an engine can do: native, emulated or missing.",
        NO_QUERY,
        by!(engines::show),
    ),
    Operation {
        admin_only: true,
        ..get("ledger", "/v1/ledger", "What the ledger holds.", NO_QUERY, by!(ledger::show))
    },
    Operation {
        admin_only: true,
        gives: (204, None),
        ..post(
            "backup",
            "/v1/ledger/backup",
            "Writes a copy of everything into a folder.",
            NO_QUERY,
            by!(ledger::backup),
        )
    },
    Operation {
        admin_only: true,
        gives: (204, None),
        ..post(
            "checkpoint",
            "/v1/ledger/checkpoint",
            "Brings the checkpoint up to now.",
            NO_QUERY,
            by!(ledger::checkpoint),
        )
    },
];

const REQUEST: Parameters = &[
    SPACE,
    ("timeout", "How long the reply may take."),
    ("key", "The key of the message."),
    ("type", "The type of an event that is made of a body."),
];

const STREAM: Parameters = &[
    SPACE,
    ("prefetch", "How many deliveries may be unsettled."),
    ("lease", "How long each may take."),
    ("credit", "How many deliveries may be sent, over a WebSocket."),
];
