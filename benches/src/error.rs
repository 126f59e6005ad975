//! Why there is nothing to report.

use std::io;

use mintwarden::dev::pki::PkiError;
use mintwarden_hsm_config::provision::ProvisionError;

/// Why a measurement did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The operating system refused.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What it said.
        error: io::Error,
    },
    /// The programs that are measured could not be built, or are not there.
    #[error("{0}; run `make bench`, or build mintwarden and mintwarden-pkcs11 with this profile")]
    Programs(String),
    /// No throw-away PKCS#11 token.
    #[error(transparent)]
    Token(#[from] ProvisionError),
    /// No throw-away certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The appliance did not start, or ended.
    #[error("the appliance is not there ({problem}); its log says:\n{log}")]
    Appliance {
        /// What was seen.
        problem: String,
        /// Its log so far.
        log: String,
    },
    /// A call failed. Under the load of a benchmark none may.
    #[error("a call to the appliance failed: {0}")]
    Client(#[from] mintwarden_client::Error),
    /// The raw loop failed.
    #[error("the raw loop failed: {0}")]
    Raw(String),
    /// The appliance gave something that is not a good token.
    #[error("the appliance gave a token that does not verify: {0}")]
    Sample(String),
}

/// Says what was tried when the operating system refused.
pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> BenchError {
    let what = what.into();
    move |error| BenchError::System { what, error }
}
