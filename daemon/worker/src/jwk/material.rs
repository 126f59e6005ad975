//! What a public key is made of, checked: nothing that a device or a file shows is believed.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use curve25519_dalek::edwards::CompressedEdwardsY;
use p256::elliptic_curve::sec1::ToSec1Point as _;

use super::KeyError;
use crate::{
    Algorithm,
    algorithm::{KeyType, RsaBits},
};

/// The public exponent of every RSA key that Mintwarden asks for: 65537.
pub(super) const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// The parts of a public key. Only this module makes one.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Material {
    /// `04 ‖ X ‖ Y` on P-256, 65 bytes.
    P256(Vec<u8>),
    /// `04 ‖ X ‖ Y` on P-384, 97 bytes.
    P384(Vec<u8>),
    /// A modulus without leading zeros; the exponent is [`RSA_EXPONENT`].
    Rsa { modulus: Vec<u8>, bits: RsaBits },
    /// An encoded point.
    Ed25519([u8; 32]),
}

impl Material {
    /// From an SEC 1 point, whose length tells the curve.
    pub(super) fn ec(point: &[u8]) -> Result<(Algorithm, Self), KeyError> {
        match point.len() {
            33 | 65 => {
                let key =
                    p256::PublicKey::from_sec1_bytes(point).map_err(|_| KeyError::NotOnCurve)?;
                let point = key.as_affine().to_sec1_point(false).as_bytes().to_vec();
                Ok((Algorithm::ES256, Self::P256(point)))
            }
            49 | 97 => {
                let key =
                    p384::PublicKey::from_sec1_bytes(point).map_err(|_| KeyError::NotOnCurve)?;
                let point = key.as_affine().to_sec1_point(false).as_bytes().to_vec();
                Ok((Algorithm::ES384, Self::P384(point)))
            }
            _ => Err(KeyError::NotOnCurve),
        }
    }

    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let refuse = |why: String| Err(KeyError::NotRsa(why));
        if without_leading_zeros(exponent) != RSA_EXPONENT {
            return refuse("the public exponent is not 65537".into());
        }
        let modulus = without_leading_zeros(modulus);
        let bits = bit_length(modulus);
        let Some(bits) = RsaBits::ALL.into_iter().find(|size| size.bits() as usize == bits) else {
            return refuse(format!("the modulus has {bits} bits, not 2048, 3072 or 4096"));
        };
        if modulus.last().is_none_or(|last| last & 1 == 0) {
            return refuse("the modulus is even".into());
        }
        Ok(Self::Rsa { modulus: modulus.to_vec(), bits })
    }

    pub(super) fn ed25519(point: &[u8]) -> Result<Self, KeyError> {
        let refuse = |why| Err(KeyError::NotEd25519(why));
        let Ok(bytes) = <[u8; 32]>::try_from(point) else {
            return refuse("it does not have 32 bytes");
        };
        let Some(point) = CompressedEdwardsY(bytes).decompress() else {
            return refuse("it is not a point of the curve");
        };
        if point.compress().to_bytes() != bytes {
            return refuse("it is not the canonical encoding of its point");
        }
        // With a point of small order anybody can make signatures that verify.
        if point.is_small_order() || !point.is_torsion_free() {
            return refuse("the point is not of the prime-order group");
        }
        Ok(Self::Ed25519(bytes))
    }

    pub(super) fn key_type(&self) -> KeyType {
        match self {
            Self::P256(_) => KeyType::P256,
            Self::P384(_) => KeyType::P384,
            Self::Rsa { .. } => KeyType::Rsa,
            Self::Ed25519(_) => KeyType::Ed25519,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::P256(_) => "an elliptic curve key on P-256",
            Self::P384(_) => "an elliptic curve key on P-384",
            Self::Rsa { .. } => "an RSA key",
            Self::Ed25519(_) => "an Ed25519 key",
        }
    }

    pub(super) fn rsa_bits(&self) -> Option<RsaBits> {
        match self {
            Self::Rsa { bits, .. } => Some(*bits),
            _ => None,
        }
    }

    pub(super) fn signature_len(&self) -> usize {
        match self {
            Self::P256(_) | Self::Ed25519(_) => 64,
            Self::P384(_) => 96,
            Self::Rsa { modulus, .. } => modulus.len(),
        }
    }

    /// Ready to verify with. For PS256 the salt has to have the digest's length: 32 bytes, and
    /// nothing else verifies.
    pub(super) fn parse_for(&self, algorithm: Algorithm) -> Result<ParsedPublicKey, KeyError> {
        let parsed = match self {
            Self::P256(point) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point),
            Self::P384(point) => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point),
            Self::Ed25519(point) => ParsedPublicKey::new(&ED25519, point),
            Self::Rsa { modulus, .. } => {
                let components = RsaPublicKeyComponents { n: &modulus[..], e: &RSA_EXPONENT[..] };
                components.to_parsed_public_key(match algorithm {
                    Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
                    _ => &RSA_PSS_2048_8192_SHA256,
                })
            }
        };
        parsed.map_err(|_| KeyError::Refused)
    }

    /// The members that RFC 7638 section 3.2 (and RFC 8037 section 2 for Ed25519) calls required, in
    /// lexicographic order and without whitespace.
    pub(super) fn canonical_json(&self) -> String {
        match self {
            Self::P256(_) | Self::P384(_) => {
                let (crv, x, y) = self.ec_members().expect("it is an elliptic curve key");
                format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            Self::Rsa { modulus, .. } => {
                let [e, n] = [&RSA_EXPONENT[..], modulus].map(|part| URL_SAFE_NO_PAD.encode(part));
                format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)
            }
            Self::Ed25519(point) => {
                let x = URL_SAFE_NO_PAD.encode(point);
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)
            }
        }
    }

    /// `crv`, `x` and `y` of an elliptic curve key.
    pub(super) fn ec_members(&self) -> Option<(&'static str, String, String)> {
        let (crv, point) = match self {
            Self::P256(point) => ("P-256", point),
            Self::P384(point) => ("P-384", point),
            Self::Rsa { .. } | Self::Ed25519(_) => return None,
        };
        let (x, y) = point[1..].split_at(point.len() / 2);
        Some((crv, URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y)))
    }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn bit_length(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}
