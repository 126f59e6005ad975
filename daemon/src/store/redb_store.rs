//! Keysets in a redb file: one table, issuer to JSON with a format number. Serializable
//! transactions, fsynced at commit; the file lock keeps a second server out.

use std::{
    fs::{self, File},
    io,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use mintwarden_worker::IssuerName;
use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageBackend as _,
    StorageError, TableDefinition, backends::InMemoryBackend,
};

use super::{
    Store, StoreError,
    format::{decode, encode},
    place::{PLACE, Place},
};
use crate::keyset::{Keyset, change};

const KEYSETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keysets");
/// Largest file that is copied into memory, bytes. Keysets take a few hundred KiB.
const MAX_COPY: u64 = 256 << 20;

/// A redb file.
#[derive(Clone)]
pub struct Redb {
    database: Arc<Open>,
}

/// An open database: closing a damaged one may panic too.
struct Open(Option<Database>);

impl Deref for Open {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("it is there until this is dropped")
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let database = self.0.take();
        let closed = guarded(|| {
            drop(database);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::error!(%error, "the store cannot be closed in order");
        }
    }
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

/// What redb says went wrong.
fn refused(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(what) => StoreError::Damaged(what),
        other => failed(other),
    }
}

/// Works on a file that may be damaged: redb panics where some pages are not what it wrote, and a server
/// that ends so would only be started again.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StoreError::Damaged("a page of it cannot be read".into())))
}

