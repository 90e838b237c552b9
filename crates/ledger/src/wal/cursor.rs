//! Where the next frame goes.

use super::HEADER_LEN;

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FrameAt {
    /// The number of the file.
    pub(crate) file: u32,
    /// From the beginning of the file.
    pub(crate) offset: u32,
}

/// Why a frame gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The next file is not ready yet: try again after a moment.
    Busy,
    /// The disk has no room for another file.
    Full,
    /// Another file cannot be made for now, for want of something else than room.
    Short,
    /// No file is large enough.
    TooLarge,
}

/// The place of the next frame, and how many files are ready to take what comes then.
///
/// Of the files that are ready the last is held back when the disk is full, or no other can be made: only what frees room
/// (settling, trimming, deleting) and what maps are given may enter it, and its last [`START_BYTES`] not even
/// those: a start on a full disk goes on in them, with what frees room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    file: u32,
    offset: u32,
    capacity: u32,
    ready: u32,
    full: bool,
    short: bool,
    /// Whether it began in what another start left of the file.
    resumed: bool,
}

/// What a frame is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To append, or to add entries to maps, which takes room.
    Append,
    /// To put entries of maps, which may be there already and takes some.
    Put,
    /// To begin, to define, or to free room.
    Essential,
}

/// What is left of the last file for a start on a full disk, which makes no new one: some thousand
/// starts, or as many settlements.
pub(crate) const START_BYTES: u32 = 128 << 10;

impl Cursor {
    /// The beginning of `file`, of `capacity` bytes, the files up to `ready` being there.
    pub(crate) const fn new(file: u32, capacity: u32, ready: u32) -> Self {
        let offset = HEADER_LEN;
        Self { file, offset, capacity, ready, full: false, short: false, resumed: false }
    }

    /// The place behind what `file` holds already, where no other file can be made.
    pub(crate) const fn resume(file: u32, offset: u32, capacity: u32) -> Self {
        Self { file, offset, capacity, ready: file, full: true, short: false, resumed: true }
    }

    /// Takes the place of a frame of `len` bytes.
    pub(crate) fn reserve(&mut self, len: usize, purpose: Purpose) -> Result<FrameAt, Refused> {
        let room = self.capacity - HEADER_LEN;
        let len = u32::try_from(len).ok().filter(|len| *len <= room).ok_or(Refused::TooLarge)?;
        let (file, offset) = if self.capacity - self.offset >= len {
            (self.file, self.offset)
        } else {
            (self.file + 1, HEADER_LEN)
        };
        if file > self.ready {
            return Err(self.refusal().unwrap_or(Refused::Busy));
        }
        if let Some(refusal) = self.refusal()
            && file == self.ready
        {
            let held_back = START_BYTES.min(room / 4);
            // Who begins in what is left has nothing else, and may begin right before what was held back.
            let entered = file == self.file
                && (self.resumed || self.offset > self.capacity - held_back)
                && purpose == Purpose::Essential;
            let is_held_back = !entered && offset + len > self.capacity - held_back;
            if purpose == Purpose::Append || is_held_back {
                return Err(refusal);
            }
        }
        (self.file, self.offset) = (file, offset + len);
        Ok(FrameAt { file, offset })
    }

    const fn refusal(&self) -> Option<Refused> {
        match (self.full, self.short) {
            (true, _) => Some(Refused::Full),
            (false, true) => Some(Refused::Short),
            (false, false) => None,
        }
    }

    /// Whether a frame of `len` bytes goes into the present file.
    pub(crate) fn fits(&self, len: usize) -> bool {
        (self.capacity - self.offset) as usize >= len
    }

    /// Gives back what the last frame did not need of its place; a multiple of [`ALIGN`](crate::format::frame::ALIGN).
    pub(crate) fn give_back(&mut self, unused: u32) {
        self.offset -= unused;
    }

    /// The files up to `file` are there.
    pub(crate) fn ready(&mut self, file: u32) {
        self.ready = self.ready.max(file);
    }

    /// Whether the disk has no room for another file.
    pub(crate) fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Whether the disk has no room for another file.
    pub(crate) const fn is_full(&self) -> bool {
        self.full
    }

    /// Whether another file cannot be made for now, though there is room for it.
    pub(crate) fn set_short(&mut self, short: bool) {
        self.short = short;
    }

    /// Whether another file cannot be made for now, though there is room for it.
    pub(crate) const fn is_short(&self) -> bool {
        self.short
    }

    /// The file that the next frame goes into, unless it does not fit.
    pub(crate) const fn file(&self) -> u32 {
        self.file
    }

    /// The last file that is ready.
    pub(crate) const fn last_ready(&self) -> u32 {
        self.ready
    }
}
