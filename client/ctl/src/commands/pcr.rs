//! States of machines that keys are bound to: what is signed to sign one off, and what policies come of it. No
//! appliance takes part.

use std::{collections::BTreeMap, io::Write, path::Path, process::ExitCode};

use mintwarden_attestation::{
    pcr::{Authority, KeyPolicy, PcrState, SignOff},
    tpm::Hash,
};

use crate::{
    args::{PcrCommand, State},
    exit::Failure,
    files::{self, FileError},
};

/// Bound on a signature, bytes: of RSA with 4096 bits.
const MAX_SIGNATURE: usize = 512;

/// Runs a command that needs no appliance.
pub(crate) fn run(command: PcrCommand, out: &mut impl Write) -> Result<ExitCode, Failure> {
    match command {
        PcrCommand::Statement { state, output } => {
            files::write(&output, &SignOff::statement(&state_of(&state)?))?;
        }
        PcrCommand::SignOff { state, authority, signature, output } => {
            let bytes = files::read(&signature, MAX_SIGNATURE)?;
            let signed = SignOff::new(state_of(&state)?, &authority_of(&authority)?, &bytes);
            let signed = signed.map_err(|error| FileError::new(&signature, error))?;
            files::write(&output, &signed.to_json())?;
        }
        PcrCommand::Policy { state, authority } => {
            let state = state_of(&state)?;
            let authority = authority.as_deref().map(authority_of).transpose()?;
            let authority = authority.map(|authority| authority.name());
            writeln!(out, "{}", KeyPolicy { state, authority }.digest())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn authority_of(path: &Path) -> Result<Authority, FileError> {
    let pem = files::read(path, Authority::MAX)?;
    Authority::parse(&pem).map_err(|error| FileError::new(path, error))
}

fn state_of(given: &State) -> Result<PcrState, Failure> {
    let wrong = |problem: String| Failure::Pcr { problem };
    let bank = Hash::from_name(&given.bank)
        .ok_or_else(|| wrong(format!("--bank {}: use sha256, sha384 or sha512", given.bank)))?;
    let mut values = BTreeMap::new();
    for text in &given.pcrs {
        let pair = text.split_once('=').and_then(|(pcr, value)| Some((pcr.parse().ok()?, value)));
        let (pcr, value): (u8, _) = pair.ok_or_else(|| {
            wrong(format!("--pcr {text}: write a number, '=' and hexadecimal digits"))
        })?;
        if values.insert(pcr, value.to_owned()).is_some() {
            return Err(wrong(format!("--pcr {pcr} is there twice")));
        }
    }
    PcrState::from_hex(bank, &values).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(bank: &str, pcrs: &[&str]) -> Result<PcrState, Failure> {
        let pcrs = pcrs.iter().map(|&pcr| pcr.to_owned()).collect();
        state_of(&State { bank: bank.into(), pcrs })
    }

    #[test]
    fn a_state_is_given_by_its_pcrs() {
        let zeros = "0".repeat(64);
        let found = state("sha256", &[&format!("7={zeros}"), &format!("0=0x{zeros}")]).unwrap();
        assert_eq!(found.selection().to_string(), "sha256:0,7");
        for (bank, pcrs, words) in [
            ("sha1", &[][..], "--bank sha1"),
            ("sha256", &[], "no PCR"),
            ("sha256", &["7"], "--pcr 7: write"),
            ("sha256", &["x=00"], "--pcr x=00"),
            ("sha256", &["7=00"], "write 64"),
            ("sha384", &[&*format!("7={zeros}")], "write 96"),
            ("sha256", &[&*format!("24={zeros}")], "no PCR 24"),
            ("sha256", &[&*format!("7={zeros}"), &*format!("7={zeros}")], "twice"),
        ] {
            let error = state(bank, pcrs).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
