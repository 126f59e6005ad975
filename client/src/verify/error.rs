use std::{fmt, time::Duration};

use super::jwk::JwksFormatError;
use crate::{ConfigError, Error};

/// Why a token is not believed.
///
/// What it quotes of a token is cut to 64 characters. It says nothing that whoever sent the token does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Not a JWT in compact form, or one that nobody should have made.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// `typ` is not what this verifier is for.
    #[error("the token's typ is {found}, not {expected}")]
    WrongType {
        /// The token's `typ`.
        found: Quoted,
        /// What this verifier accepts.
        expected: String,
    },
    /// `alg` is not one that this verifier, or the key's JWK, allows. That of an unsigned token never is.
    #[error("the token's alg {0} is not allowed here")]
    AlgorithmNotAllowed(Quoted),
    /// No published key has this `kid`.
    #[error("no published key has the token's kid {0}")]
    UnknownKey(Quoted),
    /// The signature does not fit header and claims.
    #[error("the token's signature is not one of the key that it names")]
    SignatureInvalid,
    /// A claim is missing.
    #[error("the token has no claim `{0}`")]
    ClaimMissing(String),
    /// A claim has not the type that it should have.
    #[error("the token's claim `{claim}` is not {expected}")]
    ClaimMalformed {
        /// The claim.
        claim: String,
        /// What it should be.
        expected: &'static str,
    },
    /// `exp` has passed.
    #[error("the token expired {} s ago", .ago.as_secs())]
    Expired {
        /// How long ago, leeway not counted.
        ago: Duration,
    },
    /// `nbf` or `iat` lies in the future.
    #[error("the token is not valid yet: its `{0}` lies in the future")]
    NotYetValid(&'static str),
    /// `aud` does not name this verifier.
    #[error("the token is for another audience than {0:?}")]
    WrongAudience(String),
    /// `iss` is not the one that this verifier expects.
    #[error("the token is not of the issuer {0:?}")]
    WrongIssuer(String),
    /// `scope` lacks what the request needs.
    #[error("the token's scope does not have {0:?}")]
    ScopeMissing(String),
    /// A workload that has to be on the way is not.
    #[error("the token did not come by way of {0:?}")]
    HopMissing(String),
    /// `act` does not name the actor that has to act, or names one where none may.
    #[error("the token's actor is {found}, not {expected}")]
    ActorMismatch {
        /// Who acts.
        found: Quoted,
        /// Who has to.
        expected: Quoted,
    },
    /// The `txn` was used before.
    #[error("the token's transaction was used here before")]
    Replayed,
    /// Too many transactions are remembered to remember one more.
    #[error("too many transactions are remembered already ({0}); allow more, or spread the load")]
    SingleUseFull(usize),
    /// The published keys could not be read for so long that they are not believed any more.
    #[error("the published keys are older than {} s; see that they can be fetched", .0.as_secs())]
    KeysStale(Duration),
}

impl VerifyError {
    /// A stable code for programs, in capitals.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "TOKEN_MALFORMED",
            Self::WrongType { .. } => "WRONG_TYPE",
            Self::AlgorithmNotAllowed(_) => "ALGORITHM_NOT_ALLOWED",
            Self::UnknownKey(_) => "UNKNOWN_KEY",
            Self::SignatureInvalid => "SIGNATURE_INVALID",
            Self::ClaimMissing(_) => "CLAIM_MISSING",
            Self::ClaimMalformed { .. } => "CLAIM_MALFORMED",
            Self::Expired { .. } => "EXPIRED",
            Self::NotYetValid(_) => "NOT_YET_VALID",
            Self::WrongAudience(_) => "WRONG_AUDIENCE",
            Self::WrongIssuer(_) => "WRONG_ISSUER",
            Self::ScopeMissing(_) => "SCOPE_MISSING",
            Self::HopMissing(_) => "HOP_MISSING",
            Self::ActorMismatch { .. } => "ACTOR_MISMATCH",
            Self::Replayed => "REPLAYED",
            Self::SingleUseFull(_) => "SINGLE_USE_FULL",
            Self::KeysStale(_) => "KEYS_STALE",
        }
    }

    /// Whether it says something of the verifier's own state and nothing of the token: another try may do.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::KeysStale(_) | Self::SingleUseFull(_))
    }
}

/// A piece of a token, or nothing: for messages, escaped and cut to 64 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted(Option<String>);

impl Quoted {
    pub(super) fn new(text: Option<&str>) -> Self {
        Self(text.map(|text| text.chars().take(64).collect()))
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(text) => write!(f, "{text:?}"),
            None => f.write_str("none"),
        }
    }
}

/// Why a JWK Set could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// The address, or the CA, cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot work.
    #[error(
        "JWKS address {url:?}: {problem}; write https://HOST[:PORT]/PATH (http:// only for a loopback address)"
    )]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There was no answer.
    #[error(
        "{url}: {problem}; check the address, and that the CA is that of the server's certificate"
    )]
    Fetch {
        /// The address.
        url: String,
        /// What went wrong.
        problem: String,
    },
    /// The answer was not 200.
    #[error("{url} answered with status {status}; an issuer without keys answers 503")]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer is longer than any JWK Set.
    #[error("{url}: the answer is longer than {limit} bytes")]
    TooLong {
        /// The address.
        url: String,
        /// The bound.
        limit: usize,
    },
    /// The answer is no JWK Set.
    #[error("{0}")]
    Format(#[from] JwksFormatError),
    /// The appliance did not give it over gRPC.
    #[error(transparent)]
    Appliance(#[from] Error),
}
