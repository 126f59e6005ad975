//! Reads key objects, as far as the module shows them.

use cryptoki::{
    error::{Error, RvError},
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};
use mintwarden_hsm_config::quirks::Quirks;
use mintwarden_worker::{device::DeviceError, watch};

use super::check::Object;
use crate::fault::fault;

/// What is read of every private half.
const PRIVATE: &[AttributeType] = &[
    AttributeType::Label,
    AttributeType::Token,
    AttributeType::Private,
    AttributeType::Sensitive,
    AttributeType::AlwaysSensitive,
    AttributeType::Extractable,
    AttributeType::NeverExtractable,
    AttributeType::Local,
    AttributeType::Sign,
    AttributeType::KeyType,
];

/// What tells how a private key is kept.
pub(super) const KEPT: &[AttributeType] = &[
    AttributeType::Token,
    AttributeType::Private,
    AttributeType::Sensitive,
    AttributeType::AlwaysSensitive,
    AttributeType::Extractable,
    AttributeType::NeverExtractable,
    AttributeType::Local,
    AttributeType::Sign,
];

/// What is read of every public half.
const PUBLIC: &[AttributeType] =
    &[AttributeType::Label, AttributeType::Token, AttributeType::KeyType];

/// Reads one half of a pair. Only what its type of key has is asked for: not all modules answer a
/// question about other attributes in the standard's way.
pub(super) fn half(
    session: &Session,
    object: ObjectHandle,
    class: ObjectClass,
    quirks: &Quirks,
) -> Result<Object, DeviceError> {
    let is_private = class == ObjectClass::PRIVATE_KEY;
    let mut shown = attributes(session, object, if is_private { PRIVATE } else { PUBLIC })?;
    let key_type = shown.iter().find_map(|attribute| match attribute {
        Attribute::KeyType(key_type) => Some(*key_type),
        _ => None,
    });
    // Where there are no public key objects, the private one has to show the public key.
    let shows_key = !is_private || !quirks.public_objects;
    let more: &[AttributeType] = match key_type {
        Some(KeyType::RSA) if shows_key => &[AttributeType::Modulus, AttributeType::PublicExponent],
        Some(KeyType::RSA) => &[],
        _ if shows_key => &[AttributeType::EcParams, AttributeType::EcPoint],
        _ => &[AttributeType::EcParams],
    };
    if !more.is_empty() {
        shown.extend(attributes(session, object, more)?);
    }
    if is_private {
        shown.extend(attributes(session, object, &[AttributeType::AlwaysAuthenticate])?);
    }
    if shows_key && !has_public_key(&shown) {
        shown.extend(attributes(session, object, &[AttributeType::PublicKeyInfo])?);
    }
    Ok(Object::new(shown))
}

fn has_public_key(shown: &[Attribute]) -> bool {
    shown.iter().any(|a| matches!(a, Attribute::EcPoint(_) | Attribute::Modulus(_)))
}

/// Those of the attributes that the module shows and that make sense.
pub(super) fn attributes(
    session: &Session,
    object: ObjectHandle,
    attributes: &[AttributeType],
) -> Result<Vec<Attribute>, DeviceError> {
    let one_by_one = |list: &[AttributeType]| {
        let each = list.chunks(1).map(|one| self::attributes(session, object, one));
        Ok(each.collect::<Result<Vec<_>, DeviceError>>()?.concat())
    };
    match watch::call(|| session.get_attributes(object, attributes)) {
        Ok(read) => Ok(read),
        Err(error @ Error::Pkcs11(value, _)) if !is_about_attributes(value) => {
            Err(fault("reading a key object's attributes", &error))
        }
        // One attribute that cannot be had or makes no sense fails them all. Read one by one, only
        // that one is lacking, and whatever is lacking is judged by who asked for it.
        Err(_) if attributes.len() > 1 => one_by_one(attributes),
        Err(_) => Ok(Vec::new()),
    }
}

fn is_about_attributes(value: RvError) -> bool {
    matches!(
        value,
        RvError::AttributeTypeInvalid
            | RvError::AttributeSensitive
            | RvError::AttributeValueInvalid
    )
}
