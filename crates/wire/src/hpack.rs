//! HPACK (RFC 7541): a decoder that tells names and values as they came, valid or not, and how to write a
//! field so that no table is needed to read it.
//!
//! What it refuses is an error of the connection, since the tables of both sides differ from then on. That a
//! name or a value is none that HTTP has is no matter of HPACK: its caller judges.

mod huffman;
mod recent;

use std::collections::VecDeque;

use self::recent::Recent;

/// What an entry of a table costs beyond its text (RFC 7541 section 4.1).
pub const ENTRY_COST: usize = 32;
/// The size of a table until another is agreed on, and the most that is agreed to here.
pub const TABLE_MAX: usize = 4096;

/// How many fields the static table has.
pub const STATIC_LEN: usize = 61;

/// The static table (RFC 7541 appendix A).
const STATIC: [(&str, &str); STATIC_LEN] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// A block that cannot be decoded: the connection is lost (RFC 9113 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(&'static str);

/// The decoder of one direction of a connection.
///
/// A field that comes again comes out of a table, and need not be judged again: the verdict `V` of the caller
/// is kept with it.
pub struct Decoder<V: 'static = ()> {
    judge: Judge<V>,
    /// Those of the static table.
    verdicts: &'static [V; STATIC_LEN],
    /// The dynamic table, the newest first.
    entries: VecDeque<Entry<V>>,
    size: usize,
    size_max: Option<usize>,
    recent: Recent<V>,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// What the caller makes of a name and a value.
pub type Judge<V> = fn(&[u8], &[u8]) -> V;

/// The verdicts on the fields of the static table.
pub fn verdicts<V>(judge: Judge<V>) -> [V; STATIC_LEN] {
    STATIC.map(|(name, value)| judge(name.as_bytes(), value.as_bytes()))
}

/// A name, and a value behind it.
struct Entry<V> {
    text: Box<[u8]>,
    name: usize,
    verdict: V,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(|_, _| (), &[(); STATIC_LEN])
    }
}

impl<V> Entry<V> {
    fn cost(&self) -> usize {
        self.text.len() + ENTRY_COST
    }
}

impl<V: Copy> Decoder<V> {
    /// A decoder with empty tables; `verdicts` are those on the static table.
    pub const fn new(judge: Judge<V>, verdicts: &'static [V; STATIC_LEN]) -> Self {
        Self {
            judge,
            verdicts,
            entries: VecDeque::new(),
            size: 0,
            size_max: None,
            recent: Recent::new(),
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Tells every field of a whole block, in order, and what the caller made of it.
    pub fn decode(
        &mut self,
        mut block: &[u8],
        mut field: impl FnMut(&[u8], &[u8], V),
    ) -> Result<(), Broken> {
        let mut begins = true;
        while let Some(&first) = block.first() {
            match first {
                0x80.. => {
                    let (name, value, verdict) = self.entry(integer(&mut block, 7)?)?;
                    field(name, value, verdict);
                }
                0x20..=0x3f => {
                    let size = integer(&mut block, 5)?;
                    if !begins || size > TABLE_MAX {
                        return Err(Broken("the size of the table may not change so"));
                    }
                    self.size_max = Some(size);
                    self.shrink(0);
                    continue;
                }
                _ => {
                    let keeps = first & 0x40 != 0;
                    let index = integer(&mut block, if keeps { 6 } else { 4 })?;
                    let (mut own_name, mut own_value) =
                        (std::mem::take(&mut self.name), std::mem::take(&mut self.value));
                    let name = match index {
                        0 => string(&mut block)?.read(&mut own_name)?,
                        _ => self.entry(index)?.0,
                    };
                    let sent = string(&mut block)?;
                    // What a client keeps out of the table it sends again and again.
                    let again = match sent {
                        Sent::Coded(coded) if !keeps => self.recent.find(index, coded),
                        _ => None,
                    };
                    if let Some((value, verdict)) = again {
                        field(name, value, verdict);
                    } else {
                        let value = sent.read(&mut own_value)?;
                        let verdict = (self.judge)(name, value);
                        field(name, value, verdict);
                        if keeps {
                            let text = [name, value].concat().into();
                            self.insert(Entry { text, name: name.len(), verdict });
                        } else if let (Sent::Coded(coded), 1..) = (sent, index) {
                            self.recent.keep(index, coded, value, verdict);
                        }
                    }
                    (self.name, self.value) = (own_name, own_value);
                }
            }
            begins = false;
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8], V), Broken> {
        let Some(index) = index.checked_sub(1) else {
            return Err(Broken("there is no field 0 in the tables"));
        };
        if let Some((name, value)) = STATIC.get(index) {
            return Ok((name.as_bytes(), value.as_bytes(), self.verdicts[index]));
        }
        let entry = self.entries.get(index - STATIC.len());
        let entry = entry.ok_or(Broken("a field is not in the tables"))?;
        let (name, value) = entry.text.split_at(entry.name);
        Ok((name, value, entry.verdict))
    }

    fn insert(&mut self, entry: Entry<V>) {
        let cost = entry.cost();
        self.shrink(cost);
        if cost <= self.most() {
            self.size += cost;
            self.entries.push_front(entry);
        }
    }

    fn most(&self) -> usize {
        self.size_max.unwrap_or(TABLE_MAX)
    }

    /// Lets the oldest go until there is room for as much more.
    fn shrink(&mut self, room: usize) {
        while self.size + room > self.most() {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.cost();
        }
    }
}

fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Broken> {
    const CUT: Broken = Broken("the block ends within a number");
    let mask = (1_u8 << prefix) - 1;
    let (first, mut rest) = block.split_first().ok_or(CUT)?;
    let mut number = usize::from(first & mask);
    if number == usize::from(mask) {
        let mut shift = 0;
        loop {
            let (byte, after) = rest.split_first().ok_or(CUT)?;
            rest = after;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(Broken("a number is too large"));
            }
        }
    }
    *block = rest;
    Ok(number)
}

/// A string as it was sent.
#[derive(Clone, Copy)]
enum Sent<'a> {
    Plain(&'a [u8]),
    /// In the Huffman code.
    Coded(&'a [u8]),
}

impl<'a> Sent<'a> {
    /// What it says, decoded into `room` if it has to be.
    fn read<'b>(self, room: &'b mut Vec<u8>) -> Result<&'b [u8], Broken>
    where
        'a: 'b,
    {
        let coded = match self {
            Self::Plain(text) => return Ok(text),
            Self::Coded(coded) => coded,
        };
        room.clear();
        if !huffman::decode(coded, room) {
            return Err(Broken("a string is not in the Huffman code"));
        }
        Ok(room)
    }
}

/// The next string of the block.
fn string<'a>(block: &mut &'a [u8]) -> Result<Sent<'a>, Broken> {
    let coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(block, 7)?;
    let Some((text, rest)) = block.split_at_checked(length) else {
        return Err(Broken("the block ends within a string"));
    };
    *block = rest;
    Ok(if coded { Sent::Coded(text) } else { Sent::Plain(text) })
}

/// Writes a field that stays out of the tables.
pub fn encode_plain(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(0);
    for text in [name, value] {
        let mut left = text.len();
        if left < 0x7f {
            out.push(left as u8);
        } else {
            out.push(0x7f);
            left -= 0x7f;
            while left >= 0x80 {
                out.push(left as u8 | 0x80);
                left >>= 7;
            }
            out.push(left as u8);
        }
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests;
