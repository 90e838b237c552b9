//! What is led to messages instead of to a service.

use std::time::Duration;

/// A target inside Weft; whoever keeps messages answers for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// Each request becomes a message, and is answered once that is kept.
    Publish(Publish),
    /// The API of topics, queues and subscriptions, below this path.
    Messages {
        /// What stands before `/v1` in the path; empty for nothing.
        prefix: String,
    },
}

/// How a request becomes a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where it goes.
    pub to: To,
    /// The `type` of messages that do not say theirs.
    pub event_type: Option<String>,
    /// The field whose value is the message's key; what does not have it has none.
    pub key: Option<String>,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// To a topic.
    Topic(String),
    /// To a queue.
    Queue(String),
}

/// How a request is answered later (RFC 7240 `respond-async`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RespondAsync {
    /// The longest time that a client may ask to wait for the answer itself.
    pub wait_max: Duration,
    /// How long the answer is kept for the client.
    pub keep: Duration,
    /// Where outside Weft a finished operation may be told, as prefixes of URLs; without any, nowhere.
    pub callbacks: Vec<String>,
}
