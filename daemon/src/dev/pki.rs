//! A throw-away certificate authority: for `mintwarden dev` and for tests, never for production.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The certificate library refuses.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A certificate authority with a directory for what it issues.
pub struct Pki {
    directory: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its private key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key, PKCS#8, mode 0600.
    pub private_key: PathBuf,
}

impl Pki {
    /// Makes an authority and writes its certificate to `ca.crt` in `directory`.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn new(directory: &Path) -> Result<Self, PkiError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Mintwarden throw-away CA");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let pki = Self { directory: directory.to_owned(), authority };
        write(&pki.ca(), pki.authority.pem().as_bytes(), 0o644)?;
        Ok(pki)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// A server's certificate for `localhost`, `127.0.0.1` and `::1`, and these further DNS names.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn server(&self, file: &str, names: &[&str]) -> Result<Identity, PkiError> {
        let local = ["localhost", "127.0.0.1", "::1"];
        let names: Vec<String> = local.iter().chain(names).map(|&name| name.to_owned()).collect();
        self.issue(file, CertificateParams::new(names)?)
    }

    /// A client's certificate with these URI SANs: one SPIFFE ID for a good one.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn client(&self, file: &str, uris: &[&str]) -> Result<Identity, PkiError> {
        let mut params = CertificateParams::default();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into()?));
        }
        self.issue(file, params)
    }

    /// Issues a certificate with these parameters, for server and client use, to `file.crt` and
    /// `file.key`.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn issue(&self, file: &str, mut params: CertificateParams) -> Result<Identity, PkiError> {
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, file);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?;
        let identity = Identity {
            certificate: self.directory.join(format!("{file}.crt")),
            private_key: self.directory.join(format!("{file}.key")),
        };
        write(&identity.certificate, certificate.pem().as_bytes(), 0o644)?;
        write(&identity.private_key, key.serialize_pem().as_bytes(), 0o600)?;
        Ok(identity)
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(path)?;
        io::Write::write_all(&mut file, bytes)
    };
    write().map_err(|error| PkiError::File { path: path.to_owned(), error })
}
