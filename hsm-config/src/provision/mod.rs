//! Throw-away PKCS#11 tokens and TPMs for `mintwarden dev`, for tests and for images.
//!
//! This process loads no PKCS#11 module: the worker's binary initialises the PKCS#11 token, and gets
//! both PINs on its standard input, where no other process can read them. A TPM is a process of its own,
//! `swtpm`.

mod softhsm;
mod swtpm;

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

pub use self::{softhsm::SoftHsm, swtpm::Swtpm};
use crate::device::DeviceEntry;

/// A throw-away device that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisionError {
    /// SoftHSM2 is not installed.
    #[error("SoftHSM2 is not installed; `{install}`")]
    ModuleNotInstalled {
        /// How it is installed.
        install: &'static str,
    },
    /// swtpm is not installed, or cannot be started.
    #[error("swtpm cannot be started: {0}; `apt-get install swtpm`")]
    Swtpm(#[source] io::Error),
    /// swtpm ended instead of serving.
    #[error("swtpm does not serve: {0}")]
    SwtpmEnded(String),
    /// A file or directory cannot be made.
    #[error(
        "{path}: {source}; give a directory that does not have a device yet and that this user can write"
    )]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system gives no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Random(#[source] io::Error),
    /// The worker's binary cannot be started.
    #[error(
        "{worker} cannot be started: {source}; build it (`cargo build -p mintwarden-pkcs11`) or install it beside `mintwarden`"
    )]
    Worker {
        /// The binary.
        worker: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The PKCS#11 token was not initialised.
    #[error("`{worker} init-token` failed: {problem}")]
    InitToken {
        /// The binary.
        worker: PathBuf,
        /// What it said.
        problem: String,
    },
}

fn file_error(path: &Path, source: io::Error) -> ProvisionError {
    ProvisionError::File { path: path.to_owned(), source }
}

/// A device as a `[[device]]` table.
fn device_toml(device: DeviceEntry) -> String {
    #[derive(serde::Serialize)]
    struct File {
        device: [DeviceEntry; 1],
    }
    toml::to_string(&File { device: [device] })
        .expect("a device entry has only strings, numbers and tables of strings")
}

fn make_private_directory(path: &Path) -> Result<(), ProvisionError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| file_error(path, error))
}

/// Never replaces a file: it could be the PIN of a PKCS#11 token that someone uses.
fn write_new(path: &Path, content: &[u8]) -> Result<(), ProvisionError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content)).map_err(|error| file_error(path, error))
}

/// 128 random bits in hexadecimal: within every module's limits of length and alphabet.
fn random_pin() -> Result<Zeroizing<String>, ProvisionError> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = Zeroizing::new([0_u8; 16]);
    let length = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| ProvisionError::Random(error.into()))?;
    if length != bytes.len() {
        return Err(ProvisionError::Random(io::ErrorKind::UnexpectedEof.into()));
    }
    let mut pin = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes.iter() {
        pin.push(char::from(DIGITS[usize::from(byte >> 4)]));
        pin.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    Ok(pin)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pins_are_long_and_never_the_same() {
        let (a, b) = (random_pin().expect("random"), random_pin().expect("random"));
        assert_eq!(a.len(), 32);
        assert_ne!(a, b);
    }

    #[test]
    fn an_existing_pin_file_is_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pin");
        write_new(&path, b"1").expect("written");
        assert!(write_new(&path, b"2").is_err());
        assert_eq!(fs::read(&path).expect("read"), b"1");
    }
}
