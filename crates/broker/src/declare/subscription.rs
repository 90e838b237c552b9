//! Subscriptions: a group over a topic's log, or one over each topic that a pattern takes.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::Notify;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{GroupId, GroupOptions, GroupStart, LogId};

use super::{Definition, check_fixed};
use crate::{
    broker::Broker,
    dead::check_dead_key,
    name::{Key, Pattern, SubscriptionKey, stored},
    options::{Order, Start, SubscriptionOptions},
    source::{Member, MessageSource, Subscription, SubscriptionSettings, Topic},
    watch::{Aftermaths, Deleted},
};

fn group_options(log: LogId, options: &SubscriptionOptions, start: Start) -> GroupOptions {
    GroupOptions {
        start: match start {
            Start::First => GroupStart::First,
            Start::Last => GroupStart::Last,
            Start::Next => GroupStart::Next,
            Start::Position(position) => GroupStart::Position(position),
            Start::Time(ms) => GroupStart::Time(ms),
        },
        lease: options.lease,
        keyed: options.order != Order::None,
        single: options.single_active,
        ..GroupOptions::over(log)
    }
}

/// Checks what a new subscription says of itself.
pub(super) fn check_new(key: &SubscriptionKey, options: &SubscriptionOptions) -> Result<()> {
    if Pattern::is_one(&key.topic.name) && matches!(options.start, Start::Position(_)) {
        return Err(Error::new(
            Reason::MalformedRequest,
            "start: a position is one of a single topic: start by time, or at first, last or next",
        ));
    }
    check_dead_key(&options.dead_letter, &key.topic, &key.name)
}

/// Checks that a subscription can become what `options` say.
pub(super) fn check_change(
    subscription: &Subscription,
    options: &SubscriptionOptions,
) -> Result<()> {
    let (key, old) = (&subscription.key, subscription.options());
    if old.dead_letter != options.dead_letter {
        check_dead_key(&options.dead_letter, &key.topic, &key.name)?;
    }
    let fixed = [("start", old.start != options.start), ("order", old.order != options.order)];
    check_fixed(&fixed, "seek moves a subscription; for another order, declare one of another name")
}

impl Broker {
    /// Declares a subscription of a topic, or of every topic that a pattern takes, now and later; one
    /// that is there with the same options is answered as it is.
    ///
    /// # Errors
    /// [`Reason::NoTopic`] without the topic, [`Reason::MalformedRequest`] with every fault of the
    /// options and for a start beyond the end of the topic, [`Reason::DefinitionConflict`] if it is there with other options.
    pub async fn declare_subscription(
        &self,
        key: &SubscriptionKey,
        options: SubscriptionOptions,
    ) -> Result<Arc<Subscription>> {
        options.check()?;
        let _one = self.inner().changing.lock().await;
        if let Ok(subscription) = self.subscription(key) {
            subscription.usage.touch(self.clock().now());
            if subscription.settings().options != options {
                return Err(Error::new(
                    Reason::DefinitionConflict,
                    format!("subscription {key} is there with other options"),
                ));
            }
            return Ok(subscription);
        }
        check_new(key, &options)?;
        if !Pattern::is_one(&key.topic.name) {
            let topic = self.topic(&key.topic)?;
            if let Start::Position(position) = options.start {
                self.check_position(&topic, position).map_err(|error| error.at("start"))?;
            }
        }
        self.sweep_groups(key).await?;
        let subscription = self.attach_subscription(key, options.clone()).await?;
        let definition = Definition::of_subscription(key, options);
        if let Err(error) =
            self.define(stored::subscription(&key.topic, &key.name), &definition).await
        {
            self.detach_subscription(&subscription).await?;
            return Err(error);
        }
        Ok(subscription)
    }

