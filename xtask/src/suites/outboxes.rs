//! Outboxes of a real PostgreSQL, which is killed, restored from old copies and put in the place of another.

use anyhow::Result;

use super::{amqp, script, tokens};
use crate::{
    build,
    need::{Need, PYTHON, Source},
};

/// The server, a client of it, and what makes its certificate.
pub(super) const NEEDS: &[Need] = &[
    Need {
        name: "postgresql",
        why: "the databases whose outboxes are published",
        check: &["sh", "-c", "ls /usr/lib/postgresql/*/bin/postgres"],
        source: Source::Apt(&["postgresql"]),
    },
    Need {
        name: "psycopg",
        why: "the services that write into them",
        check: &[PYTHON, "-c", "import psycopg"],
        source: Source::Python(&["psycopg[binary]==3.2.10"]),
    },
    tokens::NEEDS[0],
];

/// A node against servers that the suite starts.
pub(super) fn weft() -> Result<String> {
    let binary = build::with_tests()?.join("weft");
    let folder = amqp::emptied("outboxes")?;
    let (binary, folder) = (binary.display().to_string(), folder.display().to_string());
    script(PYTHON, "xtask/suites/outboxes.py", &[&binary, &folder])
}
