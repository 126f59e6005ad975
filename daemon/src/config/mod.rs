//! The configuration file (TOML): parsed once into a typed tree that the server is built from.
//!
//! Every error names the file, the key and the remedy. Nothing here opens a socket or a device.

mod approvals;
mod error;
mod file;
mod resolve;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::digest;
use mintwarden_hsm_config::device::Device;
use mintwarden_worker::{IssuerName, claims::Profile};

pub use approvals::{Approvals, Person};
pub use error::ConfigError;

use crate::identity::Caller;

/// Exit status for a configuration that cannot be used (`EX_CONFIG` of sysexits).
pub const EXIT_CONFIG: u8 = 78;

/// Bound on the configuration file, bytes.
pub const MAX_CONFIG: u64 = 64 * 1024;

/// Bound on L, the life of a token.
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A checked configuration. Only [`Config::parse`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file that it was read from.
    pub path: PathBuf,
    /// Keysets and the workers' records live below it.
    pub state_dir: PathBuf,
    /// Where to listen.
    pub listen: Listen,
    /// Certificates; present wherever a listener needs them.
    pub tls: Option<Tls>,
    /// Who the processes run as when the launcher is started as root.
    pub users: Users,
    /// All devices.
    pub devices: Vec<Device>,
    /// All issuers.
    pub issuers: Vec<Issuer>,
    /// Who may do what.
    pub grants: Vec<Grant>,
    /// How many persons have to agree to an act.
    pub approvals: Approvals,
    /// Bounds (I9).
    pub limits: Limits,
    /// What metrics tell apart.
    pub metrics: Metrics,
    /// SHA-256 of the file's text, hex: tells whether two servers run by the same.
    pub digest: String,
}

/// What metrics tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// How many requesting workloads of an issuer are counted each for itself, beside those that its
    /// `req_wl` lists.
    pub workloads: usize,
}

/// Where to listen. At least one of `grpc` and `unix` is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// gRPC over mutual TLS.
    pub grpc: Option<SocketAddr>,
    /// gRPC over a unix socket, callers known by their uid.
    pub unix: Option<PathBuf>,
    /// The JWKS over HTTPS.
    pub jwks: Option<SocketAddr>,
    /// Serve the JWKS over plain HTTP: on loopback, or where `insecure_plaintext` says so.
    pub jwks_plaintext: bool,
    /// Health, readiness and metrics, over plain HTTP: on loopback, or where `insecure_plaintext_ops`
    /// says so.
    pub ops: Option<SocketAddr>,
}

/// Certificates of the listeners and of those who call them. Paths to PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
    /// The certificate authorities that callers' certificates are checked against.
    pub client_ca: PathBuf,
    /// The SPIFFE trust domain whose IDs are accepted.
    pub trust_domain: spiffe::TrustDomain,
}

/// Who the processes run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Users {
    /// Server and workers run as whoever started the launcher.
    Inherit,
    /// Started as root: server and workers are different users, by name or number.
    Split {
        /// The server's user.
        server: String,
        /// The workers' user.
        worker: String,
    },
    /// Started as root, and everything stays root. For development only.
    DangerSharedRoot,
}

/// An issuer: a named signing domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// What it signs.
    pub profile: Profile,
    /// Names of its devices, in order of preference. Never empty.
    pub devices: Vec<String>,
    /// How many standby keys are kept per device, 1 to 3 (I6).
    pub standbys: usize,
    /// How long a reader may keep the JWKS.
    pub jwks_max_age: Duration,
    /// When its keys change.
    pub rotation: Rotation,
    /// Devices that are gone for good, with whatever they held.
    pub lost_devices: Vec<String>,
}

/// When an issuer's keys change (DESIGN.md "Rotation timing"). S is the profile's `skew`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The age at which an active key is replaced.
    pub rotate_every: Duration,
    /// The age from which on an active key refuses to sign.
    pub sign_until: Option<Duration>,
    /// R: how long a verifier keeps a JWK Set without asking again.
    pub verifier_refresh: Duration,
    /// P: how long until every node serves a new set, and a verifier that could not ask has asked again.
    pub propagation: Duration,
    /// How long after its unpublishing a private key is kept.
    pub destroy_after: Duration,
}

