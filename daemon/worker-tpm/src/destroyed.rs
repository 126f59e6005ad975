//! Keys that were destroyed, as the worker remembers them.
//!
//! A TPM does not store an issuer's key, so that nothing can be deleted in it: the key is gone when the
//! last copy of its blob is. Copies of a keyset have it still, and a broken server may have kept it. So
//! the worker writes down which keys it is never to use again, in its own directory.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use mintwarden_worker::{
    device::{Cause, DeviceError, KeyHandle, Remedy},
    durable,
};

/// A line has a handle in hexadecimal: this is more than a hundred thousand.
const MAX_FILE: u64 = 4 << 20;

/// The handles of destroyed keys, one to a line.
#[derive(Debug)]
pub(crate) struct Destroyed {
    path: PathBuf,
    /// How long the record is.
    size: u64,
    handles: HashSet<String>,
    /// Those of them that are written down.
    durable: HashSet<String>,
}

impl Destroyed {
    /// Reads the record in the worker's directory.
    ///
    /// # Errors
    /// [`Cause::StateUnusable`].
    pub(crate) fn open(state_dir: &Path) -> Result<Self, DeviceError> {
        let path = state_dir.join("destroyed");
        let unusable = |problem: String| {
            let detail = format!("{}: {problem}", path.display());
            DeviceError::new(Cause::StateUnusable, Remedy::Restart, detail)
        };
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => {
                file.take(MAX_FILE + 1)
                    .read_to_string(&mut text)
                    .map_err(|error| unusable(error.to_string()))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(error.to_string())),
        }
        if text.len() as u64 > MAX_FILE {
            return Err(unusable(format!("it is longer than {MAX_FILE} bytes")));
        }
        // A line that was cut off by a power failure is no handle, and its key was not reported gone.
        let handles: HashSet<_> = text.lines().map(str::to_owned).collect();
        Ok(Self { path, size: text.len() as u64, durable: handles.clone(), handles })
    }

    /// Whether the key is never to be used again.
    pub(crate) fn contains(&self, handle: &KeyHandle) -> bool {
        self.handles.contains(&hex::encode(handle.as_bytes()))
    }

    /// Writes down that a key is never to be used again; it holds after a power cut.
    ///
    /// # Errors
    /// [`Cause::StateUnusable`]; the key counts as destroyed in this process all the same.
    pub(crate) fn add(&mut self, handle: &KeyHandle) -> Result<(), DeviceError> {
        let handle = hex::encode(handle.as_bytes());
        self.handles.insert(handle.clone());
        if self.durable.contains(&handle) {
            return Ok(());
        }
        // Begins with a line end too: what a power failure cut off before stays apart.
        let line = format!("\n{handle}\n");
        // A longer one would not be read by the next process: the device would never start again.
        if self.size + line.len() as u64 > MAX_FILE {
            let detail = format!(
                "{}: it is full; when neither `keys` beside it nor any copy of a keyset has these keys any more, it \
                 can be removed",
                self.path.display()
            );
            return Err(DeviceError::new(Cause::StateUnusable, Remedy::Refuse, detail));
        }
        // Whatever is written of it, even in part.
        self.size += line.len() as u64;
        let written = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path);
        let written = written.and_then(|mut file| {
            file.write_all(line.as_bytes())?;
            file.sync_all()?;
            durable::sync_directory(&self.path)
        });
        written.map_err(|error| {
            let detail = format!("{}: {error}", self.path.display());
            DeviceError::new(Cause::StateUnusable, Remedy::Refuse, detail)
        })?;
        self.durable.insert(handle);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_destroyed_is_remembered_by_the_next_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let handle = |byte| KeyHandle::new(vec![byte; 16]);
        let mut destroyed = Destroyed::open(directory.path()).expect("nothing there is fine");
        assert!(!destroyed.contains(&handle(1)));
        destroyed.add(&handle(1)).expect("written");
        destroyed.add(&handle(1)).expect("once is enough");
        let written = std::fs::read_to_string(directory.path().join("destroyed")).expect("text");
        assert_eq!(
            written,
            format!("\n{}\n", "01".repeat(16)),
            "what was stored once stays readable"
        );
        // A power failure in the middle of a line.
        let mut file =
            OpenOptions::new().append(true).open(directory.path().join("destroyed")).expect("it");
        file.write_all(b"0202").expect("written");
        let mut destroyed = Destroyed::open(directory.path()).expect("read");
        destroyed.add(&handle(3)).expect("written");
        let destroyed = Destroyed::open(directory.path()).expect("read");
        assert!(destroyed.contains(&handle(1)) && destroyed.contains(&handle(3)));
        assert!(!destroyed.contains(&handle(2)));
    }

    #[test]
    fn i9_the_record_never_grows_beyond_what_the_next_process_reads() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("destroyed");
        let lines = "\n0123456789abcdef0123456789abcdef\n";
        let almost = usize::try_from(MAX_FILE).expect("small") / lines.len();
        std::fs::write(&path, lines.repeat(almost)).expect("written");
        let mut destroyed = Destroyed::open(directory.path()).expect("short enough");
        let refused = (0..8).filter(|byte| {
            let handle = KeyHandle::new(vec![*byte; 16]);
            destroyed.add(&handle).is_err_and(|error| error.cause == Cause::StateUnusable)
        });
        assert!(refused.count() >= 7, "there was room for one at most");
        Destroyed::open(directory.path()).expect("it can still be read");
    }

    #[test]
    fn what_could_not_be_written_down_is_written_the_next_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("state");
        std::fs::create_dir(&place).expect("a directory");
        let mut destroyed = Destroyed::open(&place).expect("nothing there is fine");
        std::fs::remove_dir(&place).expect("empty");
        let key = KeyHandle::new(vec![1; 16]);
        let error = destroyed.add(&key).expect_err("there is no directory");
        assert_eq!(error.cause, Cause::StateUnusable);
        assert!(destroyed.contains(&key), "it is not used again all the same");
        std::fs::create_dir(&place).expect("a directory");
        destroyed.add(&key).expect("written");
        assert!(Destroyed::open(&place).expect("read").contains(&key));
    }
}
