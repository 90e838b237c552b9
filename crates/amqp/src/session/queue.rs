//! Queues: declaring, binding, emptying and deleting them.

use std::sync::Arc;

use weft_wire::amqp::{Method, Table, Value};

use super::{Session, exchange::binding};
use crate::{
    arguments::Declared,
    fault::Fault,
    name::{RESERVED, generated, in_one_line},
    options::Resource,
    reply,
    topology::{Binding, Destination},
    vhost::{Entry, Vhost},
};

impl Session {
    pub(super) async fn queue_method(
        &mut self,
        number: u16,
        method: Method<'_>,
    ) -> Result<(), Fault> {
        match method {
            Method::QueueDeclare { queue, passive: true, no_wait, .. } => {
                self.look(number, &in_one_line(queue), no_wait).await
            }
            Method::QueueDeclare {
                queue,
                durable,
                exclusive,
                auto_delete,
                no_wait,
                arguments,
                ..
            } => {
                let arguments = arguments.bytes().into();
                let declared = Declared { durable, exclusive, auto_delete, arguments };
                self.declare(number, &in_one_line(queue), declared, no_wait).await
            }
            Method::QueueBind { queue, exchange, routing_key, no_wait, arguments, .. } => {
                let (queue, exchange) = (&*in_one_line(queue), &*in_one_line(exchange));
                self.bind_queue(number, queue, exchange, routing_key, arguments).await?;
                self.answer(number, no_wait, &Method::QueueBindOk {});
                Ok(())
            }
            Method::QueueUnbind { queue, exchange, routing_key, arguments, .. } => {
                let (queue, exchange) = (&*in_one_line(queue), &*in_one_line(exchange));
                self.unbind_queue(number, queue, exchange, routing_key, arguments).await?;
                self.answer(number, false, &Method::QueueUnbindOk {});
                Ok(())
            }
            Method::QueuePurge { queue, no_wait, .. } => {
                let name = self.queue_name(number, queue)?;
                self.may_read(Resource::Queue(&name))?;
                let entry = self.vhost()?.usable(&name, self.id)?;
                self.hand_out(&entry).await;
                let count = self.server.broker.purge(&Arc::clone(&entry.queue).into()).await?;
                let message_count = u32::try_from(count).unwrap_or(u32::MAX);
                self.answer(number, no_wait, &Method::QueuePurgeOk { message_count });
                Ok(())
            }
            Method::QueueDelete { queue, if_unused, if_empty, no_wait, .. } => {
                let name = self.queue_name(number, &in_one_line(queue))?;
                let message_count = self.delete_queue(&name, if_unused, if_empty).await?;
                self.answer(number, no_wait, &Method::QueueDeleteOk { message_count });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Answers whether a queue is there, and how it stands.
    async fn look(&mut self, number: u16, queue: &str, no_wait: bool) -> Result<(), Fault> {
        let name = self.queue_name(number, queue)?;
        let vhost = self.vhost()?;
        if &*name == reply::QUEUE || self.server.replies.knows(&name) {
            let method =
                Method::QueueDeclareOk { queue: &name, message_count: 0, consumer_count: 1 };
            self.answer(number, no_wait, &method);
            return Ok(());
        }
        let entry = vhost.usable(&name, self.id)?;
        vhost.touch(&entry).await;
        self.declared(number, &entry, no_wait).await
    }

    async fn declared(&mut self, number: u16, entry: &Entry, no_wait: bool) -> Result<(), Fault> {
        self.hand_out(entry).await;
        self.channel(number)?.last_queue = Some(Arc::clone(&entry.name));
        let method = Method::QueueDeclareOk {
            queue: &entry.name,
            message_count: self.depth(entry),
            consumer_count: entry.queue.consumers(),
        };
        self.answer(number, no_wait, &method);
        Ok(())
    }

    async fn declare(
        &mut self,
        number: u16,
        queue: &str,
        declared: Declared,
        no_wait: bool,
    ) -> Result<(), Fault> {
        let vhost = self.vhost()?;
        let own;
        let name = if queue.is_empty() {
            own = generated("amq.gen-")?;
            own.as_str()
        } else {
            queue
        };
        self.may_configure(Resource::Queue(name))?;
        if !queue.is_empty() && name.starts_with(RESERVED) && vhost.entry(name).is_none() {
            return Err(Fault::refused(format_args!(
                "queue name '{name}' contains reserved prefix 'amq.*'"
            )));
        }
        let table = Table::parse(&declared.arguments)?;
        if let Some(to) =
            table.get("x-dead-letter-exchange").and_then(|value: Value<'_>| value.text())
            && vhost.entry(name).is_none()
        {
            self.may_read(Resource::Queue(name))?;
            self.may_write(Resource::Exchange(to))?;
        }
        let exclusive = declared.exclusive;
        let entry = vhost.declare_queue(name, declared, self.id).await?;
        if exclusive && !self.exclusive.iter().any(|known| *known == entry.name) {
            self.exclusive.push(Arc::clone(&entry.name));
        }
        self.declared(number, &entry, no_wait).await
    }

    async fn bind_queue(
        &mut self,
        number: u16,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: Table<'_>,
    ) -> Result<(), Fault> {
        let (vhost, name, binding) = self.queue_binding(number, queue, exchange, key, arguments)?;
        vhost.usable(&name, self.id)?;
        if vhost.exchange(exchange).is_none() {
            return Err(Fault::no_exchange(exchange, &vhost.name));
        }
        self.bind(&vhost, exchange, binding).await
    }

    async fn unbind_queue(
        &mut self,
        number: u16,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: Table<'_>,
    ) -> Result<(), Fault> {
        let (vhost, name, binding) = self.queue_binding(number, queue, exchange, key, arguments)?;
        if let Some(entry) = vhost.entry(&name)
            && entry.queue.exclusive().is_some_and(|owner| owner != self.id)
        {
            return Err(Fault::locked(&name, &vhost.name));
        }
        vhost.unbind(exchange, &binding).await?;
        Ok(())
    }

    /// What is to be bound or unbound, with the name of its queue, if the user may.
    fn queue_binding(
        &mut self,
        number: u16,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: Table<'_>,
    ) -> Result<(Arc<Vhost>, Arc<str>, Binding), Fault> {
        let vhost = self.vhost()?;
        let name = self.queue_name(number, queue)?;
        if exchange.is_empty() {
            return Err(Fault::refused("operation not permitted on the default exchange"));
        }
        self.may_write(Resource::Queue(&name))?;
        self.may_read(Resource::Exchange(exchange))?;
        // A queue that is named by saying nothing is bound by its name, unless a key is given.
        let key = if queue.is_empty() && key.is_empty() { &name } else { key };
        let to = Destination::Queue(Arc::clone(&name));
        let binding = binding(to, key, arguments);
        Ok((vhost, name, binding))
    }

    /// Deletes a queue; answers how many messages went with it. One that is not there is no error.
    async fn delete_queue(
        &mut self,
        name: &Arc<str>,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<u32, Fault> {
        let vhost = self.vhost()?;
        self.may_configure(Resource::Queue(name))?;
        if vhost.entry(name).is_none() {
            return vhost.elsewhere(name).map_or(Ok(0), Err);
        }
        let entry = vhost.usable(name, self.id)?;
        self.hand_out(&entry).await;
        let depth = self.depth(&entry);
        let refused = |why: &str| {
            Fault::precondition(format_args!("queue '{name}' in vhost '{}' {why}", vhost.name))
        };
        if if_unused && entry.queue.consumers() > 0 {
            return Err(refused("in use"));
        }
        // Dead letters that wait for room elsewhere are in the queue, though nobody is handed them.
        let waiting = self.server.broker.queue_view(&entry.queue).dead_letters_waiting;
        if if_empty && (depth > 0 || waiting > 0) {
            return Err(refused("not empty"));
        }
        vhost.delete_queue(&entry, self.id).await?;
        self.exclusive.retain(|known| known != name);
        Ok(depth)
    }
}
