//! The table of what is offered.

use super::{
    Handler, Operation, browse, engines, ledger, operations, publish, queues, receive, request,
    schedules, settle, stream, subscriptions, topics,
};
use crate::{
    response::{EVENT_STREAM, JSON, LINES},
    schema::{Parameter, Shape, text},
    settings::{
        Body, Nothing, YEAR_MS, queue::QueueSettings, schedule::ScheduleSettings,
        subscription::SubscriptionSettings, topic::TopicSettings,
    },
};

/// The largest body of JSON.
const JSON_BYTES_MAX: usize = 1 << 20;
/// Any media type.
const ANY: &str = "*/*";

type Parameters = &'static [Parameter];
type Bodies = &'static [(&'static str, &'static Shape)];

const NO_QUERY: Parameters = &[];
const SPACE: Parameter = may(
    "space",
    "The space of the name: an AMQP virtual host; the default one otherwise.",
    Shape::Text(&text::SPACE),
);
const IN_SPACE: Parameters = &[SPACE];
const DECLARED: Parameters = &[
    SPACE,
    may(
        "change",
        "Whether what is there with other options is changed, where that can be; else it is refused.",
        Shape::Words(&["true", "false"]),
    ),
];
const KEY: Parameter =
    may("key", "The key of events without the attribute partitionkey.", Shape::Text(&text::KEY));
const TYPE: Parameter =
    may("type", "The type of an event that is made of a body.", Shape::Text(&text::EVENT_TYPE));
const DURABILITY: Shape = Shape::Words(&["memory", "os", "fsync"]);
/// A body that is published: an event, events, or anything.
const PUBLISHED: Bodies = &[(ANY, &Shape::Any)];

const fn may(name: &'static str, about: &'static str, shape: Shape) -> Parameter {
    Parameter { name, about, shape, required: false }
}

/// A JSON body of a type.
const fn json<T: Body>() -> Bodies {
    const { &[(JSON, T::SHAPE)] }
}

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
        takes: &[],
        gives: &[(200, Some(JSON))],
        body_bytes_max: 0,
        admin_only: false,
        handler,
    }
}

const fn put(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    takes: Bodies,
    handler: Handler,
) -> Operation {
    Operation {
        method: "PUT",
        gives: &[(200, Some(JSON)), (201, Some(JSON))],
        ..post(id, path, about, takes, handler)
    }
}

/// Declares something, or changes it where that is asked for.
const fn declares(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    takes: Bodies,
    handler: Handler,
) -> Operation {
    Operation { query: DECLARED, ..put(id, path, about, takes, handler) }
}

const fn delete(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    query: Parameters,
    handler: Handler,
) -> Operation {
    Operation { method: "DELETE", gives: &[(204, None)], ..get(id, path, about, query, handler) }
}

const fn post(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    takes: Bodies,
    handler: Handler,
) -> Operation {
    Operation {
        method: "POST",
        takes,
        body_bytes_max: JSON_BYTES_MAX,
        ..get(id, path, about, IN_SPACE, handler)
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
        query,
        body_bytes_max: publish::BODY_BYTES_MAX,
        ..post(id, path, about, PUBLISHED, handler)
    }
}

