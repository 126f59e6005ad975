//! The names of devices and issuers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An RFC 1123 label: 1 to 63 characters of `a`–`z`, `0`–`9` and `-`, which neither begins nor ends
/// with `-`.
///
/// Such a name is the same in configuration, URLs, object labels, file names and logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Longest name, in characters.
    pub const MAX_LEN: usize = 63;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let characters = name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let length = (1..=Self::MAX_LEN).contains(&name.len());
        if characters && length && !name.starts_with('-') && !name.ends_with('-') {
            return Ok(Self(name.to_owned()));
        }
        // What is quoted back is bounded: a name may come from the network.
        Err(NameError { name: name.chars().take(Self::MAX_LEN + 1).collect() })
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        name.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is not a name: use 1 to 63 of a-z, 0-9 and '-', not beginning or ending with '-'"
)]
pub struct NameError {
    /// The text, cut to 64 characters.
    pub name: String,
}

/// The name of a device as configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceName(Name);

impl DeviceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for DeviceName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        name.parse().map(Self)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1123_labels_are_names_and_nothing_else_is() {
        for good in ["a", "payments-tts", "0", "a--b", &"x".repeat(63)] {
            assert_eq!(good.parse::<Name>().map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "a/b", "ä", " a", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn deserialising_checks() {
        assert_eq!(
            serde_json::from_str::<DeviceName>("\"hsm-a\"").map(|n| n.to_string()).ok(),
            Some("hsm-a".to_owned())
        );
        let error = serde_json::from_str::<DeviceName>("\"../hsm\"").expect_err("not a name");
        assert!(error.to_string().contains("1 to 63"), "{error}");
    }

    #[test]
    fn an_error_quotes_no_more_than_it_must() {
        let error = "x".repeat(100_000).parse::<Name>().expect_err("too long");
        assert_eq!(error.name.len(), 64);
    }
}
