//! What tells an old store from the present one: a small file beside the store's directory, not in it, that
//! names the last commit. A store that is put back over the one that was there keeps the file's inode, and
//! has another commit.
//!
//! The file is written after the commit, so that it names nothing that may not have happened. A store is the
//! one that the file speaks of if the file names the store's last commit, or what it named when that commit
//! was made: a crash, or a full disk, between the two.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use mintwarden_worker::durable::sync_directory;
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{
    StoreError,
    place::Place,
    redb_store::{failed, refused},
};

/// The last commit, as JSON. Absent in files of earlier builds.
const COMMIT: TableDefinition<'_, (), &[u8]> = TableDefinition::new("commit");
/// Largest file that is read, bytes.
const MAX_FILE: u64 = 4096;
/// Names that the file may have where its directory could not be synced, at most.
const MAX_NAMED: usize = 16;

/// A commit's name: how many there were, for people, and 128 random bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    generation: u64,
    nonce: u128,
}

/// What the store has of its last commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commit {
    name: Name,
    /// What the file may have named when the commit was made; `None`: there was no file.
    named_before: Vec<Option<Name>>,
}

/// What the file has.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    commit: Name,
    /// Of the file itself: one that is put back over another is not the one that was written.
    place: Place,
}

/// What the file was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Missing,
    Names(Name),
    /// No file that was written here.
    Foreign,
}

/// The file, and what it may name.
#[derive(Debug)]
pub(super) struct Anchor {
    path: PathBuf,
    found: Found,
    /// The first one was written for certain.
    named: Vec<Option<Name>>,
}

impl Anchor {
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let found = find(path)?;
        let named = match &found {
            Found::Missing => vec![None],
            Found::Names(name) => vec![Some(name.clone())],
            Found::Foreign => vec![],
        };
        Ok(Self { path: path.into(), found, named })
    }

    /// Reads it again. As long as its directory cannot be synced it may name what it named before, after a
    /// power cut.
    pub(super) fn again(&self) -> io::Result<Self> {
        let mut anchor = Self::read(&self.path)?;
        if sync_directory(&self.path).is_err() {
            let before = self.named.iter().filter(|name| !anchor.named.contains(name));
            let before: Vec<_> = before.cloned().collect();
            anchor.named.extend(before);
            anchor.named.truncate(MAX_NAMED);
        }
        Ok(anchor)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a store with this last commit is the one that the file speaks of. One without a commit is
    /// of an earlier build, or new, where there is no file.
    pub(super) fn fits(&self, commit: Option<&Commit>) -> bool {
        let found = match &self.found {
            Found::Missing => None,
            Found::Names(name) => Some(name),
            Found::Foreign => return false,
        };
        commit.map_or(found.is_none(), |commit| {
            found == Some(&commit.name)
                || commit.named_before.iter().any(|before| before.as_ref() == found)
        })
    }

    /// Whether the file names this commit.
    pub(super) fn names(&self, commit: &Commit) -> bool {
        self.found == Found::Names(commit.name.clone())
    }

    /// Names the commit that a transaction will be.
    pub(super) fn next(&self, write: &WriteTransaction) -> Result<Commit, StoreError> {
        let mut table = write.open_table(COMMIT).map_err(refused)?;
        let generation = named(&table)?.map_or(0, |last| last.name.generation) + 1;
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(&mut nonce).map_err(failed)?;
        let name = Name { generation, nonce: u128::from_ne_bytes(nonce) };
        let commit = Commit { name, named_before: self.named.clone() };
        let bytes = serde_json::to_vec(&commit).map_err(failed)?;
        table.insert((), &bytes[..]).map_err(refused)?;
        Ok(commit)
    }

    /// Writes that it was made. Where that fails the commit stands all the same, and the next one tries
    /// again: until one succeeds, copies of the store that were made meanwhile are not known.
    pub(super) fn follow(&mut self, Commit { name, .. }: Commit) {
        if let Err(error) = self.write(&name) {
            let path = self.path.display();
            tracing::error!(
                %error,
                "the last commit cannot be noted in {path}: a copy of the store that is put back over it \
                 may not be known as one; make room, or mend the directory"
            );
        }
    }

    fn write(&mut self, name: &Name) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&beside)?;
        let written = Written { commit: name.clone(), place: Place::of(&beside)? };
        file.write_all(&serde_json::to_vec(&written)?)?;
        file.sync_all()?;
        // From here on it may name either.
        if self.named.len() == MAX_NAMED {
            self.named.remove(1);
        }
        self.named.push(Some(name.clone()));
        fs::rename(&beside, &self.path)?;
        sync_directory(&self.path)?;
        self.named = vec![Some(name.clone())];
        Ok(())
    }
}

/// The last commit that a store has.
pub(super) fn last(read: &ReadTransaction) -> Result<Option<Commit>, StoreError> {
    match read.open_table(COMMIT) {
        Ok(table) => named(&table),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}

fn named(table: &impl ReadableTable<(), &'static [u8]>) -> Result<Option<Commit>, StoreError> {
    let Some(bytes) = table.get(()).map_err(refused)? else { return Ok(None) };
    serde_json::from_slice(bytes.value())
        .map(Some)
        .map_err(|error| StoreError::Damaged(format!("its last commit: {error}")))
}

fn find(path: &Path) -> io::Result<Found> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    let here = Place::of(path)?;
    Ok(match serde_json::from_slice(&bytes) {
        Ok(Written { commit, place }) if place == here => Found::Names(commit),
        _ => Found::Foreign,
    })
}
