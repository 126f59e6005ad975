//! The file that a store is in: how it is made, opened, found to be a copy, and opened again.
//!
//! redb refuses everything after one error of the disk, a full one included, until its file is opened
//! anew. That is done here, before the next thing that is wanted of it: a disk that was full for a moment
//! costs what was to be written in that moment, and no restart.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use mintwarden_worker::{IssuerName, durable::sync_directory};
use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageBackend as _,
    StorageError, TableDefinition, TableError, backends::InMemoryBackend,
};

use super::{
    StoreError,
    anchor::{self, Anchor},
    format::{self, decode, encode},
    log,
    place::{PLACE, Place},
    redb_store::{KEYSETS, PROPOSALS, failed, refused},
};
use crate::{
    clock,
    keyset::{Phase, change},
    record::{Book, Event},
};

/// Largest file that is copied into memory, bytes. Keysets take a few hundred KiB.
const MAX_COPY: u64 = 256 << 20;

/// Works on a file that may be damaged: redb panics where some pages are not what it wrote, and a server
/// that ends so would only be started again.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StoreError::Damaged("a page of it cannot be read".into())))
}

/// A database, and the file that it is in.
#[derive(Debug)]
pub(super) struct File {
    /// `None` while it cannot be opened again.
    database: RwLock<Option<Database>>,
    /// Whether it failed since it was opened.
    broken: AtomicBool,
    /// `None` where it is only looked at, in memory.
    origin: Option<Origin>,
}

#[derive(Debug)]
struct Origin {
    path: PathBuf,
    /// Held over a commit and what is noted of it.
    anchor: Mutex<Anchor>,
    book: Book,
}

impl Drop for File {
    fn drop(&mut self) {
        close(&mut self.database.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Closing a damaged database may panic too.
fn close(database: &mut Option<Database>) {
    let database = database.take();
    let closed = guarded(|| {
        drop(database);
        Ok(())
    });
    if let Err(error) = closed {
        tracing::error!(%error, "the store cannot be closed in order");
    }
}

impl File {
    /// See [`Redb::open`](super::Redb::open).
    pub(super) fn open(path: &Path, anchor: &Path, book: &Book) -> Result<Self, StoreError> {
        if !path.try_exists().map_err(failed)? {
            make(path).map_err(failed)?;
        }
        let mut anchor = Anchor::read(anchor).map_err(|error| unread(anchor, &error))?;
        let database = open(path, &mut anchor, book)?;
        let origin = Origin { path: path.into(), anchor: Mutex::new(anchor), book: book.clone() };
        Ok(Self {
            database: RwLock::new(Some(database)),
            broken: AtomicBool::new(false),
            origin: Some(origin),
        })
    }

    /// See [`Redb::copy`](super::Redb::copy).
    pub(super) fn copy(path: &Path) -> Result<Option<Self>, StoreError> {
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
        let database = RwLock::new(Some(guarded(create)?));
        Ok(Some(Self { database, broken: AtomicBool::new(false), origin: None }))
    }

    /// Works with the database, opened again where it has failed before.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.broken.load(Ordering::Acquire) {
            self.open_again()?;
        }
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &*database else { return Err(failed("it cannot be opened again")) };
        let done = guarded(|| work(open));
        if self.origin.is_some() && matches!(done, Err(StoreError::Disk(_))) {
            self.broken.store(true, Ordering::Release);
        }
        done
    }

    /// Commits what `change` writes, and notes the commit beside the store.
    pub(super) fn commit<T>(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(origin) = &self.origin else { return Err(failed("it is only looked at")) };
        self.with(|database| {
            let mut anchor = origin.anchor.lock().unwrap_or_else(PoisonError::into_inner);
            let write = database.begin_write().map_err(refused)?;
            let done = change(&write)?;
            let commit = anchor.next(&write)?;
            write.commit().map_err(refused)?;
            anchor.follow(commit);
            Ok(done)
        })
    }

    fn open_again(&self) -> Result<(), StoreError> {
        let Some(origin) = &self.origin else { return Err(failed("it is only looked at")) };
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if !self.broken.load(Ordering::Acquire) {
            return Ok(());
        }
        close(&mut database);
        let mut anchor = origin.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        *anchor = anchor.again().map_err(|error| unread(anchor.path(), &error))?;
        *database = Some(open(&origin.path, &mut anchor, &origin.book)?);
        self.broken.store(false, Ordering::Release);
        tracing::info!("the store was opened again");
        Ok(())
    }
}

fn unread(anchor: &Path, error: &io::Error) -> StoreError {
    failed(format!("{}: {error}", anchor.display()))
}

/// Opens it, compares where it is with where it was written and its last commit with the one that is noted
/// beside it, and notes both.
fn open(path: &Path, anchor: &mut Anchor, book: &Book) -> Result<Database, StoreError> {
    guarded(|| {
        let here = Place::of(path).map_err(failed)?;
        let database = open_file(path)?;
        let noted = match look(&database, &here, anchor)? {
            Found::Present => return Ok(database),
            // Nobody sees it before it is marked (I8).
            Found::Copied => {
                return settle(&database, &here, anchor, Some(book)).map(|()| database);
            }
            Found::Unnoted => settle(&database, &here, anchor, None),
        };
        let Err(error) = noted else { return Ok(database) };
        // It is the present one all the same, and what was signed with goes on. The next commit notes it.
        tracing::error!(%error, "the store cannot be written: nothing changes until it can");
        close(&mut Some(database));
        open_file(path)
    })
}

fn open_file(path: &Path) -> Result<Database, StoreError> {
    Database::open(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.display().to_string()),
        DatabaseError::Storage(StorageError::Corrupted(what)) => {
            StoreError::Damaged(format!("{}: {what}", path.display()))
        }
        other => StoreError::Failed(format!("{}: {other}", path.display())),
    })
}

