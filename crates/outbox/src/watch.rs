//! A second connection, that looks at the server and its slot, and moves the slot on.
//!
//! A slot keeps the server's log from the last transaction that was confirmed. Where the outbox is idle and other
//! tables are not, that would be ever more: so once the log has grown, a small message is written into it, which comes
//! out of the stream as a transaction of its own.

use std::sync::atomic::Ordering::Relaxed;

use postgres_protocol::escape::escape_literal;

use crate::{
    client::{Client, Failure, Purpose},
    lsn::Lsn,
    service::{End, HEARTBEAT, Outbox},
    setup::columns,
    state::State,
};

/// Bytes by which the log has grown before the slot is moved on.
const GROWN_BYTES: u64 = 64 << 10;

/// Looks and moves, for as long as it is polled.
pub(crate) async fn run(outbox: &Outbox) -> End {
    let mut client = None;
    loop {
        // The first transaction is what is held to later: without one it is written at once.
        if outbox.shared().done().is_some() || client.is_some() {
            tokio::time::sleep(outbox.options().heartbeat).await;
        }
        if let Err(failure) = look(outbox, &mut client).await {
            client = None;
            tracing::debug!(outbox = %outbox.options().name, "the server cannot be looked at: {failure}");
            tokio::time::sleep(outbox.options().heartbeat).await;
        }
    }
}

async fn look(outbox: &Outbox, client: &mut Option<Client>) -> Result<(), Failure> {
    let options = outbox.options();
    let client = match client {
        Some(client) => client,
        none => none.insert(outbox.way().open(Purpose::Questions, &options.slot).await?),
    };
    let rows = client
        .ask(&format!(
            "SELECT pg_current_wal_flush_lsn(), coalesce(restart_lsn, '0/0'), coalesce(wal_status, '') \
             FROM pg_replication_slots WHERE slot_name = {}",
            escape_literal(&options.slot)
        ))
        .await?;
    let [end, kept_from, wal_status] = columns(&rows, "its slots")?;
    let at = |text: &str| text.parse::<Lsn>().unwrap_or_default();
    let (end, kept_from) = (at(&end), at(&kept_from));
    let shared = outbox.shared();
    if shared.set_server(end, kept_from, &wal_status) && wal_status == "unreserved" {
        let say = "the server is about to remove log that the outbox has not read";
        tracing::error!(outbox = %options.name, "{say}: `max_slot_wal_keep_size` is too small, or it reads too slowly");
    }
    let is_due = shared.done().is_none_or(|done| end.since(done) >= GROWN_BYTES);
    if is_due && shared.proven.load(Relaxed) && outbox.state() == State::Reading {
        let (prefix, slot) = (escape_literal(HEARTBEAT), escape_literal(&options.slot));
        client.ask(&format!("SELECT pg_logical_emit_message(true, {prefix}, {slot})")).await?;
    }
    Ok(())
}
