//! What a PKCS#11 module says of a key, of itself and of its token. The standard has nothing that proves it: it is
//! the device's own claim, and nothing is signed.

use std::collections::BTreeMap;

use cryptoki::{context::Pkcs11, object::Attribute, slot::Slot};
use mintwarden_attestation::{Members, Pkcs11Claim, Residence};
use mintwarden_worker::{
    device::{Cause, DeviceError, DeviceKey},
    watch,
};

use crate::{fault::fault, token::padding_off};

type Facts = BTreeMap<String, String>;

/// The module (`CK_INFO`), by the names of its fields.
pub(crate) fn library(context: &Pkcs11) -> Result<Facts, DeviceError> {
    let info = watch::call(|| context.get_library_info())
        .map_err(|error| fault("reading the module's description", &error))?;
    Ok(facts([
        ("cryptokiVersion", info.cryptoki_version().to_string()),
        ("manufacturerID", padding_off(info.manufacturer_id()).to_owned()),
        ("libraryDescription", padding_off(info.library_description()).to_owned()),
        ("libraryVersion", info.library_version().to_string()),
    ]))
}

/// The PKCS#11 token (`CK_TOKEN_INFO`), by the names of its fields.
pub(crate) fn token(context: &Pkcs11, slot: Slot) -> Result<Facts, DeviceError> {
    let info = watch::call(|| context.get_token_info(slot))
        .map_err(|error| fault("reading the PKCS#11 token's description", &error))?;
    Ok(facts([
        ("label", padding_off(info.label()).to_owned()),
        ("manufacturerID", padding_off(info.manufacturer_id()).to_owned()),
        ("model", padding_off(info.model()).to_owned()),
        ("serialNumber", padding_off(info.serial_number()).to_owned()),
        ("hardwareVersion", info.hardware_version().to_string()),
        ("firmwareVersion", info.firmware_version().to_string()),
    ]))
}

fn facts<const N: usize>(facts: [(&str, String); N]) -> Facts {
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// All of it about one key, with the attributes of its private half.
pub(crate) fn claim(
    key: &DeviceKey,
    library: Facts,
    token: Facts,
    private_key: &[Attribute],
) -> Result<Residence, DeviceError> {
    let unusable = |detail: String| DeviceError::of(Cause::KeyUnusable, detail);
    let public =
        key.public.as_ref().ok_or_else(|| unusable("its public key is not shown".into()))?;
    let jwk: Members = serde_json::to_value(public)
        .and_then(serde_json::from_value)
        .map_err(|error| unusable(error.to_string()))?;
    let shown =
        |name: &str| private_key.iter().find_map(|a| named(a).filter(|(is, _)| *is == name));
    let private_key = NAMES.iter().map(|name| ((*name).to_owned(), shown(name).map(|(_, v)| v)));
    let private_key = private_key.collect();
    Ok(Residence::Pkcs11(Box::new(Pkcs11Claim { jwk, library, token, private_key })))
}

const NAMES: [&str; 8] = [
    "CKA_TOKEN",
    "CKA_PRIVATE",
    "CKA_SENSITIVE",
    "CKA_ALWAYS_SENSITIVE",
    "CKA_EXTRACTABLE",
    "CKA_NEVER_EXTRACTABLE",
    "CKA_LOCAL",
    "CKA_SIGN",
];

/// An attribute by the standard's name.
fn named(attribute: &Attribute) -> Option<(&'static str, bool)> {
    Some(match attribute {
        Attribute::Token(value) => ("CKA_TOKEN", *value),
        Attribute::Private(value) => ("CKA_PRIVATE", *value),
        Attribute::Sensitive(value) => ("CKA_SENSITIVE", *value),
        Attribute::AlwaysSensitive(value) => ("CKA_ALWAYS_SENSITIVE", *value),
        Attribute::Extractable(value) => ("CKA_EXTRACTABLE", *value),
        Attribute::NeverExtractable(value) => ("CKA_NEVER_EXTRACTABLE", *value),
        Attribute::Local(value) => ("CKA_LOCAL", *value),
        Attribute::Sign(value) => ("CKA_SIGN", *value),
        _ => return None,
    })
}
