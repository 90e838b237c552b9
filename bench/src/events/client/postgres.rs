//! A table of PostgreSQL, as people keep events in one: the key is stream and version, which holds an
//! expectation also against who is faster; a position gives all events an order.
//!
//! Every append is one prepared statement that commits by itself: a single way there and back. There is no
//! index of types, categories or correlation ids, which Weft keeps, and none of the ids of events.

use std::{error::Error, path::Path};

use anyhow::{Result, ensure};
use bytes::BytesMut;
use tokio::task::JoinSet;
use tokio_postgres::{
    Client, Config, NoTls, Statement,
    types::{IsNull, ToSql, Type, accepts, to_sql_checked},
};

use super::{Append, Found, NewEvent, Of, PAGE, Told, check};

const TABLE: &str = "create table if not exists events (
    stream text not null,
    version bigint not null,
    id uuid not null,
    data bytea not null,
    position bigserial not null,
    primary key (stream, version)
);
create index if not exists events_position on events (position)";

/// Nothing is inserted where the version before is missing, and the key refuses one that is there.
const ONE: &str = "insert into events (stream, version, id, data)
    select $1::text, $2::bigint, $3::uuid, $4::bytea
    where $2 = 0 or exists (select from events where stream = $1 and version = $2 - 1)";
const BATCH: &str = "insert into events (stream, version, id, data)
    select $1::text, $2::bigint + new.at - 1, new.id, new.data
    from unnest($3::uuid[], $4::bytea[]) with ordinality as new (id, data, at)
    where $2 = 0 or exists (select from events where stream = $1 and version = $2 - 1)";
/// Of streams that nobody else appends to.
const SEVERAL: &str = "insert into events (stream, version, id, data)
    select * from unnest($1::text[], $2::bigint[], $3::uuid[], $4::bytea[])";
const STREAM: &str = "select version, position, data from events
    where stream = $1 and version >= $2 order by version limit $3";
const ALL: &str = "select version, position, data from events
    where position >= $1 order by position limit $2";
const COUNT: &str = "select count(*) from events";

/// A connection with what it has prepared.
pub(in crate::events) struct Connection {
    client: Client,
    one: Statement,
    batch: Statement,
    several: Statement,
    stream: Statement,
    all: Statement,
    count: Statement,
}

/// The id of an event.
#[derive(Clone, Copy, Debug)]
struct Id(u128);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    accepts!(UUID);
    to_sql_checked!();
}

impl Connection {
    pub(super) async fn open(folder: &Path, user: &str, tasks: &mut JoinSet<()>) -> Result<Self> {
        let mut config = Config::new();
        config.host_path(folder).user(user).dbname("postgres");
        let (client, connection) = config.connect(NoTls).await?;
        // Who waits for an answer is told of an error as well.
        tasks.spawn(async { connection.await.unwrap_or(()) });
        Ok(Self {
            one: client.prepare(ONE).await?,
            batch: client.prepare(BATCH).await?,
            several: client.prepare(SEVERAL).await?,
            stream: client.prepare(STREAM).await?,
            all: client.prepare(ALL).await?,
            count: client.prepare(COUNT).await?,
            client,
        })
    }

    /// Makes the table; whoever connects for statements needs it.
    pub(super) async fn create(folder: &Path, user: &str) -> Result<()> {
        let mut config = Config::new();
        config.host_path(folder).user(user).dbname("postgres");
        let (client, connection) = config.connect(NoTls).await?;
        let (made, ended) = tokio::join!(
            async move {
                let made = client.batch_execute(TABLE).await;
                drop(client);
                made
            },
            connection
        );
        made?;
        Ok(ended?)
    }

    pub(super) async fn append(&self, appends: &[Append]) -> Result<()> {
        let (inserted, due) = match appends {
            [Append { stream, next, events }] => {
                let next = i64::try_from(*next)?;
                let inserted = match events.as_slice() {
                    [NewEvent { id, body }] => {
                        self.client.execute(&self.one, &[stream, &next, &Id(*id), body]).await?
                    }
                    events => {
                        let ids: Vec<Id> = events.iter().map(|event| Id(event.id)).collect();
                        let bodies: Vec<&[u8]> =
                            events.iter().map(|event| event.body.as_slice()).collect();
                        let values: [&(dyn ToSql + Sync); 4] = [stream, &next, &ids, &bodies];
                        self.client.execute(&self.batch, &values).await?
                    }
                };
                (inserted, events.len())
            }
            several => {
                let all = || {
                    several
                        .iter()
                        .flat_map(|append| append.events.iter().map(move |event| (append, event)))
                };
                let streams: Vec<&str> = all().map(|(append, _)| append.stream.as_str()).collect();
                let ids: Vec<Id> = all().map(|(_, event)| Id(event.id)).collect();
                let bodies: Vec<&[u8]> = all().map(|(_, event)| event.body.as_slice()).collect();
                let mut versions: Vec<i64> = Vec::with_capacity(streams.len());
                for Append { next, events, .. } in several {
                    let next = i64::try_from(*next)?;
                    versions.extend((next..).take(events.len()));
                }
                let values: [&(dyn ToSql + Sync); 4] = [&streams, &versions, &ids, &bodies];
                (self.client.execute(&self.several, &values).await?, streams.len())
            }
        };
        ensure!(inserted == due as u64, "{inserted} of {due} events were inserted");
        // The statement has given them the versions that they say.
        appends.iter().try_for_each(|append| {
            check(append, append.next, append.next + append.events.len() as u64 - 1)
        })
    }

    pub(super) async fn page(&self, of: Of<'_>, told: Told<'_>) -> Result<()> {
        let limit = PAGE as i64;
        let rows = match of {
            Of::Stream(stream, from) => {
                let from = i64::try_from(from)?;
                self.client.query(&self.stream, &[&stream, &from, &limit]).await?
            }
            Of::All(from) => {
                let from = i64::try_from(from)?;
                self.client.query(&self.all, &[&from, &limit]).await?
            }
        };
        for row in rows {
            let (version, position): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            let (version, position) = (u64::try_from(version)?, u64::try_from(position)?);
            told(Found { version, position, body: row.try_get(2)? })?;
        }
        Ok(())
    }

    pub(super) async fn count(&self) -> Result<u64> {
        let row = self.client.query_one(&self.count, &[]).await?;
        Ok(u64::try_from(row.try_get::<_, i64>(0)?)?)
    }
}
