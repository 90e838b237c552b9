//! Many declarations as one: all of them are checked before any is put in force.
//!
//! [`Broker::prepare`] checks a whole set against what is there, changes nothing, and lists everything that
//! is wrong. What it hands out keeps definitions as they are until it is committed or dropped, so that what
//! was checked still holds then. [`Prepared::stage`] adds the definitions to a transaction, which may be
//! shared with whoever else keeps something: they are what counts. Once that is durable,
//! [`Prepared::enforce`] lets logs and groups follow them, and after a crash between the two
//! [`Broker::open`] does. Only the store can refuse the transaction, and the same set enforced again
//! completes what has not followed.
//!
//! Nothing that holds messages is deleted because it is declared no more. A schedule holds none, and would go
//! on publishing: one that was declared and is not in the set any more is removed by the same transaction.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::sync::OwnedMutexGuard;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{Durability, ExpectValue, NAME_BYTES_MAX, Op, Transaction};

use super::{Definition, check_engine, encode, queue, subscription, topic};
use crate::{
    broker::Broker,
    dead::check_dead_key,
    name::{Key, Pattern, SubscriptionKey, stored},
    options::{QueueOptions, Start, SubscriptionOptions, TopicOptions},
    schedule::{self, DeclaredSchedule, ScheduleTarget, StagedSchedules},
    source::{Queue, Subscription, SubscriptionSettings, Topic},
};

/// The most definitions of one transaction, and their most bytes: what is beyond that is written after it.
const DEFINITIONS_MAX: usize = 5_000;
const DEFINITION_BYTES_MAX: usize = 1 << 20;

/// What is to be there, with these options; a later one of a name counts.
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    /// Topics.
    pub topics: Vec<(Key, TopicOptions)>,
    /// Queues.
    pub queues: Vec<(Key, QueueOptions)>,
    /// Subscriptions. One that is there stays paused or not as it is.
    pub subscriptions: Vec<(SubscriptionKey, SubscriptionOptions)>,
    /// All schedules: one that was declared before and is not among them is removed. One that was made
    /// otherwise and has the id of one of them becomes that.
    pub schedules: Vec<DeclaredSchedule>,
}

/// A set of declarations that can be put in force. While it lives nobody else declares, alters or deletes.
#[derive(Debug)]
pub struct Prepared {
    broker: Broker,
    declarations: Declarations,
    /// Its schedules, once they are staged.
    schedules: Option<StagedSchedules>,
    /// What did not fit into the transaction of the others.
    rest: Vec<Transaction>,
    _changing: OwnedMutexGuard<()>,
}

/// The largest messages of what is declared, in bytes.
struct Bounds<'a> {
    topics: HashMap<&'a Key, u64>,
    queues: HashMap<&'a Key, u64>,
}

impl Broker {
    /// Checks declarations against each other and against what is there. Nothing is changed by it.
    ///
    /// # Errors
    /// Everything that is wrong, each with the object that it is about.
    pub async fn prepare(&self, declarations: Declarations) -> Result<Prepared, Vec<Error>> {
        let changing = Arc::clone(&self.inner().changing).lock_owned().await;
        let mut prepared = Prepared {
            broker: self.clone(),
            declarations,
            schedules: None,
            rest: Vec::new(),
            _changing: changing,
        };
        for (key, options) in &mut prepared.declarations.subscriptions {
            let there = self.subscription(key).ok();
            options.paused = there.map_or(options.paused, |there| there.options().paused);
        }
        let faults = prepared.faults();
        if faults.is_empty() { Ok(prepared) } else { Err(faults) }
    }
}

impl Prepared {
    /// Everything that is wrong.
    fn faults(&self) -> Vec<Error> {
        let all = &self.declarations;
        let mut faults = Vec::new();
        let mut note = |what: &str, name: &dyn std::fmt::Display, checked: Result<()>| {
            faults.extend(checked.err().map(|error| error.at(format!("{what} {name}"))));
        };
        for (key, options) in &all.topics {
            note("topic", key, topic::check(key, options));
        }
        for (key, options) in &all.queues {
            note("queue", key, self.check_queue(key, options));
        }
        let topics: HashSet<&Key> = all.topics.iter().map(|(key, _)| key).collect();
        let bounds = Bounds {
            topics: all.topics.iter().map(|(key, of)| (key, of.message_bytes_max)).collect(),
            queues: all.queues.iter().map(|(key, of)| (key, of.message_bytes_max)).collect(),
        };
        for (key, options) in &all.subscriptions {
            note("subscription", key, self.check_subscription(key, options, &topics));
        }
        for declared in &all.schedules {
            let (id, target, ..) = declared;
            let checked = self
                .largest(id, target, &bounds)
                .and_then(|most| schedule::check(declared, most, self.broker.now_ms()));
            note("schedule", id, checked);
        }
        faults
    }

    fn check_queue(&self, key: &Key, options: &QueueOptions) -> Result<()> {
        options.check()?;
        check_engine(options.engine.as_deref())?;
        match self.broker.queue(key) {
            Ok(there) => {
                there.check_owner(options.exclusive)?;
                queue::check_change(&there, options)
            }
            Err(_absent) => check_dead_key(&options.dead_letter, key, &key.name),
        }
    }

