//! A workload that does what a Txn-Token says, and nothing that only the request says.
//!
//! `POST /trade` over mutual TLS, with exactly one `Txn-Token` header. The token is verified with keys that are
//! kept fresh, and what is traded is read from its `tctx`. A body that says something else is refused. Where the
//! configuration names a next workload the token goes on to it as it came.

#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{self, Body},
    extract::State,
    http::{HeaderMap, Request, Response, StatusCode, header},
    response::IntoResponse,
    routing::post,
};
use clap::Parser as _;
use mintwarden_client::{
    TrustAnchors,
    verify::{Algorithm, JwksCache, SingleUse, VerifiedToken, Verifier, VerifyError, parse_object},
};
use rustls::{ClientConfig, crypto::aws_lc_rs};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spiffe::TrustDomain;

use crate::support::{
    Failure,
    listen::{self, Peer},
    tls,
};

/// Bounds: bytes of a body, and how long a call of the next workload may take.
const MAX_BODY: usize = 16 * 1024;
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A workload that verifies Txn-Tokens.
#[derive(clap::Parser)]
struct Arguments {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
    /// What to log.
    #[arg(long, default_value = "info")]
    log: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    listen: SocketAddr,
    trust_domain: String,
    /// Workloads that may call: a Txn-Token is no credential.
    callers: BTreeSet<String>,
    tls: tls::Files,
    token: TokenConfig,
    /// The next workload's address, such as `https://settlement.trust-domain.example:8443/trade`.
    next: Option<String>,
}

/// What a token has to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenConfig {
    jwks: String,
    /// The CA of the JWKS server's certificate.
    ca: PathBuf,
    audience: String,
    scope: String,
    /// A workload that has to have asked for the token, or for one that it replaces.
    hop: Option<String>,
    /// Who has to act for the subject; where it is absent, nobody may.
    actor: Option<String>,
    /// Remembers so many transactions, and takes each once.
    single_use: Option<usize>,
}

#[tokio::main]
async fn main() -> ExitCode {
    support::end("workload", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    support::log_to_stderr(&arguments.log)?;
    let mut config: Config = support::read_toml(&arguments.config)?;
    let directory = arguments.config.parent().unwrap_or(Path::new(""));
    config.tls.relative_to(directory);
    config.token.ca = directory.join(&config.token.ca);
    let trust_domain = TrustDomain::new(&config.trust_domain).map_err(Failure::config)?;
    let (tls, address) = (config.tls.server()?, config.listen);
    let workload = Workload::new(config).await?;
    let listener = listen::open("workload", address).await?;
    let router = Router::new().route("/trade", post(trade)).with_state(Arc::new(workload));
    listen::serve(listener, tls, trust_domain, router).await;
    Ok(())
}

struct Workload {
    callers: BTreeSet<String>,
    verifier: Verifier,
    scope: String,
    hop: Option<String>,
    actor: Option<String>,
    single_use: Option<SingleUse>,
    next: Option<(reqwest::Client, String)>,
}

impl Workload {
    async fn new(config: Config) -> Result<Self, Failure> {
        let Config { callers, tls, token, next, .. } = config;
        let keys = JwksCache::https(&token.jwks).ca(TrustAnchors::from_file(&token.ca)).start();
        let keys = keys.await.map_err(Failure::other)?;
        let verifier =
            Verifier::txn_token(&token.audience).algorithms([Algorithm::Es256]).build(keys);
        let client = |address| {
            let client = reqwest::Client::builder()
                .use_preconfigured_tls(client_tls(&tls)?)
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(CALL_TIMEOUT)
                .build()
                .map_err(Failure::config)?;
            Ok::<_, Failure>((client, address))
        };
        Ok(Self {
            callers,
            verifier,
            scope: token.scope,
            hop: token.hop,
            actor: token.actor,
            single_use: token.single_use.map(|capacity| SingleUse::new(capacity, Duration::ZERO)),
            next: next.map(client).transpose()?,
        })
    }

    /// What the request's token allows.
    fn authorize(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
    ) -> Result<(VerifiedToken, String), Refusal> {
        let caller = peer.0.as_ref().map_err(|why| Refusal::forbidden("CALLER_UNKNOWN", *why))?;
        if !self.callers.contains(&caller.to_string()) {
            return Err(Refusal::forbidden("CALLER_NOT_ALLOWED", format!("{caller} may not call")));
        }
        let mut tokens = headers.get_all("txn-token").iter();
        let (Some(header), None) = (tokens.next(), tokens.next()) else {
            let message = "send exactly one Txn-Token header";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "TXN_TOKEN_HEADER", message));
        };
        let header = header.to_str().unwrap_or_default();
        let token = self.verifier.verify(header)?;
        token.require_scope(&self.scope)?;
        token.require_actor(self.actor.as_deref())?;
        if let Some(hop) = &self.hop {
            token.require_hop(hop)?;
        }
        Ok((token, header.to_owned()))
    }

    async fn trade(&self, peer: Peer, request: Request<Body>) -> Result<Value, Refusal> {
        let (parts, body) = request.into_parts();
        let (token, header) = self.authorize(&peer, &parts.headers)?;
        let body = body::to_bytes(body, MAX_BODY).await;
        let body =
            body.map_err(|_| Refusal::request(format!("a body has at most {MAX_BODY} bytes")))?;
        let said = parse_object(&body).map_err(|error| Refusal::request(error.to_string()))?;
        let order = Order::agreed(&token, &said)?;
        // Last: what is refused for something else has not used it up.
        if let Some(single_use) = &self.single_use {
            single_use.use_up(&token)?;
        }
        let next = match &self.next {
            None => Value::Null,
            Some((client, address)) => call(client, address, &header, body).await?,
        };
        let transaction = token.text("txn")?;
        tracing::info!(transaction, order.action, order.ticker, order.amount, "traded");
        Ok(json!({
            "txn": transaction,
            "traded": { "action": order.action, "ticker": order.ticker, "amount": order.amount },
            "next": next,
        }))
    }
}

