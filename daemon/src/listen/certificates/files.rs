//! The files: read, taken apart, and told from what they were.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::{clock::UnixTime, config::Tls};

/// A certificate ends soon from this many seconds before its end, or from the last fifth of its life
/// on, whichever is shorter: those who renew do so earlier.
const SOON: i64 = 14 * 24 * 3600;

/// Bound on one file, bytes: a bundle of many authorities is the largest.
const MAX_FILE: u64 = 1024 * 1024;

/// Certificate files that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tls.{key}: {}: {what}", path.display())]
pub struct CertificatesError {
    /// The configuration's key.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it. Never contains key material.
    pub what: String,
}

impl CertificatesError {
    pub(super) fn new(key: &'static str, path: &Path, what: impl Into<String>) -> Self {
        Self { key, path: path.to_owned(), what: what.into() }
    }
}

/// Reads a whole file, which may hold the private key.
pub(crate) fn read(
    key: &'static str,
    path: &Path,
) -> Result<Zeroizing<Vec<u8>>, CertificatesError> {
    let cannot = |e: io::Error| CertificatesError::new(key, path, format!("cannot be read: {e}"));
    // Looked at before it is opened: opening a FIFO would wait for its writer.
    let size = match fs::metadata(path).map_err(cannot)? {
        found if !found.is_file() => return Err(CertificatesError::new(key, path, "is no file")),
        found => found.len(),
    };
    let large = || CertificatesError::new(key, path, "has more than 1 MiB");
    if size > MAX_FILE {
        return Err(large());
    }
    // At once as large as it gets, so that no copy of a key is left behind by growing.
    let capacity = usize::try_from(size).unwrap_or_default() + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(capacity));
    let file = File::open(path).map_err(cannot)?;
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(cannot)?;
    if content.len() as u64 > MAX_FILE { Err(large()) } else { Ok(content) }
}

/// The certificates in a PEM file; at least one.
pub(crate) fn certificates(
    key: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CertificatesError> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if found.is_empty() => {
            Err(CertificatesError::new(key, path, "holds no PEM certificate"))
        }
        Ok(found) => Ok(found),
        Err(e) => {
            let what = format!("no PEM certificate can be read: {e}");
            Err(CertificatesError::new(key, path, what))
        }
    }
}

/// From when until when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
}

impl Validity {
    /// Whether it is time to renew, or past it.
    pub(crate) fn ends_soon(self, now: UnixTime) -> bool {
        let (from, until) = (self.not_before.0, self.not_after.0);
        until.saturating_sub(now.0) <= SOON.min(until.saturating_sub(from) / 5)
    }

    pub(super) fn of(
        key: &'static str,
        path: &Path,
        certificate: &[u8],
    ) -> Result<Self, CertificatesError> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|e| {
            CertificatesError::new(key, path, format!("holds no X.509 certificate: {e}"))
        })?;
        Ok(Self::of_parsed(&certificate))
    }

    pub(crate) fn of_parsed(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            not_before: UnixTime(validity.not_before.timestamp()),
            not_after: UnixTime(validity.not_after.timestamp()),
        }
    }
}

/// What the system says of the three files: while it stays the same, nothing was written to them and
/// none was replaced, also through a symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp([Option<[i128; 5]>; 3]);

impl Stamp {
    pub(super) fn of(tls: &Tls) -> Self {
        Self([&tls.certificate, &tls.private_key, &tls.client_ca].map(|path| {
            let nanos = |seconds: i64, nanos: i64| i128::from(seconds) << 32 | i128::from(nanos);
            let found = fs::metadata(path).ok()?;
            Some([
                found.dev().into(),
                found.ino().into(),
                found.size().into(),
                nanos(found.mtime(), found.mtime_nsec()),
                nanos(found.ctime(), found.ctime_nsec()),
            ])
        }))
    }
}
