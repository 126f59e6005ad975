//! Public keys in a `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7), as `CKA_PUBLIC_KEY_INFO` shows
//! them.

use spki::{
    ObjectIdentifier, SubjectPublicKeyInfoRef,
    der::{Decode as _, Reader as _, SliceReader, asn1::UintRef},
};

use super::{KeyError, PublicJwk};
use crate::{Algorithm, algorithm::KeyType};

/// `id-ecPublicKey` (RFC 5480 section 2.1.1).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `rsaEncryption` (RFC 8017 appendix A.1).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-Ed25519` (RFC 8410 section 3).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

impl PublicJwk {
    /// The key in this `SubjectPublicKeyInfo`, DER, for `algorithm`. The curve of an elliptic curve
    /// key is taken from its point's length, whatever the parameters say.
    ///
    /// # Errors
    /// [`KeyError::Encoding`] if that is not what the bytes are, and those of the other
    /// constructors.
    pub fn from_spki(algorithm: Algorithm, der: &[u8]) -> Result<Self, KeyError> {
        let spki = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| KeyError::Encoding)?;
        let key = spki.subject_public_key.as_bytes().ok_or(KeyError::Encoding)?;
        let wrong = |key| KeyError::WrongType { algorithm, key };
        match spki.algorithm.oid {
            EC => {
                let key = Self::from_sec1(key)?;
                if key.algorithm() == algorithm { Ok(key) } else { Err(wrong("the key shown")) }
            }
            RSA if algorithm.key_type() == KeyType::Rsa => {
                let (modulus, exponent) = rsa_numbers(key).map_err(|_| KeyError::Encoding)?;
                Self::from_rsa(algorithm, modulus, exponent)
            }
            ED25519 => Self::from_ed25519(algorithm, key),
            _ => Err(wrong("the key shown")),
        }
    }
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017 appendix A.1.1).
fn rsa_numbers(der: &[u8]) -> Result<(&[u8], &[u8]), spki::der::Error> {
    let mut reader = SliceReader::new(der)?;
    let numbers = reader.sequence(|numbers| {
        let modulus = UintRef::decode(numbers)?.as_bytes();
        let exponent = UintRef::decode(numbers)?.as_bytes();
        Ok::<_, spki::der::Error>((modulus, exponent))
    })?;
    reader.finish()?;
    Ok(numbers)
}
