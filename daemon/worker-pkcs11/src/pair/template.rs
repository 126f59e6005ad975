//! The attributes that a new key pair is asked to have.

use cryptoki::object::Attribute;
use mintwarden_hsm_config::quirks::{KeyAttribute, Quirks};
use mintwarden_worker::{IssuerName, KeySpec, device::KeyHandle, label::Label};

use super::{RSA_EXPONENT, label};
use crate::mechanism::Curve;

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
    pub(crate) fn new(key: KeySpec, issuer: &IssuerName, id: &KeyHandle, quirks: &Quirks) -> Self {
        use KeyAttribute as Name;
        let label = Label { issuer: issuer.clone(), algorithm: key.algorithm() };
        let named = [Attribute::Id(id.as_bytes().to_vec()), label::attribute(&label)];
        let private = [
            (Name::Token, Attribute::Token(true)),
            (Name::Private, Attribute::Private(true)),
            (Name::Sensitive, Attribute::Sensitive(true)),
            (Name::Extractable, Attribute::Extractable(false)),
            (Name::Sign, Attribute::Sign(true)),
            (Name::Decrypt, Attribute::Decrypt(false)),
            (Name::Unwrap, Attribute::Unwrap(false)),
            (Name::Derive, Attribute::Derive(false)),
        ];
        let public = [
            (Name::Token, Attribute::Token(true)),
            (Name::Private, Attribute::Private(false)),
            (Name::Verify, Attribute::Verify(true)),
            (Name::Encrypt, Attribute::Encrypt(false)),
            (Name::Wrap, Attribute::Wrap(false)),
        ];
        let taken = |(name, _): &(Name, Attribute)| !quirks.omit.contains(name);
        let with_names = |attributes: &[(Name, Attribute)]| {
            let taken = attributes.iter().filter(|entry| taken(entry));
            named.iter().chain(taken.map(|(_, attribute)| attribute)).cloned().collect::<Vec<_>>()
        };
        let mut public = with_names(&public);
        public.extend(parameters(key, quirks));
        Self { private: with_names(&private), public }
    }
}

/// What kind of key it is to be.
fn parameters(key: KeySpec, quirks: &Quirks) -> Vec<Attribute> {
    match (Curve::of(key.algorithm().key_type()), key.rsa_bits()) {
        (Some(curve), _) => vec![Attribute::EcParams(curve.params(quirks.ed25519_params))],
        (None, Some(size)) => vec![
            Attribute::ModulusBits(u64::from(size.bits()).into()),
            Attribute::PublicExponent(RSA_EXPONENT.to_vec()),
        ],
        (None, None) => unreachable!("a key has a curve or a size"),
    }
}

#[cfg(test)]
mod tests {
    use mintwarden_hsm_config::quirks::QuirksEntry;
    use mintwarden_worker::Algorithm;

    use super::*;

    #[test]
    fn what_a_module_does_not_take_is_left_out_on_both_sides() {
        let template = |omit: &[KeyAttribute]| {
            let omit = Some(omit.iter().copied().collect());
            let quirks =
                QuirksEntry { omit, ..QuirksEntry::default() }.over(QuirksEntry::default());
            let issuer = IssuerName::parse("a").expect("a name");
            let id = KeyHandle::new(vec![1; 16]);
            Template::new(Algorithm::RS256.into(), &issuer, &id, &quirks)
        };
        let usual = template(&[]);
        assert_eq!((usual.private.len(), usual.public.len()), (10, 9));
        assert!(usual.public.contains(&Attribute::ModulusBits(3072.into())));
        let less = template(&[KeyAttribute::Private, KeyAttribute::Derive]);
        assert_eq!((less.private.len(), less.public.len()), (8, 8));
        assert!(!less.private.contains(&Attribute::Private(true)));
        assert!(less.private.contains(&Attribute::Sensitive(true)));
    }
}
