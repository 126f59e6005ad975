use std::{error::Error as StdError, fmt, io, path::PathBuf, sync::Arc, time::Duration};

pub use tonic::Code;

/// Why a call did not give what was asked for.
///
/// Cheap to clone, since one failed batch answers many callers.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client was built with something that cannot work. Nothing was sent.
    #[error(transparent)]
    Config(#[from] Arc<ConfigError>),

    /// The appliance refused the call, or this item of a batch.
    #[error(transparent)]
    Refused(#[from] Arc<Refusal>),

    /// The appliance could not be reached, or the connection broke.
    #[error(transparent)]
    Transport(#[from] Arc<TransportError>),

    /// The deadline passed before there was an answer.
    #[error(
        "the deadline passed before the appliance answered; allow more time, or ask for less at once"
    )]
    DeadlineExceeded,

    /// Too many calls wait in this client already. Nothing was sent.
    #[error(
        "{waiting} calls wait for a signature in this client already; slow down, or allow more batches in flight"
    )]
    Overloaded {
        /// How many calls wait.
        waiting: usize,
    },

    /// The appliance answered with something that the API does not allow.
    #[error(
        "the appliance's answer breaks the API: {0}; are client and server of matching versions?"
    )]
    Protocol(&'static str),
}

impl Error {
    /// A stable code for programs, in capitals.
    ///
    /// For a refusal that is the appliance's reason (docs/api.md); what happens inside the client
    /// has the codes `CONFIG`, `TRANSPORT`, `DEADLINE_EXCEEDED`, `CLIENT_OVERLOADED` and `PROTOCOL`.
    pub fn reason(&self) -> &str {
        match self {
            Self::Config(_) => "CONFIG",
            Self::Refused(refusal) => &refusal.reason,
            Self::Transport(_) => "TRANSPORT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Overloaded { .. } => "CLIENT_OVERLOADED",
            Self::Protocol(_) => "PROTOCOL",
        }
    }

    /// Whether the same call may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.retryable,
            Self::Transport(error) => !error.permanent,
            Self::Overloaded { .. } | Self::DeadlineExceeded => true,
            Self::Config(_) | Self::Protocol(_) => false,
        }
    }

    /// What the appliance said, if it was the appliance that refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// When to come back, if the appliance said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal().and_then(|refusal| refusal.retry_after)
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config(Arc::new(error))
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Arc::new(refusal))
    }
}

/// A refusal by the appliance, of a whole call or of one item of a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
#[non_exhaustive]
pub struct Refusal {
    /// The gRPC status code.
    pub code: Code,
    /// The stable reason, e.g. `CLAIM_REFUSED`. Where the status came without one (from a proxy,
    /// say), the code's name, e.g. `UNAVAILABLE`.
    pub reason: String,
    /// One sentence for a person. Not stable.
    pub message: String,
    /// When to come back, if the appliance said so.
    pub retry_after: Option<Duration>,
    /// The claim, or the field of the request, at fault.
    pub claim: Option<String>,
    /// The rule it broke, e.g. `lifetime`.
    pub rule: Option<String>,
    /// Whether the same call may succeed later, unchanged.
    pub retryable: bool,
}

/// The connection to the appliance could not be made, or broke.
#[derive(Debug)]
pub struct TransportError {
    endpoint: Arc<str>,
    source: Box<dyn StdError + Send + Sync>,
    permanent: bool,
}

impl TransportError {
    pub(crate) fn new(endpoint: Arc<str>, source: Box<dyn StdError + Send + Sync>) -> Self {
        let permanent = is_tls_refusal(source.as_ref());
        Self { endpoint, source, permanent }
    }

    /// Whether one side refused the other's certificate: trying again does not help.
    pub fn is_tls_refusal(&self) -> bool {
        self.permanent
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no working connection to {}", self.endpoint)?;
        let mut last = String::new();
        // What tonic wraps around the cause says nothing of its own.
        let causes = chain(self.source.as_ref()).filter(|error| !is_wrapper(*error));
        for text in causes.map(ToString::to_string) {
            // Wrappers repeat what they wrap; say each thing once.
            if !last.contains(&text) {
                write!(f, ": {text}")?;
                last = text;
            }
        }
        f.write_str(if self.permanent {
            "; check that the client's certificate is valid and known to the appliance, and that \
             the client's CA is the one that signed the appliance's certificate"
        } else {
            "; check that the appliance runs, and that this is its address"
        })
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

/// Something that a [`Client`](crate::Client) was built with cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `endpoint` was not called.
    #[error("no endpoint: set one, as https://HOST:PORT or unix:/PATH")]
    NoEndpoint,
    /// The endpoint is neither of the two forms.
    #[error("endpoint {endpoint:?}: {problem}; write https://HOST:PORT or unix:/PATH")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An https endpoint needs `identity` and `ca`.
    #[error("endpoint {endpoint} needs {missing}: {remedy}")]
    Missing {
        /// The endpoint.
        endpoint: String,
        /// What is missing.
        missing: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A file could not be read.
    #[error("{what} {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// PEM text does not hold what it should.
    #[error("{what} {origin}: {problem}")]
    Pem {
        /// What it should hold.
        what: &'static str,
        /// The file, or "given as PEM".
        origin: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// rustls does not take certificate, key or trust anchors.
    #[error("TLS: {problem} ({source})")]
    Tls {
        /// What is wrong, and the remedy.
        problem: String,
        /// What rustls says.
        source: rustls::Error,
    },
}

/// The error and all it was caused by.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn is_wrapper(error: &(dyn StdError + 'static)) -> bool {
    let tonic = error.is::<tonic::Status>() || error.is::<tonic::transport::Error>();
    tonic && error.source().is_some()
}

/// Whether a certificate was refused, by either side.
///
/// A server that refuses the client's certificate says so only after the TLS 1.3 handshake, by an
/// alert that h2 passes on as text, hence the look at the text.
fn is_tls_refusal(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|error| {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let rustls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        matches!(
            rustls,
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))
        ) || error.to_string().contains("received fatal alert")
    })
}
