//! Connections below the client library: for calls that it would not make.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::Identity;

/// TLS towards servers that `ca` vouches for, as `identity` or as nobody.
///
/// # Panics
/// If the files are not what they should be.
#[must_use]
pub fn tls(ca: &Path, identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(ca).expect("the CA's file") {
        roots.add(root.expect("a certificate")).expect("a CA's certificate");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots);
    let Some(identity) = identity else { return builder.with_no_client_auth() };
    let chain = CertificateDer::pem_file_iter(&identity.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(&identity.private_key).expect("a private key");
    builder.with_client_auth_cert(chain, key).expect("a certificate and its key")
}

/// A gRPC channel over TLS to `address` (HOST:PORT), connected when it is first used.
#[must_use]
pub fn over_tls(address: String, mut tls: ClientConfig) -> Channel {
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsConnector::from(Arc::new(tls));
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(service_fn(move |_| {
        let (tls, address) = (tls.clone(), address.clone());
        async move {
            let host = address.rsplit_once(':').map_or(&*address, |(host, _)| host).to_owned();
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let stream = TcpStream::connect(&address).await?;
            Ok::<_, io::Error>(TokioIo::new(tls.connect(name, stream).await?))
        }
    }))
}

/// A gRPC channel over a unix socket, connected when it is first used.
#[must_use]
pub fn over_unix(path: PathBuf) -> Channel {
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    }))
}
