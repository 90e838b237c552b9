//! What is measured: the table of targets. All acknowledge what is on the disk.

use crate::record::durable;

/// One way to keep events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Target {
    /// A node, over its HTTP API.
    Weft,
    /// The store as a library, in this program.
    WeftStore,
    /// A table of PostgreSQL.
    Postgres,
}

impl Target {
    pub(super) const ALL: [Self; 3] = [Self::Weft, Self::WeftStore, Self::Postgres];

    pub(super) fn is_weft(self) -> bool {
        self != Self::Postgres
    }
}

impl durable::Target for Target {
    fn name(self) -> &'static str {
        match self {
            Self::Weft => "weft",
            Self::WeftStore => "weft-store",
            Self::Postgres => "postgres",
        }
    }
}
