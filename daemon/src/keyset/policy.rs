//! What the configuration wants of an issuer's keyset.

use std::time::Duration;

use mintwarden_worker::{Algorithm, algorithm::RsaBits};

use super::Key;
use crate::config;

/// What the configuration wants of an issuer's keyset. Times as in DESIGN.md "Rotation timing".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its devices, in order of preference.
    pub devices: Vec<String>,
    /// Devices that are gone for good: nothing is waited for that only they could do.
    pub lost_devices: Vec<String>,
    /// Standby keys per device.
    pub standbys: usize,
    /// The algorithm of new keys.
    pub algorithm: Algorithm,
    /// The size of new RSA keys; absent for other algorithms.
    pub rsa_bits: Option<RsaBits>,
    /// The age at which an active key is replaced.
    pub rotate_every: Duration,
    /// The age from which on an active key refuses to sign.
    pub sign_until: Option<Duration>,
    /// R: how long a verifier keeps a JWK Set without asking again.
    pub verifier_refresh: Duration,
    /// P: how long until every node serves a new set, and a verifier that could not ask has asked again.
    pub propagation: Duration,
    /// S: by how much clocks may differ.
    pub skew: Duration,
    /// L: the longest life of a token.
    pub max_token_lifetime: Duration,
    /// How long after its unpublishing a private key is kept.
    pub destroy_after: Duration,
}

impl Policy {
    /// Keys of one issuer in one device that may exist at a time (I9): beyond it none is made.
    pub const MAX_KEYS: usize = 64;
    /// Records of destroyed keys that are kept.
    pub const MAX_DESTROYED: usize = 32;
    /// Records of failed attempts that are kept; beyond it none is made.
    pub const MAX_LEFTOVERS: usize = 64;

    /// Whether a key is of the kind that the configuration asks for. One that is still made is made so.
    #[must_use]
    pub fn wants(&self, key: &Key) -> bool {
        let size = key.made.as_ref().map(|made| made.jwk.rsa_bits());
        key.algorithm == self.algorithm && size.is_none_or(|size| size == self.rsa_bits)
    }

    /// The kind of key that the configuration asks for, in words.
    #[must_use]
    pub fn wanted(&self) -> String {
        match self.rsa_bits {
            Some(bits) => format!("{} of {} bits", self.algorithm, bits.bits()),
            None => self.algorithm.to_string(),
        }
    }

    /// R + P + S.
    #[must_use]
    pub fn maturity(&self) -> Duration {
        self.verifier_refresh + self.propagation + self.skew
    }

    /// How long a step of the wall clock has to hold before it is believed: longer than every wait
    /// that it could shorten.
    #[must_use]
    pub fn settle(&self) -> Duration {
        self.maturity().max(self.max_token_lifetime + self.skew)
    }
}

impl From<&config::Issuer> for Policy {
    fn from(issuer: &config::Issuer) -> Self {
        let rotation = &issuer.rotation;
        Self {
            devices: issuer.devices.clone(),
            lost_devices: issuer.lost_devices.clone(),
            standbys: issuer.standbys,
            algorithm: issuer.profile.key.algorithm(),
            rsa_bits: issuer.profile.key.rsa_bits(),
            rotate_every: rotation.rotate_every,
            sign_until: rotation.sign_until,
            verifier_refresh: rotation.verifier_refresh,
            propagation: rotation.propagation,
            skew: issuer.profile.skew,
            max_token_lifetime: issuer.profile.max_token_lifetime,
            destroy_after: rotation.destroy_after,
        }
    }
}
