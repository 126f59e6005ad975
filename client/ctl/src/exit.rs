use std::{
    io::{self, Write},
    process::ExitCode,
};

use mintwarden_attestation::tpm::CredentialError;
use mintwarden_client::Error;

use crate::{config::ConfigError, files::FileError};

/// The appliance refused, or a line was not signed.
pub(crate) const REFUSED: u8 = 1;
/// An act waits for more custodians.
pub(crate) const PROPOSED: u8 = 3;
/// Wrong usage, as clap has it.
const USAGE: u8 = 2;
/// EX_UNAVAILABLE of sysexits.h.
pub(crate) const UNAVAILABLE: u8 = 69;
/// EX_OSERR of sysexits.h.
const SYSTEM: u8 = 71;
/// EX_CONFIG of sysexits.h.
const CONFIGURATION: u8 = 78;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "there is {given} but not the other half; give it with {missing}, by environment or in the file"
    )]
    Half { given: &'static str, missing: &'static str },
    #[error(transparent)]
    Client(#[from] Error),
    #[error("{kid:?} is too short for a key: give {least} characters of its kid, or more")]
    ShortKid { kid: String, least: usize },
    #[error("{kid:?} is the beginning of several keys' kids; give more of it")]
    AmbiguousKid { kid: String },
    #[error(
        "no key that you may see has a kid that begins with {kid:?}; see: mintwardenctl keys list"
    )]
    NoSuchKey { kid: String },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot seal a credential for this endorsement key: {0}")]
    Credential(#[from] CredentialError),
    #[error("{problem}")]
    Pcr { problem: String },
    #[error("{id:?} {problem}")]
    Proposal { id: String, problem: &'static str },
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

impl Failure {
    /// Says so on standard error, and gives the process's exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if let Self::Output(error) = self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            // Whoever read our output has enough; the convention is to say nothing.
            return ExitCode::SUCCESS;
        }
        // Where not even standard error can be written, the exit code has to do.
        let _ = writeln!(io::stderr(), "mintwardenctl: {self}{}", self.choice());
        ExitCode::from(self.code())
    }

    /// The options by which a custodian makes the choice that the appliance asks for.
    fn choice(&self) -> &'static str {
        match self {
            Self::Client(error) if error.reason() == "NO_MATURE_STANDBY" => {
                " (--activate-immature or --wait)"
            }
            Self::Client(error) if error.reason() == "IMMATURE" => {
                " (--immature: now, and verifiers refuse its tokens until they have asked again)"
            }
            _ => "",
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Half { .. } | Self::Client(Error::Config(_)) => CONFIGURATION,
            Self::Client(error) => code_of(error),
            Self::ShortKid { .. } | Self::Pcr { .. } => USAGE,
            Self::AmbiguousKid { .. } | Self::NoSuchKey { .. } | Self::Proposal { .. } => REFUSED,
            Self::File(_) | Self::Credential(_) => REFUSED,
            Self::Output(_) | Self::Runtime(_) => SYSTEM,
        }
    }
}

/// The exit code for a call that failed.
fn code_of(error: &Error) -> u8 {
    if is_unavailable(error) { UNAVAILABLE } else { REFUSED }
}

/// Whether the appliance gave no answer, so that asking for more is useless now.
pub(crate) fn is_unavailable(error: &Error) -> bool {
    match error {
        Error::Transport(_) | Error::DeadlineExceeded => true,
        Error::RetryBudgetExhausted { last } => is_unavailable(last),
        _ => false,
    }
}
