use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use mintwarden_client::{
    Client, Endpoint, Error, Identity, TrustAnchors,
    api::signing_service_server::SigningServiceServer,
};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::transport::Server;

use crate::server::{self, Seen, Signing};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `name` and its key, both PEM.
fn leaf(ca: &Ca, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

/// Serves with a certificate for 127.0.0.1 to clients that `clients` vouches for.
async fn serve(server_ca: &Ca, clients: &Ca) -> SocketAddr {
    serve_as("127.0.0.1", server_ca, clients, Seen::new(true)).await
}

async fn serve_as(name: &str, server_ca: &Ca, clients: &Ca, seen: Arc<Seen>) -> SocketAddr {
    let (certificate, key) = leaf(server_ca, name);
    let mut roots = RootCertStore::empty();
    roots.add(clients.der().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![PemObject::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(tls) = acceptor.accept(tcp).await {
                let _ = sender.send(Ok::<_, std::io::Error>(Tls(tls))).await;
            }
        }
    });
    tokio::spawn(async move {
        Server::builder()
            .add_service(SigningServiceServer::new(Signing(seen)))
            .serve_with_incoming(tokio_stream::wrappers::ReceiverStream::new(receiver))
            .await
            .unwrap();
    });
    address
}

fn write(dir: &Path, (certificate, key): (String, String)) -> Identity {
    fs::write(dir.join("tls.crt"), certificate).unwrap();
    fs::write(dir.join("tls.key"), key).unwrap();
    Identity::from_files(dir.join("tls.crt"), dir.join("tls.key"))
}

#[tokio::test]
async fn both_sides_show_certificates() {
    let (server_ca, client_ca) = (ca(), ca());
    let address = serve(&server_ca, &client_ca).await;
    let (certificate, key) = leaf(&client_ca, "tts.example");
    let client = Client::builder()
        .endpoint(format!("https://{address}"))
        .identity(Identity::from_pem(certificate, key))
        .ca(TrustAnchors::from_pem(server_ca.pem()))
        .connect()
        .await
        .unwrap();
    assert!(client.issuer("payments-tts").sign("{}").await.unwrap().starts_with("header."));
}

#[tokio::test]
async fn endpoints_have_names_of_their_own_and_may_be_of_both_kinds() {
    let (server_ca, client_ca) = (ca(), ca());
    let seen = [(); 3].map(|()| Seen::new(true));
    let a = serve_as("hsm-a.example", &server_ca, &client_ca, seen[0].clone()).await;
    let b = serve_as("hsm-b.example", &server_ca, &client_ca, seen[1].clone()).await;
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("api.sock");
    server::serve(&socket, seen[2].clone());
    let (certificate, key) = leaf(&client_ca, "tts.example");
    let client = Client::builder()
        .endpoint(format!("https://{a}"))
        .endpoint(Endpoint::new(format!("https://{b}")).server_name("hsm-b.example"))
        .endpoint(format!("unix:{}", socket.display()))
        .identity(Identity::from_pem(certificate, key))
        .ca(TrustAnchors::from_pem(server_ca.pem()))
        .server_name("hsm-a.example")
        .build()
        .unwrap();
    let issuer = client.issuer("payments-tts");
    for _ in 0..10_000 {
        issuer.sign("{}").await.unwrap();
        if seen.iter().all(|seen| !seen.batches().is_empty()) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("not all are used: {:?}", seen.map(|seen| seen.batches().len()));
}

#[tokio::test]
async fn only_the_given_ca_is_believed() {
    let (server_ca, client_ca) = (ca(), ca());
    let address = serve(&server_ca, &client_ca).await;
    let (certificate, key) = leaf(&client_ca, "tts.example");
    let error = Client::builder()
        .endpoint(format!("https://{address}"))
        .identity(Identity::from_pem(certificate, key))
        .ca(TrustAnchors::from_pem(client_ca.pem()))
        .connect()
        .await
        .unwrap_err();
    let Error::Transport(transport) = &error else { panic!("{error}") };
    assert!(transport.is_tls_refusal() && !error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_foreign_client_certificate_is_refused_at_once_and_explained() {
    let (server_ca, client_ca) = (ca(), ca());
    let address = serve(&server_ca, &client_ca).await;
    let (certificate, key) = leaf(&ca(), "tts.example");
    let client = Client::builder()
        .endpoint(format!("https://{address}"))
        .identity(Identity::from_pem(certificate, key))
        .ca(TrustAnchors::from_pem(server_ca.pem()))
        .build()
        .unwrap();
    let error = client.issuer("payments-tts").sign("{}").await.unwrap_err();
    let Error::Transport(transport) = &error else { panic!("{error}") };
    assert!(transport.is_tls_refusal() && !error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("known to the appliance"), "{error}");
}

#[tokio::test]
async fn replaced_files_are_used_for_the_next_connection() {
    let (server_ca, client_ca) = (ca(), ca());
    let address = serve(&server_ca, &client_ca).await;
    let dir = TempDir::new().unwrap();
    let client = Client::builder()
        .endpoint(format!("https://{address}"))
        .identity(write(dir.path(), leaf(&ca(), "tts.example")))
        .ca(TrustAnchors::from_pem(server_ca.pem()))
        .build()
        .unwrap();
    let issuer = client.issuer("payments-tts");
    issuer.sign("{}").await.unwrap_err();
    let good = leaf(&client_ca, "tts.example");
    fs::write(dir.path().join("tls.crt"), "half-writ").unwrap();
    issuer.sign("{}").await.unwrap_err();
    write(dir.path(), good);
    issuer.sign("{}").await.unwrap();
}

#[tokio::test]
async fn what_cannot_work_is_named_when_the_client_is_built() {
    let dir = TempDir::new().unwrap();
    let ca = ca();
    let good = write(dir.path(), leaf(&ca, "tts.example"));
    let anchors = TrustAnchors::from_pem(ca.pem());
    let https = || Client::builder().endpoint("https://hsm.example");
    let missing = Identity::from_files(dir.path().join("no.crt"), dir.path().join("tls.key"));
    let swapped = Identity::from_files(dir.path().join("tls.key"), dir.path().join("tls.crt"));
    let foreign = Identity::from_pem(leaf(&ca, "a").0, leaf(&ca, "b").1);
    for (builder, named) in [
        (Client::builder(), "no endpoint"),
        (https().ca(anchors.clone()), "client certificate and key"),
        (https().identity(good.clone()), "needs a CA"),
        (https().identity(missing).ca(anchors.clone()), "no.crt"),
        (https().identity(swapped).ca(anchors.clone()), "tls.key: no certificate"),
        (https().identity(foreign).ca(anchors.clone()), "do not go together"),
        (
            https().identity(good.clone()).ca(TrustAnchors::from_pem("")),
            "CA given as PEM: no certificate",
        ),
        (https().identity(good).ca(anchors).server_name("a b"), "neither a DNS name"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::Config(_)));
        assert!(error.to_string().contains(named), "{error}");
    }
}

/// Lets tonic, built without TLS of its own, serve a TLS stream.
struct Tls(tokio_rustls::server::TlsStream<tokio::net::TcpStream>);

impl tonic::transport::server::Connected for Tls {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Tls {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Tls {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
