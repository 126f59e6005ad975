//! Evidence of where a private key lives, and what that evidence proves.
//!
//! A device answers a [`Challenge`] with [`Evidence`], a JSON document. A verifier judges it offline, with what it
//! knows without the device: [`verify()`] gives one [`Finding`] for each check, and a [`Verdict`].
//!
//! For a TPM 2.0 the evidence is a certification of the key by an attestation key (TPM2_Certify), and a
//! credential that was opened by the endorsement key of the same TPM (TPM2_ActivateCredential). Parsing,
//! names and credential protection are here ([`tpm`]) and need no TPM: the worker and a verifier's desk share
//! them. A PKCS#11 token proves nothing; its evidence is marked as the device's own claim.
//!
//! What is said where, and what it proves, is in docs/attestation.md.

mod challenge;
mod encoding;
mod endorsement;
mod evidence;
mod jwk;
mod nonce;
pub mod pcr;
pub mod tpm;
#[cfg(test)]
mod vectors;
mod verify;

pub use challenge::{Challenge, ChallengeError, Sealed, Secret};
pub use encoding::Bytes;
pub use endorsement::{Authorities, EkCertificate, EkError};
pub use evidence::{Endorsement, Evidence, EvidenceError, Pkcs11Claim, Residence, TpmEvidence};
pub use jwk::{Jwks, JwksError, Members};
pub use nonce::{Nonce, NotANonce};
pub use verify::{Check, Expected, Finding, Outcome, Verdict, Waiver, printable, verify};
