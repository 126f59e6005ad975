//! The keys that this worker has made, as it keeps them beside the keyset.
//!
//! A TPM stores none of them. So that it shows, as a PKCS#11 token does, which keys an issuer has whatever
//! became of the server's store, the worker keeps a copy of each until the key is destroyed. It is worth as
//! much as the keyset's: without the TPM and the device secret nothing. Of a key that both have, what the
//! worker wrote itself counts.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use mintwarden_worker::{
    device::{Cause, DeviceError, KeptKey, KeyHandle, Remedy, WrappedKey},
    durable,
};

use crate::record::bounded;

/// How many are kept (I9). Keys and failed attempts at them are bounded by the keyset; a server that was taken
/// over may ask for more.
const MAX_KEYS: usize = 1024;

/// The longest handle that is written whole, in bytes: a server draws 16.
const MAX_HANDLE: usize = 32;

/// A directory with a file for each key, named by its handle in hexadecimal.
#[derive(Debug)]
pub(crate) struct Kept {
    directory: PathBuf,
    own: BTreeMap<KeyHandle, WrappedKey>,
}

impl Kept {
    /// Reads the worker's own copies. One that cannot be read is left out, and the keyset has it still.
    ///
    /// # Errors
    /// [`Cause::StateUnusable`].
    pub(crate) fn open(state_dir: &Path) -> Result<Self, DeviceError> {
        let directory = state_dir.join("keys");
        let unusable = |error: io::Error| {
            DeviceError::of(Cause::StateUnusable, format!("{}: {error}", directory.display()))
        };
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(unusable(error));
            }
            _ => {}
        }
        let mut own = BTreeMap::new();
        for entry in fs::read_dir(&directory).map_err(unusable)? {
            let entry = entry.map_err(unusable)?;
            let Some(handle) = entry.file_name().to_str().and_then(parse) else { continue };
            match bounded(&entry.path(), WrappedKey::MAX_LEN).map(WrappedKey::new) {
                Ok(Some(wrapped)) => drop(own.insert(handle, wrapped)),
                Ok(None) => tracing::warn!(?handle, "the worker's copy of a key is empty"),
                Err(error) => {
                    tracing::warn!(?handle, %error, "the worker's copy of a key is unreadable");
                }
            }
        }
        Ok(Self { directory, own })
    }

    /// All keys: those that the keyset has, and the worker's own.
    pub(crate) fn with(&self, keyset: Vec<KeptKey>) -> BTreeMap<KeyHandle, KeptKey> {
        let own = self.own.iter().map(|(handle, wrapped)| {
            let (handle, wrapped) = (handle.clone(), wrapped.clone());
            KeptKey { handle, wrapped }
        });
        keyset.into_iter().chain(own).map(|key| (key.handle.clone(), key)).collect()
    }

    /// Keeps a key that was made; its copy holds after a power cut.
    ///
    /// # Errors
    /// [`Cause::StateUnusable`], [`Cause::OutOfResources`]; it is not kept then.
    pub(crate) fn add(&mut self, key: &KeptKey) -> Result<(), DeviceError> {
        if self.own.len() >= MAX_KEYS {
            let detail = format!(
                "{}: {MAX_KEYS} keys are kept there; remove those that no keyset names",
                self.directory.display()
            );
            return Err(DeviceError::new(Cause::OutOfResources, Remedy::Refuse, detail));
        }
        if key.handle.as_bytes().len() > MAX_HANDLE {
            let detail = format!("handle {:?}… is longer than {MAX_HANDLE} bytes", key.handle);
            return Err(DeviceError::new(Cause::KeyUnusable, Remedy::Refuse, detail));
        }
        let path = self.path(&key.handle);
        let written = durable::replace(&path, key.wrapped.as_bytes());
        written.map_err(|error| unwritten(&path, &error))?;
        self.own.insert(key.handle.clone(), key.wrapped.clone());
        Ok(())
    }

    /// Forgets a key that was destroyed.
    ///
    /// # Errors
    /// [`Cause::StateUnusable`].
    pub(crate) fn remove(&mut self, handle: &KeyHandle) -> Result<(), DeviceError> {
        if !self.own.contains_key(handle) {
            return Ok(());
        }
        let path = self.path(handle);
        match durable::remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unwritten(&path, &error));
            }
            _ => {}
        }
        self.own.remove(handle);
        Ok(())
    }

    /// Forgets those keys that were destroyed.
    ///
    /// # Errors
    /// [`Cause::StateUnusable`].
    pub(crate) fn remove_all(
        &mut self,
        destroyed: impl Fn(&KeyHandle) -> bool,
    ) -> Result<(), DeviceError> {
        let gone: Vec<_> = self.own.keys().filter(|handle| destroyed(handle)).cloned().collect();
        gone.iter().try_for_each(|handle| self.remove(handle))
    }

    fn path(&self, handle: &KeyHandle) -> PathBuf {
        self.directory.join(hex::encode(handle.as_bytes()))
    }
}

