use std::path::PathBuf;

use clap::{Args, Subcommand};

/// A state of a machine, as its PCRs tell it.
#[derive(Debug, Args)]
pub(crate) struct State {
    /// The bank: sha256, sha384 or sha512
    #[arg(long, value_name = "BANK", default_value = "sha256")]
    pub(crate) bank: String,
    /// What a PCR holds, in hexadecimal, as tpm2_pcrread shows it; once for each PCR of `pcrs.selection`
    #[arg(long = "pcr", value_name = "N=HEX", required = true)]
    pub(crate) pcrs: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PcrCommand {
    /// Write what an authority has to sign to sign a state off
    ///
    /// E.g. with: openssl dgst -sha256 -sign authority.key -out FILE.signature FILE
    Statement {
        #[command(flatten)]
        state: State,
        /// Where to write it; it replaces nothing
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Make a sign-off of the authority's signature, which is verified
    SignOff {
        #[command(flatten)]
        state: State,
        /// The authority's public key, PEM
        #[arg(long, value_name = "FILE")]
        authority: PathBuf,
        /// Its signature of the statement: ECDSA (DER or R‖S) or RSA with PKCS #1 v1.5 padding, with SHA-256
        #[arg(long, value_name = "FILE")]
        signature: PathBuf,
        /// Where to write it, e.g. NAME.json in the directory `pcrs.signed_off`; it replaces nothing
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Print the policy of keys that were made in a state, as evidence shows it
    Policy {
        #[command(flatten)]
        state: State,
        /// The authority's public key, PEM, where the device has one
        #[arg(long, value_name = "FILE")]
        authority: Option<PathBuf>,
    },
}
