use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Response, header::CONTENT_TYPE};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::KeyPair;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use crate::{Pki, claims};

/// `iss` of its tokens.
pub const IDP: &str = "https://idp.example";
/// What `aud` of a token contains that the TTS takes.
pub const AUDIENCE: &str = "https://tts.trust-domain.example";

/// A throw-away identity provider: signs whatever a test wants signed, with a fresh key, and serves its JWK Set over
/// HTTPS.
pub struct Idp {
    key: EncodingKey,
    jwk: Value,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Idp {
    /// Makes a key, and serves it.
    ///
    /// # Panics
    /// If that cannot be done.
    pub async fn start(pki: &Pki) -> Self {
        let pair = KeyPair::generate().expect("a P-256 key");
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        let [x, y] = [1..33, 33..65].map(|part| encode(&pair.public_key_raw()[part]));
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "idp-1", "alg": "ES256", "use": "sig",
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let body = json!({ "keys": [jwk] }).to_string();
        let server = tokio::spawn(serve(listener, tls(pki), body));
        Self { key, jwk, address, server }
    }

    /// Where its JWK Set is.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("https://{}/jwks.json", self.address)
    }

    /// Its public key.
    #[must_use]
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// The claims of a good access token for this subject, valid for five minutes, with the scopes `trade.stocks`
    /// and `trade.read`.
    #[must_use]
    pub fn claims(&self, subject: &str) -> Value {
        let now = claims::now();
        json!({
            "iss": IDP, "sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + 300,
            "client_id": "app", "scope": "trade.stocks trade.read",
        })
    }

    /// Signs an access token (RFC 9068).
    #[must_use]
    pub fn access_token(&self, claims: &Value) -> String {
        self.sign(&json!({ "typ": "at+jwt", "alg": "ES256", "kid": "idp-1" }), claims)
    }

    /// Signs with ES256, whatever the header says.
    ///
    /// # Panics
    /// If it cannot.
    #[must_use]
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let input = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = jsonwebtoken::crypto::sign(input.as_bytes(), &self.key, Algorithm::ES256);
        format!("{input}.{}", signature.expect("a signature"))
    }
}

impl Drop for Idp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// base64url without padding.
fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn tls(pki: &Pki) -> TlsAcceptor {
    let identity = pki.server("idp", &[]);
    let chain = CertificateDer::pem_file_iter(&identity.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(&identity.private_key).expect("a private key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, body: String) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, body) = (tls.clone(), body.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let answer = service_fn(|_| {
                let response = Response::builder().header(CONTENT_TYPE, "application/jwk-set+json");
                let response = response.body(body.clone()).expect("a response");
                async move { Ok::<_, Infallible>(response) }
            });
            let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
