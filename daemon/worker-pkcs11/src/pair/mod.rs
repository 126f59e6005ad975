//! Key pairs as objects of a PKCS#11 token: how they are made, found and examined.
//!
//! A pair is a private and a public key object with the same `CKA_ID`, a random handle, and the same
//! `CKA_LABEL`, `mintwarden/` and the issuer's name (I3).

mod check;
mod template;

use std::collections::BTreeSet;

use cryptoki::{
    error::Error,
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
    session::Session,
};
use mintwarden_worker::{
    IssuerName,
    device::{DeviceError, DeviceKey, KeyHandle},
};

use self::check::Object;
pub(crate) use self::template::Template;
use crate::fault::fault;

/// What Mintwarden's labels begin with.
const LABEL_PREFIX: &str = "mintwarden/";

/// The `CKA_LABEL` of both halves of a pair.
fn label_for(issuer: &IssuerName) -> Attribute {
    Attribute::Label(format!("{LABEL_PREFIX}{issuer}").into_bytes())
}

/// The issuer that a label among the attributes names.
pub(crate) fn issuer_in(attributes: &[Attribute]) -> Option<IssuerName> {
    let label = attributes.iter().find_map(|attribute| match attribute {
        Attribute::Label(label) => str::from_utf8(label).ok(),
        _ => None,
    })?;
    IssuerName::parse(label.strip_prefix(LABEL_PREFIX)?).ok()
}

/// All pairs with a half that carries a Mintwarden label, in the order of their handles.
pub(crate) fn list(session: &Session) -> Result<Vec<DeviceKey>, DeviceError> {
    let mut handles = BTreeSet::new();
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        for object in objects(session, &[Attribute::Class(class)])? {
            let attributes = read(session, object, &[AttributeType::Label, AttributeType::Id])?;
            if has_our_prefix(&attributes) {
                handles.insert(KeyHandle::new(id_in(&attributes)));
            }
        }
    }
    handles.into_iter().filter_map(|handle| find(session, &handle).transpose()).collect()
}

/// The pair with this handle, whatever is wrong with it.
pub(crate) fn find(
    session: &Session,
    handle: &KeyHandle,
) -> Result<Option<DeviceKey>, DeviceError> {
    let half = |class, attributes: &[AttributeType]| {
        let id = Attribute::Id(handle.as_bytes().to_vec());
        objects(session, &[Attribute::Class(class), id])?
            .into_iter()
            .map(|object| read(session, object, attributes).map(Object::new))
            .collect::<Result<Vec<_>, DeviceError>>()
    };
    let private = half(ObjectClass::PRIVATE_KEY, check::PRIVATE)?;
    let public = half(ObjectClass::PUBLIC_KEY, check::PUBLIC)?;
    if private.is_empty() && public.is_empty() {
        return Ok(None);
    }
    Ok(Some(check::examine(handle, &private, &public)))
}

fn has_our_prefix(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match attribute {
        Attribute::Label(label) => label.starts_with(LABEL_PREFIX.as_bytes()),
        _ => false,
    })
}

/// The `CKA_ID`; one that the token does not show is like the empty one, which is the default.
fn id_in(attributes: &[Attribute]) -> Vec<u8> {
    let id = attributes.iter().find_map(|attribute| match attribute {
        Attribute::Id(id) => Some(id.clone()),
        _ => None,
    });
    id.unwrap_or_default()
}

fn objects(session: &Session, like: &[Attribute]) -> Result<Vec<ObjectHandle>, DeviceError> {
    session.find_objects(like).map_err(|error| fault("looking for key objects", &error))
}

/// Reads those of the attributes that the token shows and that make sense.
fn read(
    session: &Session,
    object: ObjectHandle,
    attributes: &[AttributeType],
) -> Result<Vec<Attribute>, DeviceError> {
    match session.get_attributes(object, attributes) {
        Ok(read) => Ok(read),
        Err(error @ Error::Pkcs11(..)) => Err(fault("reading a key object's attributes", &error)),
        // One value that makes no sense fails them all. Read one by one, only that one is lacking,
        // and whatever is lacking is a defect.
        Err(_) if attributes.len() > 1 => {
            let each = attributes.chunks(1).map(|one| read(session, object, one));
            Ok(each.collect::<Result<Vec<_>, _>>()?.concat())
        }
        Err(_) => Ok(Vec::new()),
    }
}
