//! A hash table from (number, text) to number: the edges of the path tree, and the hosts.
//!
//! All text lies in one buffer and a lookup borrows both halves of its key, which a `HashMap` cannot do
//! for a pair. The hash is not keyed: only the configuration puts anything in, so a hostile request
//! cannot lengthen a chain.

use xxhash_rust::xxh3::xxh3_64;

use super::NONE;

/// The table.
#[derive(Clone, Debug, Default)]
pub(super) struct Edges {
    slots: Vec<Slot>,
    text: Vec<u8>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    from: u32,
    to: u32,
    start: u32,
    len: u32,
}

const EMPTY: Slot = Slot { hash: 0, from: NONE, to: NONE, start: 0, len: 0 };

fn hash(from: u32, text: &[u8]) -> u32 {
    let mixed = (xxh3_64(text) ^ u64::from(from)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}

impl Edges {
    /// Where the edge `text` of `from` leads.
    pub(super) fn get(&self, from: u32, text: &[u8]) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let hash = hash(from, text);
        let mut at = hash as usize & mask;
        loop {
            let slot = &self.slots[at];
            if slot.to == NONE {
                return None;
            }
            if slot.hash == hash && slot.from == from && self.text(slot) == text {
                return Some(slot.to);
            }
            at = (at + 1) & mask;
        }
    }

    fn text(&self, slot: &Slot) -> &[u8] {
        &self.text[slot.start as usize..(slot.start + slot.len) as usize]
    }

    /// Where the edge `text` of `from` leads; it leads to `to` if it is new.
    pub(super) fn get_or_insert(&mut self, from: u32, text: &[u8], to: u32) -> u32 {
        if let Some(there) = self.get(from, text) {
            return there;
        }
        if (self.len + 1) * 2 > self.slots.len() {
            let grown = (self.slots.len() * 2).max(16);
            for slot in std::mem::replace(&mut self.slots, vec![EMPTY; grown]) {
                if slot.to != NONE {
                    self.place(slot);
                }
            }
        }
        let start = self.text.len() as u32;
        self.text.extend_from_slice(text);
        let len = text.len() as u32;
        self.place(Slot { hash: hash(from, text), from, to, start, len });
        self.len += 1;
        to
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = slot.hash as usize & mask;
        while self.slots[at].to != NONE {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_is_found_again_and_only_it() {
        let mut edges = Edges::default();
        assert_eq!(edges.get(0, b"a"), None);
        for from in 0..50 {
            for text in 0..50u32 {
                let key = text.to_string();
                assert_eq!(
                    edges.get_or_insert(from, key.as_bytes(), from * 50 + text),
                    from * 50 + text
                );
                assert_eq!(edges.get_or_insert(from, key.as_bytes(), 7_000), from * 50 + text);
            }
        }
        for from in 0..51 {
            for text in 0..51u32 {
                let there = (from < 50 && text < 50).then_some(from * 50 + text);
                assert_eq!(edges.get(from, text.to_string().as_bytes()), there);
            }
        }
        assert_eq!(edges.get(0, b""), None);
    }
}
