//! Reaching it: clients, channels, HTTPS, `mintwardenctl`.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use mintwarden::launcher::control::Addresses;
use mintwarden_client::{Client, Custodian, TrustAnchors, api};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::Channel;

use super::Appliance;
use crate::{
    Identity, PATIENCE, Reader, TRUST_DOMAIN, Verifier, channel, ctl::Ctl, eventually,
    wait::eventually_within,
};

impl Appliance {
    fn addresses(&self) -> &Addresses {
        self.addresses.as_ref().expect("the appliance was started")
    }

    /// Where gRPC is served.
    ///
    /// # Panics
    /// If it was not started, or serves no gRPC over TCP.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        self.addresses().grpc.expect("listen.grpc is configured")
    }

    /// The unix socket.
    ///
    /// # Panics
    /// As [`grpc`](Self::grpc).
    #[must_use]
    pub fn unix(&self) -> PathBuf {
        self.addresses().unix.clone().expect("listen.unix is configured")
    }

    /// A client of the TTS.
    ///
    /// # Panics
    /// As [`grpc`](Self::grpc).
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_as(self.tts())
    }

    /// A client with this certificate.
    ///
    /// # Panics
    /// As [`grpc`](Self::grpc).
    #[must_use]
    pub fn client_as(&self, identity: &Identity) -> Client {
        self.builder(identity).build().expect("a client")
    }

    /// A client with this certificate, to be configured further.
    ///
    /// # Panics
    /// As [`grpc`](Self::grpc).
    pub fn builder(&self, identity: &Identity) -> mintwarden_client::Builder {
        let (certificate, key) = (&identity.certificate, &identity.private_key);
        Client::builder()
            .endpoint(format!("https://{}", self.grpc()))
            .identity(mintwarden_client::Identity::from_files(certificate, key))
            .ca(TrustAnchors::from_file(self.pki().ca()))
    }

    /// A client over the unix socket, known by this process's user. It outlives the server, whose
    /// TCP port changes with every start.
    ///
    /// # Panics
    /// As [`grpc`](Self::grpc).
    #[must_use]
    pub fn unix_client(&self) -> Client {
        let endpoint = format!("unix:{}", self.unix().display());
        Client::builder().endpoint(endpoint).build().expect("a client")
    }

    /// What the custodian Ada can do.
    #[must_use]
    pub fn custodian(&self) -> Custodian {
        self.client_as(self.ada()).custodian()
    }

    /// A bare gRPC channel with this certificate, or with none.
    #[must_use]
    pub fn channel(&self, identity: Option<&Identity>) -> Channel {
        channel::over_tls(self.grpc().to_string(), channel::tls(&self.pki().ca(), identity))
    }

    /// Connects with this certificate, or with none, where that has to be refused; returns why.
    ///
    /// # Panics
    /// If it is accepted.
    pub async fn refusal(&self, identity: Option<&Identity>) -> String {
        channel::refused(self.grpc().to_string(), channel::tls(&self.pki().ca(), identity)).await
    }

    /// A bare gRPC channel over the unix socket.
    #[must_use]
    pub fn unix_channel(&self) -> Channel {
        channel::over_unix(self.unix())
    }

    /// A call of `mintwardenctl` as Ada.
    pub fn ctl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Ctl {
        let endpoint = format!("https://{}", self.grpc());
        let ca = self.pki().ca();
        Ctl::new(self.directory.path(), endpoint, ca, self.ada().clone()).args(arguments)
    }

    /// Has Ada make an issuer's first keys.
    ///
    /// # Panics
    /// If that fails.
    pub async fn init(&self, issuer: &str) -> Vec<api::Key> {
        // An RSA key may take long to make.
        let client = self.builder(self.ada()).timeout(Duration::from_secs(60)).build();
        let answer = client.expect("a client").custodian().init(issuer, "a test").await;
        match answer {
            Ok(answer) => answer.keyset.expect("an act answers with the keyset").keys,
            // Longer than a call may last: the appliance goes on by itself.
            Err(error) if error.reason() == "DEADLINE_EXCEEDED" => self.first_keys(issuer).await,
            Err(error) => panic!("init {issuer}: {error}"),
        }
    }

    /// Waits until an issuer's first keys are made.
    async fn first_keys(&self, issuer: &str) -> Vec<api::Key> {
        eventually_within(10 * PATIENCE, &format!("{issuer} has its first keys"), async || {
            let mut issuers = self.status().await.issuers.into_iter();
            issuers.find(|it| it.name == issuer && it.ready)?;
            let keysets = self.custodian().list_keys(Some(issuer)).await.expect("keys");
            Some(keysets.into_iter().flat_map(|keyset| keyset.keys).collect())
        })
        .await
    }

    /// The appliance's status as Ada sees it.
    ///
    /// # Panics
    /// If it does not say.
    pub async fn status(&self) -> api::Status {
        self.custodian().status().await.expect("a status")
    }

    /// Waits until a device is in a state; returns what is said of it.
    ///
    /// # Panics
    /// If it does not get there.
    pub async fn until_device(&self, device: &str, state: api::DeviceState) -> api::DeviceStatus {
        eventually(&format!("device {device} is {state:?}"), async || {
            let status = self.status().await;
            status.devices.into_iter().find(|d| d.name == device && d.state() == state)
        })
        .await
    }

    /// The `kid`s that an issuer has, in the order of its keyset.
    ///
    /// # Panics
    /// If they are not told.
    pub async fn kids(&self, issuer: &str) -> Vec<String> {
        let keysets = self.custodian().list_keys(Some(issuer)).await.expect("keys");
        let keys = keysets.into_iter().flat_map(|keyset| keyset.keys);
        keys.map(|key| key.kid).collect()
    }

    /// A URL of the HTTPS port, e.g. for `/.well-known/jwks.json`.
    ///
    /// # Panics
    /// If it was not started, or serves no HTTPS.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let address = self.addresses().jwks.expect("listen.jwks is configured");
        format!("{}://{address}{path}", self.addresses().jwks_scheme)
    }

    /// The URL of an issuer's JWK Set.
    #[must_use]
    pub fn jwks_url(&self, issuer: &str) -> String {
        self.url(&format!("/issuers/{issuer}/jwks.json"))
    }

    /// The URL of a path of the ops port, e.g. `/readyz`.
    ///
    /// # Panics
    /// If it was not started, or has no such port.
    #[must_use]
    pub fn ops_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses().ops.expect("listen.ops is configured"))
    }

    /// What `/readyz` says: the status, and a line for each issuer.
    ///
    /// # Panics
    /// If it says nothing.
    pub async fn readyz(&self) -> (u16, String) {
        let answer = self.https().get(self.ops_url("/readyz")).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a text"))
    }

    /// An HTTP client that believes the test's CA and has no certificate of its own.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn https(&self) -> reqwest::Client {
        let tls = channel::tls(&self.pki().ca(), None);
        reqwest::Client::builder().use_preconfigured_tls(tls).build().expect("an HTTPS client")
    }

    /// A bare TLS connection to the HTTPS port, `HOST:PORT`, without a certificate.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn https_stream(&self, address: &str, protocols: &[&[u8]]) -> TlsStream<TcpStream> {
        self.try_https_stream(address, protocols).await.expect("a TLS listener")
    }

    /// Like [`https_stream`](Self::https_stream), where the handshake may be cut off.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn try_https_stream(
        &self,
        address: &str,
        protocols: &[&[u8]],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut tls = channel::tls(&self.pki().ca(), None);
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        channel::connect(address, tls).await
    }

    /// A verifier that keeps what it reads of an issuer's JWK Set for as long as `keeps`, and asks again
    /// after `again` where nobody answers. It finds the appliance again after each start.
    ///
    /// # Panics
    /// If the set is not served, or is not sound.
    pub async fn reader(&self, issuer: &str, keeps: Duration, again: Duration) -> Reader {
        Reader::new(self.https(), self.file("addresses.json"), issuer, keeps, again).await
    }

    /// A verifier with an issuer's JWK Set as HTTPS serves it now.
    ///
    /// # Panics
    /// If it is not served, or is not sound.
    pub async fn verifier(&self, issuer: &str) -> Verifier {
        self.verifier_for(issuer, &[TRUST_DOMAIN]).await
    }

    /// Like [`verifier`](Self::verifier), for tokens with one of these audiences.
    ///
    /// # Panics
    /// As [`verifier`](Self::verifier).
    pub async fn verifier_for(&self, issuer: &str, audience: &[&str]) -> Verifier {
        let answer = self.https().get(self.jwks_url(issuer)).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status).expect("a JWK Set");
        let jwks = answer.bytes().await.expect("a JWK Set");
        Verifier::new(&jwks, audience).expect("a sound JWK Set")
    }
}
