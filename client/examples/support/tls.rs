//! Mutual TLS from PEM files, and the SPIFFE ID in a verified certificate.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use serde::Deserialize;
use spiffe::{SpiffeId, TrustDomain};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::Failure;

/// Certificate chain, private key, and whom to believe. Read once, at the start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) private_key: PathBuf,
    /// The CA of the peers.
    pub(crate) ca: PathBuf,
}

impl Files {
    /// Paths as they are written are relative to the configuration's directory.
    pub(crate) fn relative_to(&mut self, directory: &Path) {
        for path in [&mut self.certificate, &mut self.private_key, &mut self.ca] {
            *path = directory.join(&*path);
        }
    }

    /// A server that asks every client for a certificate.
    pub(crate) fn server(&self) -> Result<ServerConfig, Failure> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(self.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(Failure::config)?;
        let (chain, key) = self.identity()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Failure::config)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| self.wrong(&self.certificate, error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A resumed session is not verified again: a certificate would outlive its end.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(config)
    }

    /// Chain and key.
    pub(crate) fn identity(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Failure> {
        let key = PrivateKeyDer::from_pem_file(&self.private_key)
            .map_err(|error| self.wrong(&self.private_key, error))?;
        Ok((self.certificates(&self.certificate)?, key))
    }

    /// Whom to believe.
    pub(crate) fn roots(&self) -> Result<RootCertStore, Failure> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(&self.ca)? {
            roots.add(certificate).map_err(|error| self.wrong(&self.ca, error))?;
        }
        Ok(roots)
    }

    fn certificates(&self, path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| self.wrong(path, error))
    }

    fn wrong(&self, path: &Path, problem: impl std::fmt::Display) -> Failure {
        Failure::config(format!("{}: {problem}", path.display()))
    }
}

/// The one SPIFFE ID of a certificate (SPIFFE X.509-SVID section 2), if it is of this trust domain.
pub(crate) fn spiffe_id(
    certificate: &CertificateDer<'_>,
    trust_domain: &TrustDomain,
) -> Result<SpiffeId, &'static str> {
    let (_, certificate) = X509Certificate::from_der(certificate.as_ref())
        .map_err(|_| "the certificate does not parse")?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
    if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return Err("the certificate does not parse");
    }
    let mut uris = names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err("the certificate has not exactly one URI SAN");
    };
    let id = SpiffeId::new(uri).map_err(|_| "the certificate's URI SAN is no SPIFFE ID")?;
    if id.trust_domain() != trust_domain {
        return Err("the certificate is of another trust domain");
    }
    Ok(id)
}
