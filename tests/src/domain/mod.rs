//! A trust domain around an appliance: a throw-away IdP, and the appliance's neighbours as real processes, which
//! are the client library's examples `tts` and `workload`.

mod form;
mod idp;
mod program;

use std::path::{Path, PathBuf};

use reqwest::{StatusCode, header::HeaderMap};
use serde_json::Value;
use tempfile::TempDir;
use toml::{Table, toml};

pub use form::Form;
pub use idp::{AUDIENCE, IDP, Idp};
pub use program::Program;

use crate::{Appliance, ISSUER, Identity, Pki, TRUST_DOMAIN, channel, pki::spiffe};

/// What a TTS and verifiers need of an appliance.
#[derive(Clone, Debug)]
pub struct Reach {
    /// `https://…` or `unix:…`.
    pub endpoint: String,
    /// The issuer's name.
    pub issuer: String,
    /// Who the TTS is to the appliance.
    pub signer: Identity,
    /// The URL of the JWK Set.
    pub jwks: String,
    /// The CA of the appliance's certificate.
    pub ca: PathBuf,
}

/// An IdP, a TTS, and an authority for the workloads.
pub struct Domain {
    directory: TempDir,
    pki: Pki,
    reach: Reach,
    gateway: Identity,
    /// Issues access tokens.
    pub idp: Idp,
    /// The TTS.
    pub tts: Program,
}

/// What a neighbour answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header.
    pub headers: HeaderMap,
    /// The body.
    pub body: Value,
}

impl Answer {
    /// A member of the body that is text; empty where there is none.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }

    /// What a refusal is known by: status, `error` and `reason`.
    #[must_use]
    pub fn words(&self) -> (u16, &str, &str) {
        (self.status.as_u16(), self.text("error"), self.text("reason"))
    }

    /// The token of an exchange that succeeded.
    ///
    /// # Panics
    /// If it did not.
    #[must_use]
    pub fn token(&self) -> String {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.text("access_token").to_owned()
    }
}

impl Domain {
    /// A domain whose TTS has its tokens signed by this appliance.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn around(appliance: &Appliance) -> Self {
        Self::with(appliance, |_| {}).await
    }

    /// Like [`around`](Self::around), with a change of the TTS's configuration.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn with(appliance: &Appliance, edit: impl FnOnce(&mut Table)) -> Self {
        let reach = Reach {
            endpoint: format!("https://{}", appliance.grpc()),
            issuer: ISSUER.into(),
            signer: appliance.tts().clone(),
            jwks: appliance.jwks_url(ISSUER),
            ca: appliance.pki().ca(),
        };
        Self::start(reach, edit).await
    }

    /// Starts a TTS where it has to fail; its exit status, and what it said.
    ///
    /// # Panics
    /// If it starts.
    pub async fn refused(&self, edit: impl FnOnce(&mut Table)) -> (Option<i32>, String) {
        let mut config = tts(&self.reach, &self.idp, &self.pki, self.directory.path());
        edit(&mut config);
        let outcome = Program::try_start("tts", "refused", self.directory.path(), &config).await;
        let Err((status, said)) = outcome else { panic!("the TTS started") };
        (status.code(), said)
    }

    /// Starts IdP and TTS.
    ///
    /// # Panics
    /// If they do not start.
    pub async fn start(reach: Reach, edit: impl FnOnce(&mut Table)) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("mintwarden-domain-")
            .tempdir()
            .expect("a temporary directory");
        let pki = Pki::new(directory.path());
        let gateway = pki.client("gateway");
        let idp = Idp::start(&pki).await;
        let mut config = tts(&reach, &idp, &pki, directory.path());
        edit(&mut config);
        let tts = Program::start("tts", "tts", directory.path(), &config).await;
        Self { directory, pki, reach, gateway, idp, tts }
    }

    /// A path in its directory, where all its files are.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The authority of the workloads' certificates.
    #[must_use]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// The workload at the edge: `spiffe://trust-domain.example/gateway`.
    #[must_use]
    pub fn gateway(&self) -> &Identity {
        &self.gateway
    }

    /// A form that asks for a token to buy 100 MSFT, with an access token of Ada's.
    #[must_use]
    pub fn form(&self) -> Form {
        Form::start(&self.idp.access_token(&self.idp.claims("ada")))
    }

    /// Asks the TTS, as this workload.
    ///
    /// # Panics
    /// If it does not answer in JSON.
    pub async fn exchange(&self, requester: &Identity, form: &Form) -> Answer {
        let client = self.https(requester);
        let request = client.post(format!("https://{}/token", self.tts.address()));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        answer(request.body(form.encode())).await
    }

    /// A Txn-Token as the gateway gets it.
    ///
    /// # Panics
    /// If it does not.
    pub async fn txn_token(&self) -> String {
        self.exchange(&self.gateway, &self.form()).await.token()
    }

    /// A workload of this name, called by `callers`; `edit` changes its configuration.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn workload(
        &self,
        name: &str,
        callers: &[&str],
        edit: impl FnOnce(&mut Table),
    ) -> Program {
        let identity = self.pki.workload(name);
        let mut config = toml! { listen = "127.0.0.1:0" };
        config.insert("trust_domain".into(), TRUST_DOMAIN.into());
        let callers = callers.iter().map(|caller| spiffe(caller).into()).collect();
        config.insert("callers".into(), toml::Value::Array(callers));
        config.insert("tls".into(), files(&identity, &self.pki.ca()).into());
        let mut token = toml! { scope = "trade.stocks" };
        token.insert("audience".into(), TRUST_DOMAIN.into());
        token.insert("jwks".into(), self.reach.jwks.as_str().into());
        token.insert("ca".into(), text(&self.reach.ca));
        config.insert("token".into(), token.into());
        edit(&mut config);
        Program::start("workload", name, self.directory.path(), &config).await
    }

    /// Calls a workload.
    ///
    /// # Panics
    /// If it does not answer in JSON.
    pub async fn call(
        &self,
        caller: &Identity,
        workload: &Program,
        token: &str,
        body: &Value,
    ) -> Answer {
        let request = self.https(caller).post(workload.url("/trade")).header("txn-token", token);
        answer(request.body(body.to_string())).await
    }

    /// An HTTPS client with this certificate.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn https(&self, identity: &Identity) -> reqwest::Client {
        let tls = channel::tls(&self.pki.ca(), Some(identity));
        reqwest::Client::builder().use_preconfigured_tls(tls).build().expect("an HTTPS client")
    }
}

