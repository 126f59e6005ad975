//! Challenges, and the verification of what devices answer to them. No appliance takes part.

mod challenge;
mod verify;

use std::{io::Write, path::Path, process::ExitCode};

use mintwarden_attestation::{Challenge, Nonce};

use crate::{
    args::AttestCommand,
    exit::Failure,
    files::{self, FileError},
    output::Format,
};

/// Runs a command that needs no appliance.
pub(crate) fn run(
    command: AttestCommand,
    out: &mut impl Write,
    format: Format,
) -> Result<ExitCode, Failure> {
    match command {
        AttestCommand::Challenge { ek, ak, secret, output } => {
            challenge::make(ek.as_deref(), ak.as_deref(), secret.as_deref(), &output)
        }
        AttestCommand::Verify(verify) => verify::run(&verify, out, format),
    }
}

/// The challenge that an argument names: a nonce in hexadecimal, or a file.
pub(super) fn challenge_of(argument: &str) -> Result<Challenge, FileError> {
    let path = Path::new(argument);
    if !argument.is_empty() && argument.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let wrong = |problem: &str| {
            FileError::new(path, format!("{problem}; write ./{argument} if it is a file"))
        };
        let bytes =
            hex::decode(argument).map_err(|_| wrong("an odd number of hexadecimal digits"))?;
        let nonce = Nonce::new(&bytes).map_err(|error| wrong(&error.to_string()))?;
        return Ok(Challenge::of(nonce));
    }
    let document = files::read(path, Challenge::MAX)?;
    Challenge::parse(&document).map_err(|error| {
        FileError::new(path, format!("it is no challenge (mintwarden-challenge/1): {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_a_nonce_in_hexadecimal_or_a_file() {
        let challenge = challenge_of(&"0aF0".repeat(8)).unwrap();
        assert_eq!(challenge.nonce.as_bytes(), [0x0a, 0xf0].repeat(8));
        assert_eq!(challenge.credential, None);
        for (wrong, words) in
            [("00", "16 to 32"), ("0", "odd"), (&*"00".repeat(33), "16 to 32"), ("", "No such")]
        {
            let error = challenge_of(wrong).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("challenge.json");
        let made = Challenge::plain().unwrap();
        files::write(&path, &made.to_json()).unwrap();
        assert_eq!(challenge_of(path.to_str().unwrap()).unwrap(), made);
    }
}
