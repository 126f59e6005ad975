//! What an algorithm is in PKCS#11, and which of its mechanisms a PKCS#11 token has.

mod curve;
mod offer;
mod signing;

pub(crate) use self::{
    curve::Curve,
    offer::{Mechanisms, Offer},
    signing::Signing,
};

use cryptoki::{mechanism::Mechanism, object::KeyType};
use mintwarden_worker::algorithm;

/// `CKA_KEY_TYPE` of a key.
pub(crate) fn cryptoki_type(key: algorithm::KeyType) -> KeyType {
    match key {
        algorithm::KeyType::P256 | algorithm::KeyType::P384 => KeyType::EC,
        algorithm::KeyType::Rsa => KeyType::RSA,
        algorithm::KeyType::Ed25519 => KeyType::EC_EDWARDS,
    }
}

/// The mechanism that makes such pairs.
fn generating(key: algorithm::KeyType) -> Mechanism<'static> {
    match key {
        algorithm::KeyType::P256 | algorithm::KeyType::P384 => Mechanism::EccKeyPairGen,
        algorithm::KeyType::Rsa => Mechanism::RsaPkcsKeyPairGen,
        algorithm::KeyType::Ed25519 => Mechanism::EccEdwardsKeyPairGen,
    }
}
