//! Messages as a component: the broker, on the root of the store, and who speaks with clients about them.

mod build;
mod locals;
mod meters;
mod outside;
pub mod plan;
pub mod policies;
pub mod sections;
pub mod targets;

use std::{collections::HashMap, process::ExitCode, rc::Rc, sync::Arc, time::Duration};

use anyhow::Context as _;
use parking_lot::Mutex;
use weft_amqp::{Grant, Password, PermissionPattern, Server, User};
use weft_api::Row;
use weft_broker::{
    Broker, Declarations, Key, SubscriptionKey,
    engine::{Engines, PreparedAnywhere},
};
use weft_broker_http::{Declared, Handle, Hooks, OPERATIONS, PushSubscription, nouns};
use weft_kernel::{Error, Name, Reason, Result, Rng, SystemClock};
use weft_ledger::Transaction;
use weft_net::Stop;
use weft_proxy::{Handlers, Local};
use weft_telemetry::metrics::Writer;

use crate::{
    cli,
    component::{Component, Host, Noun},
    config::{
        catalogue::{Checked, PolicyKey, Sections, TargetKey},
        setting::{Cx, Field},
    },
    node::Node,
};

use self::locals::Locals;
use super::storage::described;

/// How long what the store refused waits until it is tried again.
const LATER: Duration = Duration::from_secs(5);

/// How many names of what is removed are logged.
const TOLD: usize = 20;

/// The broker and its front-ends of a node.
pub struct Messages {
    /// Topics, queues and subscriptions.
    pub broker: Broker,
    /// The embedded engine, which is the broker, and the others.
    pub engines: Engines,
    /// Who answers for them.
    pub handle: Handle,
    /// What is declared, if the store has refused some of it, to be tried again.
    missing: Mutex<Option<Arc<Declarations>>>,
}

impl Component for Messages {
    type Plan = plan::Messages;
    type Ready = Ready;
    /// How AMQP is spoken, if at all.
    type Fixed = Option<plan::Amqp>;
    type Locals = Locals;
    type Api = Handle;
    type Noun = Nouns;

    const EXCLUSIVE: bool = true;
    const ABSENT: &'static str =
        "this node keeps no messages: its configuration has no topic, queue or ledger";

    fn sections() -> &'static [Field] {
        sections::ALL
    }

    fn targets() -> &'static [TargetKey] {
        &targets::ALL
    }

    fn policies() -> &'static [PolicyKey] {
        &policies::ALL
    }

    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<plan::Messages> {
        build::build(said, cx)
    }

    fn check(whole: &Checked<'_>, cx: &mut Cx) {
        build::check(whole, cx);
    }

    async fn open(plan: &plan::Messages, host: &Host, locals: &Locals) -> anyhow::Result<Self> {
        let store = Arc::new(host.root()?.clone());
        let broker = Broker::open(store, Arc::new(SystemClock), Rng::from_entropy())
            .await
            .map_err(described)
            .context("the broker")?;
        let engines = Engines::open(broker.clone(), Vec::new())
            .await
            .map_err(described)
            .context("the engines")?;
        let options = amqp(&plan.amqp).map_err(described).context("AMQP")?;
        let amqp = Server::open(engines.clone(), options, env!("CARGO_PKG_NAME"))
            .await
            .map_err(described)
            .context("AMQP")?;
        let callbacks = outside::Callbacks::new(host.dns.clone()).context("callbacks")?;
        let hooks = Hooks { outside: Some(Arc::new(callbacks)) };
        let handle = Handle::open(engines.clone(), host.workers, hooks, host.stop.clone())
            .await
            .map_err(described)
            .context("the HTTP front-end of the broker")?;
        locals.open(handle.clone(), amqp);
        // A node opens them once.
        let _ = host.engines.set(engines.clone());
        Ok(Self { broker, engines, handle, missing: Mutex::default() })
    }

    fn register(locals: &Locals, handlers: Handlers) -> Handlers {
        locals.register(handlers)
    }

    fn fixed(plan: Option<&plan::Messages>) -> Self::Fixed {
        plan.map(|plan| plan.amqp.clone())
    }

    fn awaits_restart(fixed: &Self::Fixed, plan: Option<&plan::Messages>) -> Vec<&'static str> {
        let amqp = plan.map(|plan| &plan.amqp);
        if fixed.as_ref() == amqp { Vec::new() } else { vec!["amqp"] }
    }

    /// Without a plan nothing is declared.
    async fn prepare(&self, plan: Option<&plan::Messages>) -> Result<Ready, Vec<String>> {
        let mut ready = Ready::default();
        if let Some(plan) = plan {
            ready.declare(plan).map_err(|error| vec![format!("{error:#}")])?;
        }
        let prepared = self.engines.prepare(ready.declarations.clone()).await;
        let faults = |faults: Vec<Error>| faults.iter().map(Error::detail).collect::<Vec<_>>();
        Ok(Ready { prepared: Some(prepared.map_err(faults)?), ..ready })
    }

    async fn stage(&self, ready: &mut Ready, to: &mut Transaction) -> anyhow::Result<()> {
        match &mut ready.prepared {
            Some(prepared) => prepared.stage(to).await.map_err(described),
            None => Ok(()),
        }
    }

    async fn commit(&self, ready: Ready) {
        if let Some(prepared) = ready.prepared {
            // Before anybody else can declare: what was declared before is not tried again over this.
            *self.missing.lock() = None;
            let removed = prepared.removed_schedules();
            if !removed.is_empty() {
                let names: Vec<_> = removed.iter().take(TOLD).map(ToString::to_string).collect();
                let more = if removed.len() > TOLD { ", …" } else { "" };
                let (removed, names) = (removed.len(), names.join(", ") + more);
                tracing::info!(removed, "schedules removed that are declared no more: {names}");
            }
            let missing = prepared.enforce().await;
            *self.missing.lock() = (!missing.is_empty()).then(|| Arc::new(ready.declarations));
            for missing in missing {
                tracing::error!("declared, and not in force yet: {}", missing.detail());
            }
        }
        self.handle.declare(ready.declared);
        self.handle.push(ready.pushes, ready.services);
    }

    fn begin(&self, local: &Rc<Local>) {
        self.handle.begin(local);
    }

    /// Does what is due until the store takes nothing more.
    async fn run(self: Arc<Self>, stop: Stop) {
        let keep = async {
            // What was closed in order has a successor.
            if let Err(error) = self.broker.maintain().await
                && error.reason() != Reason::Draining
            {
                tracing::error!("nothing is kept any more: {}", error.detail());
            }
        };
        let follow = async {
            loop {
                tokio::time::sleep(LATER).await;
                self.follow().await;
            }
        };
        tokio::select! {
            () = keep => {},
            () = follow => {},
            () = stop.closed() => {},
        }
    }

    fn measure(&self, to: &mut Writer) {
        self.write(to);
    }

    fn operations() -> &'static [Row<Handle>] {
        OPERATIONS
    }

    fn api(self: &Arc<Self>, _node: &Arc<Node>) -> Handle {
        self.handle.clone()
    }

    fn close(&self) {
        self.broker.close();
    }
}

