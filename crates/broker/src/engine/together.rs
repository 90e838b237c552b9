//! The declarations of a configuration, each with its engine.
//!
//! The definitions are one transaction, whichever engine they are of: they are what counts. What the embedded
//! engine keeps follows them ([`Prepared`]), then the others are asked to make what is theirs; an engine that
//! is away has it made when the same is enforced again.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::OwnedMutexGuard;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{Durability, Transaction};

use super::{
    AnyTarget, EMBEDDED, Engine, Engines,
    definitions::{check, kept_by, named, within},
    directory::defining,
    handles::Elsewhere,
    kept::Kept,
};
use crate::{
    declare::{Declarations, Definition, Prepared},
    name::{Key, SubscriptionKey},
    options::{QueueOptions, SubscriptionOptions, TopicOptions},
    schedule::ScheduleTarget,
};

/// A thing to be kept by another engine.
type Planned<O> = Arc<Elsewhere<<O as Kept>::Key, O>>;

/// Declarations that can be put in force. While it lives nobody else declares, alters or deletes.
#[derive(Debug)]
pub struct PreparedAnywhere {
    engines: Engines,
    here: Prepared,
    topics: Vec<(Planned<TopicOptions>, TopicOptions)>,
    queues: Vec<(Planned<QueueOptions>, QueueOptions)>,
    subscriptions: Vec<(Planned<SubscriptionOptions>, SubscriptionOptions)>,
    _changing: Option<OwnedMutexGuard<()>>,
}

impl Engines {
    /// Checks declarations against each other, against what is there and against what their engines have.
    /// Nothing is changed by it, and no engine is asked.
    ///
    /// # Errors
    /// Everything that is wrong, each with the object that it is about.
    pub async fn prepare(&self, all: Declarations) -> Result<PreparedAnywhere, Vec<Error>> {
        let changing = self.change().await;
        let mut here = Declarations::default();
        let mut faults = Vec::new();
        let (mut topics, mut queues, mut subscriptions) = (Vec::new(), Vec::new(), Vec::new());
        // The topics of other engines, with those that are declared here.
        let mut engines: HashMap<Key, Arc<dyn Engine>> = HashMap::new();
        for (key, options) in all.topics {
            let is_here = self.embedded().topic(&key).is_ok();
            match self.planned(&key, &options, options.engine.as_deref(), is_here) {
                Ok(Some(of)) => {
                    engines.insert(key, Arc::clone(&of.engine));
                    topics.push((of, options));
                }
                Ok(None) => here.topics.push((key, TopicOptions { engine: None, ..options })),
                Err(error) => faults.push(error),
            }
        }
        for (key, options) in all.queues {
            let is_here = self.embedded().queue(&key).is_ok();
            match self.planned(&key, &options, options.engine.as_deref(), is_here) {
                Ok(Some(of)) => queues.push((of, options)),
                Ok(None) => here.queues.push((key, QueueOptions { engine: None, ..options })),
                Err(error) => faults.push(error),
            }
        }
        for (key, options) in all.subscriptions {
            let known = self.0.directory.read().topics.get(&key.topic).map(|of| of.engine.clone());
            let Some(engine) = engines.get(&key.topic).cloned().or(known) else {
                here.subscriptions.push((key, options));
                continue;
            };
            match self.planned_subscription(&key, options, &engine) {
                Ok(planned) => subscriptions.push(planned),
                Err(error) => faults.push(error),
            }
        }
        for (id, target, when, publish) in all.schedules {
            let is = |key: &Key, name: &str| key.space == id.space && *key.name == *name;
            let is_planned = match &target {
                ScheduleTarget::Queue(name) => queues.iter().any(|(of, _)| is(of.key(), name)),
                ScheduleTarget::Topic(name) => topics.iter().any(|(of, _)| is(of.key(), name)),
            };
            let found = self.schedule_target(&id, &target);
            let refused = is_planned || matches!(found, Ok(AnyTarget::Other(_)));
            if refused {
                let say =
                    "another engine keeps its target, and named schedules are of the embedded one";
                faults.push(Error::new(Reason::NotSupported, say).at(format!("schedule {id}")));
            } else {
                here.schedules.push((id, target, when, publish));
            }
        }
        let planned: HashMap<Key, String> = queues
            .iter()
            .map(|(of, _)| (of.key().clone(), of.engine().name().to_owned()))
            .chain(here.queues.iter().map(|(key, _)| (key.clone(), EMBEDDED.to_owned())))
            .collect();
        let keeper = |queue: &Key| {
            let there = || self.queue(queue).ok().map(|queue| queue.engine().to_owned());
            planned.get(queue).cloned().or_else(there)
        };
        let elsewhere = !self.0.others.is_empty();
        let mut stays = |checked: Result<()>| faults.extend(checked.err());
        for (of, options) in &queues {
            stays(within(of.key(), options, of.engine().name(), keeper));
        }
        for (of, options) in &subscriptions {
            stays(within(of.key(), options, of.engine().name(), keeper));
        }
        for (key, options) in here.queues.iter().filter(|_| elsewhere) {
            stays(within(key, options, EMBEDDED, keeper));
        }
        for (key, options) in here.subscriptions.iter().filter(|_| elsewhere) {
            stays(within(key, options, EMBEDDED, keeper));
        }
        match self.embedded().prepare(here).await {
            Ok(here) if faults.is_empty() => Ok(PreparedAnywhere {
                engines: self.clone(),
                here,
                topics,
                queues,
                subscriptions,
                _changing: changing,
            }),
            Ok(_) => Err(faults),
            Err(more) => {
                faults.extend(more);
                Err(faults)
            }
        }
    }