const fn streams(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    query: Parameters,
    handler: Handler,
) -> Operation {
    Operation { gives: &[(200, Some(EVENT_STREAM))], ..get(id, path, about, query, handler) }
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
    declares(
        "put_topic",
        "/v1/topics/{topic}",
        "Declares a topic; 200 if it is there with the same options, 409 if with others.",
        json::<TopicSettings>(),
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
        &[SPACE, KEY, TYPE, may("durability", "At least what the topic says.", DURABILITY)],
        by!(publish::to_topic),
    ),
    Operation {
        gives: &[(200, Some(JSON)), (200, Some(LINES)), (200, Some(EVENT_STREAM))],
        ..get(
            "browse",
            "/v1/topics/{topic}/messages",
            "Reads a topic without a subscription: a page, a replay as lines, or a tail as server-sent events.",
            &[
                SPACE,
                may("from", "Where reading begins.", Shape::Text(&text::START)),
                may("max", "How many messages at most.", Shape::Int(1, browse::MAX)),
                may("filter", "What must be true of a message.", Shape::Text(&text::CEL)),
                may("wait", "How long to wait for a message if there is none.", receive::WAIT),
            ],
            by!(browse::browse),
        )
    },
    get(
        "last",
        "/v1/topics/{topic}/last",
        "The newest message of a topic, or of a key of a compacted one.",
        &[SPACE, may("key", "The key.", Shape::Text(&text::ANY))],
        by!(browse::last),
    ),
    Operation {
        gives: &[(200, Some(ANY))],
        ..publishes(
            "request_by_topic",
            "/v1/topics/{topic}/request",
            "Publishes a request and answers with the first reply.",
            REQUEST,
            by!(request::request),
        )
    },
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
    declares(
        "put_subscription",
        "/v1/subscriptions/{name}",
        "Declares a subscription; 200 if it is there with the same options, 409 if with others.",
        json::<SubscriptionSettings>(),
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
        json::<Nothing>(),
        by!(subscriptions::pause),
    ),
    post(
        "resume",
        "/v1/subscriptions/{name}/resume",
        "Hands out again.",
        json::<Nothing>(),
        by!(subscriptions::resume),
    ),
    post(
        "seek",
        "/v1/subscriptions/{name}/seek",
        "Moves a subscription; retries and leases are forgotten.",
        json::<subscriptions::Seek>(),
        by!(subscriptions::seek),
    ),
    post(
        "skip",
        "/v1/subscriptions/{name}/skip",
        "Passes over one message, or over the next ones.",
        json::<subscriptions::Skip>(),
        by!(subscriptions::skip),
    ),
    post(
        "receive_subscription",
        "/v1/subscriptions/{name}/receive",
        "Hands out messages under a lease; waits for some if there are none.",
        json::<receive::Wanted>(),
        by!(receive::receive),
    ),
    post(
        "settle_subscription",
        "/v1/subscriptions/{name}/settle",
        "Settles deliveries: accept, release, fail, reject or renew.",
        json::<settle::Settlements>(),
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
    declares(
        "put_queue",
        "/v1/queues/{queue}",
        "Declares a queue; 200 if it is there with the same options, 409 if with others.",
        json::<QueueSettings>(),
        by!(queues::put),
    ),
    delete(
        "delete_queue",
        "/v1/queues/{queue}",
        "Deletes a queue and its messages.",
        IN_SPACE,
        by!(queues::delete),
    ),
    Operation {
        gives: &[(200, Some(JSON)), (204, None)],
        ..publishes(
            "enqueue",
            "/v1/queues/{queue}/messages",
            "Puts one message or a batch into a queue, and answers once they are kept.",
            &[
                SPACE,
                KEY,
                TYPE,
                may("durability", "At least what the queue says.", DURABILITY),
                may(
                    "delay",
                    "Handed out only after so long; not with `at`.",
                    Shape::Span(0, YEAR_MS),
                ),
                may("at", "Handed out only from this time on.", Shape::Text(&text::TIME)),
                may("ttl", "How long it may wait to be handed out.", Shape::Span(0, YEAR_MS)),
                may("priority", "The higher first, in a queue with priorities.", Shape::Int(0, 9)),
            ],
            by!(publish::to_queue),
        )
    },
    get(
        "peek",
        "/v1/queues/{queue}/messages",
        "Shows messages as they stand; nothing is handed out. An answer ends with 8 MiB, and `next` says where to go on.",
        &[
            SPACE,
            may("state", "Which of them; all otherwise.", Shape::Words(&queues::STATES)),
            may("from", "The first position.", Shape::Int(0, u64::MAX)),
            may("max", "How many positions are looked at.", Shape::Int(1, queues::PEEK_MAX)),
        ],
        by!(queues::peek),
    ),
    Operation {
        gives: &[(200, Some(JSON))],
        ..delete(
            "purge",
            "/v1/queues/{queue}/messages",
            "Drops every message that nobody holds.",
            &[
                SPACE,
                Parameter {
                    required: true,
                    ..may("confirm", "The name of the queue once more.", Shape::Text(&text::NAME))
                },
            ],
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
        json::<receive::Wanted>(),
        by!(receive::receive),
    ),
    post(
        "settle_queue",
        "/v1/queues/{queue}/settle",
        "Settles deliveries: accept, release, fail, reject or renew.",
        json::<settle::Settlements>(),
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
        json::<queues::RedriveSettings>(),
        by!(queues::redrive),
    ),
    Operation {
        gives: &[(200, Some(ANY))],
        ..publishes(
            "request_by_queue",
            "/v1/queues/{queue}/request",
            "Sends a request and answers with its reply.",
            REQUEST,
            by!(request::request),
        )
    },
    get(
        "schedules",
        "/v1/schedules",
        "Schedules, and messages that are scheduled, by id. Where there are more, `next` is the `after` to go on with.",
        &[
            SPACE,
            may("after", "The id to go on after.", Shape::Text(&text::NAME)),
            may("max", "How many at most: 100 if not given.", Shape::Int(1, schedules::LIST_MAX)),
        ],
        by!(schedules::list),
    ),
    get("schedule", "/v1/schedules/{id}", "A schedule.", IN_SPACE, by!(schedules::show)),
    put(
        "put_schedule",
        "/v1/schedules/{id}",
        "Makes or changes a schedule.",
        json::<ScheduleSettings>(),
        by!(schedules::put),
    ),
    delete(
        "delete_schedule",
        "/v1/schedules/{id}",
        "Cancels a schedule.",
        IN_SPACE,
        by!(schedules::delete),
    ),
    Operation {
        gives: &[(200, Some(JSON)), (200, Some(EVENT_STREAM))],
        ..get(
            "operation",
            "/v1/operations/{id}",
            "How a request that is answered later stands, and its answer.",
            &[may("wait", "How long to wait for the answer.", receive::WAIT)],
            by!(operations::show),
        )
    },
    Operation {
        gives: &[(200, Some(ANY))],
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
        query: NO_QUERY,
        gives: &[(204, None)],
        ..post(
            "backup",
            "/v1/ledger/backup",
            "Writes a copy of everything into a folder.",
            json::<ledger::Backup>(),
            by!(ledger::backup),
        )
    },
    Operation {
        admin_only: true,
        query: NO_QUERY,
        gives: &[(204, None)],
        ..post(
            "checkpoint",
            "/v1/ledger/checkpoint",
            "Brings the checkpoint up to now.",
            json::<Nothing>(),
            by!(ledger::checkpoint),
        )
    },
];

const REQUEST: Parameters =
    &[SPACE, may("timeout", "How long the reply may take.", Shape::Span(0, 300_000)), KEY, TYPE];

const STREAM: Parameters = &[
    SPACE,
    may("prefetch", "How many deliveries may be unsettled.", Shape::Int(1, stream::PREFETCH_MAX)),
    may("lease", "How long each may take.", receive::LEASE),
    may(
        "credit",
        "How many deliveries may be sent, over a WebSocket.",
        Shape::Int(0, u32::MAX as u64),
    ),
];
