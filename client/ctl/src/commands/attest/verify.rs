use std::{io::Write, process::ExitCode};

use mintwarden_attestation::{
    Authorities, Challenge, EkCertificate, Evidence, Expected, Jwks, Secret, Waiver, verify,
};
use zeroize::Zeroizing;

use super::challenge_of;
use crate::{
    args::{Accepted, Verify},
    clock,
    exit::{self, Failure},
    files::{self, FileError},
    output::{self, Format},
};

/// Bound on a file of authorities, bytes: all manufacturers' together have less.
const MAX_AUTHORITIES: usize = 4 * 1024 * 1024;

pub(super) fn run(
    asked: &Verify,
    out: &mut impl Write,
    format: Format,
) -> Result<ExitCode, Failure> {
    let evidence = files::read(&asked.evidence, Evidence::MAX)?;
    let evidence =
        Evidence::parse(&evidence).map_err(|error| FileError::new(&asked.evidence, error))?;
    let jwks = files::read(&asked.jwks, Jwks::MAX)?;
    let jwks = Jwks::parse(&jwks).map_err(|error| FileError::new(&asked.jwks, error))?;
    let secret = asked.secret.as_deref().map(|path| {
        let document = Zeroizing::new(files::read(path, Challenge::MAX)?);
        Secret::parse(&document).map_err(|error| FileError::new(path, error))
    });
    let secret = secret.transpose()?;
    let ek = asked.ek.as_deref().map(|path| {
        let certificate = files::read(path, Evidence::MAX)?;
        EkCertificate::parse(&certificate).map_err(|error| FileError::new(path, error))
    });
    let ek = ek.transpose()?;
    let authorities = asked.ek_ca.as_deref().map(|path| {
        let pem = files::read(path, MAX_AUTHORITIES)?;
        Authorities::parse(&pem).map_err(|error| FileError::new(path, error))
    });
    let authorities = authorities.transpose()?;
    let expected = Expected {
        nonce: &challenge_of(&asked.challenge)?.nonce,
        jwks: &jwks,
        kid: asked.kid.as_deref(),
        secret: secret.as_ref(),
        ek: ek.as_ref(),
        authorities: authorities.as_ref(),
        now: clock::now(),
    };
    let verdict = verify(&evidence, &expected);
    let accepted: Vec<_> = asked.accept.iter().map(|accepted| Waiver::from(*accepted)).collect();
    let holds = verdict.holds(&accepted);
    output::verdict(out, format, &verdict, holds)?;
    Ok(if holds { ExitCode::SUCCESS } else { exit::REFUSED.into() })
}

impl From<Accepted> for Waiver {
    fn from(accepted: Accepted) -> Self {
        match accepted {
            Accepted::UnboundAk => Self::UnboundAk,
            Accepted::UncertifiedEk => Self::UncertifiedEk,
            Accepted::OwnClaim => Self::OwnClaim,
        }
    }
}