impl Issuer {
    /// The issuer's name.
    #[must_use]
    pub fn name(&self) -> &IssuerName {
        &self.profile.issuer
    }
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Asks for signatures.
    Signer,
    /// Manages keys.
    Custodian,
    /// Reads.
    Auditor,
}

impl Role {
    /// The role as written in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signer => "signer",
            Self::Custodian => "custodian",
            Self::Auditor => "auditor",
        }
    }
}

/// One grant: these callers have this role for these issuers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// The person behind a custodian's identities; absent for other roles.
    pub person: Option<Person>,
    /// Who.
    pub to: Vec<Caller>,
    /// For which issuers.
    pub issuers: Vec<IssuerName>,
}

/// Bounds (I9). Each has a default that suits one appliance on two cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections per listener.
    pub max_connections: usize,
    /// Concurrent requests per connection.
    pub max_streams: u32,
    /// Items of one issuer's batches that may be under way at once; half of it for each caller where
    /// several may sign.
    pub max_inflight_items: usize,
    /// Bytes of claims that may be under way at once, all issuers together; half of it for each caller
    /// where several may sign.
    pub max_inflight_bytes: usize,
    /// Bytes that the calls of one caller may occupy at once, from the first of a request to the last of
    /// its answer.
    pub max_caller_bytes: usize,
    /// Deadline of a call that names none.
    pub default_deadline: Duration,
    /// Longest deadline that counts; a longer one is shortened to it.
    pub max_deadline: Duration,
    /// How long accepted calls may take to finish at shutdown.
    pub drain: Duration,
    /// How long a TLS handshake or a request's header may take.
    pub handshake: Duration,
}

/// Bounds that are part of the API and not configurable.
pub mod fixed {
    /// Items in one batch.
    pub const MAX_BATCH_ITEMS: usize = mintwarden_worker::wire::MAX_ITEMS;
    /// Bytes of claims in one batch.
    pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
    /// Bytes of one gRPC message: a full batch with its framing. Above [`MAX_BATCH_BYTES`], so that
    /// our own check answers first.
    pub const MAX_MESSAGE_BYTES: usize = MAX_BATCH_BYTES + 64 * 1024;
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`], naming file, key and remedy.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&Self::read(path)?, path)
    }

    /// Reads a configuration file's text.
    ///
    /// # Errors
    /// [`ConfigError`] where it cannot be read, is not UTF-8 or larger than [`MAX_CONFIG`].
    pub fn read(path: &Path) -> Result<String, ConfigError> {
        let fail = |why: String, remedy: &str| ConfigError::file(path, why, remedy);
        let size = std::fs::metadata(path)
            .map_err(|e| {
                fail(format!("cannot be read: {e}"), "name an existing file with --config")
            })?
            .len();
        if size > MAX_CONFIG {
            return Err(fail(format!("has {size} bytes"), "keep it below 64 KiB"));
        }
        std::fs::read_to_string(path)
            .map_err(|e| fail(format!("cannot be read: {e}"), "make it a readable file in UTF-8"))
    }

    /// Checks a configuration's text. `path` is where it was read from: relative paths in it are
    /// relative to that file's directory.
    ///
    /// # Errors
    /// [`ConfigError`], naming file, key and remedy.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: file::File = toml::from_str(text).map_err(|e| ConfigError::syntax(path, &e))?;
        let digest = hex::encode(digest::digest(&digest::SHA256, text.as_bytes()));
        resolve::resolve(file, path, digest)
    }

    /// The issuer with this name.
    #[must_use]
    pub fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| issuer.name().as_str() == name)
    }

    /// Who may sign for `issuer`, or for any.
    #[must_use]
    pub fn signers(&self, issuer: Option<&IssuerName>) -> HashSet<&Caller> {
        let covers = |grant: &&Grant| {
            grant.role == Role::Signer && issuer.is_none_or(|issuer| grant.issuers.contains(issuer))
        };
        self.grants.iter().filter(covers).flat_map(|grant| &grant.to).collect()
    }

    /// The profiles of all issuers that use the device `name`.
    #[must_use]
    pub fn profiles_on(&self, name: &str) -> Vec<Profile> {
        let uses = |issuer: &&Issuer| issuer.devices.iter().any(|device| device == name);
        self.issuers.iter().filter(uses).map(|issuer| issuer.profile.clone()).collect()
    }
}
