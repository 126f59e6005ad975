use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Which key to show, to which challenge.
#[derive(Debug, Args)]
pub(crate) struct Attestation {
    #[command(flatten)]
    pub(crate) which: super::Which,
    /// A file of `attest challenge`, or a nonce: 16 to 32 bytes in hexadecimal
    #[arg(long, value_name = "FILE|HEX")]
    pub(crate) challenge: String,
    /// Where to write the evidence; it replaces nothing
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AttestCommand {
    /// Make a challenge: a nonce, and for a TPM a credential that only that TPM can open
    ///
    /// The credential ties the attestation key to the endorsement key: take both from evidence over a plain
    /// nonce, then ask again with this challenge. It is sealed here, in software.
    Challenge {
        /// The TPM's endorsement key: its certificate (PEM or DER), a TPM2B_PUBLIC, or evidence; with --ak alone,
        /// from the same evidence
        #[arg(long, value_name = "FILE", requires = "ak")]
        ek: Option<PathBuf>,
        /// The TPM's attestation key: evidence, or a TPM2B_PUBLIC
        #[arg(long, value_name = "FILE", requires = "secret")]
        ak: Option<PathBuf>,
        /// Where to keep the secret that the credential holds (mode 0600); `attest verify` needs it
        #[arg(long, value_name = "FILE", requires = "ak")]
        secret: Option<PathBuf>,
        /// Where to write the challenge; it replaces nothing
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Judge evidence, offline
    Verify(Box<Verify>),
}

/// What evidence is judged by.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The evidence: a file of `keys attest`
    #[arg(value_name = "FILE")]
    pub(crate) evidence: PathBuf,
    /// The challenge that it answers: a file, or a nonce in hexadecimal
    #[arg(long, value_name = "FILE|HEX")]
    pub(crate) challenge: String,
    /// The issuer's JWK Set, as verifiers of tokens read it
    #[arg(long, value_name = "FILE")]
    pub(crate) jwks: PathBuf,
    /// The key that was asked about
    #[arg(long, value_name = "KID", allow_hyphen_values = true)]
    pub(crate) kid: Option<String>,
    /// The secret of the challenge's credential
    #[arg(long, value_name = "FILE")]
    pub(crate) secret: Option<PathBuf>,
    /// The endorsement key's certificate (PEM or DER), where it comes from elsewhere than the TPM
    #[arg(long, value_name = "FILE")]
    pub(crate) ek: Option<PathBuf>,
    /// Who certifies endorsement keys: PEM, roots and what is between; from the TPM's manufacturer
    #[arg(long, value_name = "FILE")]
    pub(crate) ek_ca: Option<PathBuf>,
    /// Be content without a proof, which the verdict then says; may be given more than once
    #[arg(long, value_name = "WHAT")]
    pub(crate) accept: Vec<Accepted>,
}

/// A proof that is not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accepted {
    /// Nothing ties the attestation key to a TPM: software could have made all of it
    UnboundAk,
    /// Nobody vouches for the endorsement key: the TPM may be software
    UncertifiedEk,
    /// A PKCS#11 token's word for where its keys are
    OwnClaim,
}
