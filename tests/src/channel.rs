//! Connections below the client library: for calls that it would not make.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::{Service, service_fn};

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

/// A TLS connection to `address` (HOST:PORT).
///
/// # Errors
/// The socket's, or why the handshake failed.
pub async fn connect(address: &str, tls: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(tls)).connect(name, stream).await
}

/// A gRPC channel over TLS to `address` (HOST:PORT), connected when it is first used.
#[must_use]
pub fn over_tls(address: String, mut tls: ClientConfig) -> Channel {
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(service_fn(move |_| {
        let (tls, address) = (tls.clone(), address.clone());
        async move { Ok::<_, io::Error>(TokioIo::new(connect(&address, tls).await?)) }
    }))
}

/// Connects to `address` and waits for its first byte; returns why there is none. A server that
/// refuses a client's certificate says so only after the handshake (RFC 8446 section 4.4.2.4).
///
/// # Panics
/// If the server accepts.
pub async fn refused(address: String, mut tls: ClientConfig) -> String {
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let mut stream = match connect(&address, tls).await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    match stream.read(&mut [0]).await {
        Ok(0) => "closed without a word".to_owned(),
        Ok(_) => panic!("the connection was accepted"),
        Err(error) => error.to_string(),
    }
}

/// One HTTP/2 connection that passes requests on as they are. ([`over_tls`] obeys `grpc-timeout`
/// itself.)
///
/// # Panics
/// If the server does not accept it.
pub async fn bare(
    path: PathBuf,
) -> impl Service<
    http::Request<Body>,
    Response = http::Response<Incoming>,
    Error = hyper::Error,
    Future: Send,
> + Clone {
    let stream = UnixStream::connect(path).await.expect("a listener");
    let builder = http2::Builder::new(TokioExecutor::new());
    let (sender, connection) =
        builder.handshake::<_, Body>(TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    service_fn(move |mut request: http::Request<Body>| {
        let mut sender = sender.clone();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() =
            format!("http://localhost{path}").parse().expect("the path was in a URI");
        async move { sender.send_request(request).await }
    })
}

/// A gRPC channel over a unix socket, connected when it is first used.
#[must_use]
pub fn over_unix(path: PathBuf) -> Channel {
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    }))
}
