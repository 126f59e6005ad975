//! The order to kill a server at a write of its store, as a file beside the store: the number of calls
//! that are still to go well. A test writes it, `mintwarden-faulty-store` counts it down. A second file
//! says that the disk is full: what would write the store fails with `ENOSPC` while it is there.
//!
//! That program is `mintwarden` itself, its library linked to another `main`, and four functions of libc
//! in front of libc's own: those by which redb changes its file. So every system call that writes the
//! store is a place where the server can be killed, and between two of them there is none that could
//! leave anything else behind: a process that is killed leaves what its system calls wrote.

#![allow(clippy::disallowed_methods, reason = "a fixture's own file")]

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

/// How a store's file is called, whatever else there is beside it.
const STORE: &str = "redb";
/// The order's digits: as many always, so that it is replaced in place.
const DIGITS: usize = 12;

/// An order, of the store in one directory.
#[derive(Clone, Debug)]
pub struct Order {
    file: PathBuf,
}

impl Order {
    /// Of the store in `directory`.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        Self { file: directory.join("kill-at-write") }
    }

    /// Kills the server at the write after `n` others from here on, before it is made.
    ///
    /// # Errors
    /// The file's.
    pub fn give(&self, n: u64) -> io::Result<()> {
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, format!("{n:0DIGITS$}"))?;
        fs::rename(fresh, &self.file)
    }

    /// Takes the order back. The number of writes that it had still to wait for; `None` where it was
    /// carried out, or none was given.
    ///
    /// # Errors
    /// The file's.
    pub fn take_back(&self) -> io::Result<Option<u64>> {
        let left = self.left()?;
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(left),
        }
    }

    /// The number of writes that it waits for; `None` where it was carried out, or none was given.
    ///
    /// # Errors
    /// The file's.
    pub fn left(&self) -> io::Result<Option<u64>> {
        match fs::read_to_string(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => text?.parse().map(Some).map_err(io::Error::other),
        }
    }

    /// Lets the disk be full: nothing more is written into the store, nor does it grow.
    ///
    /// # Errors
    /// The file's.
    pub fn fill(&self) -> io::Result<()> {
        fs::write(self.full(), "")
    }

    /// Makes room again.
    ///
    /// # Errors
    /// The file's.
    pub fn make_room(&self) -> io::Result<()> {
        fs::remove_file(self.full())
    }

    /// Whether the disk is full.
    ///
    /// # Errors
    /// The file's.
    pub fn is_full(&self) -> io::Result<bool> {
        self.full().try_exists()
    }

    fn full(&self) -> PathBuf {
        self.file.with_file_name("full")
    }

    /// The order for a file that is about to be written; `None` if that is no store.
    #[must_use]
    pub fn about(written: &Path) -> Option<Self> {
        let directory = written.parent().filter(|_| written.extension() == Some(STORE.as_ref()))?;
        Some(Self::of(directory))
    }

    /// Counts a write; whether it is the one to be killed at, which ends the order.
    ///
    /// # Errors
    /// The file's; none where no order was given.
    pub fn is_due(&self) -> io::Result<bool> {
        let mut file = match OpenOptions::new().read(true).write(true).open(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let left: u64 = text.parse().map_err(io::Error::other)?;
        let Some(left) = left.checked_sub(1) else {
            fs::remove_file(&self.file)?;
            return Ok(true);
        };
        file.rewind()?;
        write!(file, "{left:0DIGITS$}")?;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_write_after_so_many_is_the_one_and_no_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let order = Order::of(directory.path());
        let store = Order::about(&directory.path().join("keysets.redb")).expect("a store");
        assert!(Order::about(&directory.path().join("keysets.json")).is_none());
        assert!(!store.is_due().expect("no order"));
        order.give(2).expect("given");
        let due: Vec<_> = (0..5).map(|_| store.is_due().expect("counted")).collect();
        assert_eq!(due, [false, false, true, false, false]);
        assert_eq!(order.take_back().expect("nothing is left"), None);
        order.give(3).expect("given");
        assert!(!store.is_due().expect("counted"));
        assert_eq!(order.take_back().expect("taken back"), Some(2));
        assert!(!store.is_due().expect("no order"));
    }

    #[test]
    fn a_disk_is_full_until_there_is_room() {
        let directory = tempfile::tempdir().expect("a directory");
        let order = Order::of(directory.path());
        let store = Order::about(&directory.path().join("keysets.redb")).expect("a store");
        assert!(!store.is_full().expect("told"));
        order.fill().expect("filled");
        assert!(store.is_full().expect("told"));
        order.make_room().expect("room");
        assert!(!store.is_full().expect("told"));
    }
}
