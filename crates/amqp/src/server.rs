//! The front-end as a whole: users, virtual hosts, and the route of dead letters.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite};
use weft_broker::{
    Broker, Cause, DeadLetterRoute, DeadMessage, Durability, Message, MessageBuilder, Publish,
    Queue,
    engine::Engines,
    watch::{Aftermath, DefinitionWatcher, Deleted},
};
use weft_kernel::Result;
use weft_ledger::MapOptions;
use weft_net::Stop;
use weft_wire::amqp::Properties;

use crate::{
    connection,
    death::{Death, Story, copies, is_cycle},
    options::{Options, User},
    reply::Replies,
    session::ClientPeer,
    vhost::{Entry, Vhost},
};

/// The map of the ledger that holds exchanges and bindings.
const MAP: &str = "amqp/topology";

/// The AMQP front-end; cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) broker: Broker,
    pub(crate) options: Options,
    pub(crate) users: Vec<User>,
    pub(crate) vhosts: HashMap<String, Arc<Vhost>>,
    pub(crate) replies: Replies,
    pub(crate) node_name: String,
    connections: AtomicU64,
}

impl Server {
    /// Opens the front-end on the engines of a node, of which it reaches the embedded one, and refuses queues
    /// that another keeps: finds exchanges and bindings again, and takes over the dead
    /// letters of queues that were declared over AMQP.
    ///
    /// # Errors
    /// What the broker's store says; [`weft_kernel::Reason::DefinitionConflict`] if another front-end
    /// routes the broker's dead letters.
    pub async fn open(engines: Engines, options: Options, node_name: &str) -> Result<Self> {
        let broker = engines.embedded().clone();
        let map = broker.store().create_map(MAP, MapOptions::default()).await?;
        let mut vhosts = HashMap::new();
        for name in options.vhosts.iter().map(String::as_str).chain(["/"]) {
            let vhost = Vhost::open(&engines, map, name, options.message_bytes_max).await?;
            vhosts.insert(name.to_owned(), Arc::new(vhost));
        }
        let inner = Arc::new(Inner {
            users: options.users(),
            replies: Replies::default(),
            node_name: node_name.to_owned(),
            connections: AtomicU64::new(1),
            vhosts,
            options,
            broker: broker.clone(),
        });
        broker.set_dead_letter_route(Arc::new(DeadLetters(Arc::downgrade(&inner))))?;
        broker.watch_definitions(Arc::new(Bindings(Arc::downgrade(&inner))));
        Ok(Self(inner))
    }

    /// Speaks with a client until the connection ends, or `stop` has it ended. Not cancel-safe in the
    /// sense that dropping it gives back the client's unsettled messages only as their leases end.
    pub async fn serve(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin,
        peer: ClientPeer,
        stop: Stop,
    ) {
        connection::run(Arc::clone(&self.0), io, peer, stop).await;
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("vhosts", &self.0.vhosts.keys()).finish_non_exhaustive()
    }
}

/// The dead letters of one death: queues, and the message as each is to get it.
pub(crate) type Dead = SmallVec<[(Arc<Queue>, Publish); 1]>;

impl Inner {
    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Where a message goes that died in a queue, and what it looks like there.
    pub(crate) fn dead_letters(&self, entry: &Entry, message: &Message, reason: &str) -> Dead {
        let vhost = self.vhosts.values().find(|vhost| vhost.owns(entry.queue.key()));
        let (Some(vhost), Some(exchange)) = (vhost, &entry.arguments.dead_exchange) else {
            return Dead::new();
        };
        self.dead_lettered(vhost, entry, exchange, message, reason).unwrap_or_default()
    }

