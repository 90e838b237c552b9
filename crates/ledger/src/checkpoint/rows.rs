//! Rows of the tables: written together, and read.

use std::ops::Bound;

use redb::{Database, ReadableDatabase, ReadableTable};
use weft_kernel::Result;

use super::{BEFORE, Capture, FIRST_FILE, KeyValue, LogStart, Row, SEQ, Table, Visit, maps};
use crate::record::Limits;

/// Stores what has changed; durable on return. Gives maps that were dropped and have entries still.
pub(super) fn write(
    database: &Database,
    capture: &Capture,
    start: LogStart,
) -> Result<Vec<u32>, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let left;
    {
        let mut rows: Vec<&Row> = capture.rows.iter().collect();
        // Stable: of rows with the same key the last one is written last.
        rows.sort_by(|a, b| (a.table, &a.key).cmp(&(b.table, &b.key)));
        for rows in rows.chunk_by(|a, b| a.table == b.table) {
            let mut table = transaction.open_table(rows[0].table.definition())?;
            for row in rows {
                match &row.value {
                    Some(value) => drop(table.insert(&row.key[..], &value[..])?),
                    None => drop(table.remove(&row.key[..])?),
                }
            }
        }
        left = maps::write(&transaction, capture)?;
        let mut meta = transaction.open_table(Table::Meta.definition())?;
        meta.insert(SEQ, &capture.seq.to_le_bytes()[..])?;
        meta.insert(FIRST_FILE, &start.file.to_le_bytes()[..])?;
        meta.insert(BEFORE, &start.before.to_le_bytes()[..])?;
    }
    transaction.commit()?;
    Ok(left)
}

/// The rows of a table.
pub(super) type Rows = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A table as of the last commit; `None` before anything was written to it.
pub(super) fn open(
    transaction: &redb::ReadTransaction,
    table: Table,
) -> Result<Option<Rows>, redb::Error> {
    match transaction.open_table(table.definition()) {
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(Some(table?)),
    }
}

/// Visits every row of a table.
pub(super) fn walk(
    database: &Database,
    table: Table,
    visit: &mut Visit<'_>,
) -> Result<Result<()>, redb::Error> {
    let transaction = database.begin_read()?;
    let Some(table) = open(&transaction, table)? else { return Ok(Ok(())) };
    for row in table.iter()? {
        let (key, value) = row?;
        if let Err(error) = visit(key.value(), value.value()) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// The value of a key.
pub(super) fn find(
    database: &Database,
    table: Table,
    key: &[u8],
) -> Result<Option<Vec<u8>>, redb::Error> {
    let transaction = database.begin_read()?;
    let Some(table) = open(&transaction, table)? else { return Ok(None) };
    Ok(table.get(key)?.map(|value| value.value().to_vec()))
}

/// Rows from a key on.
pub(super) fn page(
    database: &Database,
    table: Table,
    from: Bound<&[u8]>,
    most: Limits,
) -> Result<Vec<KeyValue>, redb::Error> {
    let transaction = database.begin_read()?;
    let Some(table) = open(&transaction, table)? else { return Ok(Vec::new()) };
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for row in table.range::<&[u8]>((from, Bound::Unbounded))? {
        let (key, value) = row?;
        bytes += (key.value().len() + value.value().len()) as u64;
        rows.push((key.value().to_vec(), value.value().to_vec()));
        if rows.len() >= most.records as usize || bytes >= most.bytes {
            break;
        }
    }
    Ok(rows)
}
