//! The rows of the table: what is offered, to whom, and why it may be refused.

use weft_api::{Gives, Handler, Permission, Row, Verb, get, post, put};
use weft_kernel::Reason;

use super::{
    browse, engines, nouns, operations, publish, queues, receive, request, schedules, settle,
    stream, subscriptions, topics, view,
};
use crate::{
    body::Nothing,
    handle::Handle,
    response::{EVENT_STREAM, LINES},
    schema::{Parameter, Shape, text},
    settings::{
        YEAR_MS, queue::QueueSettings, schedule::ScheduleSettings,
        subscription::SubscriptionSettings, topic::TopicSettings,
    },
};

/// Any media type.
const ANY: &str = "*/*";

type Parameters = &'static [Parameter];

/// Reasons of an operation, and behind `kept` those of the store.
macro_rules! reasons {
    ($($name:ident),*) => { &[$(Reason::$name),*] };
    ($($name:ident),* ; kept) => {
        &[
            $(Reason::$name,)*
            Reason::NotSupported,
            Reason::EngineUnavailable,
            Reason::StorageBusy,
            Reason::StorageFull,
            Reason::StorageUnavailable,
            Reason::StoragePoisoned,
            Reason::Draining,
            Reason::StorageStalled,
            Reason::StorageCorrupt,
        ]
    };
}

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
const PUBLISHED: &[(&str, &Shape)] = &[(ANY, &Shape::Any)];
/// The position of a message, in a path.
const POSITION: Parameters = &[Parameter {
    name: "position",
    about: "The position of a message.",
    shape: Shape::Int(0, u64::MAX),
    required: true,
}];

const fn may(name: &'static str, about: &'static str, shape: Shape) -> Parameter {
    Parameter { name, about, shape, required: false }
}

/// A row that publishes.
const fn publishes(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    query: Parameters,
    handler: Handler<Handle>,
) -> Row<Handle> {
    post(id, path, about, Permission::Publish, handler)
        .query(query)
        .takes_media(PUBLISHED, publish::BODY_BYTES_MAX)
        .gives(const { &[Gives::json::<view::Published>(200)] })
}

/// A row that deletes.
const fn deletes(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    handler: Handler<Handle>,
) -> Row<Handle> {
    weft_api::delete(id, path, about, Permission::Manage, handler)
}

/// Makes a handler of an async function.
macro_rules! by {
    ($($handler:ident)::+) => {
        |ask| Box::pin($($handler)::+(ask.into()))
    };
}

