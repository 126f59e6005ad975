//! Files of a worker's own directory that hold after a power cut.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Writes a file that only its owner can read, whole or not at all: it is the one from before or this one, and once
/// this returns a power cut does not undo it. Written beside it first, with `.new` at the end of its name.
///
/// # Errors
/// The system's; then either of the two may be there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_directory(path)
}

/// Removes a file; once this returns a power cut does not undo it.
///
/// # Errors
/// The system's.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_directory(path)
}

/// Syncs the directory that a file is in: its name holds after a power cut, or that it has none any more.
///
/// # Errors
/// The system's.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state.json");
        // What a power cut left.
        fs::write(directory.path().join("state.json.new"), "half of a longer text")
            .expect("a file");
        for text in ["one", "two"] {
            replace(&path, text.as_bytes()).expect("written");
            assert_eq!(fs::read(&path).expect("there"), text.as_bytes());
        }
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1);
        remove(&path).expect("removed");
        assert_eq!(remove(&path).expect_err("it is gone").kind(), io::ErrorKind::NotFound);
    }
}
