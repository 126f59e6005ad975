//! Keysets in a redb file: one table, issuer to JSON with a format number. Serializable
//! transactions, fsynced at commit; the file lock keeps a second server out.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use mintwarden_worker::IssuerName;
use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageBackend as _,
    TableDefinition, backends::InMemoryBackend,
};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::keyset::Keyset;

const KEYSETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keysets");
/// Largest file that is copied into memory, bytes. Keysets take a few hundred KiB.
const MAX_COPY: u64 = 256 << 20;
const FORMAT: u32 = 1;

/// A redb file.
#[derive(Clone)]
pub struct Redb {
    database: Arc<Database>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<K> {
    format: u32,
    keyset: K,
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

impl Redb {
    /// Opens the file at `path`, or makes it: complete, under another name first, so that a power cut
    /// leaves a store or none.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open; [`StoreError::Failed`] otherwise.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.try_exists().map_err(failed)? {
            make(path).map_err(failed)?;
        }
        let database = Database::open(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.display().to_string()),
            other => StoreError::Failed(format!("{}: {other}", path.display())),
        })?;
        Ok(Self { database: Arc::new(database) })
    }

    /// A copy in memory of the file at `path`, to be looked at: the file stays as it is, also where
    /// opening it would repair what a killed server left. `None` where there is no file.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub(crate) fn copy(path: &Path) -> Result<Option<Self>, StoreError> {
        let bytes = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if !found.is_file() => return Err(failed("it is no file")),
            Ok(found) if found.len() > MAX_COPY => {
                return Err(failed(format!("{} bytes are too many to look at", found.len())));
            }
            _ => fs::read(path).map_err(failed)?,
        };
        let memory = InMemoryBackend::new();
        memory.set_len(bytes.len() as u64).map_err(failed)?;
        memory.write(0, &bytes).map_err(failed)?;
        let database = Database::builder().create_with_backend(memory).map_err(failed)?;
        Ok(Some(Self { database: Arc::new(database) }))
    }

    pub(crate) fn load_blocking(&self, issuer: &IssuerName) -> Result<Option<Keyset>, StoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(KEYSETS).map_err(failed)?;
        let stored = table.get(issuer.as_str()).map_err(failed)?;
        stored.map(|bytes| decode(issuer, bytes.value())).transpose()
    }

    fn swap_blocking(&self, expected: Option<u64>, next: &Keyset) -> Result<(), StoreError> {
        let issuer = &next.issuer;
        let write = self.database.begin_write().map_err(failed)?;
        {
            let mut table = write.open_table(KEYSETS).map_err(failed)?;
            let stored = match table.get(issuer.as_str()).map_err(failed)? {
                Some(bytes) => Some(decode(issuer, bytes.value())?.revision),
                None => None,
            };
            if stored != expected {
                return Err(StoreError::Conflict { issuer: issuer.clone(), expected, stored });
            }
            let bytes =
                serde_json::to_vec(&Stored { format: FORMAT, keyset: next }).map_err(failed)?;
            table.insert(issuer.as_str(), &bytes[..]).map_err(failed)?;
        }
        write.commit().map_err(failed)
    }
}

/// Makes an empty store. Two servers that do so at once make the same; only one then opens it.
fn make(path: &Path) -> Result<(), redb::Error> {
    let unfinished = path.with_extension(format!("new-{}", std::process::id()));
    let _left_by_a_power_cut = fs::remove_file(&unfinished);
    let database = Database::create(&unfinished)?;
    let write = database.begin_write()?;
    write.open_table(KEYSETS)?;
    write.commit()?;
    drop(database);
    fs::hard_link(&unfinished, path).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(error),
    })?;
    fs::remove_file(&unfinished)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    Ok(())
}

