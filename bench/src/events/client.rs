//! Clients: an append and a page of events, on each target.
//!
//! All are driven by one thread, whatever their number: none does more than it must. Every answer is checked
//! to be the one that was due.

mod postgres;
mod store;
mod weft;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use tokio::task::JoinSet;
use weft_events::EventStore;

use super::scenario::Filling;

/// The most events of a page.
pub(super) const PAGE: usize = 10_000;
const SOURCE: &str = "/bench";
const KIND: &str = "bench.happened";

/// An event that is to be appended.
#[derive(Clone, Debug)]
pub(super) struct NewEvent {
    pub(super) id: u128,
    pub(super) body: Vec<u8>,
}

/// Events for one stream, of which the first is to get the version `next`: neither more nor less must be there.
#[derive(Clone, Debug)]
pub(super) struct Append {
    pub(super) stream: String,
    pub(super) next: u64,
    pub(super) events: Vec<NewEvent>,
}

/// An event as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) version: u64,
    pub(super) position: u64,
    pub(super) body: &'a [u8],
}

/// What events are told to.
pub(super) type Told<'a> = &'a mut (dyn FnMut(Found<'_>) -> Result<()> + Send);

/// What is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of<'a> {
    /// From a version on.
    Stream(&'a str, u64),
    /// From a position on.
    All(u64),
}

/// How a target is reached.
#[derive(Clone)]
pub(super) enum Reach {
    Http(SocketAddr),
    Store(EventStore),
    /// The folder of its socket, and who may come in.
    Postgres(PathBuf, String),
}

/// A connection.
pub(super) enum Client {
    Weft(weft::Connection),
    Store(EventStore),
    Postgres(Box<postgres::Connection>),
}

impl Reach {
    /// Connects; what a connection needs done on the side is put among `tasks`.
    pub(super) async fn connect(&self, tasks: &mut JoinSet<()>) -> Result<Client> {
        Ok(match self {
            Self::Http(to) => Client::Weft(weft::Connection::open(*to).await?),
            Self::Store(store) => Client::Store(store.clone()),
            Self::Postgres(folder, user) => {
                let connection = postgres::Connection::open(folder, user, tasks).await?;
                Client::Postgres(Box::new(connection))
            }
        })
    }
}

/// Makes the table of PostgreSQL.
pub(super) async fn create(folder: &Path, user: &str) -> Result<()> {
    postgres::Connection::create(folder, user).await
}

impl Client {
    /// Appends in one transaction, and returns when that is on the disk.
    ///
    /// # Errors
    /// Also where a stream is not as expected, or gave its events other versions.
    pub(super) async fn append(&mut self, appends: Vec<Append>) -> Result<()> {
        match self {
            Self::Weft(connection) => connection.append(&appends).await,
            Self::Store(store) => store::append(store, appends).await,
            Self::Postgres(connection) => connection.append(&appends).await,
        }
    }

    /// Folds all events that there are into documents, one for each stream.
    ///
    /// # Errors
    /// Also where documents are not as they should be, and for a target that has no projections.
    pub(super) async fn project(&mut self, filling: Filling) -> Result<Duration> {
        match self {
            Self::Store(store) => store::project(store, filling).await,
            Self::Weft(_) | Self::Postgres(_) => bail!("projections are those of the store"),
        }
    }

    /// Reads a page of at most [`PAGE`] events in their order; how many there were.
    pub(super) async fn page(&mut self, of: Of<'_>, told: Told<'_>) -> Result<u64> {
        let mut count = 0;
        let each: Told<'_> = &mut |found| {
            count += 1;
            told(found)
        };
        match self {
            Self::Weft(connection) => connection.page(of, each).await?,
            Self::Store(store) => store::page(store, of, each).await?,
            Self::Postgres(connection) => connection.page(of, each).await?,
        }
        Ok(count)
    }

    /// How many events there are in all.
    pub(super) async fn count(&mut self) -> Result<u64> {
        match self {
            Self::Weft(connection) => connection.count().await,
            Self::Store(store) => Ok(store.next_position()),
            Self::Postgres(connection) => connection.count().await,
        }
    }
}

/// Sees that an append got the versions that it was to get.
fn check(append: &Append, first: u64, last: u64) -> Result<()> {
    let Append { stream, next, events } = append;
    let due = (*next, *next + events.len() as u64 - 1);
    ensure!(due == (first, last), "{stream}: versions {first} to {last} instead of {due:?}");
    Ok(())
}
