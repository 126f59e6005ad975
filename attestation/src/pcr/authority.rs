use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use x509_parser::{prelude::FromDer as _, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use crate::tpm::{Curve, Key, Name, Public};

/// A file that has no key of an authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// Not a public key in PEM.
    #[error("it has no public key in PEM (-----BEGIN PUBLIC KEY-----)")]
    NoKey,
    /// A key that TPMs do not verify with.
    #[error(
        "its key is neither on P-256 nor RSA of 2048, 3072 or 4096 bits with the exponent 65537, which is what TPMs verify with"
    )]
    Kind,
}

/// Who signs states off: the public half of a key that is kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    public: Public,
}

impl Authority {
    /// Bound on its file, bytes.
    pub const MAX: usize = 8 * 1024;

    /// Reads a `SubjectPublicKeyInfo` in PEM, as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn parse(pem: &[u8]) -> Result<Self, AuthorityError> {
        let der =
            SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| AuthorityError::NoKey)?;
        let (rest, info) =
            SubjectPublicKeyInfo::from_der(&der).map_err(|_| AuthorityError::NoKey)?;
        if !rest.is_empty() {
            return Err(AuthorityError::NoKey);
        }
        let number =
            |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
        let key = match info.parsed() {
            Ok(PublicKey::RSA(rsa)) if number(rsa.exponent) == [1, 0, 1] => {
                Key::Rsa { modulus: number(rsa.modulus), exponent: 65537 }
            }
            Ok(PublicKey::EC(point)) if is_p256(&info) => match point.data() {
                [4, point @ ..] if point.len() == 64 => {
                    let (x, y) = point.split_at(32);
                    Key::Ecc { curve: Curve::P256, x: x.to_vec(), y: y.to_vec() }
                }
                _ => return Err(AuthorityError::Kind),
            },
            _ => return Err(AuthorityError::Kind),
        };
        let public = Public::signing_off(&key).map_err(|_| AuthorityError::Kind)?;
        Ok(Self { public })
    }

    /// The public area that a TPM loads.
    #[must_use]
    pub fn public(&self) -> &Public {
        &self.public
    }

    /// The name of that area: what policies know the authority by.
    #[must_use]
    pub fn name(&self) -> Name {
        self.public.name()
    }

    /// The signature of `message` in the form that a sign-off has: R‖S, or as long as the modulus. Takes it in that
    /// form and in openssl's; `None` if it is not one by this key.
    #[must_use]
    pub fn signature(&self, message: &[u8], signature: &[u8]) -> Option<Vec<u8>> {
        match self.public.key() {
            Key::Ecc { x, y, .. } => {
                let point = [&[4][..], x, y].concat();
                let fixed = match signature.len() {
                    64 => signature.to_vec(),
                    _ => fixed(signature)?,
                };
                let verified = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
                    .verify(message, &fixed)
                    .or_else(|_| {
                        // A DER signature may have 64 bytes too, if seldom.
                        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point)
                            .verify(message, signature)
                    });
                verified.ok().map(|()| fixed)
            }
            Key::Rsa { modulus, .. } => {
                let key = RsaPublicKeyComponents { n: modulus.as_slice(), e: &[1, 0, 1][..] };
                let verified = key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature);
                verified.ok().map(|()| signature.to_vec())
            }
        }
    }
}

/// R‖S of an ECDSA signature in DER (RFC 3279 section 2.2.3), two positive numbers.
fn fixed(der: &[u8]) -> Option<Vec<u8>> {
    let [0x30, length, numbers @ ..] = der else { return None };
    if usize::from(*length) != numbers.len() {
        return None;
    }
    let mut rest = numbers;
    let mut fixed = Vec::new();
    for _ in 0..2 {
        let [0x02, length, after @ ..] = rest else { return None };
        let (number, after) = after.split_at_checked(usize::from(*length))?;
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        let zeros = 32_usize.checked_sub(number.len())?;
        fixed.extend(std::iter::repeat_n(0, zeros));
        fixed.extend(number);
        rest = after;
    }
    rest.is_empty().then_some(fixed)
}

/// Whether a key on a curve is on P-256: secp256k1 and others have points of the same length.
fn is_p256(info: &SubjectPublicKeyInfo<'_>) -> bool {
    let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    curve.is_some_and(|curve| curve.to_id_string() == "1.2.840.10045.3.1.7")
}
