//! The record's table: number to JSON with a format number. Numbers are given here, in the transaction
//! that writes, so that none is left out and none given twice.

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{
    StoreError,
    redb_store::{failed, refused},
};
use crate::record::{Entry, Numbered};

/// Absent in files of earlier builds, until the first entry.
const RECORD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("record");

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<E> {
    format: u32,
    entry: E,
}

/// Adds entries after the last one.
pub(super) fn append(write: &WriteTransaction, entries: &[Entry]) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut table = write.open_table(RECORD).map_err(refused)?;
    let last = table.last().map_err(refused)?.map_or(0, |(sequence, _)| sequence.value());
    for (entry, sequence) in entries.iter().zip(last + 1..) {
        let bytes = serde_json::to_vec(&Stored { format: FORMAT, entry }).map_err(failed)?;
        let before = table.insert(sequence, &bytes[..]).map_err(refused)?;
        debug_assert!(before.is_none(), "the record is only added to");
    }
    Ok(())
}

/// Some entries, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Numbered>,
    /// The number of the last one that was looked at; 0 where nothing is older.
    pub next_before: u64,
}

/// What is asked for: entries before a number (`None`: from the end), how many, and how many are looked at
/// for that.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Only those with a smaller number.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
    /// At most so many are decoded.
    pub look_at: usize,
}

/// The newest entries that are to be shown. None is decoded that is not needed for it.
pub(super) fn newest(
    read: &ReadTransaction,
    Span { before, limit, look_at }: Span,
    shown: impl Fn(&Entry) -> bool,
) -> Result<Page, StoreError> {
    let mut page = Page::default();
    let table = match read.open_table(RECORD) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(page),
        Err(error) => return Err(refused(error)),
    };
    let entries = table.range(..before.unwrap_or(u64::MAX)).map_err(refused)?;
    for entry in entries.rev().take(look_at) {
        if page.entries.len() == limit {
            break;
        }
        let (sequence, bytes) = entry.map_err(refused)?;
        let sequence = sequence.value();
        let Stored { entry, .. } = serde_json::from_slice::<Stored<Entry>>(bytes.value())
            .map_err(|error| failed(format!("entry {sequence} of the record: {error}")))?;
        // There is nothing older than the first.
        page.next_before = if sequence == 1 { 0 } else { sequence };
        if shown(&entry) {
            page.entries.push(Numbered { sequence, entry });
        }
    }
    Ok(page)
}
