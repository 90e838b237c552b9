//! Rates that several nodes share: they ask one [`Store`], which counts for all of them.
//!
//! [`Stock`] is the machine of a key. The store is asked without waiting, and answers whenever it can.

mod stock;

use std::time::Duration;

pub use self::stock::{Answer, Ask, Stock, Taken, Terms};
use super::Rate;

/// A key as all nodes know it: a digest.
pub type Key = [u8; 16];

/// Where units of several nodes are counted.
pub trait Store: Send + Sync {
    /// Puts a question, and waits for nothing. One that cannot be put or answered is dropped.
    fn ask(&self, question: Question);

    /// Whether it is known that it would not answer.
    fn is_away(&self) -> bool;

    /// The time for an answer.
    fn timeout(&self) -> Duration;
}

/// Who is told an answer; dropped, there is none.
pub trait Reply: Send {
    /// Tells it.
    fn answered(self: Box<Self>, answer: Answer);
}

/// What a store is asked.
pub struct Question {
    /// The key.
    pub key: Key,
    /// How much of it may be had within which time.
    pub rate: Rate,
    /// What is asked for.
    pub ask: Ask,
    reply: Box<dyn Reply>,
}

impl Question {
    /// A question, and who is told the answer.
    pub fn new(key: Key, rate: Rate, ask: Ask, reply: Box<dyn Reply>) -> Self {
        Self { key, rate, ask, reply }
    }

    /// Answers it.
    pub fn answer(self, answer: Answer) {
        self.reply.answered(answer);
    }
}
