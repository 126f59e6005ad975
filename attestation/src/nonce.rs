use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::encoding::Bytes;

/// Random bytes by whoever asks, which show that an answer is not an old one: 16 to 32 of them, which every TPM
/// takes as qualifyingData.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(Vec<u8>);

/// Not a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a nonce has {MIN} to {MAX} bytes, not {0}", MIN = Nonce::MIN, MAX = Nonce::MAX)]
pub struct NotANonce(usize);

impl Nonce {
    /// Bytes of the shortest.
    pub const MIN: usize = 16;
    /// Bytes of the longest.
    pub const MAX: usize = 32;

    /// These bytes as a nonce.
    ///
    /// # Errors
    /// [`NotANonce`].
    pub fn new(bytes: &[u8]) -> Result<Self, NotANonce> {
        match bytes.len() {
            Self::MIN..=Self::MAX => Ok(Self(bytes.to_vec())),
            other => Err(NotANonce(other)),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({self})")
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Bytes(self.0.clone()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&Bytes::deserialize(deserializer)?.0).map_err(D::Error::custom)
    }
}
