//! What is wrong with a configuration: file, key, remedy.

use std::path::{Path, PathBuf};

/// A configuration that cannot be used. Its text is for an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}{what}\n  remedy: {remedy}", file.display(), at(key))]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The key in it, dotted, e.g. `issuer.payments-tts.devices`; empty where the file as a whole is
    /// meant.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

fn at(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

impl ConfigError {
    /// An error about one key.
    pub(crate) fn key(
        file: &Path,
        key: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { file: file.into(), key: key.into(), what: what.into(), remedy: remedy.into() }
    }

    /// An error about the file as a whole, or about another file that it names.
    pub(crate) fn file(file: &Path, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::key(file, "", what, remedy)
    }

    /// An error of the TOML parser: its text shows the line and what was expected there.
    pub(super) fn syntax(file: &Path, error: &toml::de::Error) -> Self {
        Self::file(
            file,
            error.to_string().trim_end(),
            "correct the line shown; docs/configuration.md lists all keys",
        )
    }
}
