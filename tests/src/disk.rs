//! A disk that can really be full.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

/// A file system of its own, in memory, as small as a test wants it; unmounted when this is dropped.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// One of `kib` KiB at `root`, which is made where it is missing. Only root can have one.
    ///
    /// # Panics
    /// If it cannot be mounted.
    #[must_use]
    pub fn mount(root: &Path, kib: u32) -> Self {
        fs::create_dir_all(root).expect("a place for it");
        let size = format!("size={kib}k,mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(root).status();
        assert!(mounted.expect("mount(8) is part of every Debian").success(), "a disk at {root:?}");
        Self { root: root.into() }
    }

    /// Writes until nothing more fits.
    ///
    /// # Panics
    /// If that cannot be.
    pub fn fill(&self) {
        let filler = OpenOptions::new().create(true).append(true).open(self.filler());
        let mut filler = filler.expect("a file on it");
        for size in [4096, 1] {
            loop {
                match filler.write_all(&vec![0; size]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => panic!("the disk: {error}"),
                }
            }
        }
    }

    /// Makes room again.
    ///
    /// # Panics
    /// If it was not full.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("it was full");
    }

    fn filler(&self) -> PathBuf {
        self.root.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.root).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}