impl Messages {
    /// Tries again what is declared and was refused by the store.
    async fn follow(&self) {
        let missing = self.missing.lock().clone();
        let Some(declarations) = missing else { return };
        let is_last =
            || self.missing.lock().as_ref().is_some_and(|of| Arc::ptr_eq(of, &declarations));
        let done = match self.engines.prepare(Declarations::clone(&declarations)).await {
            Ok(prepared) if is_last() => {
                prepared.commit().await.is_ok_and(|missing| missing.is_empty())
            }
            Ok(_late) => false,
            // Somebody has made it otherwise meanwhile; the next reload tells it.
            Err(_faults) => true,
        };
        if done && is_last() {
            *self.missing.lock() = None;
            tracing::info!("what the store had refused of the declarations is settled");
        }
    }
}

/// Its nouns.
#[derive(Debug, clap::Subcommand)]
pub enum Nouns {
    /// The noun of topics.
    #[command(about = nouns::TOPIC.title())]
    Topic(cli::topic::Topic),
    /// The noun of queues.
    #[command(about = nouns::QUEUE.title())]
    Queue(cli::queue::Queue),
    /// The noun of subscriptions.
    #[command(about = nouns::SUBSCRIPTION.title())]
    Subscription(cli::subscription::Subscription),
    /// Messages: publish them, follow them, look at one.
    Message(cli::message::Message),
    /// The noun of schedules.
    #[command(about = nouns::SCHEDULE.title())]
    Schedule(cli::schedule::Schedule),
    /// The noun of engines.
    #[command(about = nouns::ENGINE.title())]
    Engine(cli::engine::Engine),
}

impl Noun for Nouns {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Topic(topic) => topic.run(),
            Self::Queue(queue) => queue.run(),
            Self::Subscription(subscription) => subscription.run(),
            Self::Message(message) => message.run(),
            Self::Schedule(schedule) => schedule.run(),
            Self::Engine(engine) => engine.run(),
        }
    }
}

/// What a configuration says of messages, ready to be put in force.
#[derive(Default)]
pub struct Ready {
    declarations: Declarations,
    prepared: Option<PreparedAnywhere>,
    declared: Declared,
    pushes: Vec<PushSubscription>,
    /// The routes by which what the API declares is pushed, by service.
    services: HashMap<String, Name>,
}

impl Ready {
    fn declare(&mut self, plan: &plan::Messages) -> anyhow::Result<()> {
        let to = &mut self.declarations;
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
            let (target, when) = (schedule.target.clone(), schedule.when.clone());
            to.schedules.push((key(id.as_str())?, target, when, schedule.publish.clone()));
        }
        for push in &plan.push {
            let of = plan.subscriptions.iter().find(|of| of.name == push.subscription);
            self.pushes.push(PushSubscription {
                subscription: subscription_key(of.context("a push without its subscription")?)?,
                route: push.route.clone(),
                path: push.path.clone(),
                concurrency: push.concurrency,
                timeout: push.timeout,
            });
        }
        let services = plan.services.iter();
        self.services.extend(services.map(|(service, route)| (service.to_string(), route.clone())));
        Ok(())
    }
}

fn key(name: &str) -> anyhow::Result<Key> {
    Key::plain(name).map_err(described)
}

fn subscription_key(of: &plan::Subscription) -> anyhow::Result<SubscriptionKey> {
    SubscriptionKey::new(&key(&of.topic)?, of.name.as_str()).map_err(described)
}

/// How AMQP is spoken.
fn amqp(plan: &plan::Amqp) -> Result<weft_amqp::Options> {
    let grant = |of: &plan::AmqpPermissions| {
        Ok(Grant {
            vhost: of.vhost.clone(),
            configure: PermissionPattern::new(&of.configure)?,
            write: PermissionPattern::new(&of.write)?,
            read: PermissionPattern::new(&of.read)?,
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
