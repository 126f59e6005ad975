//! What a TPM and its machine were like when that was accepted, in the worker's own directory.
//!
//! The first that is seen is accepted. Another is refused and told, and accepted only where a custodian then says
//! `device resume`, and where it is the very one that was told of.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use mintwarden_worker::durable;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The form of the file.
const VERSION: u32 = 1;

/// Two states of 24 PCRs of SHA-512, in hexadecimal, have some 7 KiB.
const MAX_FILE: usize = 16 * 1024;

/// The record. What it says holds after a power cut: file and directory are synced before a call returns, and the
/// file is the one from before or the new one.
#[derive(Debug)]
pub(crate) struct Record<T> {
    path: PathBuf,
    held: Option<Held<T>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held<T> {
    version: u32,
    /// With this one keys are made.
    accepted: T,
    /// This one was refused, and told, since the accepted one was there last.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    refused: Option<T>,
}

fn none<T>() -> Option<T> {
    None
}

impl<T: Clone + PartialEq + Serialize + DeserializeOwned> Record<T> {
    /// Reads it, if there is one.
    ///
    /// # Errors
    /// What is wrong with it, with the remedy: one that cannot be read counts as one that accepts nothing.
    pub(crate) fn open(path: PathBuf) -> Result<Self, String> {
        let wrong = |problem: &dyn std::fmt::Display| {
            format!(
                "{}: {problem}; put it back from a copy, or remove it: what the next start finds is then accepted as \
                 the first",
                path.display()
            )
        };
        let held = match bounded(&path, MAX_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(wrong(&error)),
            Ok(text) => {
                let held: Held<T> = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
                if held.version != VERSION {
                    return Err(wrong(&format!("its version is {}, not {VERSION}", held.version)));
                }
                Some(held)
            }
        };
        Ok(Self { path, held })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is accepted; `None` before the first.
    pub(crate) fn accepted(&self) -> Option<&T> {
        self.held.as_ref().map(|held| &held.accepted)
    }

    /// What was refused last and told, if the accepted one was not there since.
    pub(crate) fn refused(&self) -> Option<&T> {
        self.held.as_ref().and_then(|held| held.refused.as_ref())
    }

    /// Accepts what is there now, and forgets what was refused.
    ///
    /// # Errors
    /// It could not be written; what was accepted counts as before.
    pub(crate) fn accept(&mut self, now: &T) -> Result<(), String> {
        self.write(Held { version: VERSION, accepted: now.clone(), refused: None })
    }

    /// Notes that what is there now was refused.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn refuse(&mut self, now: &T) -> Result<(), String> {
        match &self.held {
            Some(Held { accepted, .. }) => {
                let (accepted, refused) = (accepted.clone(), Some(now.clone()));
                self.write(Held { version: VERSION, accepted, refused })
            }
            None => Ok(()),
        }
    }

    fn write(&mut self, held: Held<T>) -> Result<(), String> {
        if self.held.as_ref() == Some(&held) {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&held).expect("strings and numbers only");
        let written = durable::replace(&self.path, &text);
        written.map_err(|error| format!("{}: {error}", self.path.display()))?;
        self.held = Some(held);
        Ok(())
    }
}

/// A file of at most `max` bytes.
///
/// # Errors
/// The file's; one about its length.
pub(crate) fn bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::other(format!("it has more than {max} bytes")));
    }
    Ok(bytes)
}
