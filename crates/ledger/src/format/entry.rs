//! The entries of a transaction: what each does to a log, a group or a map.

use super::{Malformed, record::Image, varint, varint::Reader};

/// What a definition is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A log.
    Log,
    /// A group.
    Group,
    /// A map.
    Map,
}

impl Kind {
    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Log => 0,
            Self::Group => 1,
            Self::Map => 2,
        }
    }

    fn parse(byte: u8) -> Result<Self, Malformed> {
        match byte {
            0 => Ok(Self::Log),
            1 => Ok(Self::Group),
            2 => Ok(Self::Map),
            _ => Err(Malformed("an unknown kind of definition")),
        }
    }
}

/// The tags of entries; a number is never used again for something else.
pub(super) mod tag {
    pub(crate) const APPEND: u8 = 1;
    pub(crate) const TRIM: u8 = 2;
    pub(crate) const REMOVE: u8 = 3;
    pub(crate) const SETTLED: u8 = 4;
    pub(crate) const RETRY: u8 = 5;
    pub(crate) const SEEK: u8 = 6;
    pub(crate) const PUT: u8 = 7;
    pub(crate) const DELETE: u8 = 8;
    pub(crate) const DEFINE: u8 = 9;
    pub(crate) const DROP: u8 = 10;
    pub(crate) const ALTER: u8 = 11;
    pub(crate) const EPOCH: u8 = 12;
    pub(crate) const MARKER: u8 = 13;
}

/// One entry, borrowed from the bytes of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    /// A record is appended.
    Append(Image<'a>),
    /// All records of a log below a position go.
    Trim { log: u32, before: u64 },
    /// Records of a log go.
    Remove { log: u32, positions: Ranges<'a> },
    /// Records are done for a group.
    Settled { group: u32, positions: Ranges<'a> },
    /// A record waits for its retry.
    Retry { group: u32, position: u64, due_ms: u64, failures: u32, handouts: u32, note: &'a [u8] },
    /// A group begins anew at a position.
    Seek { group: u32, to: u64 },
    /// A map's key gets a value.
    Put { map: u32, key: &'a [u8], value: &'a [u8], expires_ms: u64 },
    /// A map's key goes.
    Delete { map: u32, key: &'a [u8] },
    /// A log, group or map is made.
    Define { kind: Kind, id: u32, name: &'a [u8], options: &'a [u8] },
    /// A log, group or map goes.
    Drop { kind: Kind, id: u32 },
    /// A log, group or map gets other options.
    Alter { kind: Kind, id: u32, options: &'a [u8] },
    /// The ledger was opened.
    Epoch(u32),
    /// Nothing: proves that what lies before it was synced.
    Marker,
}

impl<'a> Entry<'a> {
    /// The entry at the reader's place.
    pub(crate) fn read(reader: &mut Reader<'a>, bytes: &'a [u8]) -> Result<Self, Malformed> {
        Ok(match reader.byte()? {
            tag::APPEND => {
                let image = Image::parse(&bytes[reader.at()..])?;
                reader.bytes(image.len)?;
                Self::Append(image)
            }
            tag::TRIM => Self::Trim { log: reader.varint32()?, before: reader.varint()? },
            tag::REMOVE => {
                Self::Remove { log: reader.varint32()?, positions: Ranges::read(reader)? }
            }
            tag::SETTLED => {
                Self::Settled { group: reader.varint32()?, positions: Ranges::read(reader)? }
            }
            tag::RETRY => Self::Retry {
                group: reader.varint32()?,
                position: reader.varint()?,
                due_ms: reader.varint()?,
                failures: reader.varint32()?,
                handouts: reader.varint32()?,
                note: reader.counted()?,
            },
            tag::SEEK => Self::Seek { group: reader.varint32()?, to: reader.varint()? },
            tag::PUT => Self::Put {
                map: reader.varint32()?,
                expires_ms: reader.varint()?,
                key: reader.counted()?,
                value: reader.counted()?,
            },
            tag::DELETE => Self::Delete { map: reader.varint32()?, key: reader.counted()? },
            tag::DEFINE => Self::Define {
                kind: Kind::parse(reader.byte()?)?,
                id: reader.varint32()?,
                name: reader.counted()?,
                options: reader.counted()?,
            },
            tag::DROP => Self::Drop { kind: Kind::parse(reader.byte()?)?, id: reader.varint32()? },
            tag::ALTER => Self::Alter {
                kind: Kind::parse(reader.byte()?)?,
                id: reader.varint32()?,
                options: reader.counted()?,
            },
            tag::EPOCH => Self::Epoch(reader.varint32()?),
            tag::MARKER => Self::Marker,
            _ => return Err(Malformed("an unknown entry")),
        })
    }
}

/// Ascending positions as runs that do not touch; decoded as it is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ranges<'a>(&'a [u8]);

impl<'a> Ranges<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let bytes = reader.counted()?;
        let mut inner = Reader::new(bytes);
        let (mut next, mut first) = (0u64, true);
        while inner.left() > 0 {
            let (_, last) = Self::run(&mut inner, next, first)?;
            // The greatest position is never used, so that a run's end can always be named.
            next = last.checked_add(1).ok_or(Malformed("a position beyond the last"))?;
            first = false;
        }
        Ok(Self(bytes))
    }

    fn run(reader: &mut Reader<'_>, next: u64, first: bool) -> Result<(u64, u64), Malformed> {
        let beyond = Malformed("a position beyond the last");
        // Runs that touch are one run, so the gap before each but the first is at least one.
        let gap = reader.varint()?.checked_add(u64::from(!first)).ok_or(beyond)?;
        let from = next.checked_add(gap).ok_or(beyond)?;
        let last = from.checked_add(reader.varint()?).ok_or(beyond)?;
        Ok((from, last))
    }

    /// The runs, each as its first and its last position.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, u64)> + 'a {
        let mut reader = Reader::new(self.0);
        let (mut next, mut first) = (0, true);
        std::iter::from_fn(move || {
            if reader.left() == 0 {
                return None;
            }
            let run = Self::run(&mut reader, next, first).ok()?;
            next = run.1.checked_add(1)?;
            first = false;
            Some(run)
        })
    }

    /// Appends ascending runs, each as its first and its last position; those that touch become one.
    pub(super) fn put(buffer: &mut Vec<u8>, runs: &[(u64, u64)]) {
        // Room for a length of one byte, which nearly always fits; a longer one moves the rest.
        let at = buffer.len();
        buffer.push(0);
        let mut next = None;
        let mut rest = runs;
        while let Some((&(from, mut last), mut tail)) = rest.split_first() {
            while let Some((&(first, end), further)) = tail.split_first() {
                if first > last + 1 {
                    break;
                }
                last = last.max(end);
                tail = further;
            }
            debug_assert!(next.is_none_or(|next| from > next) && last < u64::MAX, "runs ascend");
            varint::put(buffer, next.map_or(from, |next| from.saturating_sub(next + 1)));
            varint::put(buffer, last - from);
            next = Some(last + 1);
            rest = tail;
        }
        let len = buffer.len() - at - 1;
        if len < 0x80 {
            buffer[at] = len as u8;
        } else {
            let mut bytes = [0; varint::MAX];
            let size = varint::write(&mut bytes, 0, len as u64);
            buffer.splice(at..=at, bytes[..size].iter().copied());
        }
    }
}
