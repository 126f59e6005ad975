//! What `make demo` shows: one real Txn-Token, from claims to an independent verification.
//!
//! Run by `mintwarden dev -- demo DIRECTORY`, which says in the environment how to reach the
//! throw-away appliance. Leaves `token.jwt`, `jwks.json` and `mintwarden.toml` in DIRECTORY.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a demonstration shows, measures, and is told by its environment where to go"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mintwarden_client::{Bytes, Client, Identity, Issuer, TrustAnchors, TxnClaims};
use mintwarden_tests::{TRUST_DOMAIN, Verifier, channel};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Tokens in one batch, and how many batches.
const BATCH: u64 = 256;
const BATCHES: u64 = 16;
/// Batches under way at once.
const IN_FLIGHT: u64 = 4;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let directory = PathBuf::from(env::args().nth(1).ok_or("say where to: demo DIRECTORY")?);
    fs::create_dir_all(&directory)?;
    let name = variable("ISSUER")?;
    let client = Client::builder()
        .endpoint(variable("ENDPOINT")?)
        .identity(Identity::from_files(variable("CERT")?, variable("KEY")?))
        .ca(TrustAnchors::from_file(variable("CA")?))
        .build()?;
    let issuer = client.issuer(&*name);

    println!("1. The TTS asks for a Txn-Token (gRPC, mutual TLS) and gets:\n");
    let token = issuer.sign(trade(0)).await?;
    println!("{token}\n");

    println!("2. The appliance publishes its keys (HTTPS, no certificate needed):\n");
    let url = variable("JWKS_URL")?;
    let jwks = fetch(&url, Path::new(&variable("CA")?)).await?;
    println!("   {url}\n{}\n", pretty(&serde_json::from_slice(&jwks)?)?);

    println!(
        "3. A workload verifies the token with the library jsonwebtoken against these keys:\n"
    );
    let verifier = Verifier::new(&jwks, &[TRUST_DOMAIN])?;
    let verified = verifier.verify(&token)?;
    println!("   header  {}", pretty(&Value::Object(verified.header))?.trim_start());
    println!("   claims  {}\n", pretty(&Value::Object(verified.claims))?.trim_start());
    println!("   The signature is good, and made by key {}.", verified.kid);
    println!("   The private key never left the PKCS#11 token.\n");

    println!("4. It signs what the issuer's profile allows, and nothing else:\n");
    let for_a_day = trade(1).claim("exp", now() + 24 * 3600);
    match issuer.sign(for_a_day).await {
        Ok(_) => return Err("a token for a day was signed".into()),
        Err(refused) => println!("   a token for a day: {refused}\n"),
    }

    println!("5. Batches of {BATCH}, {IN_FLIGHT} at a time:\n");
    let begun = Instant::now();
    let tokens = batches(&issuer).await?;
    let elapsed = begun.elapsed();
    for token in &tokens {
        verifier.verify(token)?;
    }
    let rate = tokens.len() as f64 / elapsed.as_secs_f64();
    println!("   {} tokens in {elapsed:.2?}: {rate:.0} per second; all verified.", tokens.len());
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!("   (A {build} build, keys in SoftHSM2; `make bench` measures with care.)\n");

    fs::write(directory.join("token.jwt"), format!("{token}\n"))?;
    fs::write(directory.join("jwks.json"), &jwks)?;
    fs::copy(variable("CONFIG")?, directory.join("mintwarden.toml"))?;
    println!("token.jwt, jwks.json and mintwarden.toml are in {}.", directory.display());
    Ok(())
}

fn variable(name: &str) -> Result<String, String> {
    let name = format!("MINTWARDEN_{name}");
    env::var(&name).map_err(|_| format!("{name} is not set: run by `mintwarden dev -- demo …`"))
}

/// The claims of a trade, as draft-ietf-oauth-transaction-tokens shows them.
fn trade(number: u64) -> TxnClaims {
    TxnClaims::new(Duration::from_secs(120))
        .audience(TRUST_DOMAIN)
        .txn(format!("97053963-771d-49cc-a4e3-{number:012}"))
        .subject("d084sdrt234fsaw34tr23t")
        .scope("trade.stocks")
        .requesting_workload("apigateway.trust-domain.example")
        .transaction_context(json!({ "action": "BUY", "ticker": "MSFT", "quantity": "100" }))
        .requester_context(json!({ "req_ip": "192.0.2.17", "authn": "urn:ietf:rfc:6749" }))
}

fn now() -> u64 {
    mintwarden_tests::claims::now()
}

async fn fetch(url: &str, ca: &Path) -> Result<Bytes, Failure> {
    let https = reqwest::Client::builder().use_preconfigured_tls(channel::tls(ca, None)).build()?;
    Ok(https.get(url).send().await?.error_for_status()?.bytes().await?)
}

async fn batches(issuer: &Issuer) -> Result<Vec<String>, Failure> {
    let mut under_way = JoinSet::new();
    for lane in 0..IN_FLIGHT {
        let issuer = issuer.clone();
        under_way.spawn(async move {
            let mut tokens = Vec::new();
            for batch in 0..BATCHES / IN_FLIGHT {
                let first = (lane * BATCHES + batch) * BATCH;
                let claims = (first..first + BATCH).map(|number| trade(number).to_json()).collect();
                for token in issuer.sign_batch(claims).await?.tokens {
                    tokens.push(token?.into_string());
                }
            }
            Ok::<_, mintwarden_client::Error>(tokens)
        });
    }
    let done = under_way.join_all().await;
    let tokens: Vec<_> = done.into_iter().collect::<Result<_, _>>()?;
    Ok(tokens.concat())
}

/// JSON for people, a little to the right.
fn pretty(value: &Value) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(text.lines().map(|line| format!("   {line}")).collect::<Vec<_>>().join("\n"))
}
