use std::{error::Error as StdError, fmt, io, path::PathBuf, sync::Arc, time::Duration};

pub use tonic::Code;

use crate::http2::Broken;

/// Why a call did not give what was asked for.
///
/// Cheap to clone, since one failed batch answers many callers. A program decides by the variant, by
/// [`reason`](Self::reason) and by [`is_retryable`](Self::is_retryable); the text is for people and
/// says what to do.
///
/// ```
/// use mintwarden_client::Error;
///
/// fn http_status(error: &Error) -> u16 {
///     match error {
///         // The claims are outside the issuer's profile: the requester's fault.
///         Error::Refused(refusal) if refusal.claim.is_some() => 400,
///         error if error.reason() == "NO_GRANT" => 403,
///         error if error.is_retryable() => 503,
///         _ => 500,
///     }
/// }
/// # assert_eq!(http_status(&Error::DeadlineExceeded), 503);
/// ```
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

    /// Too large a part of the calls fails already: the client's retry budget
    /// ([`Builder::retry_budget`](crate::Builder::retry_budget)) allows no further attempt for now.
    #[error("the retry budget is spent, since too many calls fail already; the last error: {last}")]
    RetryBudgetExhausted {
        /// Why the last attempt failed.
        last: Box<Error>,
    },

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
    /// has the codes `CONFIG`, `TRANSPORT`, `DEADLINE_EXCEEDED`, `CLIENT_OVERLOADED`,
    /// `RETRY_BUDGET_EXHAUSTED` and `PROTOCOL`.
    pub fn reason(&self) -> &str {
        match self {
            Self::Config(_) => "CONFIG",
            Self::Refused(refusal) => &refusal.reason,
            Self::Transport(_) => "TRANSPORT",
            Self::RetryBudgetExhausted { .. } => "RETRY_BUDGET_EXHAUSTED",
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
            Self::Overloaded { .. }
            | Self::DeadlineExceeded
            | Self::RetryBudgetExhausted { .. } => true,
            Self::Config(_) | Self::Protocol(_) => false,
        }
    }

    /// What the appliance said, if it was the appliance that refused (the last time, where it was
    /// tried more often).
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::RetryBudgetExhausted { last } => last.refusal(),
            _ => None,
        }
    }

    /// How many payloads of a batch would have been signed by the deadline, if it was refused because all
    /// of them would not.
    pub(crate) fn fits(&self) -> Option<usize> {
        match self {
            Self::Refused(refusal) => refusal.fits,
            _ => None,
        }
    }

    /// The claim, or the field of the request, that the appliance refused, e.g. `exp`.
    pub fn claim(&self) -> Option<&str> {
        self.refusal()?.claim.as_deref()
    }

    /// The rule that it broke, e.g. `lifetime`.
    pub fn rule(&self) -> Option<&str> {
        self.refusal()?.rule.as_deref()
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
    /// With the reason `DEVICE_TOO_SLOW`: how many payloads the appliance could have signed in the time
    /// that it was given.
    pub fits: Option<usize>,
    /// The claim, or the field of the request, at fault.
    pub claim: Option<String>,
    /// The rule it broke, e.g. `lifetime`.
    pub rule: Option<String>,
    /// Whether the same call may succeed later, unchanged.
    pub retryable: bool,
}

/// The connection to the appliance could not be made, or broke, or brings no answer.
#[derive(Debug)]
pub struct TransportError {
    endpoint: Arc<str>,
    source: Box<dyn StdError + Send + Sync>,
    permanent: bool,
}

/// An endpoint was given up in favour of another one.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {:.1} s", .0.as_secs_f64())]
struct Silent(Duration);

impl TransportError {
    pub(crate) fn new(endpoint: Arc<str>, source: Box<dyn StdError + Send + Sync>) -> Self {
        let permanent = is_tls_refusal(source.as_ref());
        Self { endpoint, source, permanent }
    }

    pub(crate) fn silent(endpoint: Arc<str>, patience: Duration) -> Self {
        Self::new(endpoint, Silent(patience).into())
    }

    /// The endpoint, as `https://HOST:PORT` or `unix:/PATH`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// How long there was no answer, where that is all there is to say.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.source.downcast_ref().map(|Silent(waited)| *waited)
    }

    /// Whether the connection goes on without this call.
    pub(crate) fn is_of_one_call(&self) -> bool {
        let mut causes = chain(self.source.as_ref());
        causes.any(
            |cause| matches!(cause.downcast_ref(), Some(Broken::Http2(error)) if error.is_reset()),
        )
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
    /// An endpoint is neither of the two forms, or is there twice.
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
    error.is::<tonic::Status>() && error.source().is_some()
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A refusal of this code, for other modules' tests.
    pub(crate) fn refused(code: Code, retry_after: Option<Duration>) -> Error {
        Refusal {
            code,
            reason: "DEVICE_DOWN".into(),
            message: String::new(),
            retry_after,
            fits: None,
            claim: None,
            rule: None,
            retryable: true,
        }
        .into()
    }

    #[test]
    fn a_spent_budget_says_what_happened_last() {
        let last = Box::new(refused(Code::Unavailable, Some(Duration::from_secs(2))));
        let error = Error::RetryBudgetExhausted { last };
        assert_eq!(error.reason(), "RETRY_BUDGET_EXHAUSTED");
        assert!(error.is_retryable());
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
        assert!(error.to_string().contains("DEVICE_DOWN"), "{error}");
    }
}
