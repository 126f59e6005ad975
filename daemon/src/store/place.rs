//! Where a store's file is: what changes when it is put back from a copy, and not otherwise.

use std::{io, os::unix::fs::MetadataExt as _, path::Path, time::UNIX_EPOCH};

use redb::TableDefinition;
use serde::{Deserialize, Serialize};

/// The place that the file was last opened at, as JSON.
pub(super) const PLACE: TableDefinition<'_, (), &[u8]> = TableDefinition::new("place");

/// A file's identity: its inode, and the time of its birth where the file system keeps one. The
/// number of the file system is not part of it: it changes when the machine starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    inode: u64,
    born_ns: Option<u128>,
}

impl Place {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let file = std::fs::metadata(path)?;
        let born = file.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Ok(Self { inode: file.ino(), born_ns: born.map(|born| born.as_nanos()) })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("two numbers")
    }

    /// A place that cannot be read is like none that there is.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or(Self { inode: 0, born_ns: None })
    }
}
