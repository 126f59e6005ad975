//! The client's side of mutual TLS.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore,
    client::WantsClientCert,
    crypto::aws_lc_rs,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use crate::{
    ConfigError,
    pem::{Identity, Pem, TrustAnchors},
};

/// Makes the TLS configuration of each new connection from what the files hold by then.
pub(crate) struct Tls {
    identity: Identity,
    ca: TrustAnchors,
    server_name: ServerName<'static>,
    last: Mutex<(Material, Arc<ClientConfig>)>,
}

impl Tls {
    /// Reads everything once; what cannot work is an error now and not at the first call.
    pub(crate) fn new(
        identity: Identity,
        ca: TrustAnchors,
        server_name: ServerName<'static>,
    ) -> Result<Self, ConfigError> {
        let material = Material::read(&identity, &ca)?;
        let config = material.config(&identity, &ca)?;
        Ok(Self { identity, ca, server_name, last: Mutex::new((material, config)) })
    }

    pub(crate) fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }

    /// The configuration for a new connection; the last good one where the files cannot be used,
    /// since half-replaced files are usual and soon whole.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(material) = Material::read(&self.identity, &self.ca)
            && material != last.0
            && let Ok(config) = material.config(&self.identity, &self.ca)
        {
            *last = (material, config);
        }
        last.1.clone()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("identity", &self.identity)
            .field("ca", &self.ca)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// The PEM text of one moment.
#[derive(PartialEq)]
struct Material {
    certificate: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
}

impl Material {
    fn read(identity: &Identity, ca: &TrustAnchors) -> Result<Self, ConfigError> {
        Ok(Self {
            certificate: identity.certificate.read("client certificate")?,
            key: identity.key.read("client key")?,
            ca: ca.0.read("CA")?,
        })
    }

    fn config(
        &self,
        identity: &Identity,
        ca: &TrustAnchors,
    ) -> Result<Arc<ClientConfig>, ConfigError> {
        let chain = certificates("client certificate", &identity.certificate, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| ConfigError::Pem {
            what: "client key",
            origin: identity.key.origin(),
            problem: format!("no usable private key ({error}); give it unencrypted, as PEM"),
        })?;
        let roots = root_store(ca, &self.ca)?;
        let mut config = believing(roots)?.with_client_auth_cert(chain, key).map_err(|source| {
            ConfigError::Tls {
                problem: format!(
                    "{} and {} do not go together; give a certificate and the key it was made for",
                    identity.certificate.origin(),
                    identity.key.origin()
                ),
                source,
            }
        })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

/// A client that believes these CAs, and no others.
pub(crate) fn believing(
    roots: RootCertStore,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, ConfigError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|source| ConfigError::Tls {
            problem: "TLS 1.3 and 1.2 are not available in this build".to_owned(),
            source,
        })?;
    Ok(builder.with_root_certificates(roots))
}

/// The CAs as they are now.
#[cfg(feature = "verify")]
pub(crate) fn roots(ca: &TrustAnchors) -> Result<RootCertStore, ConfigError> {
    root_store(ca, &ca.0.read("CA")?)
}

fn root_store(ca: &TrustAnchors, pem: &[u8]) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("CA", &ca.0, pem)? {
        roots.add(certificate).map_err(|source| ConfigError::Tls {
            problem: format!(
                "{} is no CA certificate; give that of the appliance's CA",
                ca.0.origin()
            ),
            source,
        })?;
    }
    Ok(roots)
}

fn certificates(
    what: &'static str,
    origin: &Pem,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let wrong = |problem: String| ConfigError::Pem { what, origin: origin.origin(), problem };
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(format!("broken PEM ({error}); give certificates as PEM")))?;
    if certificates.is_empty() {
        return Err(wrong("no certificate in it; give certificates as PEM".to_owned()));
    }
    Ok(certificates)
}
