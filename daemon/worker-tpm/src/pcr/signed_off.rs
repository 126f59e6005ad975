//! What an authority has signed off: a directory with a file for each state.

use std::{fs, path::PathBuf};

use mintwarden_attestation::{
    pcr::{Authority, SignOff},
    tpm::Name,
};

use crate::record::bounded;

/// Files that are looked at, in the order of their names (I9).
const MAX_FILES: usize = 64;

/// An authority, and where it leaves what it signed.
#[derive(Debug)]
pub(super) struct SignedOff {
    authority: Authority,
    directory: PathBuf,
}

impl SignedOff {
    pub(super) fn new(authority: Authority, directory: PathBuf) -> Self {
        Self { authority, directory }
    }

    /// By what name policies know the authority.
    pub(super) fn name(&self) -> Name {
        self.authority.name()
    }

    /// Every `*.json` file of the directory: a sign-off, or what is wrong with it. An unreadable directory is told
    /// in its place.
    pub(super) fn all(&self) -> Vec<(String, Result<SignOff, String>)> {
        let listed = fs::read_dir(&self.directory).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
        });
        let mut paths = match listed {
            Ok(paths) => paths,
            Err(error) => {
                return vec![(self.directory.display().to_string(), Err(error.to_string()))];
            }
        };
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        let read = |path: &PathBuf| {
            let document = bounded(path, SignOff::MAX).map_err(|error| error.to_string())?;
            SignOff::parse(&document, &self.authority).map_err(|error| error.to_string())
        };
        let named = |path: PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            (name.unwrap_or_default(), read(&path))
        };
        paths.into_iter().take(MAX_FILES).map(named).collect()
    }
}
