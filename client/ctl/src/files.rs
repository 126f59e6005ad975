//! Files that commands read and write: bounded, and never replaced.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use mintwarden_attestation::printable;

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub(crate) struct FileError {
    path: PathBuf,
    problem: String,
}

impl FileError {
    /// What is wrong with the file's contents, which may have been written to deceive.
    pub(crate) fn new(path: &Path, problem: impl ToString) -> Self {
        Self { path: path.to_owned(), problem: printable(&problem.to_string()) }
    }
}

/// A file of at most `max` bytes.
pub(crate) fn read(path: &Path, max: usize) -> Result<Vec<u8>, FileError> {
    let failed = |error: io::Error| FileError::new(path, error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > max {
        return Err(FileError::new(path, format!("it has more than {max} bytes")));
    }
    Ok(bytes)
}

/// A new file that all may read whom the process's umask lets.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    create(path, 0o666, bytes)
}

/// A new file that nobody else reads.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    create(path, 0o600, bytes)
}

fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), FileError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            FileError::new(path, "it is there already and is not replaced; give another name")
        }
        _ => FileError::new(path, error),
    };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn secrets_are_private_and_nothing_is_replaced() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("secret");
        write_secret(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_secret(&path, b"two").unwrap_err().to_string().contains("not replaced"));
        assert!(write(&path, b"two").is_err());
        assert_eq!(read(&path, 3).unwrap(), b"one");
    }

    #[test]
    fn i9_files_are_bounded() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("file");
        write(&path, b"four").unwrap();
        assert!(read(&path, 3).unwrap_err().to_string().contains("more than 3 bytes"));
        assert!(read(Path::new("/dev/zero"), 1000).is_err());
    }
}