fn unwritten(path: &Path, error: &io::Error) -> DeviceError {
    let detail = format!("{}: {error}", path.display());
    DeviceError::new(Cause::StateUnusable, Remedy::Refuse, detail)
}

/// A handle as it is written.
fn parse(name: &str) -> Option<KeyHandle> {
    let handle = hex::decode(name).ok()?;
    (hex::encode(&handle) == name).then(|| KeyHandle::new(handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8, wrapped: &[u8]) -> KeptKey {
        let wrapped = WrappedKey::new(wrapped.to_vec()).expect("a few bytes");
        KeptKey { handle: KeyHandle::new(vec![byte; 16]), wrapped }
    }

    #[test]
    fn i7_what_was_made_is_there_for_the_next_process_until_it_is_destroyed() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut kept = Kept::open(directory.path()).expect("nothing there is fine");
        for made in [key(1, b"one"), key(0xab, b"two")] {
            kept.add(&made).expect("written");
        }
        let mut kept = Kept::open(directory.path()).expect("read");
        let all: Vec<_> = kept.with(vec![]).into_values().collect();
        assert_eq!(all, [key(1, b"one"), key(0xab, b"two")]);
        kept.remove(&key(1, b"one").handle).expect("removed");
        kept.remove(&key(1, b"one").handle).expect("once is enough");
        kept.add(&key(3, b"three")).expect("written");
        kept.remove_all(|handle| *handle == key(3, b"three").handle).expect("removed");
        let kept = Kept::open(directory.path()).expect("read");
        assert_eq!(kept.with(vec![]).into_values().collect::<Vec<_>>(), [key(0xab, b"two")]);
    }

    #[test]
    fn i3_the_workers_own_copy_counts_for_more_than_what_a_server_says() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut kept = Kept::open(directory.path()).expect("nothing there is fine");
        kept.add(&key(1, b"own")).expect("written");
        let all = kept.with(vec![key(1, b"a lie"), key(2, b"of an earlier build")]);
        let all: Vec<_> = all.into_values().collect();
        assert_eq!(all, [key(1, b"own"), key(2, b"of an earlier build")]);
    }

    #[test]
    fn what_a_power_cut_left_is_left_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut kept = Kept::open(directory.path()).expect("nothing there is fine");
        kept.add(&key(1, b"one")).expect("written");
        let place = |name: &str| directory.path().join("keys").join(name);
        fs::write(place("0202020202020202.new"), "half").expect("a file");
        fs::write(place("0303"), "").expect("a file");
        fs::write(place("0404"), vec![0; WrappedKey::MAX_LEN + 1]).expect("a file");
        fs::write(place("ABAB"), "not as it is written").expect("a file");
        let kept = Kept::open(directory.path()).expect("read");
        assert_eq!(kept.with(vec![]).into_values().collect::<Vec<_>>(), [key(1, b"one")]);
    }

    #[test]
    fn i9_a_server_cannot_fill_the_disk_with_keys() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("keys")).expect("a directory");
        for n in 0..MAX_KEYS {
            fs::write(directory.path().join("keys").join(format!("{n:08x}")), "key")
                .expect("a file");
        }
        let mut kept = Kept::open(directory.path()).expect("read");
        let error = kept.add(&key(0xff, b"one too many")).expect_err("full");
        assert_eq!((error.cause, error.remedy), (Cause::OutOfResources, Remedy::Refuse));
    }

    #[test]
    fn i7_two_handles_never_share_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut kept = Kept::open(directory.path()).expect("nothing there is fine");
        let long = KeptKey { handle: KeyHandle::new(vec![1; 33]), ..key(1, b"too long") };
        assert_eq!(kept.add(&long).expect_err("too long").cause, Cause::KeyUnusable);
    }
}
