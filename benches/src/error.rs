//! Why there is nothing to report.

use std::{io, process::ExitStatus, time::Duration};

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
    /// The programs that are measured could not be built.
    #[error("building the programs that are measured failed ({0}); cargo says why above")]
    Programs(ExitStatus),
    /// A call failed. Under the load of a benchmark none may.
    #[error("a call to the appliance failed: {0}")]
    Client(#[from] mintwarden_client::Error),
    /// The raw loop failed.
    #[error("the raw loop failed: {0}")]
    Raw(String),
    /// The load generator failed.
    #[error("the load generator failed: {0}")]
    Load(#[from] tokio::task::JoinError),
    /// Nothing was released within the time that counted.
    #[error("not a single token came within {0:?}; measure for longer")]
    Nothing(Duration),
    /// The appliance gave something that is not a good token.
    #[error("the appliance gave a token that does not verify: {0}")]
    Token(String),
}

/// Says what was tried when the operating system refused.
pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> BenchError {
    let what = what.into();
    move |error| BenchError::System { what, error }
}