    fn dead_lettered(
        &self,
        vhost: &Vhost,
        entry: &Entry,
        exchange: &str,
        message: &Message,
        reason: &str,
    ) -> Option<Dead> {
        // What was published by another front-end has a form of AMQP as well.
        let turned;
        let message = match message.form() {
            weft_broker::message::Form::Amqp => message,
            weft_broker::message::Form::Event => {
                turned = message.to_amqp("", &entry.name).ok()?;
                &turned
            }
        };
        let amqp = message.amqp()?;
        let wall = self.broker.clock().wall();
        let death = Death {
            queue: &entry.name,
            reason,
            exchange: amqp.exchange,
            key: amqp.routing_key,
            time: wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            rekeyed: entry.arguments.dead_key.is_some(),
        };
        let body = message.body();
        let key = entry.arguments.dead_key.as_deref().unwrap_or(amqp.routing_key);
        // One whose own headers leave no room for its story is told less of it, and never lost for that.
        let (raw, built) = Story::ALL.into_iter().find_map(|story| {
            let raw = death.properties(amqp.properties, story).ok()?;
            let built = MessageBuilder::amqp(exchange, key, &raw, body.len()).ok()?;
            Some((raw, built.body(&body).finish().ok()?))
        })?;
        let properties = Properties::parse(&raw).ok()?;
        let headers = properties.headers.unwrap_or_default();
        let mut targets = Vec::new();
        let keys: Vec<&str> = std::iter::once(key).chain(copies(headers, "CC")).collect();
        vhost.route(exchange, &keys, headers, &mut targets);
        targets.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        targets.dedup_by(|one, other| one.name == other.name);
        let earlier = Properties::parse(amqp.properties).ok()?.headers.unwrap_or_default();
        targets.retain(|target| reason == "rejected" || !goes_round(earlier, entry, target));
        let durability = (properties.delivery_mode != Some(2)).then_some(Durability::Memory);
        let dead = targets.into_iter().map(|target| {
            let priority = target.arguments.priority(properties.priority);
            let publish = Publish { durability, priority, ..Publish::new(built.clone()) };
            (Arc::clone(&target.queue), publish)
        });
        Some(dead.collect())
    }
}

/// Whether a dead letter would come back to a queue with nobody ever having rejected it.
fn goes_round(earlier: weft_wire::amqp::Table<'_>, from: &Entry, to: &Entry) -> bool {
    from.name == to.name || is_cycle(earlier, &to.name)
}

/// Takes the bindings of queues along that are deleted, by whomever.
struct Bindings(Weak<Inner>);

impl DefinitionWatcher for Bindings {
    fn deleted(&self, what: Deleted<'_>) -> Option<Aftermath> {
        // Exchanges are bound to queues alone.
        let Deleted::Queue(key) = what else { return None };
        let inner = self.0.upgrade()?;
        let vhost = inner.vhosts.values().find(|vhost| vhost.owns(key)).map(Arc::clone)?;
        vhost.queue_deleted(&key.name);
        Some(Box::pin(async move {
            if let Err(error) = vhost.erase_deleted().await {
                tracing::warn!(
                    error = %error.detail(),
                    "bindings of a deleted queue stay on the disk until something is declared"
                );
            }
        }))
    }
}

/// Routes what dies in queues that were declared over AMQP.
struct DeadLetters(Weak<Inner>);

impl DeadLetterRoute for DeadLetters {
    fn route(&self, queue: &Queue, _hook: &str, dead_message: &DeadMessage) -> Dead {
        let Some(inner) = self.0.upgrade() else { return Dead::new() };
        let key = queue.key();
        let entry = inner
            .vhosts
            .values()
            .find(|vhost| vhost.owns(key))
            .and_then(|vhost| vhost.entry(&key.name));
        let Some(entry) = entry else { return Dead::new() };
        let reason = match dead_message.death.cause {
            Cause::Failures => "delivery_limit",
            Cause::Rejected | Cause::Parked => "rejected",
            Cause::Expired => "expired",
            Cause::Overflow => "maxlen",
        };
        inner.dead_letters(&entry, &dead_message.message, reason)
    }
}