    /// What another engine is to keep; `None` for the embedded one.
    fn planned<O: Kept>(
        &self,
        key: &O::Key,
        options: &O,
        engine: Option<&str>,
        is_here: bool,
    ) -> Result<Option<Planned<O>>> {
        let place = |error: Error| error.at(format!("{} {key}", O::WHAT));
        let there = O::all(&self.0.directory.read()).get(key).cloned();
        let Some(name) = named(engine) else {
            return match there {
                Some(there) => Err(place(kept_by(O::WHAT, key, there.engine().name()))),
                None => Ok(None),
            };
        };
        let engine = self.other(name).map_err(place)?;
        check(key, options, &**engine).map_err(place)?;
        if is_here {
            return Err(place(kept_by(O::WHAT, key, EMBEDDED)));
        }
        match there {
            Some(there) if there.engine().name() != name => {
                Err(place(kept_by(O::WHAT, key, there.engine().name())))
            }
            Some(there) => Ok(Some(there)),
            None => Ok(Some(Elsewhere::new(key.clone(), options.clone(), engine, false))),
        }
    }

    /// A subscription that is there stays paused or not as it is.
    fn planned_subscription(
        &self,
        key: &SubscriptionKey,
        options: SubscriptionOptions,
        engine: &Arc<dyn Engine>,
    ) -> Result<(Planned<SubscriptionOptions>, SubscriptionOptions)> {
        let place = |error: Error| error.at(format!("subscription {key}"));
        let there = self.0.directory.read().subscriptions.get(key).cloned();
        let paused = there.as_ref().map_or(options.paused, |there| there.options.read().paused);
        let options = SubscriptionOptions { paused, ..options };
        check(key, &options, &**engine).map_err(place)?;
        if let Ok(other) = self.subscription_named(&key.topic.sibling(&key.name)?)
            && other.key() != key
        {
            let say = format!("there is a subscription of this name, {}", other.key());
            return Err(place(Error::new(Reason::DefinitionConflict, say)));
        }
        let new = || Elsewhere::new(key.clone(), options.clone(), engine, false);
        Ok((there.unwrap_or_else(new), options))
    }
}

impl PreparedAnywhere {
    /// Adds the definitions to a transaction that whoever prepares commits.
    ///
    /// # Errors
    /// What the store says.
    pub async fn stage(&mut self, to: &mut Transaction) -> Result<()> {
        self.here.stage(to).await?;
        let all = definitions(&self.topics)
            .chain(definitions(&self.queues))
            .chain(definitions(&self.subscriptions));
        to.ops.extend(defining(self.engines.0.map, all)?.ops);
        Ok(())
    }

    /// The schedules that are removed, once it is staged, since they are declared no more.
    pub fn removed_schedules(&self) -> &[Key] {
        self.here.removed_schedules()
    }

    /// Puts the declarations in force by themselves, in a transaction of their own.
    ///
    /// # Errors
    /// What the store says. Nothing is changed then.
    pub async fn commit(mut self) -> Result<Vec<Error>> {
        let mut definitions = Transaction::new(Durability::Fsync);
        self.stage(&mut definitions).await?;
        if !definitions.ops.is_empty() {
            self.engines.embedded().store().commit(definitions).await?;
        }
        Ok(self.enforce().await)
    }

    /// Lets everything follow the definitions. Gives what could not: it is declared, and follows when the
    /// same is prepared and enforced again.
    pub async fn enforce(self) -> Vec<Error> {
        let Self { engines, here, topics, queues, subscriptions, _changing } = self;
        let mut missing = here.enforce().await;
        let mut away = Vec::new();
        engines.enforce(topics, &mut away, &mut missing).await;
        engines.enforce(queues, &mut away, &mut missing).await;
        engines.enforce(subscriptions, &mut away, &mut missing).await;
        missing
    }
}

/// Whether a thing is not yet as it is to be.
fn is_otherwise<O: Kept>((of, options): &(Planned<O>, O)) -> bool {
    !of.is_made() || of.options() != *options
}

/// The definitions of what is not yet as it is to be.
fn definitions<O: Kept>(
    planned: &[(Planned<O>, O)],
) -> impl Iterator<Item = (String, Definition)> + '_ {
    planned
        .iter()
        .filter(|one| is_otherwise(one))
        .map(|(of, options)| (O::stored(of.key()), options.clone().definition(of.key())))
}

impl Engines {
    /// Has other engines make what they are to keep; one that is away is asked once.
    async fn enforce<O: Kept>(
        &self,
        planned: Vec<(Planned<O>, O)>,
        away: &mut Vec<String>,
        missing: &mut Vec<Error>,
    ) {
        for (of, options) in planned.iter().filter(|one| is_otherwise(one)) {
            let is_new = O::all(&self.0.directory.read()).get(of.key()).is_none();
            if is_new {
                self.enter::<O>(Arc::clone(of));
            }
            let engine = of.engine();
            let made = if away.iter().any(|name| name == engine.name()) {
                Err(super::unavailable(engine.name()))
            } else if is_new || of.options() == *options {
                options.clone().declare(of.key(), engine).await
            } else {
                options.clone().alter(of.key(), engine).await
            };
            match made {
                Ok(()) => of.made(options.clone()),
                Err(error) => {
                    if error.reason() == Reason::EngineUnavailable {
                        away.push(engine.name().to_owned());
                    }
                    missing.push(error.at(format!("{} {}", O::WHAT, of.key())));
                }
            }
        }
    }
}
