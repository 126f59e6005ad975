//! The name of an issuer.

use mintwarden_hsm_config::name::{Name, NameError};
use serde::{Deserialize, Serialize};

/// The name of an issuer as configured: what requests, object labels and logs call it.
///
/// 1 to 63 characters of `a`–`z`, `0`–`9` and `-`, not beginning or ending with `-` (RFC 1123 label).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IssuerName(Name);

impl IssuerName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`NameError`] if it is empty, too long, or has another character.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        name.parse().map(Self)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl std::fmt::Display for IssuerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
