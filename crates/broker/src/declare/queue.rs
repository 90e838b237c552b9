//! Queues: a log of its own and the group that owns it.

use std::sync::Arc;

use weft_kernel::{Error, Reason, Result};
use weft_ledger::{DedupeWindow, GroupId, GroupOptions, Limit, LogId, LogOptions, LogRetention};

use super::{Definition, check_engine, check_fixed};
use crate::{
    broker::Broker,
    dead::check_dead_key,
    name::{Key, stored},
    options::{Dedupe, Order, QueueOptions},
    publish::{drops, storage},
    source::{MessageSource, Queue, QueueSettings},
    watch::{Aftermaths, Deleted},
};

pub(super) fn window(dedupe: Option<Dedupe>) -> Option<DedupeWindow> {
    dedupe.map(|dedupe| DedupeWindow { time: dedupe.time, ids_max: dedupe.ids })
}

fn log_options(options: &QueueOptions) -> LogOptions {
    let limit = (!drops(options)
        && (options.limit.messages.is_some() || options.limit.bytes.is_some()))
    .then_some(Limit { records: options.limit.messages, bytes: options.limit.bytes });
    LogOptions {
        storage: storage(options),
        retention: LogRetention::default(),
        compact: false,
        ordered: false,
        dedupe: window(options.dedupe),
        limit,
    }
}

fn group_options(log: LogId, options: &QueueOptions) -> GroupOptions {
    GroupOptions {
        lease: options.lease,
        keyed: options.order != Order::None,
        prioritized: options.priorities,
        single: options.single_active,
        ..GroupOptions::owning(log)
    }
}

/// Checks that a queue can become what `options` say.
pub(super) fn check_change(queue: &Queue, options: &QueueOptions) -> Result<()> {
    let (key, old) = (&queue.key, queue.options());
    if old.dead_letter != options.dead_letter {
        check_dead_key(&options.dead_letter, key, &key.name)?;
    }
    let fixed = [
        ("transient", old.transient != options.transient),
        ("exclusive", old.exclusive != options.exclusive),
        ("order", old.order != options.order),
        ("priorities", old.priorities != options.priorities),
        ("dedupe", old.dedupe != options.dedupe),
    ];
    check_fixed(&fixed, "delete the queue, or declare one of another name")
}

impl Broker {
    /// Declares a queue; one that is there with the same options is answered as it is.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] with every fault of the options, [`Reason::DefinitionConflict`] if
    /// it is there with other options, [`Reason::QueueLocked`] if it belongs to another connection.
    pub async fn declare_queue(&self, key: &Key, options: QueueOptions) -> Result<Arc<Queue>> {
        options.check()?;
        check_engine(options.engine.as_deref())?;
        let _one = self.inner().changing.lock().await;
        self.declare_queue_alone(key, options).await
    }

    /// Declares a queue while nobody else changes definitions.
    pub(super) async fn declare_queue_alone(
        &self,
        key: &Key,
        options: QueueOptions,
    ) -> Result<Arc<Queue>> {
        if let Ok(queue) = self.queue(key) {
            queue.check_owner(options.exclusive)?;
            queue.usage.touch(self.clock().now());
            if queue.settings().options != options {
                return Err(Error::new(
                    Reason::DefinitionConflict,
                    format!("queue {key} is there with other options"),
                ));
            }
            return Ok(queue);
        }
        check_dead_key(&options.dead_letter, key, &key.name)?;
        self.sweep_log(&stored::queue(key)).await?;
        let (log, group) = self.store_queue(key, &options).await?;
        if !options.transient {
            let definition = Definition::of_queue(key, options.clone());
            if let Err(error) = self.define(stored::queue(key), &definition).await {
                self.store().drop_log(log).await?;
                return Err(error);
            }
        }
        // Not before it is defined: what is acknowledged in it must be there after a crash.
        Ok(self.enter_queue(key, options, log, group))
    }

    /// Finds a defined queue again.
    pub(super) async fn attach_queue(&self, key: &Key, options: QueueOptions) -> Result<()> {
        let (log, group) = self.store_queue(key, &options).await?;
        self.enter_queue(key, options, log, group);
        Ok(())
    }