/// Everything that is offered.
pub static OPERATIONS: &[Row<Handle>] = &[
    get("topics", "/v1/topics", "Every topic.", Permission::Read, by!(topics::list))
        .query(IN_SPACE)
        .gives(&[Gives::json::<view::Topics>(200)])
        .verb(&nouns::TOPIC, nouns::TOPICS),
    get("topic", "/v1/topics/{topic}", "A topic, and what it holds.", Permission::Read, by!(topics::show))
        .query(IN_SPACE)
        .gives(&[Gives::json::<view::TopicView>(200)])
        .refuses(reasons!(NoTopic))
        .verb(&nouns::TOPIC, Verb::Show { help: "One topic: its settings, what it holds, who reads it" }),
    put(
        "put_topic",
        "/v1/topics/{topic}",
        "Declares a topic; 200 if it is there with the same options, 409 if with others.",
        Permission::Manage,
        by!(topics::put),
    )
    .query(DECLARED)
    .takes::<TopicSettings>()
    .gives(&[Gives::json::<view::TopicView>(200), Gives::json::<view::TopicView>(201)])
    .refuses(reasons!(NotFound, DefinitionConflict; kept))
    .verb(&nouns::TOPIC, Verb::Create),
    deletes(
        "delete_topic",
        "/v1/topics/{topic}",
        "Deletes a topic, its messages and its subscriptions.",
        by!(topics::delete),
    )
    .query(IN_SPACE)
    .refuses(reasons!(NoTopic, DefinitionConflict; kept))
    .verb(
        &nouns::TOPIC,
        Verb::Delete {
            help: "Delete a topic with all its messages and subscriptions",
            confirm: true,
            done: "deleted",
        },
    ),
    publishes(
        "publish",
        "/v1/topics/{topic}/messages",
        "Publishes one message or a batch, and answers once they are kept.",
        &[SPACE, KEY, TYPE, may("durability", "At least what the topic says.", DURABILITY)],
        by!(publish::to_topic),
    )
    .refuses(reasons!(NoTopic, MalformedMessage, MessageTooLarge; kept)),
    get(
        "browse",
        "/v1/topics/{topic}/messages",
        "Reads a topic without a subscription: a page, a replay as lines, or a tail as server-sent events.",
        Permission::Consume,
        by!(browse::browse),
    )
    .query(&[
        SPACE,
        may("from", "Where reading begins.", Shape::Text(&text::START)),
        may("max", "How many messages at most.", Shape::Int(1, browse::MAX)),
        may("filter", "What must be true of a message.", Shape::Text(&text::CEL)),
        may("wait", "How long to wait for a message if there is none.", receive::WAIT),
    ])
    .gives(&[Gives::json::<view::Browsed>(200), Gives::media(200, LINES), Gives::media(200, EVENT_STREAM)])
    .refuses(reasons!(NoTopic; kept)),
    get(
        "last",
        "/v1/topics/{topic}/last",
        "The newest message of a topic, or of a key of a compacted one.",
        Permission::Consume,
        by!(browse::last),
    )
    .query(&[SPACE, may("key", "The key.", Shape::Text(&text::ANY))])
    .gives(&[Gives::json::<view::Stored>(200)])
    .refuses(reasons!(NoTopic, NoMessage; kept)),
    publishes(
        "request_by_topic",
        "/v1/topics/{topic}/request",
        "Publishes a request and answers with the first reply.",
        REQUEST,
        by!(request::request),
    )
    .gives(&[Gives::media(200, ANY)])
    .refuses(reasons!(NoTopic, MalformedMessage, MessageTooLarge, NoListener, ReplyTimeout; kept)),
    get(
        "subscriptions",
        "/v1/subscriptions",
        "Every subscription.",
        Permission::Read,
        by!(subscriptions::list),
    )
    .query(IN_SPACE)
    .gives(&[Gives::json::<view::Subscriptions>(200)])
    .verb(&nouns::SUBSCRIPTION, nouns::SUBSCRIPTIONS),
    get(
        "subscription",
        "/v1/subscriptions/{name}",
        "A subscription, and how it stands.",
        Permission::Read,
        by!(subscriptions::show),
    )
    .query(IN_SPACE)
    .gives(&[Gives::json::<view::SubscriptionView>(200)])
    .refuses(reasons!(NoSubscription))
    .verb(
        &nouns::SUBSCRIPTION,
        Verb::Show { help: "One subscription: its settings, how far it is, who takes from it" },
    ),
    put(
        "put_subscription",
        "/v1/subscriptions/{name}",
        "Declares a subscription; 200 if it is there with the same options, 409 if with others.",
        Permission::Manage,
        by!(subscriptions::put),
    )
    .query(DECLARED)
    .takes::<SubscriptionSettings>()
    .gives(&[Gives::json::<view::SubscriptionView>(200), Gives::json::<view::SubscriptionView>(201)])
    .refuses(reasons!(NoTopic, NoQueue, DefinitionConflict; kept))
    .verb(&nouns::SUBSCRIPTION, Verb::Create),
    deletes(
        "delete_subscription",
        "/v1/subscriptions/{name}",
        "Deletes a subscription.",
        by!(subscriptions::delete),
    )
    .query(IN_SPACE)
    .refuses(reasons!(NoSubscription, DefinitionConflict; kept))
    .verb(
        &nouns::SUBSCRIPTION,
        Verb::Delete {
            help: "Delete a subscription, and with it how far it was",
            confirm: false,
            done: "deleted",
        },
    ),
    steers(
        "pause",
        "/v1/subscriptions/{name}/pause",
        "Hands out nothing until it is resumed.",
        by!(subscriptions::pause),
    )
    .takes::<Nothing>(),
    steers(
        "resume",
        "/v1/subscriptions/{name}/resume",
        "Hands out again.",
        by!(subscriptions::resume),
    )
    .takes::<Nothing>(),
    steers(
        "seek",
        "/v1/subscriptions/{name}/seek",
        "Moves a subscription; retries and leases are forgotten.",
        by!(subscriptions::seek),
    )
    .takes::<subscriptions::Seek>(),
    steers(
        "skip",
        "/v1/subscriptions/{name}/skip",
        "Passes over one message, or over the next ones.",
        by!(subscriptions::skip),
    )
    .takes::<subscriptions::Skip>(),
    post(
        "receive_subscription",
        "/v1/subscriptions/{name}/receive",
        "Hands out messages under a lease; waits for some if there are none.",
        Permission::Consume,
        by!(receive::receive),
    )
    .query(IN_SPACE)
    .takes::<receive::Wanted>()
    .gives(&[Gives::json::<view::Deliveries>(200)])
    .refuses(reasons!(NoSubscription, QueueLocked; kept)),
    post(
        "settle_subscription",
        "/v1/subscriptions/{name}/settle",
        "Settles deliveries: accept, release, fail, reject or renew.",
        Permission::Consume,
        by!(settle::settle),
    )
    .query(IN_SPACE)
    .takes::<settle::Settlements>()
    .gives(&[Gives::json::<view::Settled>(200)])
    .refuses(reasons!(NoSubscription; kept)),
    get(
        "stream_subscription",
        "/v1/subscriptions/{name}/stream",
        "Hands out messages as server-sent events, or over a WebSocket.",
        Permission::Consume,
        by!(stream::stream),
    )
    .query(STREAM)
    .gives(&[Gives::media(200, EVENT_STREAM)])
    .refuses(reasons!(NoSubscription, QueueLocked, UpgradeRequired; kept)),
    get("queues", "/v1/queues", "Every queue.", Permission::Read, by!(queues::list))
        .query(IN_SPACE)
        .gives(&[Gives::json::<view::Queues>(200)])
        .verb(&nouns::QUEUE, nouns::QUEUES),
    get("queue", "/v1/queues/{queue}", "A queue, and what it holds.", Permission::Read, by!(queues::show))
        .query(IN_SPACE)
        .gives(&[Gives::json::<view::QueueView>(200)])
        .refuses(reasons!(NoQueue))
        .verb(
            &nouns::QUEUE,
            Verb::Show { help: "One queue: its settings, what waits in it, who takes from it" },
        ),
    put(
        "put_queue",
        "/v1/queues/{queue}",
        "Declares a queue; 200 if it is there with the same options, 409 if with others.",
        Permission::Manage,
        by!(queues::put),
    )
    .query(DECLARED)
    .takes::<QueueSettings>()
    .gives(&[Gives::json::<view::QueueView>(200), Gives::json::<view::QueueView>(201)])
    .refuses(reasons!(NotFound, DefinitionConflict; kept))
    .verb(&nouns::QUEUE, Verb::Create),
    deletes(
        "delete_queue",
        "/v1/queues/{queue}",
        "Deletes a queue and its messages.",
        by!(queues::delete),
    )
    .query(IN_SPACE)
    .refuses(reasons!(NoQueue, DefinitionConflict, QueueLocked; kept))
    .verb(
        &nouns::QUEUE,
        Verb::Delete {
            help: "Delete a queue with all its messages",
            confirm: true,
            done: "deleted",
        },
    ),
    publishes(
        "enqueue",
        "/v1/queues/{queue}/messages",
        "Puts one message or a batch into a queue, and answers once they are kept.",
        &[
            SPACE,
            KEY,
            TYPE,
            may("durability", "At least what the queue says.", DURABILITY),
            may("delay", "Handed out only after so long; not with `at`.", Shape::Span(0, YEAR_MS)),
            may("at", "Handed out only from this time on.", Shape::Text(&text::TIME)),
            may("ttl", "How long it may wait to be handed out.", Shape::Span(0, YEAR_MS)),
            may("priority", "The higher first, in a queue with priorities.", Shape::Int(0, 9)),
        ],
        by!(publish::to_queue),
    )
    .gives(&[Gives::json::<view::Published>(200), Gives::empty(204)])
    .refuses(reasons!(NoQueue, MalformedMessage, MessageTooLarge, QueueFull; kept)),
    get(
        "peek",
        "/v1/queues/{queue}/messages",
        "Shows messages as they stand; nothing is handed out. An answer ends with 8 MiB, and `next` says where to go on.",
        Permission::Consume,
        by!(queues::peek),
    )
    .query(&[
        SPACE,
        may("state", "Which of them; all otherwise.", Shape::Words(&queues::STATES)),
        may("from", "The first position.", Shape::Int(0, u64::MAX)),
        may("max", "How many positions are looked at.", Shape::Int(1, queues::PEEK_MAX)),
    ])
    .gives(&[Gives::json::<view::Looked>(200)])
    .refuses(reasons!(NoQueue; kept)),
    deletes(
        "purge",
        "/v1/queues/{queue}/messages",
        "Drops every message that nobody holds.",
        by!(queues::purge),
    )
    .query(&[
        SPACE,
        Parameter {
            required: true,
            ..may("confirm", "The name of the queue once more.", Shape::Text(&text::NAME))
        },
    ])
    .gives(&[Gives::json::<view::Purged>(200)])
    .refuses(reasons!(NoQueue; kept)),
    get(
        "message",
        "/v1/queues/{queue}/messages/{position}",
        "One message, with each attempt that failed.",
        Permission::Consume,
        by!(queues::one),
    )
    .places(POSITION)
    .query(IN_SPACE)
    .gives(&[Gives::json::<view::MessageView>(200)])
    .refuses(reasons!(NoQueue, NoMessage; kept)),
    post(
        "receive_queue",
        "/v1/queues/{queue}/receive",
        "Hands out messages under a lease; waits for some if there are none.",
        Permission::Consume,
        by!(receive::receive),
    )
    .query(IN_SPACE)
    .takes::<receive::Wanted>()
    .gives(&[Gives::json::<view::Deliveries>(200)])
    .refuses(reasons!(NoQueue, QueueLocked; kept)),
    post(
        "settle_queue",
        "/v1/queues/{queue}/settle",
        "Settles deliveries: accept, release, fail, reject or renew.",
        Permission::Consume,
        by!(settle::settle),
    )
    .query(IN_SPACE)
    .takes::<settle::Settlements>()
    .gives(&[Gives::json::<view::Settled>(200)])
    .refuses(reasons!(NoQueue; kept)),
    get(
        "stream_queue",
        "/v1/queues/{queue}/stream",
        "Hands out messages as server-sent events, or over a WebSocket.",
        Permission::Consume,
        by!(stream::stream),
    )
    .query(STREAM)
    .gives(&[Gives::media(200, EVENT_STREAM)])
    .refuses(reasons!(NoQueue, QueueLocked, UpgradeRequired; kept)),
    post(
        "redrive",
        "/v1/queues/{queue}/redrive",
        "Sends dead letters back to where they came from, or elsewhere.",
        Permission::Manage,
        by!(queues::redrive),
    )
    .query(IN_SPACE)
    .takes::<queues::RedriveSettings>()
    .gives(&[Gives::json::<view::Redriven>(200)])
    .refuses(reasons!(NoQueue, QueueFull; kept)),
    publishes(
        "request_by_queue",
        "/v1/queues/{queue}/request",
        "Sends a request and answers with its reply.",
        REQUEST,
        by!(request::request),
    )
    .gives(&[Gives::media(200, ANY)])
    .refuses(reasons!(NoQueue, MalformedMessage, MessageTooLarge, QueueFull, NoListener, ReplyTimeout; kept)),
    get(
        "schedules",
        "/v1/schedules",
        "Schedules, and messages that are scheduled, by id. Where there are more, `next` is the `after` to go on with.",
        Permission::Read,
        by!(schedules::list),
    )
    .query(&[
        SPACE,
        may("after", "The id to go on after.", Shape::Text(&text::NAME)),
        may("max", "How many at most: 100 if not given.", Shape::Int(1, schedules::LIST_MAX)),
    ])
    .gives(&[Gives::json::<view::Schedules>(200)])
    .refuses(reasons!(; kept))
    .verb(&nouns::SCHEDULE, nouns::SCHEDULES),
    get("schedule", "/v1/schedules/{id}", "A schedule.", Permission::Read, by!(schedules::show))
        .query(IN_SPACE)
        .gives(&[Gives::json::<view::ScheduleView>(200)])
        .refuses(reasons!(NoMessage; kept))
        .verb(
            &nouns::SCHEDULE,
            Verb::Show { help: "One schedule: when it is due, and what it publishes" },
        ),
    put(
        "put_schedule",
        "/v1/schedules/{id}",
        "Makes or changes a schedule.",
        Permission::Manage,
        by!(schedules::put),
    )
    .query(IN_SPACE)
    .takes::<ScheduleSettings>()
    .gives(&[Gives::json::<view::ScheduleView>(200), Gives::json::<view::ScheduleView>(201)])
    .refuses(reasons!(NoTopic, NoQueue, MalformedMessage, MessageTooLarge, DefinitionConflict; kept))
    .verb(&nouns::SCHEDULE, Verb::Create),
    deletes(
        "delete_schedule",
        "/v1/schedules/{id}",
        "Cancels a schedule.",
        by!(schedules::delete),
    )
    .query(IN_SPACE)
    .refuses(reasons!(NoMessage, DefinitionConflict; kept))
    .verb(
        &nouns::SCHEDULE,
        Verb::Delete {
            help: "Delete a schedule, so that it publishes nothing more",
            confirm: false,
            done: "cancelled",
        },
    ),
    get(
        "operation",
        "/v1/operations/{id}",
        "How a request that is answered later stands, and its answer.",
        Permission::Consume,
        by!(operations::show),
    )
    .query(&[may("wait", "How long to wait for the answer.", receive::WAIT)])
    .gives(&[Gives::json::<view::OperationView>(200), Gives::media(200, EVENT_STREAM)])
    .refuses(reasons!(NoMessage; kept)),
    get(
        "result",
        "/v1/operations/{id}/result",
        "The answer itself.",
        Permission::Consume,
        by!(operations::result),
    )
    .gives(&[Gives::media(200, ANY)])
    .refuses(reasons!(NoMessage; kept)),
    deletes("cancel", "/v1/operations/{id}", "Cancels what has not begun.", by!(operations::cancel))
        .refuses(reasons!(NoMessage; kept)),
    get("engines", "/v1/engines", "What keeps messages.", Permission::Read, by!(engines::list))
        .gives(&[Gives::json::<view::Engines>(200)])
        .verb(&nouns::ENGINE, Verb::List { help: "Every engine", member: "engines", columns: &[] }),
    get(
        "engine",
        "/v1/engines/{name}",
        "What an engine can do: native, emulated or missing.",
        Permission::Read,
        by!(engines::show),
    )
    .gives(&[Gives::json::<view::EngineView>(200)])
    .refuses(reasons!(NotFound))
    .verb(
        &nouns::ENGINE,
        Verb::Show { help: "One engine: each capability, native, emulated or missing" },
    ),
];

/// A row that steers a subscription.
const fn steers(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    handler: Handler<Handle>,
) -> Row<Handle> {
    post(id, path, about, Permission::Manage, handler)
        .query(IN_SPACE)
        .gives(const { &[Gives::json::<view::SubscriptionView>(200)] })
        .refuses(reasons!(NoSubscription; kept))
}

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
