//! Where a PIN comes from, and the PIN itself.
//!
//! Only a worker calls [`PinSource::read`]; every other process passes the source on and never sees
//! the PIN (invariant I1).

use std::{
    env,
    ffi::OsString,
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::{
        ffi::OsStringExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Where a worker reads its PIN. Never contains the PIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinSource {
    /// A file that only its owner can read.
    File(PathBuf),
    /// A systemd credential: the file of this name in `$CREDENTIALS_DIRECTORY` (systemd.exec(5)).
    Credential(String),
    /// An environment variable. For development only.
    Env(String),
}

impl PinSource {
    /// Reads the PIN: the whole content but for one newline at its end.
    ///
    /// # Errors
    /// [`PinError`] if the source cannot be read, others could read the file, or the content is not a
    /// PIN. Nothing of the content is in the error.
    pub fn read(&self) -> Result<Pin, PinError> {
        match self {
            Self::File(path) => {
                let file = open(path)?;
                let mode = file.metadata().map_err(|error| unreadable(path, &error))?.mode();
                if mode & 0o077 != 0 {
                    return Err(PinError::Exposed { path: path.clone(), mode: mode & 0o7777 });
                }
                let identity = identity(&file).map_err(|error| unreadable(path, &error))?;
                read(file, path, Some(identity))
            }
            Self::Credential(name) => {
                let directory = variable("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| PinError::NoCredentials { name: name.clone() })?;
                let path = Path::new(&directory).join(name);
                // systemd makes the file afresh at every start: that it is another file says nothing
                // about the PIN.
                read(open(&path)?, &path, None)
            }
            Self::Env(name) => {
                let value = variable(name)
                    .ok_or_else(|| PinError::VariableAbsent { name: name.clone() })?;
                let value = Zeroizing::new(value.into_vec());
                Pin::parse(&value, None, || format!("environment variable {name}"))
            }
        }
    }
}

/// A PIN in memory that is wiped on drop.
pub struct Pin {
    text: Zeroizing<String>,
    identity: Option<FileIdentity>,
}

impl Pin {
    /// Longest PIN, in bytes.
    pub const MAX_LEN: usize = 256;

    /// A PIN that comes from no [`PinSource`]: freshly made, or typed to a provisioning command.
    ///
    /// # Errors
    /// [`PinError`] if `content`, less one newline at its end, is empty, longer than
    /// [`Pin::MAX_LEN`], not UTF-8, or has control characters. `origin` says where it came from.
    pub fn from_bytes(content: &[u8], origin: &str) -> Result<Self, PinError> {
        Self::parse(content, None, || origin.to_owned())
    }

    /// The PIN. Every use of this method is a place where a PIN may leak.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.text
    }

    /// The file that the PIN was read from; only for [`PinSource::File`].
    #[must_use]
    pub fn identity(&self) -> Option<FileIdentity> {
        self.identity
    }

    fn parse(
        content: &[u8],
        identity: Option<FileIdentity>,
        origin: impl FnOnce() -> String,
    ) -> Result<Self, PinError> {
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let problem = match str::from_utf8(content) {
            Ok("") => "it is empty",
            Ok(_) if content.len() > Self::MAX_LEN => "it is longer than 256 bytes",
            // A carriage return or a second newline would cost a login attempt.
            Ok(text) if text.contains(char::is_control) => {
                "it has a control character; a line end other than one final newline counts as one"
            }
            Ok(text) => return Ok(Self { text: Zeroizing::new(text.to_owned()), identity }),
            Err(_) => "it is not UTF-8",
        };
        Err(PinError::Content { origin: origin(), problem })
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

/// Tells one state of a file from another without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileIdentity {
    /// Device number of the file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Whole seconds of the time of last modification, since 1970.
    pub modified_seconds: i64,
    /// Nanoseconds of the time of last modification.
    pub modified_nanoseconds: i64,
    /// Size in bytes.
    pub size: u64,
}

/// A PIN that cannot be had from its source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The file cannot be opened or read.
    #[error(
        "the PIN file {path} cannot be read: {problem}; make it a file that the worker's user can read"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        problem: String,
    },
    /// Users other than the owner can get at the file.
    #[error(
        "the PIN file {path} has mode {mode:04o}, so others can get at the PIN; `chmod 600 {path}`, and consider changing the PIN"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is no directory of credentials.
    #[error(
        "the PIN is to come from the systemd credential {name:?}, but CREDENTIALS_DIRECTORY is not set; start the service by systemd with LoadCredential={name}:… or LoadCredentialEncrypted={name}:…, or use `pin = {{ file = … }}`"
    )]
    NoCredentials {
        /// The credential.
        name: String,
    },
    /// The environment variable is not set.
    #[error("the PIN is to come from the environment variable {name}, which is not set")]
    VariableAbsent {
        /// The variable.
        name: String,
    },
    /// What was read is not a PIN.
    #[error("the content of {origin} is not a PIN: {problem}")]
    Content {
        /// Where it was read.
        origin: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

#[expect(clippy::disallowed_methods, reason = "a PIN's source may be in the environment")]
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name)
}

