//! The public key that a key object shows, in whichever of the encodings that modules use.

use cryptoki::object::{Attribute, AttributeType};
use mintwarden_worker::{
    Algorithm,
    algorithm::KeyType,
    jwk::{KeyError, PublicJwk},
};

use super::check::Object;

/// The public key of `object`, for `algorithm`.
///
/// # Errors
/// What is wrong with it, naming the attribute.
pub(super) fn public_key(object: &Object, algorithm: Algorithm) -> Result<PublicJwk, String> {
    let (attribute, key) = match algorithm.key_type() {
        KeyType::P256 | KeyType::P384 => ("CKA_EC_POINT", ec(object, algorithm)),
        KeyType::Ed25519 => ("CKA_EC_POINT", ed25519(object, algorithm)),
        KeyType::Rsa => ("CKA_MODULUS", rsa(object, algorithm)),
    };
    if let Some(key) = key {
        return key.map_err(|error| format!("{attribute} is {error}"));
    }
    match object.shown(AttributeType::PublicKeyInfo) {
        Some(Attribute::PublicKeyInfo(der)) if !der.is_empty() => {
            PublicJwk::from_spki(algorithm, der)
                .map_err(|error| format!("CKA_PUBLIC_KEY_INFO is {error}"))
        }
        _ => Err(format!("{attribute} is not shown by the device")),
    }
}

fn point(object: &Object) -> Option<&[u8]> {
    match object.shown(AttributeType::EcPoint) {
        Some(Attribute::EcPoint(point)) => Some(point),
        _ => None,
    }
}

/// A DER OCTET STRING around the point as the standard has it (PKCS#11 v3.1 section 6.3.3), or the
/// bare point that some modules give.
fn ec(object: &Object, algorithm: Algorithm) -> Option<Result<PublicJwk, KeyError>> {
    let bytes = point(object)?;
    // Bare first: a bare point is never one when unwrapped, nor the other way round, because the
    // lengths differ.
    let key = PublicJwk::from_sec1(bytes).or_else(|error| match bytes {
        [0x04, length, point @ ..] if usize::from(*length) == point.len() => {
            PublicJwk::from_sec1(point)
        }
        _ => Err(error),
    });
    Some(key.and_then(|key| {
        if key.algorithm() == algorithm { Ok(key) } else { Err(KeyError::NotOnCurve) }
    }))
}

/// An OCTET STRING around the point, the BIT STRING of early texts of PKCS#11 v3.0, or the bare point.
fn ed25519(object: &Object, algorithm: Algorithm) -> Option<Result<PublicJwk, KeyError>> {
    let point = match point(object)? {
        [0x04, 0x20, point @ ..] if point.len() == 32 => point,
        [0x03, 0x21, 0x00, point @ ..] if point.len() == 32 => point,
        bare => bare,
    };
    Some(PublicJwk::from_ed25519(algorithm, point))
}

/// Unsigned big-endian numbers (PKCS#11 v3.1 section 6.1.2), with or without leading zeros.
fn rsa(object: &Object, algorithm: Algorithm) -> Option<Result<PublicJwk, KeyError>> {
    match (object.shown(AttributeType::Modulus), object.shown(AttributeType::PublicExponent)) {
        (Some(Attribute::Modulus(modulus)), Some(Attribute::PublicExponent(exponent))) => {
            Some(PublicJwk::from_rsa(algorithm, modulus, exponent))
        }
        _ => None,
    }
}