    /// The log and the group of a queue.
    async fn store_queue(&self, key: &Key, options: &QueueOptions) -> Result<(LogId, GroupId)> {
        let name = stored::queue(key);
        let log = self.log_as_defined(&name, log_options(options)).await?;
        let group = self.group_as_defined(&name, group_options(log, options)).await?;
        Ok((log, group))
    }

    fn enter_queue(
        &self,
        key: &Key,
        options: QueueOptions,
        log: LogId,
        group: GroupId,
    ) -> Arc<Queue> {
        let queue = Arc::new(Queue {
            key: key.clone(),
            log,
            group,
            settings: parking_lot::RwLock::new(QueueSettings::new(options)),
            counters: Default::default(),
            usage: Default::default(),
            parked: Default::default(),
            dead_letters_waiting: Default::default(),
            trimming: parking_lot::Mutex::default(),
        });
        queue.usage.touch(self.clock().now());
        let mut registry = self.inner().registry.write();
        registry.groups.insert(group, MessageSource::Queue(Arc::clone(&queue)).downgrade());
        registry.queues.insert(key.clone(), Arc::clone(&queue));
        drop(registry);
        self.watch_queue(&queue);
        queue
    }

    /// Changes what can be changed of a queue: all but whether it is transient, exclusive, in which order
    /// it hands out, and what it remembers of ids.
    ///
    /// # Errors
    /// [`Reason::NoQueue`], [`Reason::MalformedRequest`], [`Reason::DefinitionConflict`] for what cannot
    /// be changed.
    pub async fn alter_queue(&self, key: &Key, options: QueueOptions) -> Result<()> {
        options.check()?;
        check_engine(options.engine.as_deref())?;
        let _one = self.inner().changing.lock().await;
        let queue = self.queue(key)?;
        check_change(&queue, &options).map_err(|error| error.at(format!("queue {key}")))?;
        self.alter_queue_store(&queue, &options).await?;
        if !options.transient {
            self.define(stored::queue(key), &Definition::of_queue(key, options.clone())).await?;
        }
        self.enter_queue_options(&queue, options);
        Ok(())
    }

    /// Alters the log and the group of a queue.
    pub(super) async fn alter_queue_store(
        &self,
        queue: &Queue,
        options: &QueueOptions,
    ) -> Result<()> {
        self.store().alter_log(queue.log, log_options(options)).await?;
        self.store().alter_group(queue.group, group_options(queue.log, options)).await
    }

    pub(super) fn enter_queue_options(&self, queue: &Arc<Queue>, options: QueueOptions) {
        *queue.settings.write() = QueueSettings::new(options);
        self.watch_queue(queue);
    }

    /// Deletes a queue and its messages; its consumers are told [`Reason::NoQueue`].
    ///
    /// # Errors
    /// [`Reason::NoQueue`], and [`Reason::QueueLocked`] if it belongs to another connection than `owner`.
    pub async fn delete_queue(&self, key: &Key, owner: Option<u64>) -> Result<()> {
        let mut aftermaths = Aftermaths::default();
        let deleted = {
            let _one = self.inner().changing.lock().await;
            let queue = self.queue(key)?;
            queue.check_owner(owner)?;
            self.delete_queue_alone(&queue, &mut aftermaths).await
        };
        aftermaths.finish().await;
        deleted
    }

    /// Deletes a queue while nobody else changes definitions. What it leaves to be done is done once that
    /// is over: a watcher may wait for one who waits for it.
    pub(crate) async fn delete_queue_alone(
        &self,
        queue: &Arc<Queue>,
        aftermaths: &mut Aftermaths,
    ) -> Result<()> {
        if !queue.settings().options.transient {
            self.undefine([stored::queue(&queue.key)]).await?;
        }
        self.detach_queue(queue);
        self.tell_deleted(Deleted::Queue(&queue.key), aftermaths);
        self.store().drop_log(queue.log).await?;
        self.forget_parked(&MessageSource::Queue(Arc::clone(queue))).await
    }

    fn detach_queue(&self, queue: &Arc<Queue>) {
        queue.usage.delete();
        {
            let mut registry = self.inner().registry.write();
            registry.groups.remove(&queue.group);
            if registry.queues.get(&queue.key).is_some_and(|now| Arc::ptr_eq(now, queue)) {
                registry.queues.remove(&queue.key);
            }
        }
        self.forget_taken(queue.group);
    }
}
