//! TLS from certificate files: server certificate, its key and the callers' authorities are one unit,
//! used together or not at all.

pub(crate) mod files;
mod live;
mod trust;

use std::{fmt, sync::Arc};

use aws_lc_rs::digest;
use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion, WantsVerifier,
    crypto::{CryptoProvider, aws_lc_rs as provider},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use self::files::Validity;
use crate::{clock::UnixTime, config::Tls};

pub use files::CertificatesError;
pub use live::LiveCertificates;
pub(super) use trust::PeerTrust;

const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// TLS as the listeners need it.
pub struct Certificates {
    /// For gRPC: a client certificate of the configured authorities is required. ALPN `h2`.
    pub mutual: Arc<ServerConfig>,
    /// For the JWKS: no client certificate. ALPN `h2`, `http/1.1`.
    pub public: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    server: Validity,
    /// When the first of the callers' authorities ends.
    authorities_until: UnixTime,
    digest: digest::Digest,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`CertificatesError`], naming key and file.
    pub fn load(tls: &Tls) -> Result<Self, CertificatesError> {
        let provider = Arc::new(provider::default_provider());
        let certificate = files::read("certificate", &tls.certificate)?;
        let private_key = files::read("private_key", &tls.private_key)?;
        let client_ca = files::read("client_ca", &tls.client_ca)?;
        let mut context = digest::Context::new(&digest::SHA256);
        for file in [&certificate, &private_key, &client_ca] {
            context.update(&file.len().to_be_bytes());
            context.update(file);
        }

        let chain = files::certificates("certificate", &tls.certificate, &certificate)?;
        let server = Validity::of("certificate", &tls.certificate, &chain[0])?;
        let key = PrivateKeyDer::from_pem_slice(&private_key).map_err(|e| {
            let what = format!("no PEM private key can be read: {e}");
            CertificatesError::new("private_key", &tls.private_key, what)
        })?;
        let authorities = files::certificates("client_ca", &tls.client_ca, &client_ca)?;
        let mut authorities_until = UnixTime(i64::MAX);
        let refused = |e: &dyn fmt::Display| {
            CertificatesError::new("client_ca", &tls.client_ca, e.to_string())
        };
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            let validity = Validity::of("client_ca", &tls.client_ca, &authority)?;
            authorities_until = authorities_until.min(validity.not_after);
            roots.add(authority).map_err(|e| refused(&e))?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|e| refused(&e))?;
        let (mutual, public) = configs(&provider, &verifier, chain, key).map_err(|e| {
            let what = format!("does not fit the certificate: {e}");
            CertificatesError::new("private_key", &tls.private_key, what)
        })?;
        let digest = context.finish();
        Ok(Self { mutual, public, verifier, server, authorities_until, digest })
    }

    /// When the server's own certificate ends.
    #[must_use]
    pub fn server_until(&self) -> UnixTime {
        self.server.not_after
    }

    /// When the first of the callers' authorities ends. Nothing enforces it (RFC 5280 section 6.1.1 d
    /// leaves a trust anchor's end out): it is for operators.
    #[must_use]
    pub fn authorities_until(&self) -> UnixTime {
        self.authorities_until
    }

    fn same_as(&self, other: &Self) -> bool {
        self.digest.as_ref() == other.digest.as_ref()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("server", &self.server).finish_non_exhaustive()
    }
}

fn configs(
    provider: &Arc<CryptoProvider>,
    verifier: &Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>), rustls::Error> {
    let mut mutual = builder(provider)
        .with_client_cert_verifier(Arc::clone(verifier))
        .with_single_cert(chain.clone(), key.clone_key())?;
    mutual.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session is not verified again: it would outlive the certificate, and its trust.
    mutual.session_storage = Arc::new(NoServerSessionStorage {});
    mutual.send_tls13_tickets = 0;
    let mut public = builder(provider).with_no_client_auth().with_single_cert(chain, key)?;
    public.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(mutual), Arc::new(public)))
}

fn builder(provider: &Arc<CryptoProvider>) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(VERSIONS)
        .expect("the provider has suites for TLS 1.2 and 1.3")
}
