use std::{path::Path, process::ExitCode};

use mintwarden_attestation::{
    Challenge, EkCertificate, Evidence, Residence, TpmEvidence,
    tpm::{Name, Public},
};

use crate::{
    exit::Failure,
    files::{self, FileError},
};

/// Makes a challenge, with a credential where there is an attestation key.
pub(super) fn make(
    ek: Option<&Path>,
    ak: Option<&Path>,
    secret: Option<&Path>,
    output: &Path,
) -> Result<ExitCode, Failure> {
    let challenge = match (ak, secret) {
        (Some(ak), Some(secret)) => {
            let ek = endorsement_key(ek.unwrap_or(ak))?;
            let ak = attestation_key(ak)?;
            let (challenge, kept) = Challenge::for_tpm(&ek, &ak)?;
            // First: a challenge whose secret is lost is of no use.
            files::write_secret(secret, &kept.to_json())?;
            challenge
        }
        _ => Challenge::plain()?,
    };
    files::write(output, &challenge.to_json())?;
    Ok(ExitCode::SUCCESS)
}

fn attestation_key(path: &Path) -> Result<Name, FileError> {
    let bytes = files::read(path, Evidence::MAX)?;
    match Public::parse(&bytes) {
        Ok(public) => Ok(public.name()),
        Err(_) => Ok(tpm(path, &bytes)?.ak.name()),
    }
}

/// The endorsement key: by its certificate where there is one, since only that says whose TPM it is.
fn endorsement_key(path: &Path) -> Result<Public, FileError> {
    let bytes = files::read(path, Evidence::MAX)?;
    if let Ok(certificate) = EkCertificate::parse(&bytes) {
        return Ok(certificate.public().clone());
    }
    if let Ok(public) = Public::parse(&bytes) {
        return Ok(public);
    }
    let TpmEvidence { endorsement, .. } = tpm(path, &bytes)?;
    let certified = endorsement.iter().filter_map(|ek| ek.certificate.as_ref());
    let mut certified = certified.filter_map(|der| EkCertificate::parse(&der.0).ok());
    match (certified.next(), endorsement.first()) {
        (Some(certificate), _) => Ok(certificate.public().clone()),
        (None, Some(ek)) => Ok(ek.public.clone()),
        (None, None) => Err(FileError::new(path, "the evidence has no endorsement key")),
    }
}

fn tpm(path: &Path, bytes: &[u8]) -> Result<TpmEvidence, FileError> {
    let evidence = Evidence::parse(bytes).map_err(|error| FileError::new(path, error))?;
    match evidence.residence {
        Residence::Tpm(tpm) => Ok(*tpm),
        Residence::Pkcs11(_) => {
            Err(FileError::new(path, "it is about a PKCS#11 token, which opens no credentials"))
        }
    }
}
