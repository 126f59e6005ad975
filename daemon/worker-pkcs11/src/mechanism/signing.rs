//! Mechanisms that sign, and what each takes.

use std::borrow::Cow;

use cryptoki::{
    mechanism::{
        Mechanism, MechanismType,
        eddsa::{EddsaParams, EddsaSignatureScheme},
        rsa::{PkcsMgfType, PkcsPssParams},
    },
    types::Ulong,
};
use mintwarden_hsm_config::quirks::Hashing;
use mintwarden_worker::{Algorithm, jws::SigningInput};

/// `DigestInfo` of a SHA-256 digest up to the digest itself (RFC 8017 section 9.2, note 1): what
/// `CKM_RSA_PKCS` wants to have put before it (PKCS#11 v3.1 section 6.1.6).
const SHA256_DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// A mechanism that signs for some algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signing {
    Ecdsa,
    EcdsaSha256,
    EcdsaSha384,
    RsaPkcs,
    Sha256RsaPkcs,
    RsaPkcsPss,
    Sha256RsaPkcsPss,
    Eddsa,
}

impl Signing {
    /// The mechanisms that sign for `algorithm`, the one for `preferred` first.
    pub(super) fn candidates(algorithm: Algorithm, preferred: Hashing) -> Vec<Self> {
        let mut candidates = match algorithm {
            Algorithm::ES256 => vec![Self::Ecdsa, Self::EcdsaSha256],
            Algorithm::ES384 => vec![Self::Ecdsa, Self::EcdsaSha384],
            Algorithm::RS256 => vec![Self::RsaPkcs, Self::Sha256RsaPkcs],
            Algorithm::PS256 => vec![Self::RsaPkcsPss, Self::Sha256RsaPkcsPss],
            Algorithm::Ed25519 | Algorithm::EdDSA => vec![Self::Eddsa],
            // Algorithms that are not implemented here have no mechanism.
            _ => vec![],
        };
        if preferred == Hashing::Inside {
            candidates.reverse();
        }
        candidates
    }

    /// The mechanism with its parameters.
    pub(crate) fn mechanism(self) -> Mechanism<'static> {
        match self {
            Self::Ecdsa => Mechanism::Ecdsa,
            Self::EcdsaSha256 => Mechanism::EcdsaSha256,
            Self::EcdsaSha384 => Mechanism::EcdsaSha384,
            Self::RsaPkcs => Mechanism::RsaPkcs,
            Self::Sha256RsaPkcs => Mechanism::Sha256RsaPkcs,
            Self::RsaPkcsPss => Mechanism::RsaPkcsPss(pss()),
            Self::Sha256RsaPkcsPss => Mechanism::Sha256RsaPkcsPss(pss()),
            // Pure Ed25519 is the mechanism without parameters (PKCS#11 v3.1 section 6.3.16).
            Self::Eddsa => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)),
        }
    }

    pub(super) fn kind(self) -> MechanismType {
        self.mechanism().mechanism_type()
    }

    /// Whether the device computes the digest that is signed.
    pub(super) fn hashes(self) -> bool {
        matches!(
            self,
            Self::EcdsaSha256 | Self::EcdsaSha384 | Self::Sha256RsaPkcs | Self::Sha256RsaPkcsPss
        )
    }

    /// What `C_Sign` is given.
    pub(crate) fn data(self, algorithm: Algorithm, input: &SigningInput) -> Cow<'_, [u8]> {
        let digest = if self.hashes() { None } else { input.digest(algorithm) };
        match (self, digest) {
            (_, None) => Cow::Borrowed(input.message()),
            (Self::RsaPkcs, Some(digest)) => {
                Cow::Owned([&SHA256_DIGEST_INFO, digest.as_ref()].concat())
            }
            (_, Some(digest)) => Cow::Owned(digest.as_ref().to_vec()),
        }
    }
}

/// SHA-256, MGF1 with SHA-256, a salt as long as the digest (RFC 7518 section 3.5).
fn pss() -> PkcsPssParams {
    PkcsPssParams {
        hash_alg: MechanismType::SHA256,
        mgf: PkcsMgfType::MGF1_SHA256,
        s_len: Ulong::new(32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mechanism_is_given_the_message_or_the_digest_as_it_wants() {
        let input = SigningInput::new(*b"message");
        let digest = |algorithm| input.digest(algorithm).expect("it has one").as_ref().to_vec();
        for (signing, algorithm, expected) in [
            (Signing::Ecdsa, Algorithm::ES256, digest(Algorithm::ES256)),
            (Signing::Ecdsa, Algorithm::ES384, digest(Algorithm::ES384)),
            (Signing::EcdsaSha384, Algorithm::ES384, b"message".to_vec()),
            (Signing::RsaPkcsPss, Algorithm::PS256, digest(Algorithm::PS256)),
            (Signing::Sha256RsaPkcsPss, Algorithm::PS256, b"message".to_vec()),
            (Signing::Sha256RsaPkcs, Algorithm::RS256, b"message".to_vec()),
            (Signing::Eddsa, Algorithm::Ed25519, b"message".to_vec()),
        ] {
            assert_eq!(signing.data(algorithm, &input), expected, "{signing:?}");
        }
        let data = Signing::RsaPkcs.data(Algorithm::RS256, &input);
        let (info, rest) = data.split_at(19);
        assert_eq!((info, rest), (&SHA256_DIGEST_INFO[..], &digest(Algorithm::RS256)[..]));
    }

    #[test]
    fn every_algorithm_has_a_mechanism_and_the_preference_comes_first() {
        for algorithm in Algorithm::ALL {
            assert!(!Signing::candidates(algorithm, Hashing::Outside).is_empty(), "{algorithm}");
        }
        let inside = Signing::candidates(Algorithm::ES256, Hashing::Inside);
        assert_eq!(inside, [Signing::EcdsaSha256, Signing::Ecdsa]);
    }
}
