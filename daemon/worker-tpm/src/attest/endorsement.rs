//! The TPM's endorsement keys, by the default templates of the TCG EK Credential Profile.

use std::time::Duration;

use mintwarden_attestation::{Bytes, Challenge, Endorsement, Sealed, tpm::Key};
use mintwarden_worker::device::{Cause, DeviceError, Remedy};
use tss_esapi::{
    Error,
    abstraction::{AsymmetricAlgorithmSelection, ek::create_ek_public_from_default_template_2},
    constants::response_code::Tss2ResponseCodeKind as Rc,
    handles::KeyHandle as Loaded,
    interface_types::{ecc::EccCurve, key_bits::RsaKeyBits},
    structures::{EncryptedSecret, IdObject},
};

use super::{certificate, parsed};
use crate::{
    connection::Connection,
    fault::{describe, fault, tpm_code},
};

/// What making an endorsement key may take beyond the bound on other calls: chips make an RSA key in tens of seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The default templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// L-1.
    Rsa2048,
    /// L-2.
    P256,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Rsa2048, Self::P256];

    /// Where the TPM's maker left the certificate (EK Credential Profile, section 2.2.1.4).
    fn certificate_index(self) -> u32 {
        match self {
            Self::Rsa2048 => 0x01c0_0002,
            Self::P256 => 0x01c0_000a,
        }
    }

    fn algorithm(self) -> AsymmetricAlgorithmSelection {
        match self {
            Self::Rsa2048 => AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048),
            Self::P256 => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
        }
    }

    fn is_of(self, sealed: &Sealed) -> bool {
        matches!(
            (self, sealed.ek.key()),
            (Self::Rsa2048, Key::Rsa { .. }) | (Self::P256, Key::Ecc { .. })
        )
    }
}

/// What a TPM says of its endorsement keys.
#[derive(Default)]
pub(super) struct Endorsements {
    pub(super) keys: Vec<Endorsement>,
    /// What the credential of the challenge holds.
    pub(super) activated: Option<Vec<u8>>,
}

/// The endorsement keys that have a certificate, and the one that the challenge asks for; where there is neither, the one
/// on P-256, which is made quickly. The credential is opened on the way.
pub(super) fn all(
    connection: &mut Connection,
    ak: Loaded,
    challenge: &Challenge,
) -> Result<Endorsements, DeviceError> {
    let mut found = Vec::new();
    for kind in Kind::ALL {
        let certificate = certificate::read(connection.context(), kind.certificate_index())?;
        let asked = challenge.credential.as_ref().is_some_and(|sealed| kind.is_of(sealed));
        if certificate.is_some() || asked {
            found.push((kind, certificate));
        }
    }
    if found.is_empty() {
        found.push((Kind::P256, None));
    }
    let mut all = Endorsements::default();
    for (kind, certificate) in found {
        let sealed = challenge.credential.as_ref().filter(|sealed| kind.is_of(sealed));
        let (endorsement, activated) = one(connection, ak, kind, certificate, sealed)?;
        all.keys.push(endorsement);
        all.activated = all.activated.or(activated);
    }
    Ok(all)
}

fn one(
    connection: &mut Connection,
    ak: Loaded,
    kind: Kind,
    certificate: Option<Vec<u8>>,
    sealed: Option<&Sealed>,
) -> Result<(Endorsement, Option<Vec<u8>>), DeviceError> {
    let doing = "making the endorsement key";
    let template = create_ek_public_from_default_template_2(kind.algorithm(), None)
        .map_err(|error| fault(doing, &error))?;
    connection.with_endorsement_primary(doing, PATIENCE, None, &template, |connection, ek| {
        let public = connection.read_public(ek).map_err(|error| fault(doing, &error))?;
        let public = parsed(&public)?;
        let activated = match sealed {
            None => None,
            Some(sealed) if sealed.ek != public => {
                return Err(refused("it is for the endorsement key of another TPM"));
            }
            Some(sealed) => Some(activate(connection, ak, ek, sealed)?),
        };
        Ok((Endorsement { public, certificate: certificate.map(Bytes) }, activated))
    })
}

/// TPM2_ActivateCredential. The endorsement key's policy is that of the profile: PolicySecret of the endorsement
/// hierarchy, whose authorisation value is empty.
fn activate(
    connection: &mut Connection,
    ak: Loaded,
    ek: Loaded,
    sealed: &Sealed,
) -> Result<Vec<u8>, DeviceError> {
    let malformed = |error: &dyn std::fmt::Display| refused(&error.to_string());
    let credential = sealed.credential().map_err(|error| malformed(&error))?;
    // Without the size that the library writes itself.
    let id_object = IdObject::try_from(credential.id_object()[2..].to_vec());
    let id_object = id_object.map_err(|error| malformed(&error))?;
    let secret = EncryptedSecret::try_from(credential.encrypted_secret()[2..].to_vec());
    let secret = secret.map_err(|error| malformed(&error))?;
    let opened = connection.with_policy_session(|connection, policy| {
        connection.satisfy_endorsement(policy)?;
        Ok(connection.activate(ak, ek, policy, &id_object, &secret))
    })?;
    match opened {
        Ok(secret) => Ok(secret.value().to_vec()),
        Err(error) if is_of_another(&error) => Err(refused(&describe(&error))),
        Err(error) => Err(fault("opening a credential", &error)),
    }
}

/// What a TPM says to a credential that is for another one, for another attestation key, or was tampered with.
fn is_of_another(error: &Error) -> bool {
    matches!(
        tpm_code(error),
        Some(Rc::Integrity | Rc::Value | Rc::Size | Rc::Insufficient | Rc::EccPoint | Rc::Type)
    )
}

fn refused(why: &str) -> DeviceError {
    let detail = format!("the challenge's credential cannot be opened here: {why}");
    DeviceError::new(Cause::ChallengeRefused, Remedy::Refuse, detail)
}
