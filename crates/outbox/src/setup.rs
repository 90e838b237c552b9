//! What is asked of a server before it is read, and made there: publication and slot, in this order, since a log is
//! decoded by what was there when it was written.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use crate::{
    client::{Client, Failure, Row, state},
    fault::Fault,
    judge::{Server, SlotState},
    lsn::Lsn,
    options::{Options, Table},
    service::End,
};

/// The oldest server whose `pgoutput` sends messages of the log.
const VERSION_MIN: u32 = 140_000;

/// Who the server is.
pub(crate) async fn server(client: &mut Client) -> Result<Server, End> {
    let rows = client.ask("IDENTIFY_SYSTEM").await?;
    let [system, timeline, end, database] = columns(&rows, "IDENTIFY_SYSTEM")?;
    let settings = "SELECT current_setting('server_version_num'), pg_is_in_recovery(), current_setting('wal_level')";
    let rows = client.ask(settings).await?;
    let [version, recovery, wal_level] = columns(&rows, "its settings")?;
    if version.parse::<u32>().is_ok_and(|version| version < VERSION_MIN) {
        let say =
            format!("the server has version {version}, and 140000 (14) is the oldest that is read");
        return Err(Fault::Setup(say).into());
    }
    if recovery == "t" {
        return Err(Failure::Away("the server is a standby, and its primary is read".into()).into());
    }
    if wal_level != "logical" {
        let say = format!(
            "`wal_level` of the server is `{wal_level}`: ALTER SYSTEM SET wal_level = 'logical', and start it anew"
        );
        return Err(Fault::Setup(say).into());
    }
    let unread = || Failure::Protocol("who the server is cannot be read".into());
    Ok(Server {
        system,
        timeline: timeline.parse().map_err(|_not_number| unread())?,
        end: end.parse().map_err(|()| unread())?,
        database,
    })
}

/// The slot as the server shows it; `None` if there is none.
pub(crate) async fn slot(client: &mut Client, name: &str) -> Result<Option<SlotState>, End> {
    let rows = client
        .ask(&format!(
            "SELECT coalesce(plugin, ''), coalesce(database, ''), coalesce(confirmed_flush_lsn::text, ''), \
             coalesce(wal_status, '') FROM pg_replication_slots WHERE slot_name = {}",
            escape_literal(name)
        ))
        .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let [plugin, database, confirmed, wal_status] = columns(&rows, "its slots")?;
    Ok(Some(SlotState { plugin, database, confirmed: confirmed.parse().ok(), wal_status }))
}

/// Makes the publication if it is not there, and looks whether it has the table.
pub(crate) async fn publication(client: &mut Client, options: &Options) -> Result<(), End> {
    let publication = escape_literal(&options.publication);
    let there = format!("SELECT pubinsert FROM pg_publication WHERE pubname = {publication}");
    let there = client.ask(&there).await?;
    if let Some(table) = &options.table {
        let of = format!(
            "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') \
             AND n.nspname = {} AND c.relname = {}",
            escape_literal(&table.schema),
            escape_literal(&table.name)
        );
        if client.ask(&of).await?.is_empty() {
            return Err(Fault::Setup(format!("there is no table {table} in the database")).into());
        }
    }
    if there.is_empty() {
        return create_publication(client, options).await;
    }
    let Some(table) = &options.table else { return Ok(()) };
    if first(&there) != Some("t") {
        let say = format!("publication {} publishes no insertions", options.publication);
        return Err(Fault::Setup(say).into());
    }
    let of = format!(
        "SELECT 1 FROM pg_publication_tables WHERE pubname = {publication} AND schemaname = {} AND tablename = {}",
        escape_literal(&table.schema),
        escape_literal(&table.name)
    );
    if client.ask(&of).await?.is_empty() {
        let say = format!(
            "publication {} does not have table {table}: ALTER PUBLICATION {} ADD TABLE {}",
            options.publication,
            escape_identifier(&options.publication),
            quoted(table)
        );
        return Err(Fault::Setup(say).into());
    }
    Ok(())
}

async fn create_publication(client: &mut Client, options: &Options) -> Result<(), End> {
    let name = escape_identifier(&options.publication);
    // Insertions alone: who deletes from a table of which deletions are published must give it an identity first.
    let create = match &options.table {
        Some(table) => format!(
            "CREATE PUBLICATION {name} FOR TABLE {} WITH (publish = 'insert', publish_via_partition_root = true)",
            quoted(table)
        ),
        None => format!("CREATE PUBLICATION {name} WITH (publish = 'insert')"),
    };
    match client.ask(&create).await {
        Ok(_) => {
            tracing::info!(outbox = %options.name, publication = options.publication, "publication made");
            Ok(())
        }
        Err(failure) if failure.is(state::DUPLICATE_OBJECT) => Ok(()),
        Err(failure) if failure.is(state::NOT_PRIVILEGED) => {
            let say = format!(
                "the role may not make the publication ({failure}); have the owner run: {create}"
            );
            Err(Fault::Setup(say).into())
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Makes the slot, and gives from where on it has everything. Waits for transactions that run.
pub(crate) async fn create_slot(client: &mut Client, options: &Options) -> Result<Lsn, End> {
    let create = format!(
        "CREATE_REPLICATION_SLOT {} LOGICAL pgoutput NOEXPORT_SNAPSHOT",
        escape_identifier(&options.slot)
    );
    let rows = match client.ask_patiently(&create).await {
        Ok(rows) => rows,
        Err(Failure::Server(error)) => {
            return Err(Fault::Setup(format!("the slot cannot be made: {error}")).into());
        }
        Err(failure) => return Err(failure.into()),
    };
    let at = rows.first().and_then(|row| row.get(1)).and_then(|at| at.as_deref()?.parse().ok());
    let at: Lsn =
        at.ok_or_else(|| Failure::Protocol("it does not say where the slot begins".into()))?;
    tracing::info!(outbox = %options.name, slot = options.slot, %at, "slot made");
    Ok(at)
}

/// Removes the slot, if it is there.
pub(crate) async fn drop_slot(client: &mut Client, options: &Options) -> Result<(), End> {
    let drop = format!("DROP_REPLICATION_SLOT {}", escape_identifier(&options.slot));
    match client.ask(&drop).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.is(state::UNDEFINED_OBJECT) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

/// The command that has changes streamed from a position on.
pub(crate) fn stream(options: &Options, from: Lsn) -> String {
    let names = escape_literal(&escape_identifier(&options.publication));
    format!(
        "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names {names}, messages 'true')",
        escape_identifier(&options.slot)
    )
}

fn quoted(table: &Table) -> String {
    format!("{}.{}", escape_identifier(&table.schema), escape_identifier(&table.name))
}

fn first(rows: &[Row]) -> Option<&str> {
    rows.first()?.first()?.as_deref()
}

/// The columns of the one row of an answer.
pub(crate) fn columns<const N: usize>(rows: &[Row], what: &str) -> Result<[String; N], Failure> {
    let row = rows.first().and_then(|row| row.first_chunk::<N>());
    let unread = || Failure::Protocol(format!("what the server says of {what} cannot be read"));
    let row = row.ok_or_else(unread)?;
    if row.iter().any(Option::is_none) {
        return Err(unread());
    }
    Ok(row.clone().map(Option::unwrap_or_default))
}