fn decode(issuer: &IssuerName, bytes: &[u8]) -> Result<Keyset, StoreError> {
    let unreadable = |why: String| StoreError::Unreadable { issuer: issuer.clone(), why };
    let stored: Stored<Keyset> =
        serde_json::from_slice(bytes).map_err(|e| unreadable(e.to_string()))?;
    if stored.format != FORMAT {
        return Err(unreadable(format!("format {}, this version reads {FORMAT}", stored.format)));
    }
    if stored.keyset.issuer != *issuer {
        return Err(unreadable("it belongs to another issuer".into()));
    }
    Ok(stored.keyset)
}

impl Store for Redb {
    async fn load(&self, issuer: &IssuerName) -> Result<Option<Keyset>, StoreError> {
        let (store, issuer) = (self.clone(), issuer.clone());
        tokio::task::spawn_blocking(move || store.load_blocking(&issuer)).await.map_err(failed)?
    }

    async fn compare_and_swap(
        &self,
        expected: Option<u64>,
        next: &Keyset,
    ) -> Result<(), StoreError> {
        let (store, next) = (self.clone(), next.clone());
        tokio::task::spawn_blocking(move || store.swap_blocking(expected, &next))
            .await
            .map_err(failed)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyset(revision: u64) -> Keyset {
        let issuer = IssuerName::parse("payments-tts").expect("a name");
        Keyset { revision, ..Keyset::initialising(issuer) }
    }

    #[test]
    fn i8_a_change_is_one_compare_and_swap() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Redb::open(&directory.path().join("keysets.redb")).expect("a store");
        let issuer = keyset(1).issuer;
        assert_eq!(store.load_blocking(&issuer), Ok(None));
        store.swap_blocking(None, &keyset(1)).expect("there was none");
        let conflict = store.swap_blocking(None, &keyset(1)).expect_err("there is one");
        assert!(matches!(conflict, StoreError::Conflict { stored: Some(1), expected: None, .. }));
        store.swap_blocking(Some(1), &keyset(2)).expect("the expected revision");
        let conflict = store.swap_blocking(Some(1), &keyset(2)).expect_err("stale");
        assert!(matches!(
            conflict,
            StoreError::Conflict { stored: Some(2), expected: Some(1), .. }
        ));
        assert_eq!(store.load_blocking(&issuer), Ok(Some(keyset(2))));
    }

    #[test]
    fn a_second_server_on_the_same_file_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keysets.redb");
        let _first = Redb::open(&path).expect("a store");
        assert!(matches!(Redb::open(&path).err(), Some(StoreError::InUse(_))));
    }

    #[test]
    fn a_copy_is_looked_at_and_the_file_stays_as_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keysets.redb");
        assert!(Redb::copy(&path).expect("nothing to copy").is_none());
        let store = Redb::open(&path).expect("a store");
        store.swap_blocking(None, &keyset(1)).expect("there was none");
        // As a power cut leaves it: not closed.
        std::mem::forget(store);
        let before = fs::read(&path).expect("the file");
        let copy = Redb::copy(&path).expect("a copy").expect("of what is there");
        assert_eq!(copy.load_blocking(&keyset(1).issuer), Ok(Some(keyset(1))));
        assert_eq!(fs::read(&path).expect("the file"), before);
        fs::write(&path, b"garbage").expect("a spoilt file");
        assert!(matches!(Redb::copy(&path).err(), Some(StoreError::Failed(_))));
    }

    #[test]
    fn a_keyset_of_another_format_is_refused_and_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Redb::open(&directory.path().join("keysets.redb")).expect("a store");
        let issuer = keyset(1).issuer;
        for bytes in [&br#"{"format":2,"keyset":{}}"#[..], b"garbage", b""] {
            let write = store.database.begin_write().expect("a transaction");
            write
                .open_table(KEYSETS)
                .expect("the table")
                .insert("payments-tts", bytes)
                .expect("insert");
            write.commit().expect("commit");
            assert!(matches!(store.load_blocking(&issuer), Err(StoreError::Unreadable { .. })));
            assert!(matches!(
                store.swap_blocking(None, &keyset(1)),
                Err(StoreError::Unreadable { .. })
            ));
        }
    }
}
