//! Direct reply-to: answers that go straight to the connection that asks, without a queue.
//!
//! A consumer of the pseudo-queue gets an address that nobody can guess; a publish to it by the default
//! exchange is handed to its connection. Answers are kept nowhere: one that the connection cannot take
//! now is dropped, as RabbitMQ drops one whose channel is gone.

use std::{collections::HashMap, sync::Arc};

use aws_lc_rs::rand;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use weft_broker::Message;
use weft_kernel::{Error, Reason, Result};

/// The pseudo-queue.
pub(crate) const QUEUE: &str = "amq.rabbitmq.reply-to";
/// How many answers may wait for a connection.
pub(crate) const WAITING_MAX: usize = 1024;

/// An answer for a channel.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The serial number of the channel.
    pub(crate) channel: u64,
    pub(crate) message: Message,
}

/// Who waits for answers, by address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replies(Arc<Mutex<HashMap<String, Waiting>>>);

/// A channel that waits, and its connection's inbox.
type Waiting = (u64, mpsc::Sender<Reply>);

/// An address that holds as long as this lives.
#[derive(Debug)]
pub(crate) struct Address {
    replies: Replies,
    /// What stands behind `amq.rabbitmq.reply-to.`
    token: String,
}

impl Replies {
    /// A fresh address of a channel.
    pub(crate) fn enter(&self, channel: u64, sender: mpsc::Sender<Reply>) -> Result<Address> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes)
            .map_err(|_error| Error::new(Reason::Internal, "the system gives no random numbers"))?;
        let token = format!("{:032x}", u128::from_be_bytes(bytes));
        self.0.lock().insert(token.clone(), (channel, sender));
        Ok(Address { replies: self.clone(), token })
    }

    /// Whether a routing key or queue name is an address in use.
    pub(crate) fn knows(&self, name: &str) -> bool {
        token_of(name).is_some_and(|token| self.0.lock().contains_key(token))
    }

    /// Hands an answer over; `false` if nobody waits at this address or has no room.
    pub(crate) fn send(&self, name: &str, message: &Message) -> bool {
        let found = token_of(name).and_then(|token| self.0.lock().get(token).cloned());
        let Some((channel, sender)) = found else { return false };
        sender.try_send(Reply { channel, message: message.clone() }).is_ok()
    }
}

/// The token of an address.
fn token_of(name: &str) -> Option<&str> {
    name.strip_prefix(QUEUE)?.strip_prefix('.')
}

impl Address {
    /// The address as it stands in `reply_to`.
    pub(crate) fn text(&self) -> String {
        format!("{QUEUE}.{}", self.token)
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.replies.0.lock().remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use weft_broker::MessageBuilder;

    use super::*;

    #[test]
    fn answers_reach_their_address_while_it_lives() {
        let replies = Replies::default();
        let (sender, mut inbox) = mpsc::channel(1);
        let address = replies.enter(7, sender).unwrap();
        let text = address.text();
        let message = MessageBuilder::amqp("", &text, &[0, 0], 0).unwrap().finish().unwrap();
        assert!(replies.knows(&text));
        assert!(replies.send(&text, &message));
        assert!(!replies.send(&text, &message), "no room");
        assert_eq!(inbox.try_recv().unwrap().channel, 7);
        assert!(!replies.send("amq.rabbitmq.reply-to.guess", &message));
        assert!(!replies.send(QUEUE, &message));
        drop(address);
        assert!(!replies.knows(&text));
    }
}
