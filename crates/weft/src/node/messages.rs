//! What keeps messages on a node: the ledger, the broker on it, and who speaks with clients about them.

mod meters;
mod outside;

use std::{
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use weft_amqp::{Grant, Password, Pattern, Server, User};
use weft_broker::{Broker, Declarations, Key, Prepared, SubscriptionKey};
use weft_kernel::{Error, Reason, Result, Rng, SystemClock};
use weft_ledger::Ledger;
use weft_messages::{Declared, Desk, Hooks, Push, Upkeep};
use weft_net::Stop;

use crate::config::plan;

/// How long it is waited for a former process to let go of the ledger.
const FORMER: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(20);

/// The ledger, the broker and the desk of a node.
pub struct Messages {
    /// What everything is kept in.
    pub ledger: Ledger,
    /// Topics, queues and subscriptions.
    pub broker: Broker,
    /// Who answers for them.
    pub desk: Desk,
    /// Who speaks AMQP with clients about them.
    pub amqp: Server,
}

impl Messages {
    /// Opens the ledger, which another process may be about to close, and what stands on it.
    pub async fn open(plan: &plan::Messages, workers: usize, stop: Stop) -> anyhow::Result<Self> {
        let clock = Arc::new(SystemClock);
        let path = &plan.ledger.path;
        let place = || format!("the ledger at {}", path.display());
        let began = Instant::now();
        let mut told = false;
        let (ledger, recovered) = loop {
            match Ledger::open_folder(path, plan.ledger.options.clone(), clock.clone()) {
                Err(error) if error.reason() == Reason::StorageBusy && began.elapsed() < FORMER => {
                    if !std::mem::replace(&mut told, true) {
                        let (path, most) = (path.display(), FORMER);
                        tracing::info!(%path, ?most, "waiting for the ledger: {}", error.said());
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                opened => break opened.map_err(described).with_context(place)?,
            }
        };
        tracing::info!(path = %path.display(), took = ?began.elapsed(), ?recovered, "ledger open");
        let store = Arc::new(ledger.clone());
        let broker = Broker::open(store, clock, Rng::from_entropy())
            .await
            .map_err(described)
            .with_context(place)?;
        let options = amqp(&plan.amqp).map_err(described).context("AMQP")?;
        let amqp = Server::open(broker.clone(), options, env!("CARGO_PKG_NAME"))
            .await
            .map_err(described)
            .context("AMQP")?;
        let hooks = Hooks {
            outside: Some(Arc::new(outside::Callbacks::new().context("callbacks")?)),
            upkeep: Some(Arc::new(Kept(ledger.clone()))),
        };
        let desk = Desk::open(broker.clone(), workers, hooks, stop)
            .await
            .map_err(described)
            .with_context(place)?;
        Ok(Self { ledger, broker, desk, amqp })
    }

    /// Checks what a configuration declares against what is there; nothing is changed by it. Without one
    /// nothing is declared.
    pub async fn prepare(&self, plan: Option<&plan::Messages>) -> anyhow::Result<Ready> {
        let mut ready = Ready::default();
        let mut declarations = Declarations::default();
        if let Some(plan) = plan {
            ready.declare(plan, &mut declarations)?;
        }
        match self.broker.prepare(declarations).await {
            Ok(prepared) => Ok(Ready { prepared: Some(prepared), ..ready }),
            Err(faults) => {
                let faults: Vec<String> = faults.iter().map(Error::detail).collect();
                Err(anyhow::anyhow!(faults.join("; ")))
            }
        }
    }

    /// Puts in force what was prepared; nothing is changed if it fails. What is declared no more stays.
    pub async fn commit(&self, ready: Ready) -> anyhow::Result<()> {
        if let Some(prepared) = ready.prepared {
            for missing in prepared.commit().await.map_err(described)? {
                tracing::error!(
                    "declared, but not in force before the next reload or start: {}",
                    missing.detail()
                );
            }
        }
        self.desk.declare(ready.declared);
        self.desk.push(ready.pushes);
        Ok(())
    }

    /// Does what is due until the store takes nothing more.
    pub async fn keep(self: Arc<Self>) {
        if let Err(error) = self.broker.keep().await {
            tracing::error!("nothing is kept any more: {}", error.detail());
        }
    }

    /// Writes what waits, and lets go of the ledger.
    pub fn close(&self) {
        self.broker.close();
        if let Err(error) = self.ledger.close() {
            tracing::error!("the ledger could not be closed in order: {}", error.detail());
        }
    }
}

/// What a configuration says of messages, ready to be put in force.
#[derive(Default)]
pub struct Ready {
    prepared: Option<Prepared>,
    declared: Declared,
    pushes: Vec<Push>,
}

impl Ready {
    fn declare(&mut self, plan: &plan::Messages, to: &mut Declarations) -> anyhow::Result<()> {
        for (name, options) in &plan.topics {
            let key = key(name.as_str())?;
            self.declared.topics.insert(key.clone());
            to.topics.push((key, options.clone()));
        }
        for (name, options) in &plan.queues {
            let key = key(name.as_str())?;
            self.declared.queues.insert(key.clone());
            to.queues.push((key, options.clone()));
        }
        for subscription in &plan.subscriptions {
            let key = subscription_key(subscription)?;
            self.declared.subscriptions.insert(key.clone());
            to.subscriptions.push((key, subscription.options.clone()));
        }
        for (id, schedule) in &plan.schedules {
            self.declared.schedules.insert(id.to_string());
            let (target, when) = (schedule.target.clone(), schedule.when.clone());
            to.schedules.push((key(id.as_str())?, target, when, schedule.publish.clone()));
        }
        for push in &plan.push {
            let of = plan.subscriptions.iter().find(|of| of.name == push.subscription);
            self.pushes.push(Push {
                subscription: subscription_key(of.context("a push without its subscription")?)?,
                route: push.route.clone(),
                path: push.path.clone(),
                concurrency: push.concurrency,
                timeout: push.timeout,
            });
        }
        Ok(())
    }
}

fn key(name: &str) -> anyhow::Result<Key> {
    Key::plain(name).map_err(described)
}

fn subscription_key(of: &plan::Subscription) -> anyhow::Result<SubscriptionKey> {
    SubscriptionKey::new(&key(&of.topic)?, of.name.as_str()).map_err(described)
}

/// An error with all that is known of it.
fn described(error: Error) -> anyhow::Error {
    anyhow::anyhow!(error.detail())
}

/// How AMQP is spoken.
fn amqp(plan: &plan::Amqp) -> Result<weft_amqp::Options> {
    let grant = |of: &plan::AmqpPermissions| {
        Ok(Grant {
            vhost: of.vhost.clone(),
            configure: Pattern::new(&of.configure)?,
            write: Pattern::new(&of.write)?,
            read: Pattern::new(&of.read)?,
        })
    };
    let user = |user: &plan::AmqpUser| {
        let all = user.vhosts.iter().map(|vhost| Ok(Grant::all(vhost)));
        Ok(User {
            name: user.name.clone(),
            password: Password::Plain(user.password.reveal().to_owned()),
            grants: all.chain(user.permissions.iter().map(grant)).collect::<Result<_>>()?,
            remote: true,
        })
    };
    Ok(weft_amqp::Options {
        users: plan.users.iter().map(user).collect::<Result<_>>()?,
        vhosts: plan.vhosts.iter().filter(|vhost| *vhost != "/").cloned().collect(),
        channels_max: plan.channels_max,
        frame_bytes_max: plan.frame_max,
        heartbeat_seconds: plan.heartbeat,
        message_bytes_max: plan.message_max,
    })
}

/// Backups and checkpoints of the embedded ledger, off the runtime: they take their time.
struct Kept(Ledger);

impl Upkeep for Kept {
    fn backup<'a>(&'a self, to: &'a Path) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> {
        let (ledger, to) = (self.0.clone(), to.to_owned());
        Box::pin(aside(move || ledger.backup(&to)))
    }

    fn checkpoint(&self) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
        let ledger = self.0.clone();
        Box::pin(aside(move || ledger.checkpoint()))
    }
}

/// Does what waits for the disk on a thread of its own.
async fn aside(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::new(Reason::Internal, "a task broke").because(error)))
}
