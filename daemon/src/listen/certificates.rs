//! TLS configurations from certificate files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion, WantsVerifier,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};

use crate::config::Tls;

const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// TLS as the listeners need it.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// For gRPC: a client certificate of the configured authorities is required. ALPN `h2`.
    pub mutual: Arc<ServerConfig>,
    /// For the JWKS: no client certificate. ALPN `h2`, `http/1.1`.
    pub public: Arc<ServerConfig>,
}

/// Certificate files that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("tls.{key}: {}: {what}", path.display())]
pub struct CertificatesError {
    /// The configuration's key.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it. Never contains key material.
    pub what: String,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`CertificatesError`], naming key and file.
    pub fn load(tls: &Tls) -> Result<Self, CertificatesError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates("certificate", &tls.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&tls.private_key).map_err(|e| {
            error("private_key", &tls.private_key, format!("no PEM private key can be read: {e}"))
        })?;
        let mut roots = RootCertStore::empty();
        for root in certificates("client_ca", &tls.client_ca)? {
            roots.add(root).map_err(|e| error("client_ca", &tls.client_ca, e.to_string()))?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|e| error("client_ca", &tls.client_ca, e.to_string()))?;
        let fits = |e: rustls::Error| {
            error("private_key", &tls.private_key, format!("does not fit the certificate: {e}"))
        };
        let mut mutual = builder(&provider)
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(fits)?;
        mutual.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session is not verified again: it would outlive the certificate, and its trust.
        mutual.session_storage = Arc::new(NoServerSessionStorage {});
        mutual.send_tls13_tickets = 0;
        let mut public =
            builder(&provider).with_no_client_auth().with_single_cert(chain, key).map_err(fits)?;
        public.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { mutual: Arc::new(mutual), public: Arc::new(public) })
    }
}

fn builder(provider: &Arc<CryptoProvider>) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(VERSIONS)
        .expect("the provider has suites for TLS 1.2 and 1.3")
}

fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, CertificatesError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(error(key, path, "holds no PEM certificate".into())),
        Ok(found) => Ok(found),
        Err(e) => Err(error(key, path, format!("no PEM certificate can be read: {e}"))),
    }
}

fn error(key: &'static str, path: &Path, what: String) -> CertificatesError {
    CertificatesError { key, path: path.to_owned(), what }
}
