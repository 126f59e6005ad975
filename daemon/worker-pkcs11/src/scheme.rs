//! What an algorithm is in PKCS#11.

use cryptoki::{
    mechanism::{Mechanism, MechanismType},
    object::KeyType,
};
use mintwarden_worker::{
    Algorithm,
    device::{Cause, DeviceError, Remedy},
};

/// The object identifier of P-256, 1.2.840.10045.3.1.7, in DER: the `namedCurve` choice of
/// `ECParameters` (RFC 5480 section 2.1.1).
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// Mechanisms, key type and curve of one algorithm.
///
/// The device signs a digest: SHA-2 is computed in the worker, since not all modules have
/// `CKM_ECDSA_SHA256` (SoftHSM 2.6.1 has not).
#[derive(Debug)]
pub(crate) struct Scheme {
    pub(crate) generate: Mechanism<'static>,
    pub(crate) sign: Mechanism<'static>,
    pub(crate) key_type: KeyType,
    pub(crate) ec_params: &'static [u8],
}

impl Scheme {
    pub(crate) fn of(algorithm: Algorithm) -> Result<Self, DeviceError> {
        match algorithm {
            Algorithm::ES256 => Ok(Self {
                generate: Mechanism::EccKeyPairGen,
                sign: Mechanism::Ecdsa,
                key_type: KeyType::EC,
                ec_params: P256,
            }),
            other => Err(DeviceError::new(
                Cause::MechanismMissing,
                Remedy::Refuse,
                format!("{other} is not implemented for PKCS#11"),
            )),
        }
    }

    /// The mechanisms that a PKCS#11 token needs to have.
    pub(crate) fn mechanisms(&self) -> [MechanismType; 2] {
        [self.generate.mechanism_type(), self.sign.mechanism_type()]
    }
}
