//! The marker and its file.

use std::{
    fs::File,
    io::{self, Read as _},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use aws_lc_rs::{pbkdf2, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use mintwarden_hsm_config::pin::{FileIdentity, Pin};
use serde::{Deserialize, Serialize};

use crate::durable;

/// The form of the file.
const VERSION: u32 = 1;

/// Rounds of PBKDF2-HMAC-SHA256 for a new marker. A PIN has few digits, so whoever reads the marker
/// can try them all; this is what each try costs.
const ITERATIONS: u32 = 600_000;

/// Rounds that a marker read back may ask for: not so few that it protects nothing, nor so many that
/// a spoilt file stops the worker.
const ACCEPTED_ITERATIONS: std::ops::RangeInclusive<u32> = 200_000..=10_000_000;

/// A marker has a few hundred bytes.
const MAX_FILE: u64 = 4096;

/// A login that is not known to have succeeded.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Marker {
    version: u32,
    pub(super) login: Login,
}

/// How far the login got.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Login {
    /// Begun, and nothing more is known.
    Pending {
        /// The file that had the PIN, where it came from one.
        file: Option<FileIdentity>,
    },
    /// The device did not accept it.
    Failed(FailedLogin),
}

/// Tells the PIN that failed from others.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FailedLogin {
    iterations: u32,
    salt: String,
    hash: String,
}

impl Marker {
    pub(super) fn pending(file: Option<FileIdentity>) -> Self {
        Self { version: VERSION, login: Login::Pending { file } }
    }

    pub(super) fn failed(pin: &Pin) -> Self {
        let mut salt = [0; 16];
        rand::fill(&mut salt).expect("AWS-LC's generator aborts rather than fail");
        let mut hash = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            NonZeroU32::new(ITERATIONS).expect("a constant above zero"),
            &salt,
            pin.expose_secret().as_bytes(),
            &mut hash,
        );
        let failed = FailedLogin {
            iterations: ITERATIONS,
            salt: BASE64.encode(salt),
            hash: BASE64.encode(hash),
        };
        Self { version: VERSION, login: Login::Failed(failed) }
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let marker: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if marker.version != VERSION {
            return Err(format!("its version is {}, not {VERSION}", marker.version));
        }
        if let Login::Failed(failed) = &marker.login {
            failed.decode().ok_or("its hash is not one")?;
        }
        Ok(marker)
    }
}

impl FailedLogin {
    /// Whether it was this PIN that failed. Where that cannot be told, it was.
    pub(super) fn is_for(&self, pin: &Pin) -> bool {
        self.decode().is_none_or(|(iterations, salt, hash)| {
            let pin = pin.expose_secret().as_bytes();
            pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, pin, &hash).is_ok()
        })
    }

    fn decode(&self) -> Option<(NonZeroU32, [u8; 16], [u8; 32])> {
        let iterations =
            NonZeroU32::new(self.iterations).filter(|n| ACCEPTED_ITERATIONS.contains(&n.get()))?;
        let salt = BASE64.decode(&self.salt).ok()?.try_into().ok()?;
        let hash = BASE64.decode(&self.hash).ok()?.try_into().ok()?;
        Some((iterations, salt, hash))
    }
}

/// The file of the marker. What it says holds after a power cut: file and directory are synced
/// before a call returns.
#[derive(Debug)]
pub(super) struct MarkerFile {
    path: PathBuf,
}

impl MarkerFile {
    pub(super) fn new(directory: &Path) -> Self {
        Self { path: directory.join("login.json") }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read(&self) -> Result<Option<Marker>, MarkerError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(MarkerError::new(&self.path, error)),
        };
        let mut text = Vec::new();
        file.take(MAX_FILE + 1)
            .read_to_end(&mut text)
            .map_err(|error| MarkerError::new(&self.path, error))?;
        let marker = if text.len() as u64 > MAX_FILE {
            Err(format!("it is longer than {MAX_FILE} bytes"))
        } else {
            Marker::parse(&text)
        };
        marker.map(Some).map_err(|problem| MarkerError::new(&self.path, problem))
    }

    pub(super) fn write(&self, marker: &Marker) -> Result<(), MarkerError> {
        let text = serde_json::to_vec(marker).expect("a marker has only numbers and strings");
        durable::replace(&self.path, &text).map_err(|error| MarkerError::new(&self.path, error))
    }

    pub(super) fn remove(&self) -> Result<(), MarkerError> {
        durable::remove(&self.path).map_err(|error| MarkerError::new(&self.path, error))
    }
}

/// A marker that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub(super) struct MarkerError {
    path: PathBuf,
    problem: String,
}

impl MarkerError {
    fn new(path: &Path, problem: impl ToString) -> Self {
        Self { path: path.to_owned(), problem: problem.to_string() }
    }
}
