//! Credential protection (Part 1, section 24), in software: what TPM2_MakeCredential does.

use aws_lc_rs::{
    agreement::{self, EphemeralPrivateKey, UnparsedPublicKey},
    cipher::{AES_128, AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey},
    hmac,
    iv::FixedLength,
    rand::SystemRandom,
    rsa::{
        OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
        OaepPublicEncryptingKey, PublicEncryptingKey, PublicKeyComponents,
    },
};
use zeroize::Zeroizing;

use super::{
    Curve, Hash, Key, Malformed, Name, Public, Symmetric,
    kdf::{kdfa, kdfe},
    reader::{Reader, sized},
};

/// The label of credentials, with the zero that ends it (Part 1, section 24.4).
const IDENTITY: &[u8] = b"IDENTITY\0";

/// A secret for one TPM and one object: only the TPM with that endorsement key opens it, and only when an
/// object with that name is loaded beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    id_object: Vec<u8>,
    encrypted_secret: Vec<u8>,
}

/// A credential cannot be made for this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Not a restricted decryption key, which an endorsement key is.
    #[error("it is not a storage key: an endorsement key is restricted and decrypts")]
    NotStorage,
    /// The secret is longer than a digest of the key's `nameAlg`.
    #[error("the secret is longer than the endorsement key can carry")]
    TooLong,
    /// The key cannot be encrypted to.
    #[error("its public key is not usable")]
    Key,
    /// The cryptographic library failed.
    #[error("the cryptographic library refused")]
    Library,
}

impl Credential {
    /// Protects `secret` so that only the TPM with the endorsement key `ek` opens it, beside the object called
    /// `name`.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn make(ek: &Public, name: &Name, secret: &[u8]) -> Result<Self, CredentialError> {
        let symmetric = ek.symmetric().ok_or(CredentialError::NotStorage)?;
        let hash = ek.name_hash();
        if secret.len() > hash.digest_len() {
            return Err(CredentialError::TooLong);
        }
        let (seed, encrypted_secret) = match ek.key() {
            Key::Rsa { modulus, exponent } => by_rsa(hash, modulus, *exponent)?,
            Key::Ecc { curve, x, y } => by_ecdh(hash, *curve, x, y)?,
        };
        let name = name.to_bytes();
        let key = kdfa(hash, &seed, "STORAGE", &name, &[], symmetric.aes_bits.into());
        let identity = encrypt(symmetric, &key, &Zeroizing::new(sized(secret)))?;
        let integrity = integrity(hash, &seed, &identity, &name);
        let id_object = [sized(integrity.as_ref()), identity].concat();
        Ok(Self { id_object, encrypted_secret })
    }

    /// Reads the two structures.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(id_object: &[u8], encrypted_secret: &[u8]) -> Result<Self, Malformed> {
        let whole = |what, bytes, max| {
            let mut reader = Reader::new(bytes);
            let inner = reader.sized(what, max)?.to_vec();
            reader.end().map(|()| inner)
        };
        Ok(Self {
            // Two TPM2B of a digest, the second of them encrypted.
            id_object: whole("credential", id_object, 2 * (2 + 64))?,
            encrypted_secret: whole("encrypted secret", encrypted_secret, 512)?,
        })
    }

    /// The encrypted secret and its HMAC, a `TPM2B_ID_OBJECT`.
    #[must_use]
    pub fn id_object(&self) -> Vec<u8> {
        sized(&self.id_object)
    }

    /// The encrypted seed, a `TPM2B_ENCRYPTED_SECRET`.
    #[must_use]
    pub fn encrypted_secret(&self) -> Vec<u8> {
        sized(&self.encrypted_secret)
    }
}

type Seed = Zeroizing<Vec<u8>>;

fn by_rsa(hash: Hash, modulus: &[u8], exponent: u32) -> Result<(Seed, Vec<u8>), CredentialError> {
    let exponent = exponent.to_be_bytes();
    let exponent = &exponent[exponent.iter().take_while(|byte| **byte == 0).count()..];
    let key = PublicKeyComponents { n: modulus, e: exponent };
    let key: PublicEncryptingKey = key.try_into().map_err(|_| CredentialError::Key)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| CredentialError::Key)?;
    let mut seed = Zeroizing::new(vec![0; hash.digest_len()]);
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| CredentialError::Library)?;
    let oaep = match hash {
        Hash::Sha256 => &OAEP_SHA256_MGF1SHA256,
        Hash::Sha384 => &OAEP_SHA384_MGF1SHA384,
        Hash::Sha512 => &OAEP_SHA512_MGF1SHA512,
    };
    let mut encrypted = vec![0; key.ciphertext_size()];
    let encrypted = key
        .encrypt(oaep, &seed, &mut encrypted, Some(IDENTITY))
        .map_err(|_| CredentialError::Library)?
        .to_vec();
    Ok((seed, encrypted))
}

fn by_ecdh(
    hash: Hash,
    curve: Curve,
    x: &[u8],
    y: &[u8],
) -> Result<(Seed, Vec<u8>), CredentialError> {
    let algorithm = match curve {
        Curve::P256 => &agreement::ECDH_P256,
        Curve::P384 => &agreement::ECDH_P384,
    };
    let ours = EphemeralPrivateKey::generate(algorithm, &SystemRandom::new())
        .map_err(|_| CredentialError::Library)?;
    let point = ours.compute_public_key().map_err(|_| CredentialError::Library)?;
    let (our_x, our_y) = point.as_ref()[1..].split_at(curve.coordinate_len());
    let theirs = UnparsedPublicKey::new(algorithm, [&[4][..], x, y].concat());
    let seed = agreement::agree_ephemeral(ours, &theirs, CredentialError::Key, |z| {
        Ok(kdfe(hash, z, "IDENTITY", our_x, x, hash.bits()))
    })?;
    Ok((seed, [sized(our_x), sized(our_y)].concat()))
}

fn encrypt(symmetric: Symmetric, key: &[u8], plain: &[u8]) -> Result<Vec<u8>, CredentialError> {
    let algorithm = if symmetric.aes_bits == 128 { &AES_128 } else { &AES_256 };
    // The key is of this one message, which is why the specification has no other IV than zero.
    let zero = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    let key = UnboundCipherKey::new(algorithm, key).map_err(|_| CredentialError::Library)?;
    let key = StreamingEncryptingKey::less_safe_cfb128(key, zero);
    let mut key = key.map_err(|_| CredentialError::Library)?;
    // A block more than needed, which the library's interface asks for.
    let mut out = vec![0; plain.len() + 16];
    let update = key.update(plain, &mut out).map_err(|_| CredentialError::Library)?;
    let written = update.written().len();
    let (_, last) = key.finish(&mut out[written..]).map_err(|_| CredentialError::Library)?;
    let length = written + last.written().len();
    out.truncate(length);
    Ok(out)
}

pub(super) fn integrity(hash: Hash, seed: &[u8], identity: &[u8], name: &[u8]) -> hmac::Tag {
    let key = kdfa(hash, seed, "INTEGRITY", &[], &[], hash.bits());
    hmac::sign(&hmac::Key::new(hash.hmac(), &key), &[identity, name].concat())
}
