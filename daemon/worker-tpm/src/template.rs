//! What the public areas of keys look like (TPM 2.0 part 2 section 12.2).

use mintwarden_attestation::pcr::KeyPolicy;
use mintwarden_worker::{
    Algorithm, KeySpec,
    algorithm::{KeyType, RsaBits},
    device::{Cause, DeviceError, Remedy},
};
use tss_esapi::{
    Error,
    attributes::{ObjectAttributes, ObjectAttributesBuilder},
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        ecc::EccCurve,
        key_bits::RsaKeyBits,
    },
    structures::{
        EccParameter, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, Public,
        PublicBuilder, PublicEccParametersBuilder, PublicKeyRsa, PublicParameters,
        PublicRsaParametersBuilder, RsaExponent, RsaScheme, SymmetricDefinitionObject,
    },
};

/// The hash of names and of authorisation values.
pub(crate) const NAME_ALGORITHM: HashingAlgorithm = HashingAlgorithm::Sha256;

/// The storage primary key: made anew from this template at each start, and the same key each time, as
/// long as the owner hierarchy's seed is the same. Nothing in it may ever change: with it every key
/// would be lost. P-256 with AES-128 is what every TPM of the PC Client profile has.
pub(crate) fn storage_primary() -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_decrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new_restricted_decryption_key(
        SymmetricDefinitionObject::AES_128_CFB,
        EccCurve::NistP256,
    );
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(NAME_ALGORITHM)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters.build()?)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

/// The attestation key, a primary key of the endorsement hierarchy: restricted, so that it signs nothing but what
/// the TPM says itself. `unique` keeps it apart from keys that other programs make from a plain template.
pub(crate) fn attestation_key() -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_sign_encrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_symmetric(SymmetricDefinitionObject::Null)
        .with_is_signing_key(true)
        .with_restricted(true);
    let unique = EccPoint::new(
        b"mintwarden attestation key 1".as_slice().try_into()?,
        EccParameter::default(),
    );
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(NAME_ALGORITHM)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters.build()?)
        .with_ecc_unique_identifier(unique)
        .build()
}

/// The attributes of an issuer's key (I1): made inside, of this TPM and of this parent for ever, outside of the
/// protection against dictionary attacks, so that nobody can lock it, and for signing alone. It is used with its
/// authorisation value; `bound`: with that alone it is not, but by its policy.
pub(crate) fn key_attributes(bound: bool) -> Result<ObjectAttributes, Error> {
    ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(!bound)
        .with_no_da(true)
        .with_sign_encrypt(true)
        .build()
}

/// The public half of an issuer's key, as far as it is not the template's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unique {
    /// The affine coordinates of a point, as long as the field's elements.
    Point {
        /// x
        x: Vec<u8>,
        /// y
        y: Vec<u8>,
    },
    /// The modulus, big-endian.
    Modulus(Vec<u8>),
}

/// The template of an issuer's key, with its public half or, to make one, without. The scheme is part of
/// it: a key made for PS256 never signs RS256. So is the policy of a key that is bound to PCRs.
pub(crate) fn key(
    spec: KeySpec,
    unique: Option<&Unique>,
    policy: Option<&KeyPolicy>,
) -> Result<Public, Error> {
    let mut builder = PublicBuilder::new()
        .with_name_hashing_algorithm(NAME_ALGORITHM)
        .with_object_attributes(key_attributes(policy.is_some())?);
    if let Some(policy) = policy {
        builder = builder.with_auth_policy(policy.digest().as_bytes().try_into()?);
    }
    let wrong = Error::WrapperError(tss_esapi::WrapperErrorKind::InconsistentParams);
    match parameters(spec)? {
        PublicParameters::Ecc(parameters) => {
            let point = match unique {
                Some(Unique::Point { x, y }) => {
                    EccPoint::new(x.as_slice().try_into()?, y.as_slice().try_into()?)
                }
                Some(Unique::Modulus(_)) => return Err(wrong),
                None => EccPoint::default(),
            };
            builder
                .with_public_algorithm(PublicAlgorithm::Ecc)
                .with_ecc_parameters(parameters)
                .with_ecc_unique_identifier(point)
                .build()
        }
        PublicParameters::Rsa(parameters) => {
            let modulus = match unique {
                Some(Unique::Modulus(modulus)) => PublicKeyRsa::try_from(modulus.as_slice())?,
                Some(Unique::Point { .. }) => return Err(wrong),
                None => PublicKeyRsa::default(),
            };
            builder
                .with_public_algorithm(PublicAlgorithm::Rsa)
                .with_rsa_parameters(parameters)
                .with_rsa_unique_identifier(modulus)
                .build()
        }
        _ => Err(wrong),
    }
}

