//! A throw-away certificate authority, and certificates that have to be refused.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use mintwarden::dev::pki;
use rcgen::{CertificateParams, SanType};

pub use mintwarden::dev::pki::Identity;

use crate::TRUST_DOMAIN;

/// A certificate authority with a directory for what it issues.
pub struct Pki {
    directory: PathBuf,
    authority: pki::Pki,
}

impl Pki {
    /// Makes an authority in a directory that exists.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let authority = pki::Pki::new(directory).expect("a certificate authority");
        Self { directory: directory.to_owned(), authority }
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.authority.ca()
    }

    /// A server's certificate for `localhost`, `127.0.0.1`, `::1` and these DNS names.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn server(&self, file: &str, names: &[&str]) -> Identity {
        self.authority.server(file, names).expect("a server's certificate")
    }

    /// A good client's certificate: `spiffe://TRUST_DOMAIN/path`.
    ///
    /// # Panics
    /// As all that issue: if it cannot be made.
    pub fn client(&self, path: &str) -> Identity {
        self.uris(&file_name(path), &[&spiffe(path)])
    }

    /// A certificate for a workload that serves on `localhost` and calls others: with a SPIFFE ID, as
    /// [`client`](Self::client), and names as [`server`](Self::server).
    pub fn workload(&self, path: &str) -> Identity {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("names");
        params.subject_alt_names.push(SanType::URI(spiffe(path).try_into().expect("ASCII")));
        self.issue(&file_name(path), params)
    }

    /// Like [`client`](Self::client), of an authority that nobody knows.
    pub fn foreign_authority(&self, path: &str) -> Identity {
        let directory = self.directory.join("foreign");
        fs::create_dir_all(&directory).expect("a directory for the foreign authority");
        Self::new(&directory).client(path)
    }

    /// Like [`client`](Self::client), but it ended yesterday.
    pub fn expired(&self, path: &str) -> Identity {
        let day = Duration::from_secs(24 * 3600);
        self.valid(path, SystemTime::now() - 2 * day, SystemTime::now() - day)
    }

    /// Like [`client`](Self::client), but it ends so soon (whole seconds).
    pub fn ending(&self, path: &str, within: Duration) -> Identity {
        let now = SystemTime::now();
        self.valid(path, now - Duration::from_secs(3600), now + within)
    }

    /// A client's certificate with two SPIFFE IDs.
    pub fn two_uris(&self, path: &str, other: &str) -> Identity {
        self.uris(&format!("{}-two", file_name(path)), &[&spiffe(path), &spiffe(other)])
    }

    /// A client's certificate with the SPIFFE ID of another trust domain.
    pub fn foreign_trust_domain(&self, path: &str) -> Identity {
        let uri = format!("spiffe://other.example/{path}");
        self.uris(&format!("{}-other", file_name(path)), &[&uri])
    }

    /// A client's certificate with a URI SAN that is no SPIFFE ID.
    pub fn not_spiffe(&self) -> Identity {
        self.uris("not-spiffe", &["https://trust-domain.example/tts"])
    }

    /// A client's certificate that names nobody.
    pub fn no_name(&self) -> Identity {
        self.uris("no-name", &[])
    }

    /// A client's certificate with these DNS names and no URI.
    pub fn dns(&self, file: &str, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.issue(file, CertificateParams::new(names).expect("DNS names"))
    }

    /// A certificate with these parameters.
    pub fn issue(&self, file: &str, params: CertificateParams) -> Identity {
        self.authority.issue(file, params).expect("a client's certificate")
    }

    fn uris(&self, file: &str, uris: &[&str]) -> Identity {
        self.authority.client(file, uris).expect("a client's certificate")
    }

    fn valid(&self, path: &str, from: SystemTime, until: SystemTime) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(spiffe(path).try_into().expect("ASCII"))];
        params.not_before = from.into();
        params.not_after = until.into();
        self.issue(&format!("{}-dated", file_name(path)), params)
    }
}

fn file_name(path: &str) -> String {
    path.replace('/', "-")
}

/// The SPIFFE ID of this path in [`TRUST_DOMAIN`].
#[must_use]
pub fn spiffe(path: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/{path}")
}