    fn check_subscription(
        &self,
        key: &SubscriptionKey,
        options: &SubscriptionOptions,
        topics: &HashSet<&Key>,
    ) -> Result<()> {
        options.check()?;
        if let Ok(there) = self.broker.subscription(key) {
            return subscription::check_change(&there, options);
        }
        subscription::check_new(key, options)?;
        if let Ok(other) = self.broker.subscription_named(&key.topic.sibling(&key.name)?) {
            let say = format!(
                "there is a subscription of this name, {}, and a subscription stays with its topic; \
                 delete that one, or declare another name",
                other.key()
            );
            return Err(Error::new(Reason::DefinitionConflict, say));
        }
        if Pattern::is_one(&key.topic.name) {
            let pattern = Pattern::new(&key.topic.name)?;
            let there = self.broker.topics();
            let mut taken = there.iter().map(|topic| &topic.key).chain(topics.iter().copied());
            return match taken.find(|topic| {
                topic.space == key.topic.space
                    && pattern.takes(&topic.name)
                    && stored::member(key, topic).len() > NAME_BYTES_MAX
            }) {
                Some(topic) => Err(Error::new(
                    Reason::MalformedRequest,
                    format!("its name, its pattern and the name of topic {topic} are too long"),
                )),
                None => Ok(()),
            };
        }
        match (self.broker.topic(&key.topic), options.start) {
            (Ok(topic), Start::Position(position)) => self.broker.check_position(&topic, position),
            (Err(_new), Start::Position(1..)) if topics.contains(&key.topic) => {
                let say = format!("start: topic {} is new, and has no messages yet", key.topic);
                Err(Error::new(Reason::PositionConflict, say))
            }
            (Err(absent), _) if !topics.contains(&key.topic) => Err(absent),
            _ => Ok(()),
        }
    }

    /// The largest message that the target of a schedule takes, if it is there or declared.
    fn largest(&self, id: &Key, target: &ScheduleTarget, bounds: &Bounds<'_>) -> Result<u64> {
        match target {
            ScheduleTarget::Topic(name) => {
                let key = id.sibling(name)?;
                let there = || Ok(self.broker.topic(&key)?.settings().message_bytes_max);
                bounds.topics.get(&key).copied().map_or_else(there, Ok)
            }
            ScheduleTarget::Queue(name) => {
                let key = id.sibling(name)?;
                let there = || Ok(self.broker.queue(&key)?.options().message_bytes_max);
                bounds.queues.get(&key).copied().map_or_else(there, Ok)
            }
        }
    }

    /// Adds the definitions to a transaction; once it is durable, [`Prepared::enforce`] is to be called.
    ///
    /// # Errors
    /// What the store says. Nothing that is defined is changed then.
    pub async fn stage(&mut self, to: &mut Transaction) -> Result<()> {
        self.sweep().await?;
        let mut schedules = self.broker.stage_schedules(&self.declarations.schedules).await?;
        // What is removed is of the first transaction, and what a schedule leads to is before it.
        let ops = std::mem::take(&mut schedules.removals)
            .into_iter()
            .chain(self.definitions()?)
            .chain(std::mem::take(&mut schedules.changes));
        let mut all = transactions(ops).into_iter();
        self.schedules = Some(schedules);
        to.ops.extend(all.next().into_iter().flat_map(|first| first.ops));
        self.rest = all.collect();
        Ok(())
    }

    /// The schedules that are removed, once it is staged, since they are declared no more.
    pub fn removed_schedules(&self) -> &[Key] {
        self.schedules.as_ref().map_or(&[], |schedules| &schedules.removed)
    }

    /// Puts the declarations in force by themselves, in a transaction of their own.
    ///
    /// # Errors
    /// What the store says. Nothing is changed then.
    pub async fn commit(mut self) -> Result<Vec<Error>> {
        let mut definitions = Transaction::new(Durability::Fsync);
        self.stage(&mut definitions).await?;
        if !definitions.ops.is_empty() {
            self.broker.store().commit(definitions).await?;
        }
        Ok(self.enforce().await)
    }

    /// Lets everything follow the definitions. Gives what could not: it is declared, and follows when the
    /// same is prepared and enforced again, or at the next opening.
    pub async fn enforce(mut self) -> Vec<Error> {
        let missing = self.follow().await;
        if let Some(schedules) = self.schedules.take() {
            self.broker.enter_schedules(schedules);
        }
        missing
    }

    async fn follow(&mut self) -> Vec<Error> {
        let mut missing = Vec::new();
        for some in std::mem::take(&mut self.rest) {
            // What is not defined must not be there.
            if let Err(refused) = self.broker.store().commit(some).await {
                return vec![refused.into()];
            }
        }
        let mut note = |what: &str, name: &(dyn std::fmt::Display + Sync), done: Result<()>| {
            missing.extend(done.err().map(|error| error.at(format!("{what} {name}"))));
        };
        for (key, options) in &self.declarations.topics {
            note("topic", key, self.enforce_topic(key, options).await);
        }
        for (key, options) in &self.declarations.queues {
            note("queue", key, self.enforce_queue(key, options).await);
        }
        for (key, options) in &self.declarations.subscriptions {
            note("subscription", key, self.enforce_subscription(key, options).await);
        }
        missing
    }