fn unreadable(path: &Path, error: &io::Error) -> PinError {
    PinError::Unreadable { path: path.to_owned(), problem: error.to_string() }
}

fn open(path: &Path) -> Result<File, PinError> {
    // A FIFO in place of the file must not hang the worker.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| unreadable(path, &error))?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(PinError::Unreadable {
            path: path.to_owned(),
            problem: "it is not a regular file".to_owned(),
        });
    }
    Ok(file)
}

fn identity(file: &File) -> io::Result<FileIdentity> {
    let metadata = file.metadata()?;
    Ok(FileIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
        modified_seconds: metadata.mtime(),
        modified_nanoseconds: metadata.mtime_nsec(),
        size: metadata.size(),
    })
}

fn read(file: File, path: &Path, identity: Option<FileIdentity>) -> Result<Pin, PinError> {
    // Room for all of it from the start: a buffer that grows leaves copies behind.
    const BOUND: usize = Pin::MAX_LEN + 2;
    let mut content = Zeroizing::new(Vec::with_capacity(BOUND));
    file.take(BOUND as u64).read_to_end(&mut content).map_err(|error| unreadable(path, &error))?;
    Pin::parse(&content, identity, || path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PinSource) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pin");
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permitted");
        (directory, PinSource::File(path))
    }

    #[test]
    fn exactly_one_newline_is_taken_off() {
        for (content, pin) in [("1234", "1234"), ("1234\n", "1234"), ("ü 9\n", "ü 9")] {
            let (_directory, source) = file(content.as_bytes(), 0o600);
            assert_eq!(source.read().expect("a PIN").expose_secret(), pin);
        }
    }

    #[test]
    fn what_is_no_pin_is_refused_and_not_quoted() {
        let long = "7".repeat(257);
        let cases: [(&[u8], &str); 7] = [
            (b"", "empty"),
            (b"\n", "empty"),
            (b"1234\n\n", "control"),
            (b"1234\r\n", "control"),
            (b"12\xff34", "UTF-8"),
            (long.as_bytes(), "longer"),
            (&[b'7'; 100_000], "longer"),
        ];
        for (content, problem) in cases {
            let (_directory, source) = file(content, 0o600);
            let error = source.read().expect_err("no PIN").to_string();
            assert!(error.contains(problem), "{error}");
            assert!(!error.contains("1234") && !error.contains("777"), "{error}");
        }
    }

    #[test]
    fn a_pin_of_256_bytes_and_a_newline_is_one() {
        let (_directory, source) = file(format!("{}\n", "7".repeat(256)).as_bytes(), 0o400);
        assert_eq!(source.read().expect("a PIN").expose_secret().len(), 256);
    }

    #[test]
    fn i1_a_file_that_others_can_get_at_is_refused() {
        for mode in [0o640, 0o604, 0o620, 0o677] {
            let (_directory, source) = file(b"1234", mode);
            let error = source.read().expect_err("exposed").to_string();
            assert!(error.contains(&format!("{mode:04o}")), "{error}");
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_missing_file_and_a_directory_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        for path in [directory.path().join("absent"), directory.path().to_owned()] {
            let error = PinSource::File(path.clone()).read().expect_err("no file");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }

    #[test]
    fn i1_debug_shows_nothing() {
        let (_directory, source) = file(b"1234", 0o600);
        assert_eq!(format!("{:?}", source.read().expect("a PIN")), "Pin(..)");
    }

    #[test]
    fn the_identity_follows_the_file() {
        let (directory, source) = file(b"1234", 0o600);
        let first = source.read().expect("a PIN").identity().expect("a file");
        assert_eq!(source.read().expect("a PIN").identity(), Some(first));
        let other = directory.path().join("other");
        fs::write(&other, "12345").expect("written");
        fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).expect("permitted");
        fs::rename(&other, directory.path().join("pin")).expect("renamed");
        assert_ne!(source.read().expect("a PIN").identity(), Some(first));
    }

    #[test]
    fn sources_read_as_operators_write_them() {
        let parse = |text: &str| toml::from_str::<PinSource>(text);
        assert_eq!(parse("file = 'p'"), Ok(PinSource::File("p".into())));
        assert_eq!(parse("credential = 'c'"), Ok(PinSource::Credential("c".into())));
        assert_eq!(parse("env = 'E'"), Ok(PinSource::Env("E".into())));
        assert!(parse("value = '1234'").is_err());
        assert!(parse("file = 'p'\nenv = 'E'").is_err());
    }
}