impl Redb {
    /// Opens the file at `path`, or makes it: complete, under another name first, so that a power cut
    /// leaves a store or none. In a file that was put back from a copy, every keyset is marked so
    /// before anybody sees it (I8).
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open, [`StoreError::Damaged`] if it is not what was
    /// written; [`StoreError::Failed`] otherwise.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.try_exists().map_err(failed)? {
            make(path).map_err(failed)?;
        }
        let open = || {
            Database::open(path).map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.display().to_string()),
                DatabaseError::Storage(StorageError::Corrupted(what)) => {
                    StoreError::Damaged(format!("{}: {what}", path.display()))
                }
                other => StoreError::Failed(format!("{}: {other}", path.display())),
            })
        };
        let database = guarded(open)?;
        let store = Self { database: Arc::new(Open(Some(database))) };
        let here = Place::of(path).map_err(failed)?;
        guarded(|| store.settle(&here))?;
        Ok(store)
    }

    /// Compares where the file is with where it was written, and notes it. One transaction: a crash
    /// leaves a copy that is known as one, or one that will be.
    fn settle(&self, here: &Place) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(refused)?;
        {
            let mut table = write.open_table(PLACE).map_err(refused)?;
            let before = table.get(()).map_err(refused)?.map(|place| Place::decode(place.value()));
            if before.as_ref() == Some(here) {
                return Ok(());
            }
            if before.is_some() {
                tracing::error!(
                    "the store was put back from a copy: nothing is signed until recover"
                );
                mark_restored(&write)?;
            }
            table.insert((), &here.encode()[..]).map_err(refused)?;
        }
        write.commit().map_err(refused)
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
        let create = || Database::builder().create_with_backend(memory).map_err(failed);
        let database = guarded(create)?;
        Ok(Some(Self { database: Arc::new(Open(Some(database))) }))
    }

    pub(crate) fn load_blocking(&self, issuer: &IssuerName) -> Result<Option<Keyset>, StoreError> {
        guarded(|| self.load_guarded(issuer))
    }

    fn load_guarded(&self, issuer: &IssuerName) -> Result<Option<Keyset>, StoreError> {
        let read = self.database.begin_read().map_err(refused)?;
        let table = read.open_table(KEYSETS).map_err(refused)?;
        let stored = table.get(issuer.as_str()).map_err(refused)?;
        stored.map(|bytes| decode(issuer, bytes.value())).transpose()
    }

    fn swap_blocking(&self, expected: Option<u64>, next: &Keyset) -> Result<(), StoreError> {
        let issuer = &next.issuer;
        let write = self.database.begin_write().map_err(refused)?;
        {
            let mut table = write.open_table(KEYSETS).map_err(refused)?;
            let stored = match table.get(issuer.as_str()).map_err(refused)? {
                Some(bytes) => Some(decode(issuer, bytes.value())?.version),
                None => None,
            };
            if stored != expected {
                return Err(StoreError::Conflict { issuer: issuer.clone(), expected, stored });
            }
            let bytes = encode(next).map_err(failed)?;
            table.insert(issuer.as_str(), &bytes[..]).map_err(refused)?;
        }
        write.commit().map_err(refused)
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

fn mark_restored(write: &redb::WriteTransaction) -> Result<(), StoreError> {
    let mut table = write.open_table(KEYSETS).map_err(failed)?;
    let mut marked = Vec::new();
    for entry in table.iter().map_err(failed)? {
        let (name, bytes) = entry.map_err(failed)?;
        // One that cannot be read is refused wherever it is asked for.
        let issuer = IssuerName::parse(name.value()).ok();
        if let Some(keyset) = issuer.and_then(|issuer| decode(&issuer, bytes.value()).ok()) {
            marked.push((name.value().to_owned(), encode(&change::restored(&keyset))));
        }
    }
    for (name, bytes) in marked {
        table.insert(&*name, &bytes.map_err(failed)?[..]).map_err(failed)?;
    }
    Ok(())
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
        tokio::task::spawn_blocking(move || guarded(|| store.swap_blocking(expected, &next)))
            .await
            .map_err(failed)?
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{clock::Checkpoint, keyset::Phase};

    fn keyset(version: u64) -> Keyset {
        let issuer = IssuerName::parse("payments-tts").expect("a name");
        let (wait, clock) = (Duration::from_secs(60), Checkpoint::default());
        Keyset { version, ..Keyset::new(issuer, Phase::Initialising, wait, clock) }
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
    fn i8_a_damaged_file_is_refused_and_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keysets.redb");
        drop(Redb::open(&path).expect("a store"));
        let good = fs::read(&path).expect("the file");
        let cut = good[..good.len() / 2].to_vec();
        let mut wiped = good.clone();
        wiped[4096..].fill(0xff);
        let mut other = good;
        other[0] ^= 1;
        for bad in [wiped, cut, other, b"no database".to_vec()] {
            fs::write(&path, &bad).expect("the file");
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let loaded =
                Redb::open(&path).and_then(|store| runtime.block_on(store.load(&keyset(1).issuer)));
            let error = loaded.expect_err("it is no store");
            assert!(matches!(error, StoreError::Damaged(_) | StoreError::Failed(_)), "{error}");
            assert!(path.exists());
        }
    }

    #[test]
    fn a_keyset_of_another_format_is_refused_and_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Redb::open(&directory.path().join("keysets.redb")).expect("a store");
        let issuer = keyset(1).issuer;
        for bytes in [&br#"{"format":3,"keyset":{}}"#[..], b"garbage", b""] {
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

    #[test]
    fn a_store_of_format_1_opens() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Redb::open(&directory.path().join("keysets.redb")).expect("a store");
        let write = store.database.begin_write().expect("a transaction");
        let format1 = &include_bytes!("format/format1.json")[..];
        write
            .open_table(KEYSETS)
            .expect("the table")
            .insert("payments-tts", format1)
            .expect("insert");
        write.commit().expect("commit");
        let keyset = store.load_blocking(&keyset(1).issuer).expect("readable").expect("stored");
        assert_eq!((keyset.version, keyset.phase), (9, Phase::Published));
        assert_eq!(keyset.published().count(), 2);
        let (active, _) = keyset.active("hsm-a").expect("it had an active key");
        let signatures = active.signatures.expect("it signed");
        assert_eq!(signatures.max_lifetime, Duration::from_secs(24 * 3600), "L is not known");
        assert!(active.mature && keyset.keys.iter().any(|key| key.is_standby() && !key.mature));
        // It is written in the present format.
        store.swap_blocking(Some(9), &keyset.at(Checkpoint::default())).expect("written");
        assert_eq!(
            store.load_blocking(&keyset.issuer).expect("readable").expect("there").version,
            10
        );
    }

    #[test]
    fn i8_a_store_that_was_put_back_from_a_copy_is_marked() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keysets.redb");
        let stored = Keyset { phase: Phase::Published, ..keyset(1) };
        let store = Redb::open(&path).expect("a store");
        store.swap_blocking(None, &stored).expect("there was none");
        drop(store);
        // Opened again where it is: nothing happened.
        let store = Redb::open(&path).expect("a store");
        assert_eq!(store.load_blocking(&stored.issuer), Ok(Some(stored.clone())));
        drop(store);
        let copy = directory.path().join("backup.redb");
        fs::copy(&path, &copy).expect("a copy");
        fs::rename(&copy, &path).expect("put back");
        for _ in 0..2 {
            let store = Redb::open(&path).expect("a store");
            let restored = store.load_blocking(&stored.issuer).expect("readable").expect("there");
            assert_eq!(restored.phase, Phase::Restored, "and it stays so");
        }
    }
}