/// Sends a request, and reads a JSON answer.
///
/// # Panics
/// If there is none.
pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap_or_else(|error| panic!("an answer: {error:?}"));
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.bytes().await.expect("a whole answer");
    let body = serde_json::from_slice(&text)
        .unwrap_or_else(|error| panic!("{status}, {error}: {}", String::from_utf8_lossy(&text)));
    Answer { status, headers, body }
}

/// The TTS's configuration, with the rules of the sample.
fn tts(reach: &Reach, idp: &Idp, pki: &Pki, directory: &Path) -> Table {
    let rules = include_str!("../../../client/examples/tts/rules.toml");
    std::fs::write(directory.join("rules.toml"), rules).expect("the rules");
    let mut config = toml! {
        listen = "127.0.0.1:0"
        rules = "rules.toml"
        max_lifetime = "2m"
        sign_timeout = "30s"
        max_replacements = 2
        [appliance]
        algorithms = ["ES256"]
        [idp]
        algorithms = ["ES256"]
    };
    config.insert("trust_domain".into(), TRUST_DOMAIN.into());
    config.insert("tls".into(), files(&pki.server("tts-server", &[]), &pki.ca()).into());
    let appliance = config["appliance"].as_table_mut().expect("it is just above");
    appliance.insert("endpoint".into(), reach.endpoint.as_str().into());
    appliance.insert("issuer".into(), reach.issuer.as_str().into());
    appliance.insert("tls".into(), files(&reach.signer, &reach.ca).into());
    let from = config["idp"].as_table_mut().expect("it is just above");
    from.insert("issuer".into(), IDP.into());
    from.insert("audience".into(), AUDIENCE.into());
    from.insert("jwks".into(), idp.jwks_url().into());
    from.insert("ca".into(), text(&pki.ca()));
    config
}

fn files(identity: &Identity, ca: &Path) -> Table {
    let mut files = Table::new();
    files.insert("certificate".into(), text(&identity.certificate));
    files.insert("private_key".into(), text(&identity.private_key));
    files.insert("ca".into(), text(ca));
    files
}

fn text(path: &Path) -> toml::Value {
    path.display().to_string().into()
}
