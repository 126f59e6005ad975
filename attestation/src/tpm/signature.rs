use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use super::{Curve, Hash, Key, Malformed, Public, public::padded, reader::Reader};

/// An attestation key's signature (`TPMT_SIGNATURE`, Part 2 section 11.3.4): ECDSA on P-256 with SHA-256.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    /// R‖S.
    fixed: Vec<u8>,
}

impl Signature {
    /// Reads one to its last byte.
    ///
    /// # Errors
    /// [`Malformed`], also for another scheme or hash.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        const ECDSA: u16 = 0x0018;
        let mut reader = Reader::new(bytes);
        match reader.u16()? {
            ECDSA => {}
            other => return Err(Malformed::Unknown { what: "scheme", value: other.into() }),
        }
        let hash = reader.u16()?;
        if hash != Hash::Sha256.id() {
            return Err(Malformed::Unknown { what: "hash", value: hash.into() });
        }
        let length = Curve::P256.coordinate_len();
        let mut fixed = padded(reader.sized("signatureR", length)?, length);
        fixed.extend(padded(reader.sized("signatureS", length)?, length));
        reader.end()?;
        Ok(Self { fixed })
    }

    /// Whether it is the signature of `message` by the key with this public area.
    #[must_use]
    pub fn is_by(&self, signer: &Public, message: &[u8]) -> bool {
        let Key::Ecc { curve: Curve::P256, x, y } = signer.key() else { return false };
        let point = [&[4][..], x, y].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, &self.fixed).is_ok()
    }
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signature(ECDSA P-256 SHA-256)")
    }
}