/// The parameters of an issuer's key.
///
/// # Errors
/// An unsupported one for Ed25519, which TPM 2.0 has since revision 1.83 and hardly any chip.
pub(crate) fn parameters(spec: KeySpec) -> Result<PublicParameters, Error> {
    let (sha256, sha384) =
        (HashScheme::new(HashingAlgorithm::Sha256), HashScheme::new(HashingAlgorithm::Sha384));
    let ecc = |curve, hash| {
        let scheme = EccScheme::EcDsa(hash);
        let parameters = PublicEccParametersBuilder::new_unrestricted_signing_key(scheme, curve);
        parameters.build().map(PublicParameters::Ecc)
    };
    let rsa = |scheme| {
        let bits = match spec.rsa_bits() {
            Some(RsaBits::B3072) | None => RsaKeyBits::Rsa3072,
            Some(RsaBits::B2048) => RsaKeyBits::Rsa2048,
            Some(RsaBits::B4096) => RsaKeyBits::Rsa4096,
        };
        // 0 stands for 65537.
        let exponent = RsaExponent::ZERO_EXPONENT;
        let parameters =
            PublicRsaParametersBuilder::new_unrestricted_signing_key(scheme, bits, exponent);
        parameters.build().map(PublicParameters::Rsa)
    };
    match (spec.algorithm(), spec.algorithm().key_type()) {
        (_, KeyType::P256) => ecc(EccCurve::NistP256, sha256),
        (_, KeyType::P384) => ecc(EccCurve::NistP384, sha384),
        (Algorithm::PS256, _) => rsa(RsaScheme::RsaPss(sha256)),
        (Algorithm::RS256, _) => rsa(RsaScheme::RsaSsa(sha256)),
        _ => Err(Error::WrapperError(tss_esapi::WrapperErrorKind::UnsupportedParam)),
    }
}

/// The public half of a public area.
///
/// # Errors
/// [`Cause::Malformed`] for an area of another kind.
pub(crate) fn unique(public: &Public) -> Result<Unique, DeviceError> {
    match public {
        Public::Ecc { unique, .. } => {
            let (x, y) = (unique.x().value().to_vec(), unique.y().value().to_vec());
            Ok(Unique::Point { x, y })
        }
        Public::Rsa { unique, .. } => Ok(Unique::Modulus(unique.value().to_vec())),
        _ => {
            let detail = "the TPM shows a public area that is no signing key's";
            Err(DeviceError::new(Cause::Malformed, Remedy::Refuse, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i1_the_attributes_of_an_issuers_key() {
        let attributes = key_attributes(false).expect("they fit together");
        assert!(attributes.fixed_tpm() && attributes.fixed_parent());
        assert!(attributes.sensitive_data_origin() && attributes.user_with_auth());
        assert!(attributes.no_da() && attributes.sign_encrypt());
        assert!(!attributes.decrypt() && !attributes.restricted());
        assert!(!attributes.encrypted_duplication() && !attributes.admin_with_policy());
        // Its authorisation value alone lets a key sign that is bound to no state; nothing else differs.
        let bound = key_attributes(true).expect("they fit together");
        assert!(!bound.user_with_auth());
        assert_eq!(bound.0 | (1 << 6), attributes.0);
    }

    #[test]
    fn a_public_area_is_made_from_its_key_and_its_public_half() {
        let point = Unique::Point { x: vec![1; 32], y: vec![2; 32] };
        let modulus = Unique::Modulus(vec![3; 256]);
        let spec = |algorithm| KeySpec::new(algorithm, None).expect("a key");
        let es256 = key(spec(Algorithm::ES256), Some(&point), None).expect("a template");
        assert_eq!(unique(&es256), Ok(point.clone()));
        let ps256 = key(spec(Algorithm::PS256), Some(&modulus), None).expect("a template");
        assert_eq!(unique(&ps256), Ok(modulus.clone()));
        assert_ne!(Ok(ps256), key(spec(Algorithm::RS256), Some(&modulus), None));
        assert!(key(spec(Algorithm::ES256), Some(&modulus), None).is_err());
        assert!(key(spec(Algorithm::RS256), Some(&point), None).is_err());
        assert!(key(spec(Algorithm::Ed25519), None, None).is_err());
    }
}
