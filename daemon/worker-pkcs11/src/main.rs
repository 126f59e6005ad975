//! `mintwarden-pkcs11`: the worker for PKCS#11 tokens. Started by the launcher; by hand only for
//! `init-token`.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use mintwarden_hsm_config::pin::{Pin, PinError};
use mintwarden_pkcs11::{
    Pkcs11Device,
    init::{InitError, init_token},
};
use mintwarden_worker::{
    harden::{self, HardenError},
    serve,
};
use zeroize::Zeroizing;

/// The Mintwarden worker for PKCS#11 tokens. Without a command it serves the wire on its standard
/// input, where the launcher puts it.
#[derive(Parser)]
#[command(name = "mintwarden-pkcs11", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Initialise a PKCS#11 token that has no label yet, and print its serial number.
    ///
    /// Reads two lines from standard input: the PIN of the security officer, then the user PIN.
    /// Refuses if there is a PKCS#11 token with the label already.
    InitToken {
        /// Path of the PKCS#11 module.
        #[arg(long)]
        module: PathBuf,
        /// Label for the PKCS#11 token, up to 32 bytes.
        #[arg(long)]
        label: String,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        None => serve::run(|setup, seen| Ok(Box::new(Pkcs11Device::open_telling(setup, seen)?))),
        Some(Command::InitToken { module, label }) => match run_init_token(&module, &label) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Nobody is left to tell when standard error is closed.
                let _written = writeln!(io::stderr(), "mintwarden-pkcs11: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run_init_token(module: &std::path::Path, label: &str) -> Result<(), CommandError> {
    harden::protect()?;
    let (so_pin, pin) = read_pins()?;
    let serial = init_token(module, label, &so_pin, &pin)?;
    writeln!(io::stdout(), "{serial}").map_err(CommandError::Output)
}

/// Reads both PINs from standard input, past the standard library's buffer, which is never wiped.
fn read_pins() -> Result<(Pin, Pin), CommandError> {
    const BOUND: usize = 2 * (Pin::MAX_LEN + 1);
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(CommandError::Input)?;
    let mut text = Zeroizing::new(Vec::with_capacity(BOUND + 1));
    File::from(stdin).take(BOUND as u64 + 1).read_to_end(&mut text).map_err(CommandError::Input)?;
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    let mut lines = text.split(|byte| *byte == b'\n');
    let (Some(so_pin), Some(pin), None) = (lines.next(), lines.next(), lines.next()) else {
        return Err(CommandError::NotTwoLines);
    };
    Ok((
        Pin::from_bytes(so_pin, "the first line (the security officer's PIN)")?,
        Pin::from_bytes(pin, "the second line (the user PIN)")?,
    ))
}

/// Why `init-token` failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("cannot protect the process: {0}")]
    Unprotected(#[from] HardenError),
    #[error("standard input: {0}")]
    Input(#[source] io::Error),
    #[error("standard output: {0}; the PKCS#11 token is initialised")]
    Output(#[source] io::Error),
    #[error("standard input: write two lines, the security officer's PIN and the user PIN")]
    NotTwoLines,
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(transparent)]
    Init(#[from] InitError),
}