    /// Removes groups that a crash left behind without a definition.
    pub(super) async fn sweep_groups(&self, key: &SubscriptionKey) -> Result<()> {
        let name = stored::subscription(&key.topic, &key.name);
        for (found, group, _) in self.store().groups(&name, None, 10_000).await? {
            if found == name || found[name.len()..].starts_with('\u{1f}') {
                self.store().drop_group(group).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn attach_subscription(
        &self,
        key: &SubscriptionKey,
        options: SubscriptionOptions,
    ) -> Result<Arc<Subscription>> {
        let pattern =
            Pattern::is_one(&key.topic.name).then(|| Pattern::new(&key.topic.name)).transpose()?;
        let paused = options.paused;
        let start = options.start;
        let settings = SubscriptionSettings::new(options)?;
        let mut members = Vec::new();
        for topic in self.topics() {
            let takes = topic.key.space == key.topic.space
                && match &pattern {
                    Some(pattern) => pattern.takes(&topic.key.name),
                    None => topic.key == key.topic,
                };
            if takes {
                members.push(self.member(key, pattern.is_some(), &settings, topic, start).await?);
            }
        }
        for member in &members {
            self.store().pause_now(member.group, paused)?;
            member.topic.subscriptions.fetch_add(1, Ordering::Relaxed);
        }
        let subscription = Arc::new(Subscription {
            key: key.clone(),
            pattern,
            settings: parking_lot::RwLock::new(settings),
            members: parking_lot::RwLock::new(Arc::new(members)),
            changed: Notify::new(),
            counters: Default::default(),
            usage: Default::default(),
            parked: Default::default(),
            dead_letters_waiting: Default::default(),
        });
        subscription.usage.touch(self.clock().now());
        let mut registry = self.inner().registry.write();
        for member in subscription.members().iter() {
            registry.groups.insert(
                member.group,
                MessageSource::Subscription(Arc::clone(&subscription)).downgrade(),
            );
        }
        registry.named.insert(named(key), Arc::clone(&subscription));
        registry.subscriptions.insert(key.clone(), Arc::clone(&subscription));
        drop(registry);
        self.inner().subscribed.notify_waiters();
        self.watch_subscription(&subscription);
        Ok(subscription)
    }

    async fn member(
        &self,
        key: &SubscriptionKey,
        wildcard: bool,
        settings: &SubscriptionSettings,
        topic: Arc<Topic>,
        start: Start,
    ) -> Result<Member> {
        let name = if wildcard {
            stored::member(key, &topic.key)
        } else {
            stored::subscription(&key.topic, &key.name)
        };
        let options = group_options(topic.log, &settings.options, start);
        let group = self.group_as_defined(&name, options).await?;
        Ok(Member { topic, group })
    }

    /// Lets wildcard subscriptions read a new topic, from its first message on.
    pub(super) async fn join_wildcards(&self, topic: &Arc<Topic>) -> Result<()> {
        for subscription in self.subscriptions() {
            let takes = subscription.key.topic.space == topic.key.space
                && subscription
                    .pattern
                    .as_ref()
                    .is_some_and(|pattern| pattern.takes(&topic.key.name));
            if !takes {
                continue;
            }
            let settings = subscription.settings();
            let key = &subscription.key;
            let member = self.member(key, true, &settings, Arc::clone(topic), Start::First).await?;
            self.store().pause_now(member.group, settings.options.paused)?;
            topic.subscriptions.fetch_add(1, Ordering::Relaxed);
            self.inner().registry.write().groups.insert(
                member.group,
                MessageSource::Subscription(Arc::clone(&subscription)).downgrade(),
            );
            let mut members = Vec::clone(&subscription.members());
            members.push(member);
            *subscription.members.write() = Arc::new(members);
            subscription.changed.notify_waiters();
        }
        Ok(())
    }

    /// Takes a topic that is being deleted out of wildcard subscriptions.
    pub(super) fn leave_wildcards(&self, topic: &Arc<Topic>) {
        for subscription in self.subscriptions() {
            let members = subscription.members();
            let Some(member) = members.iter().find(|member| Arc::ptr_eq(&member.topic, topic))
            else {
                continue;
            };
            self.inner().registry.write().groups.remove(&member.group);
            self.forget_taken(member.group);
            let rest: Vec<_> =
                members.iter().filter(|other| other.group != member.group).cloned().collect();
            *subscription.members.write() = Arc::new(rest);
            subscription.changed.notify_waiters();
        }
    }

    /// Changes the options of a subscription, but for its start and order.
    ///
    /// # Errors
    /// [`Reason::NoSubscription`], [`Reason::MalformedRequest`], [`Reason::DefinitionConflict`] for what
    /// cannot be changed.
    pub async fn alter_subscription(
        &self,
        key: &SubscriptionKey,
        options: SubscriptionOptions,
    ) -> Result<()> {
        options.check()?;
        let _one = self.inner().changing.lock().await;
        let subscription = self.subscription(key)?;
        check_change(&subscription, &options)
            .map_err(|error| error.at(format!("subscription {key}")))?;
        let settings = SubscriptionSettings::new(options.clone())?;
        self.alter_subscription_groups(&subscription, &options).await?;
        let definition = Definition::of_subscription(key, options);
        self.define(stored::subscription(&key.topic, &key.name), &definition).await?;
        self.enter_subscription_settings(&subscription, settings);
        Ok(())
    }

    pub(super) async fn alter_subscription_groups(
        &self,
        subscription: &Subscription,
        options: &SubscriptionOptions,
    ) -> Result<()> {
        for member in subscription.members().iter() {
            let group = group_options(member.topic.log, options, options.start);
            self.store().alter_group(member.group, group).await?;
            self.store().pause_now(member.group, options.paused)?;
        }
        Ok(())
    }

    pub(super) fn enter_subscription_settings(
        &self,
        subscription: &Arc<Subscription>,
        settings: Arc<SubscriptionSettings>,
    ) {
        *subscription.settings.write() = settings;
        self.watch_subscription(subscription);
    }

    /// Stops or resumes handing out, until it is said otherwise.
    ///
    /// # Errors
    /// As [`Broker::alter_subscription`].
    pub async fn pause(&self, key: &SubscriptionKey, paused: bool) -> Result<()> {
        let options = self.subscription(key)?.options();
        self.alter_subscription(key, SubscriptionOptions { paused, ..options }).await
    }

    /// Deletes a subscription; its consumers are told [`Reason::NoSubscription`].
    ///
    /// # Errors
    /// [`Reason::NoSubscription`].
    pub async fn delete_subscription(&self, key: &SubscriptionKey) -> Result<()> {
        let mut aftermaths = Aftermaths::default();
        let deleted = {
            let _one = self.inner().changing.lock().await;
            let subscription = self.subscription(key)?;
            self.delete_subscription_alone(&subscription, &mut aftermaths).await
        };
        aftermaths.finish().await;
        deleted
    }

    /// Deletes a subscription while nobody else changes definitions.
    pub(crate) async fn delete_subscription_alone(
        &self,
        subscription: &Arc<Subscription>,
        aftermaths: &mut Aftermaths,
    ) -> Result<()> {
        let key = &subscription.key;
        self.undefine([stored::subscription(&key.topic, &key.name)]).await?;
        self.remove_subscription(subscription, aftermaths).await
    }

    /// Removes a subscription that is no longer defined.
    pub(super) async fn remove_subscription(
        &self,
        subscription: &Arc<Subscription>,
        aftermaths: &mut Aftermaths,
    ) -> Result<()> {
        let detached = self.detach_subscription(subscription).await;
        self.tell_deleted(Deleted::Subscription(&subscription.key), aftermaths);
        detached?;
        self.forget_parked(&MessageSource::Subscription(Arc::clone(subscription))).await
    }

    async fn detach_subscription(&self, subscription: &Arc<Subscription>) -> Result<()> {
        subscription.usage.delete();
        let members = subscription.members();
        let mut groups: Vec<GroupId> = Vec::with_capacity(members.len());
        {
            let mut registry = self.inner().registry.write();
            registry.subscriptions.remove(&subscription.key);
            let name = named(&subscription.key);
            if registry.named.get(&name).is_some_and(|now| Arc::ptr_eq(now, subscription)) {
                registry.named.remove(&name);
            }
            for member in members.iter() {
                registry.groups.remove(&member.group);
                member.topic.subscriptions.fetch_sub(1, Ordering::Relaxed);
                groups.push(member.group);
            }
        }
        subscription.changed.notify_waiters();
        for group in groups {
            self.forget_taken(group);
            self.store().drop_group(group).await?;
        }
        Ok(())
    }
}

/// A subscription's own name in its space.
fn named(key: &SubscriptionKey) -> Key {
    Key { space: key.topic.space.clone(), name: key.name.clone() }
}
