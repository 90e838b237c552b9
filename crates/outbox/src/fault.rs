//! Why an outbox stands still: what nobody but a person can decide, in words that say what to do.

use std::fmt;

use crate::{kept::Mark, lsn::Lsn};

/// Why an outbox stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The slot is gone, and with it what was committed since.
    SlotMissing,
    /// The server has removed log that the slot needs.
    SlotLost(String),
    /// A slot of this name is there, of which this node knows nothing.
    SlotUnknown(Lsn),
    /// A slot of this name is there that is for something else.
    SlotOther(String),
    /// The slot is further than what was published: it was made anew, or read by somebody else.
    SlotMoved {
        /// Where the slot is.
        slot: Lsn,
        /// Up to where it can be.
        kept: Lsn,
    },
    /// The server is another one.
    OtherServer {
        /// Number of the cluster that was read.
        kept: String,
        /// Number of this one.
        found: String,
    },
    /// The log has branched off.
    OtherTimeline {
        /// The timeline that was read.
        kept: u32,
        /// The one of the server.
        found: u32,
    },
    /// The server's log ends before what was published.
    WentBack {
        /// Where it ends.
        server: Lsn,
        /// Up to where it was published.
        kept: Lsn,
    },
    /// In the place of the last transaction that was published there is something else.
    OtherHistory {
        /// The transaction that was published.
        kept: Mark,
        /// What was found.
        found: String,
    },
    /// Another name, slot or database is configured than the one that was read.
    OtherName(String),
    /// Something about the database must be set up.
    Setup(String),
    /// What stands next can be published nowhere.
    Refused(String),
}

impl Fault {
    /// Stable word for what is wrong.
    pub fn word(&self) -> &'static str {
        match self {
            Self::SlotMissing => "slot_missing",
            Self::SlotLost(_) => "slot_lost",
            Self::SlotUnknown(_) => "slot_unknown",
            Self::SlotOther(_) => "slot_other",
            Self::SlotMoved { .. } => "slot_moved",
            Self::OtherServer { .. } => "other_server",
            Self::OtherTimeline { .. } => "other_timeline",
            Self::WentBack { .. } => "log_went_back",
            Self::OtherHistory { .. } => "other_history",
            Self::OtherName(_) => "other_name",
            Self::Setup(_) => "setup",
            Self::Refused(_) => "refused",
        }
    }

    /// Whether events may be missing, or would be doubled, so that a person has to say from where on it goes on.
    pub fn needs_reset(&self) -> bool {
        !matches!(self, Self::Setup(_) | Self::Refused(_) | Self::SlotOther(_))
    }

    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Setup(_) => "it is looked at again in a moment",
            Self::Refused(_) => {
                "mend the topic, or name a queue in `refused_to` that takes what topics refuse; it is tried again in \
                 a moment"
            }
            Self::SlotOther(_) => "give the outbox another `slot`",
            Self::SlotUnknown(_) => {
                "`weft outbox reset NAME --from slot` goes on from where the slot is, `--from now` makes it anew"
            }
            Self::OtherTimeline { .. } => {
                "after a failover that lost nothing `weft outbox reset NAME --from kept` goes on; after a restore \
                 events may be missing: `--from now` makes the slot anew"
            }
            _ => {
                "events may be missing: compare the table with the topics, then `weft outbox reset NAME --from now` \
                 makes the slot anew"
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SlotMissing => {
                f.write_str("its slot is not there any more, and with it what was committed since")
            }
            Self::SlotLost(why) => {
                write!(f, "the server has removed log that the slot still needs ({why})")
            }
            Self::SlotUnknown(at) => {
                write!(f, "there is a slot of its name, at {at}, of which this node knows nothing")
            }
            Self::SlotOther(what) => write!(f, "there is a slot of its name that is {what}"),
            Self::SlotMoved { slot, kept } => write!(
                f,
                "its slot is at {slot}, further than {kept}, up to which events were published: it was made anew, \
                 or somebody else reads it"
            ),
            Self::OtherServer { kept, found } => write!(
                f,
                "the server is another one: its system identifier is {found}, and {kept} was read"
            ),
            Self::OtherTimeline { kept, found } => write!(
                f,
                "the server is on timeline {found}, and {kept} was read: it was restored to a point in time, or \
                 another one was promoted"
            ),
            Self::WentBack { server, kept } => write!(
                f,
                "the server's log ends at {server}, before {kept}, up to which it was read: an older copy was restored"
            ),
            Self::OtherHistory { kept, found } => write!(
                f,
                "transaction {} at {}, the last that was published, is not there: {found}; a copy was restored",
                kept.xid, kept.commit
            ),
            Self::OtherName(what) => f.write_str(what),
            Self::Setup(what) | Self::Refused(what) => f.write_str(what),
        }
    }
}