/// What a store that was opened is.
enum Found {
    /// The one that was written last.
    Present,
    /// The same, and that is not written yet: it is new, or a crash came in between.
    Unnoted,
    /// One that was put back from a copy.
    Copied,
}

fn look(database: &Database, here: &Place, anchor: &Anchor) -> Result<Found, StoreError> {
    let read = database.begin_read().map_err(refused)?;
    let place = match read.open_table(PLACE) {
        Ok(table) => table.get(()).map_err(refused)?.map(|place| Place::decode(place.value())),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(refused(error)),
    };
    let last = anchor::last(&read)?;
    let moved = place.as_ref().is_some_and(|place| place != here);
    Ok(if moved || !anchor.fits(last.as_ref()) {
        Found::Copied
    } else if place.is_some() && last.is_some_and(|last| anchor.names(&last)) {
        Found::Present
    } else {
        Found::Unnoted
    })
}

/// Notes where the file is and that this is the present one; a copy's keysets are marked for `book`. One
/// transaction: a crash leaves a copy that is known as one, or one that will be.
fn settle(
    database: &Database,
    here: &Place,
    anchor: &mut Anchor,
    copied: Option<&Book>,
) -> Result<(), StoreError> {
    let write = database.begin_write().map_err(refused)?;
    if let Some(book) = copied {
        mark_restored(&write, book)?;
    }
    write.open_table(PLACE).map_err(refused)?.insert((), &here.encode()[..]).map_err(refused)?;
    let commit = anchor.next(&write)?;
    write.commit().map_err(refused)?;
    anchor.follow(commit);
    Ok(())
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
    sync_directory(path)?;
    Ok(())
}

/// Every keyset stands still until `recover`, and nothing is left to be approved: what happened since
/// the copy was made is unknown, and the record says from where on.
fn mark_restored(write: &redb::WriteTransaction, book: &Book) -> Result<(), StoreError> {
    let marked = rewrite(write, KEYSETS, |issuer, bytes| {
        let keyset = decode(issuer, bytes).ok()?;
        (keyset.phase != Phase::Restored).then(|| encode(&change::restored(&keyset)))
    })?;
    rewrite(write, PROPOSALS, |issuer, bytes| {
        let proposals = format::decode_proposals(issuer, bytes).ok()?;
        Some(format::encode_proposals(&proposals.restored()))
    })?;
    let now = clock::reading();
    for issuer in marked {
        tracing::error!(%issuer, "the store was put back from a copy: nothing is signed until recover");
        log::append(write, &[book.entry(now, Some(&issuer), Event::Restored)])?;
    }
    Ok(())
}

/// Writes every document of a table anew, and says whose. One that cannot be read stays, and is refused
/// wherever it is asked for.
fn rewrite(
    write: &redb::WriteTransaction,
    table: TableDefinition<'_, &str, &[u8]>,
    anew: impl Fn(&IssuerName, &[u8]) -> Option<serde_json::Result<Vec<u8>>>,
) -> Result<Vec<IssuerName>, StoreError> {
    let mut table = write.open_table(table).map_err(failed)?;
    let mut documents = Vec::new();
    for entry in table.iter().map_err(failed)? {
        let (name, bytes) = entry.map_err(failed)?;
        let Ok(issuer) = IssuerName::parse(name.value()) else { continue };
        if let Some(next) = anew(&issuer, bytes.value()) {
            documents.push((issuer, next.map_err(failed)?));
        }
    }
    let mut written = Vec::new();
    for (issuer, bytes) in documents {
        table.insert(issuer.as_str(), &bytes[..]).map_err(failed)?;
        written.push(issuer);
    }
    Ok(written)
}