/// A client that shows its certificate.
fn client_tls(files: &tls::Files) -> Result<ClientConfig, Failure> {
    let (chain, key) = files.identity()?;
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Failure::config)?
        .with_root_certificates(files.roots()?)
        .with_client_auth_cert(chain, key)
        .map_err(Failure::config)
}

/// What is traded: it comes from the token alone.
struct Order<'a> {
    action: &'a str,
    ticker: &'a str,
    amount: u64,
}

impl<'a> Order<'a> {
    /// The order that the token's `tctx` gives, if the body does not contradict it.
    fn agreed(token: &'a VerifiedToken, said: &Map<String, Value>) -> Result<Self, Refusal> {
        let tctx = token.transaction_context();
        let tctx = tctx.ok_or_else(|| VerifyError::ClaimMissing("tctx".into()))?;
        for (name, value) in said {
            if tctx.get(name).is_some_and(|decided| decided != value) {
                let name: String = name.chars().take(64).collect();
                let message = format!("the body's {name} is not what the token says");
                return Err(Refusal::forbidden("CONTRADICTS_TCTX", message));
            }
        }
        let text = |name| tctx.get(name).and_then(Value::as_str);
        let amount = tctx.get("amount").and_then(Value::as_u64);
        match (text("action"), text("ticker"), amount) {
            (Some(action), Some(ticker), Some(amount)) => Ok(Self { action, ticker, amount }),
            _ => {
                Err(Refusal::forbidden("TCTX_INCOMPLETE", "tctx has no action, ticker and amount"))
            }
        }
    }
}

/// Passes the token on as it came.
async fn call(
    client: &reqwest::Client,
    address: &str,
    token: &str,
    body: body::Bytes,
) -> Result<Value, Refusal> {
    let failed = |message: String| Refusal::new(StatusCode::BAD_GATEWAY, "NEXT_FAILED", message);
    let request = client.post(address).header("txn-token", token).body(body);
    let answer = request.send().await.map_err(|error| failed(error.to_string()))?;
    let status = answer.status();
    let text = answer.bytes().await.map_err(|error| failed(error.to_string()))?;
    if !status.is_success() {
        return Err(failed(format!("the next workload answered {status}")));
    }
    serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))
}

async fn trade(
    State(workload): State<Arc<Workload>>,
    Extension(peer): Extension<Peer>,
    request: Request<Body>,
) -> Response<Body> {
    match workload.trade(peer, request).await {
        Ok(done) => answer(StatusCode::OK, &done),
        Err(Refusal { status, reason, message }) => {
            tracing::info!(reason, why = message, "refused");
            answer(status, &json!({ "reason": reason, "message": message }))
        }
    }
}

fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body.to_string()).into_response()
}

/// Why nothing was traded.
struct Refusal {
    status: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }

    fn forbidden(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, reason, message)
    }

    fn request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BODY", message)
    }
}

impl From<VerifyError> for Refusal {
    fn from(error: VerifyError) -> Self {
        let status = match &error {
            error if error.is_ours() => StatusCode::SERVICE_UNAVAILABLE,
            // The token is good, but not for this.
            VerifyError::ScopeMissing(_)
            | VerifyError::HopMissing(_)
            | VerifyError::ActorMismatch { .. }
            | VerifyError::Replayed => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        };
        Self::new(status, error.reason(), error.to_string())
    }
}
