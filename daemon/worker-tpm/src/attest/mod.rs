//! Shows where a key lives: TPM2_Certify by an attestation key, and TPM2_ActivateCredential by the
//! endorsement key of the same TPM.
//!
//! The attestation key is made anew from its template whenever it is asked for, and is the same one each time. It is
//! in the *endorsement* hierarchy: opening a credential needs that hierarchy's authorisation in any case, so that
//! attestation asks for one only; it survives when the owner clears the TPM; and for a key of the owner's the TPM
//! would obscure the firmware's version and its counts of resets (part 2 section 10.12.8).
//!
//! It has no authorisation value. Whoever reaches the TPM may use it, for it is restricted: it signs what the TPM says
//! of itself and nothing that a caller makes up.

mod certificate;
mod endorsement;

use std::time::Duration;

use mintwarden_attestation::{Bytes, Challenge, TpmEvidence, tpm::Public as Area};
use mintwarden_worker::device::{Cause, DeviceError, KeyHandle, Remedy};
use tss_esapi::{
    handles::KeyHandle as Loaded,
    structures::{Data, Public, SignatureScheme},
    traits::Marshall,
};

use crate::{connection::Connection, fault::fault, template};

/// Everything that shows where `key` lives, which is loaded with its authorisation value, as an answer to `challenge`.
///
/// # Errors
/// [`Cause::ChallengeRefused`], or as the TPM gives them.
pub(crate) fn evidence(
    connection: &mut Connection,
    handle: &KeyHandle,
    key: Loaded,
    challenge: &Challenge,
) -> Result<TpmEvidence, DeviceError> {
    let doing = "making the attestation key";
    let template = template::attestation_key().map_err(|error| fault(doing, &error))?;
    let quick = Duration::ZERO;
    connection.with_endorsement_primary(doing, quick, Some(handle), &template, |connection, ak| {
        let certified = certify(connection, key, ak, challenge)?;
        let key = area(connection, key)?;
        let parent = connection.parent();
        let parent = area(connection, parent)?;
        let ak_area = area(connection, ak)?;
        // A TPM has room for three objects: storage key, attestation key, and an endorsement key.
        connection.unload(handle)?;
        let endorsement = endorsement::all(connection, ak, challenge)?;
        Ok(TpmEvidence {
            key,
            parent,
            ak: ak_area,
            attest: Bytes(certified.attest),
            signature: Bytes(certified.signature),
            endorsement: endorsement.keys,
            activated: endorsement.activated.map(Bytes),
        })
    })
}

struct Certified {
    attest: Vec<u8>,
    signature: Vec<u8>,
}

/// TPM2_Certify of the key by the attestation key, with the nonce as qualifyingData. The key's authorisation value is
/// proven in the salted session, as when it signs.
fn certify(
    connection: &mut Connection,
    key: Loaded,
    ak: Loaded,
    challenge: &Challenge,
) -> Result<Certified, DeviceError> {
    let doing = "certifying a key";
    let failed = |error| fault(doing, &error);
    let nonce = Data::try_from(challenge.nonce.as_bytes()).map_err(failed)?;
    let (attest, signature) = connection.authorised(doing, |context| {
        context.certify(key.into(), ak, nonce.clone(), SignatureScheme::Null)
    })?;
    Ok(Certified {
        attest: attest.marshall().map_err(failed)?,
        signature: signature.marshall().map_err(failed)?,
    })
}

/// The public area of an object, as the TPM shows it now.
fn area(connection: &mut Connection, object: Loaded) -> Result<Area, DeviceError> {
    let doing = "reading a public area";
    let public = connection.read_public(object).map_err(|error| fault(doing, &error))?;
    parsed(&public)
}

/// A public area in the form that evidence has.
fn parsed(public: &Public) -> Result<Area, DeviceError> {
    let malformed = |why: String| {
        let detail = format!("the TPM shows a public area that cannot be shown as evidence: {why}");
        DeviceError::new(Cause::Malformed, Remedy::Refuse, detail)
    };
    let area = public.marshall().map_err(|error| malformed(error.to_string()))?;
    let size = u16::try_from(area.len()).map_err(|error| malformed(error.to_string()))?;
    let sized = [&size.to_be_bytes()[..], &area].concat();
    Area::parse(&sized).map_err(|error| malformed(error.to_string()))
}
