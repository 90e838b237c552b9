//! How topics, queues and subscriptions are named, and which topics a wildcard pattern takes.
//!
//! A [`Key`] is a name within a space: the space is empty by default and an AMQP virtual host
//! otherwise. Topic names are words joined by dots; a [`Pattern`] matches them as NATS does: `*` is
//! one word, `>` at the end is one word or more.

use std::{fmt, sync::Arc};

use weft_kernel::{Error, Reason, Result};

/// The longest space, topic, queue or subscription name in bytes (AMQP's short string).
pub const NAME_BYTES_MAX: usize = 255;

/// The name of a topic or queue within its space.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The space: empty, or an AMQP virtual host.
    pub space: Arc<str>,
    /// The name: 1 to 255 bytes of UTF-8 without control characters.
    pub name: Arc<str>,
}

impl Key {
    /// A name in a space.
    ///
    /// # Errors
    /// [`Reason::MalformedMessage`] when either is too long or holds a control character, or the name
    /// is empty.
    pub fn new(space: &str, name: &str) -> Result<Self> {
        if space.len() > NAME_BYTES_MAX || space.chars().any(char::is_control) {
            return Err(Error::new(
                Reason::MalformedMessage,
                "a space is at most 255 bytes without control characters",
            ));
        }
        check_name(name)?;
        Ok(Self { space: space.into(), name: name.into() })
    }

    /// A name in the default space.
    ///
    /// # Errors
    /// As [`Key::new`].
    pub fn plain(name: &str) -> Result<Self> {
        Self::new("", name)
    }

    /// Another name in the same space.
    ///
    /// # Errors
    /// As [`Key::new`].
    pub fn sibling(&self, name: &str) -> Result<Self> {
        check_name(name)?;
        Ok(Self { space: self.space.clone(), name: name.into() })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.space.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{} in space {}", self.name, self.space)
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space, self.name)
    }
}

/// The name of a subscription: the topic, or the pattern of topics, and its own name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionKey {
    /// The topic, or a [`Pattern`] of topics.
    pub topic: Key,
    /// The subscription's own name.
    pub name: Arc<str>,
}

impl SubscriptionKey {
    /// The subscription `name` of `topic`.
    ///
    /// # Errors
    /// As [`Key::new`].
    pub fn new(topic: &Key, name: &str) -> Result<Self> {
        check_name(name)?;
        Ok(Self { topic: topic.clone(), name: name.into() })
    }

    /// The queue that takes its dead letters: `{subscription}.dead`.
    ///
    /// # Errors
    /// As [`Key::new`], when it is too long.
    pub fn dead(&self) -> Result<Key> {
        self.topic.sibling(&format!("{}.dead", self.name))
    }
}

impl fmt::Display for SubscriptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.topic)
    }
}

impl fmt::Debug for SubscriptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}", self.topic, self.name)
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Error::new(
            Reason::MalformedMessage,
            "a name is 1 to 255 bytes without control characters",
        ));
    }
    Ok(())
}

/// What a thing of the broker is called in the ledger; spaces and topics are escaped so that no two
/// names meet.
pub(crate) mod stored {
    use super::{Key, SubscriptionKey};

    fn escaped(into: &mut String, text: &str) {
        for c in text.chars() {
            match c {
                '/' => into.push_str("%2F"),
                '%' => into.push_str("%25"),
                _ => into.push(c),
            }
        }
    }

    fn of(kind: char, key: &Key) -> String {
        let mut text = String::with_capacity(key.space.len() + key.name.len() + 3);
        text.push(kind);
        text.push('/');
        escaped(&mut text, &key.space);
        text.push('/');
        text.push_str(&key.name);
        text
    }

    /// The log, group and definition of a queue.
    pub(crate) fn queue(key: &Key) -> String {
        of('q', key)
    }

    /// The log and definition of a topic.
    pub(crate) fn topic(key: &Key) -> String {
        of('t', key)
    }

    /// A schedule.
    pub(crate) fn schedule(key: &Key) -> String {
        of('j', key)
    }

    /// The group of a subscription over one topic; its definition too, with the pattern as the topic.
    pub(crate) fn subscription(topic: &Key, name: &str) -> String {
        let mut text = String::with_capacity(topic.space.len() + topic.name.len() + name.len() + 4);
        text.push_str("s/");
        escaped(&mut text, &topic.space);
        text.push('/');
        escaped(&mut text, &topic.name);
        text.push('/');
        text.push_str(name);
        text
    }

    /// The group of a wildcard subscription over one of the topics that it takes.
    pub(crate) fn member(of: &SubscriptionKey, topic: &Key) -> String {
        let mut text = subscription(&of.topic, &of.name);
        // A subscription's own name cannot hold this character, so the group meets no other.
        text.push('\u{1f}');
        text.push_str(&topic.name);
        text
    }
}

/// Which topics a wildcard subscription takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Whether a name is meant as a pattern: one of its words is `*` or `>`.
    pub fn is_one(name: &str) -> bool {
        name.split('.').any(|word| word == "*" || word == ">")
    }

    /// Checks a pattern.
    ///
    /// # Errors
    /// [`Reason::MalformedMessage`] when a word is empty, or `>` is not the last.
    pub fn new(text: &str) -> Result<Self> {
        check_name(text)?;
        let mut words = text.split('.').peekable();
        while let Some(word) = words.next() {
            if word.is_empty() {
                return Err(Error::new(
                    Reason::MalformedMessage,
                    "a pattern has no empty word between its dots",
                ));
            }
            if word == ">" && words.peek().is_some() {
                return Err(Error::new(
                    Reason::MalformedMessage,
                    "`>` stands for all that follows, so it is the last word of a pattern",
                ));
            }
        }
        Ok(Self(text.into()))
    }

    /// The text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a topic's name fits.
    pub fn takes(&self, name: &str) -> bool {
        let mut words = name.split('.');
        for wanted in self.0.split('.') {
            let word = words.next();
            match (wanted, word) {
                (">", word) => return word.is_some(),
                ("*", Some(_)) => {}
                (wanted, Some(word)) if wanted == word => {}
                _ => return false,
            }
        }
        words.next().is_none()
    }
}

#[cfg(test)]
mod tests;
