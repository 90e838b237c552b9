//! The last values of fields that stay out of the table, such as `authorization` and `cookie`.
//!
//! A client sends the same token with every request of a connection, and lest its size tell anything, in full
//! (RFC 7541 section 7.1.3). To compare what was sent costs a small part of decoding it anew.

use super::STATIC_LEN;

/// How many fields are remembered on a connection.
const FIELDS_MAX: usize = 2;
/// Shorter values are decoded as fast as they are compared, in bytes as they were sent.
const LEAST: usize = 32;
/// Longer values are decoded each time, so that what a client can have held is bounded.
const MOST: usize = 2048;

/// What was last sent for each of a few fields of the static table.
pub(super) struct Recent<V> {
    values: Vec<Value<V>>,
    /// The place that another field takes, if all are taken.
    next: usize,
}

struct Value<V> {
    /// That of the field's name in the static table.
    index: usize,
    /// As it was sent, and what it stands for.
    coded: Vec<u8>,
    text: Vec<u8>,
    verdict: V,
}

impl<V: Copy> Recent<V> {
    pub(super) const fn new() -> Self {
        Self { values: Vec::new(), next: 0 }
    }

    /// What a value in Huffman's code stands for, if it is the last of its field.
    pub(super) fn find(&self, index: usize, coded: &[u8]) -> Option<(&[u8], V)> {
        let same = |it: &&Value<V>| it.index == index && it.coded == coded;
        self.values.iter().find(same).map(|it| (&*it.text, it.verdict))
    }

    /// Remembers the value of a field in the place of the one before.
    pub(super) fn keep(&mut self, index: usize, coded: &[u8], text: &[u8], verdict: V) {
        if index > STATIC_LEN || !(LEAST..=MOST).contains(&coded.len()) {
            return;
        }
        let at = match self.values.iter().position(|it| it.index == index) {
            Some(at) => at,
            None if self.values.len() < FIELDS_MAX => {
                self.values.push(Value { index, coded: Vec::new(), text: Vec::new(), verdict });
                self.values.len() - 1
            }
            None => {
                self.next = (self.next + 1) % FIELDS_MAX;
                self.next
            }
        };
        let value = &mut self.values[at];
        (value.index, value.verdict) = (index, verdict);
        for (held, new) in [(&mut value.coded, coded), (&mut value.text, text)] {
            held.clear();
            // No more than is needed: it is held for as long as the connection.
            held.reserve_exact(new.len());
            held.extend_from_slice(new);
        }
    }
}
