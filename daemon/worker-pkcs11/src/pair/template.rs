//! The attributes that a new key pair is asked to have.

use cryptoki::object::Attribute;
use mintwarden_worker::{IssuerName, device::KeyHandle};

use super::label_for;
use crate::scheme::Scheme;

/// Templates for `C_GenerateKeyPair`.
///
/// Everything that matters is asked for by name: defaults differ between modules (SoftHSM's is that
/// a private key may decrypt).
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) private: Vec<Attribute>,
    pub(crate) public: Vec<Attribute>,
}

impl Template {
    pub(crate) fn new(scheme: &Scheme, issuer: &IssuerName, id: &KeyHandle) -> Self {
        let id = Attribute::Id(id.as_bytes().to_vec());
        Self {
            private: vec![
                id.clone(),
                label_for(issuer),
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
                Attribute::Decrypt(false),
                Attribute::Unwrap(false),
                Attribute::Derive(false),
            ],
            public: vec![
                id,
                label_for(issuer),
                Attribute::Token(true),
                Attribute::Private(false),
                Attribute::Verify(true),
                Attribute::Encrypt(false),
                Attribute::Wrap(false),
                Attribute::EcParams(scheme.ec_params.to_vec()),
            ],
        }
    }
}
