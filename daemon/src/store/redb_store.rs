//! Everything in a redb file: a table of keysets and one of proposals, both issuer to JSON with a format
//! number, and the record. Serializable transactions, fsynced at commit; the file lock keeps a second
//! server out.

use std::{path::Path, sync::Arc};

use mintwarden_worker::IssuerName;
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError,
    WriteTransaction,
};

use super::{
    Change, Store, StoreError,
    file::File,
    format::{self, decode, encode},
    log::{self, Page, Span},
};
use crate::{
    keyset::{Keyset, proposal::Proposals},
    record::{Book, Entry},
};

pub(super) const KEYSETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keysets");
/// Absent in files of earlier builds, until the first proposal.
pub(super) const PROPOSALS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("proposals");
/// A redb file.
#[derive(Clone, Debug)]
pub struct Redb {
    file: Arc<File>,
    /// Whose turn it is to read the record.
    reading: Arc<tokio::sync::Mutex<()>>,
}

pub(super) fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

/// What redb says went wrong.
pub(super) fn refused(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(what) => StoreError::Damaged(what),
        error @ (redb::Error::Io(_) | redb::Error::PreviousIo) => {
            StoreError::Disk(error.to_string())
        }
        other => failed(other),
    }
}

impl Redb {
    /// Opens the file at `path`, or makes it: complete, under another name first, so that a power cut
    /// leaves a store or none. In one that was put back from a copy, every keyset is marked so before
    /// anybody sees it (I8): it is told by its file, and by the file `anchor`, which names the last commit
    /// and is not to lie in the same directory.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open, [`StoreError::Damaged`] if it is not what was
    /// written; [`StoreError::Failed`] otherwise.
    pub fn open(path: &Path, anchor: &Path, book: &Book) -> Result<Self, StoreError> {
        let file = Arc::new(File::open(path, anchor, book)?);
        Ok(Self { file, reading: Arc::default() })
    }

    /// A copy in memory of the file at `path`, to be looked at: the file stays as it is, also where
    /// opening it would repair what a killed server left. `None` where there is no file.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub(crate) fn copy(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = File::copy(path)?.map(Arc::new);
        Ok(file.map(|file| Self { file, reading: Arc::default() }))
    }

    pub(crate) fn load_blocking(&self, issuer: &IssuerName) -> Result<Option<Keyset>, StoreError> {
        self.file.with(|database| load(database, issuer))
    }

    fn proposals_blocking(&self, issuer: &IssuerName) -> Result<Proposals, StoreError> {
        self.file.with(|database| proposals(database, issuer))
    }

    fn swap_blocking(&self, change: &Owned) -> Result<(), StoreError> {
        self.file.commit(|write| swap(write, change))
    }

    /// Adds entries to the record, beside any keyset.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn append(&self, entries: Vec<Entry>) -> Result<(), StoreError> {
        self.blocking(move |store| store.file.commit(|write| log::append(write, &entries))).await
    }

    /// The newest entries of the record that are to be shown. One caller at a time reads: what signing
    /// and commits need is not theirs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn entries(
        &self,
        span: Span,
        shown: impl Fn(&Entry) -> bool + Send + 'static,
    ) -> Result<Page, StoreError> {
        let turn = Arc::clone(&self.reading).lock_owned().await;
        self.blocking(move |store| {
            let page = store.file.with(|database| {
                log::newest(&database.begin_read().map_err(refused)?, span, shown)
            });
            drop(turn);
            page
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&store));
        done.await.map_err(failed)?
    }
}

/// A [`Change`] that another thread can have.
struct Owned {
    issuer: IssuerName,
    keyset: Option<(Option<u64>, Keyset)>,
    proposals: Option<(u64, Proposals)>,
    entries: Vec<Entry>,
}

impl From<Change<'_>> for Owned {
    fn from(change: Change<'_>) -> Self {
        Self {
            issuer: change.issuer.clone(),
            keyset: change.keyset.map(|(expected, next)| (expected, next.clone())),
            proposals: change.proposals.map(|(expected, next)| (expected, next.clone())),
            entries: change.entries.to_vec(),
        }
    }
}

fn load(database: &Database, issuer: &IssuerName) -> Result<Option<Keyset>, StoreError> {
    let read = database.begin_read().map_err(refused)?;
    let table = read.open_table(KEYSETS).map_err(refused)?;
    let stored = table.get(issuer.as_str()).map_err(refused)?;
    stored.map(|bytes| decode(issuer, bytes.value())).transpose()
}

fn proposals(database: &Database, issuer: &IssuerName) -> Result<Proposals, StoreError> {
    let read = database.begin_read().map_err(refused)?;
    let table = match read.open_table(PROPOSALS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Proposals::none(issuer.clone())),
        Err(error) => return Err(refused(error)),
    };
    match table.get(issuer.as_str()).map_err(refused)? {
        Some(bytes) => format::decode_proposals(issuer, bytes.value()),
        None => Ok(Proposals::none(issuer.clone())),
    }
}

/// Writes what a change is for documents of the versions that it expects.
fn swap(write: &WriteTransaction, change: &Owned) -> Result<(), StoreError> {
    let Owned { issuer, keyset, proposals, entries } = change;
    let conflict =
        |expected, stored| Err(StoreError::Conflict { issuer: issuer.clone(), expected, stored });
    if let Some((expected, next)) = keyset {
        let mut table = write.open_table(KEYSETS).map_err(refused)?;
        let stored = match table.get(issuer.as_str()).map_err(refused)? {
            Some(bytes) => Some(decode(issuer, bytes.value())?.version),
            None => None,
        };
        if stored != *expected {
            return conflict(*expected, stored);
        }
        let bytes = encode(next).map_err(failed)?;
        table.insert(issuer.as_str(), &bytes[..]).map_err(refused)?;
    }
    if let Some((expected, next)) = proposals {
        let mut table = write.open_table(PROPOSALS).map_err(refused)?;
        let stored = match table.get(issuer.as_str()).map_err(refused)? {
            Some(bytes) => format::decode_proposals(issuer, bytes.value())?.version,
            None => 0,
        };
        if stored != *expected {
            return conflict(Some(*expected), Some(stored));
        }
        let bytes = format::encode_proposals(next).map_err(failed)?;
        table.insert(issuer.as_str(), &bytes[..]).map_err(refused)?;
    }
    log::append(write, entries)
}

impl Store for Redb {
    async fn load(&self, issuer: &IssuerName) -> Result<Option<Keyset>, StoreError> {
        let issuer = issuer.clone();
        self.blocking(move |store| store.load_blocking(&issuer)).await
    }

    async fn proposals(&self, issuer: &IssuerName) -> Result<Proposals, StoreError> {
        let issuer = issuer.clone();
        self.blocking(move |store| store.proposals_blocking(&issuer)).await
    }

    async fn compare_and_swap(&self, change: Change<'_>) -> Result<(), StoreError> {
        let change = Owned::from(change);
        self.blocking(move |store| store.swap_blocking(&change)).await
    }
}

#[cfg(test)]
mod tests;
