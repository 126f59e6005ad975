use std::{fmt, fs, path::PathBuf};

use crate::ConfigError;

/// Who the client is: a certificate chain and its private key, both PEM.
///
/// From files, both are read again for each new connection, so that certificates which are
/// replaced in place (as SPIFFE helpers do) need no restart; if the new ones are unusable, the last
/// good ones serve on.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(crate) certificate: Pem,
    pub(crate) key: Pem,
}

impl Identity {
    /// From files: the certificate chain, leaf first, and the private key (PKCS#8, PKCS#1 or
    /// SEC1).
    pub fn from_files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: Pem::File(certificate.into()), key: Pem::File(key.into()) }
    }

    /// From PEM text: the certificate chain, leaf first, and the private key.
    pub fn from_pem(certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self { certificate: Pem::Text(certificate.into()), key: Pem::Text(key.into()) }
    }
}

/// Whom the client believes: the CA certificates that may sign the appliance's certificate, and
/// no others. Read again for each new connection if it is a file.
#[derive(Clone, Debug)]
pub struct TrustAnchors(pub(crate) Pem);

impl TrustAnchors {
    /// From a file with one or more PEM certificates.
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        Self(Pem::File(path.into()))
    }

    /// From text with one or more PEM certificates.
    pub fn from_pem(certificates: impl Into<Vec<u8>>) -> Self {
        Self(Pem::Text(certificates.into()))
    }
}

/// PEM in a file or at hand.
#[derive(Clone)]
pub(crate) enum Pem {
    File(PathBuf),
    Text(Vec<u8>),
}

impl Pem {
    pub(crate) fn read(&self, what: &'static str) -> Result<Vec<u8>, ConfigError> {
        match self {
            Self::File(path) => fs::read(path).map_err(|source| ConfigError::Read {
                what,
                path: path.clone(),
                source,
            }),
            Self::Text(text) => Ok(text.clone()),
        }
    }

    /// Where it comes from, for messages.
    pub(crate) fn origin(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Text(_) => "given as PEM".to_owned(),
        }
    }
}

/// Shows no content: it may be a private key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}
