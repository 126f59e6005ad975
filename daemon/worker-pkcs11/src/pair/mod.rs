//! Key pairs as objects of a PKCS#11 token: how they are made, found and examined.
//!
//! A pair is a private and a public key object with the same `CKA_ID`, a random handle, and the same
//! [`Label`](mintwarden_worker::label::Label).

mod check;
mod label;
mod public;
mod read;
mod template;

use std::collections::BTreeSet;

use cryptoki::{
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
    session::Session,
};
use mintwarden_hsm_config::quirks::Quirks;
use mintwarden_worker::{
    IssuerName,
    device::{Cause, DeviceError, DeviceKey, KeyHandle},
    watch,
};

pub(crate) use self::{label::among as label_among, template::Template};
use crate::fault::fault;

/// The public exponent of new RSA keys, 65537, big-endian.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// All pairs with a half that carries a Mintwarden label, in the order of their handles.
pub(crate) fn list(session: &Session, quirks: &Quirks) -> Result<Vec<DeviceKey>, DeviceError> {
    let mut handles = BTreeSet::new();
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        for object in objects(session, &[Attribute::Class(class)])? {
            let shown =
                read::attributes(session, object, &[AttributeType::Label, AttributeType::Id])?;
            if label::has_our_prefix(&shown) {
                handles.insert(KeyHandle::new(id_among(&shown)));
            }
        }
    }
    handles.into_iter().filter_map(|handle| find(session, &handle, quirks).transpose()).collect()
}

/// The pair with this handle, whatever is wrong with it.
pub(crate) fn find(
    session: &Session,
    handle: &KeyHandle,
    quirks: &Quirks,
) -> Result<Option<DeviceKey>, DeviceError> {
    let half = |class| {
        let id = Attribute::Id(handle.as_bytes().to_vec());
        objects(session, &[Attribute::Class(class), id])?
            .into_iter()
            .map(|object| read::half(session, object, class, quirks))
            .collect::<Result<Vec<_>, DeviceError>>()
    };
    let private = half(ObjectClass::PRIVATE_KEY)?;
    let public = half(ObjectClass::PUBLIC_KEY)?;
    if private.is_empty() && public.is_empty() {
        return Ok(None);
    }
    Ok(Some(check::examine(handle, &private, &public, quirks)))
}

/// What the private half with this handle shows of how it is kept, in the standard's order. Attributes that
/// the token does not show are left out.
pub(crate) fn private_attributes(
    session: &Session,
    handle: &KeyHandle,
) -> Result<Vec<Attribute>, DeviceError> {
    let id = Attribute::Id(handle.as_bytes().to_vec());
    let private = objects(session, &[Attribute::Class(ObjectClass::PRIVATE_KEY), id])?;
    match private[..] {
        [private] => read::attributes(session, private, read::KEPT),
        _ => {
            let detail = format!("there is not exactly one private key {handle:?}");
            Err(DeviceError::of(Cause::KeyUnusable, detail))
        }
    }
}

/// Destroys the pair with this handle, private half first, so that what an interruption leaves cannot
/// sign. Objects of another kind with the same `CKA_ID` are left alone.
pub(crate) fn destroy(
    session: &Session,
    issuer: &IssuerName,
    handle: &KeyHandle,
) -> Result<bool, DeviceError> {
    let mut halves = Vec::new();
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        let id = Attribute::Id(handle.as_bytes().to_vec());
        for object in objects(session, &[Attribute::Class(class), id])? {
            let shown = read::attributes(session, object, &[AttributeType::Label])?;
            if label_among(&shown).is_none_or(|label| label.issuer != *issuer) {
                let detail = format!(
                    "a key object with CKA_ID {handle:?} does not carry the label of {issuer}; nothing \
                     is destroyed"
                );
                return Err(DeviceError::of(Cause::KeyUnusable, detail));
            }
            halves.push(object);
        }
    }
    for half in &halves {
        watch::call(|| session.destroy_object(*half))
            .map_err(|error| fault("destroying a key object", &error))?;
    }
    Ok(!halves.is_empty())
}

/// The `CKA_ID`; one that the token does not show is like the empty one, which is the default.
fn id_among(attributes: &[Attribute]) -> Vec<u8> {
    let id = attributes.iter().find_map(|attribute| match attribute {
        Attribute::Id(id) => Some(id.clone()),
        _ => None,
    });
    id.unwrap_or_default()
}

fn objects(session: &Session, like: &[Attribute]) -> Result<Vec<ObjectHandle>, DeviceError> {
    watch::call(|| session.find_objects(like))
        .map_err(|error| fault("looking for key objects", &error))
}