    fn topic(&self, key: &Key) -> Option<Arc<Topic>> {
        self.broker.topic(key).ok()
    }

    fn queue(&self, key: &Key) -> Option<Arc<Queue>> {
        self.broker.queue(key).ok()
    }

    fn subscription(&self, key: &SubscriptionKey) -> Option<Arc<Subscription>> {
        self.broker.subscription(key).ok()
    }

    /// Removes what a crash has left under names that are to be new: once they are defined it would be
    /// taken for theirs.
    async fn sweep(&self) -> Result<()> {
        let all = &self.declarations;
        for (key, _) in all.topics.iter().filter(|(key, _)| self.topic(key).is_none()) {
            self.broker.sweep_log(&stored::topic(key)).await?;
        }
        for (key, _) in all.queues.iter().filter(|(key, _)| self.queue(key).is_none()) {
            self.broker.sweep_log(&stored::queue(key)).await?;
        }
        for (key, _) in all.subscriptions.iter().filter(|(key, _)| self.subscription(key).is_none())
        {
            self.broker.sweep_groups(key).await?;
        }
        Ok(())
    }

    /// What writes the definitions that are new or otherwise than they were.
    fn definitions(&self) -> Result<Vec<Op>> {
        let all = &self.declarations;
        let topics = all.topics.iter().filter(|(key, options)| {
            self.topic(key).is_none_or(|there| *there.settings() != *options)
        });
        let queues = all.queues.iter().filter(|(key, options)| {
            !options.transient && self.queue(key).is_none_or(|there| there.options() != *options)
        });
        let subscriptions = all.subscriptions.iter().filter(|(key, options)| {
            self.subscription(key).is_none_or(|there| there.options() != *options)
        });
        let definitions = topics
            .map(|(key, options)| (stored::topic(key), Definition::of_topic(key, options.clone())))
            .chain(queues.map(|(key, options)| {
                (stored::queue(key), Definition::of_queue(key, options.clone()))
            }))
            .chain(subscriptions.map(|(key, options)| {
                let name = stored::subscription(&key.topic, &key.name);
                (name, Definition::of_subscription(key, options.clone()))
            }));
        let map = self.broker.inner().maps.definitions;
        definitions
            .map(|(name, definition)| {
                let (key, value) = (name.into(), encode(&definition)?);
                Ok(Op::Put { map, key, value, expires_ms: 0, expect: ExpectValue::Any })
            })
            .collect()
    }

    async fn enforce_topic(&self, key: &Key, options: &TopicOptions) -> Result<()> {
        if let Some(topic) = self.topic(key) {
            if *topic.settings() != *options {
                self.broker.alter_topic_log(&topic, options).await?;
                *topic.settings.write() = Arc::new(options.clone());
            }
            return Ok(());
        }
        let topic = self.broker.make_topic(key, options.clone()).await?;
        if let Err(error) = self.broker.join_wildcards(&topic).await {
            self.broker.detach_topic(&topic).await?;
            return Err(error);
        }
        self.broker.enter_topic(&topic);
        Ok(())
    }

    async fn enforce_queue(&self, key: &Key, options: &QueueOptions) -> Result<()> {
        let Some(queue) = self.queue(key) else {
            return self.broker.attach_queue(key, options.clone()).await;
        };
        queue.usage.touch(self.broker.clock().now());
        if queue.options() != *options {
            self.broker.alter_queue_store(&queue, options).await?;
            self.broker.enter_queue_options(&queue, options.clone());
        }
        Ok(())
    }

    async fn enforce_subscription(
        &self,
        key: &SubscriptionKey,
        options: &SubscriptionOptions,
    ) -> Result<()> {
        let Some(subscription) = self.subscription(key) else {
            return self.broker.attach_subscription(key, options.clone()).await.map(|_| ());
        };
        subscription.usage.touch(self.broker.clock().now());
        if subscription.options() != *options {
            let settings = SubscriptionSettings::new(options.clone())?;
            self.broker.alter_subscription_groups(&subscription, options).await?;
            self.broker.enter_subscription_settings(&subscription, settings);
        }
        Ok(())
    }
}

/// The transactions of operations: one, if it is not beyond all measure.
fn transactions(ops: impl Iterator<Item = Op>) -> Vec<Transaction> {
    let mut transactions: Vec<Transaction> = Vec::new();
    let mut bytes = 0;
    for op in ops {
        let more = match &op {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete { key, .. } => key.len(),
            _ => 0,
        };
        match transactions.last_mut() {
            Some(last)
                if last.ops.len() < DEFINITIONS_MAX && bytes + more <= DEFINITION_BYTES_MAX =>
            {
                bytes += more;
                last.ops.push(op);
            }
            _ => {
                let mut next = Transaction::new(Durability::Fsync);
                next.ops.push(op);
                transactions.push(next);
                bytes = more;
            }
        }
    }
    transactions
}
