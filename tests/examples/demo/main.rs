//! What `make demo` shows: the whole story of a Txn-Token, and four attacks that fail for four reasons.
//!
//! Run by `mintwarden dev -- demo DIRECTORY`, which says in the environment how to reach the throw-away
//! appliance. TTS and workloads are the client library's examples, as processes of their own. Leaves what was
//! used and what came of it in DIRECTORY.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a demonstration shows, measures, and is told by its environment where to go"
)]

mod attacks;
mod throughput;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use mintwarden_client::{Bytes, Client, Issuer, TrustAnchors};
use mintwarden_tests::{
    Identity, TRUST_DOMAIN, Verifier, channel, claims,
    domain::{AUDIENCE, Domain, Form, Program, Reach},
};
use serde_json::{Value, json};

/// What goes wrong in a demonstration.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let directory = PathBuf::from(env::args().nth(1).ok_or("say where to: demo DIRECTORY")?);
    fs::create_dir_all(&directory)?;
    let reach = reach()?;
    let issuer = issuer(&reach)?;
    let domain = Domain::start(reach.clone(), |_| {}).await;

    let access_token = login(&domain)?;
    let token = exchange(&domain, &access_token).await?;
    let (jwks, verifier) = verify(&reach, &token).await?;
    let (orders, settlement) = trade(&domain, &token).await?;
    println!("5. Four attacks, and why each of them fails:\n");
    attacks::forged(&domain, &orders, &token).await?;
    attacks::changed_amount(&domain, &settlement, &token).await?;
    attacks::another_audience(&domain, &token).await?;
    attacks::mismatched_actor(&domain).await?;
    outside_the_profile(&issuer).await?;
    throughput::show(&issuer, &verifier).await?;

    fs::write(directory.join("access-token.jwt"), format!("{access_token}\n"))?;
    fs::write(directory.join("token.jwt"), format!("{token}\n"))?;
    fs::write(directory.join("jwks.json"), &jwks)?;
    fs::copy(variable("CONFIG")?, directory.join("mintwarden.toml"))?;
    let ours = ["tts.toml", "rules.toml", "orders.toml", "settlement.toml"];
    let logs = ["tts.log", "orders.log", "settlement.log"];
    for file in ours.iter().chain(&logs) {
        fs::copy(domain.file(file), directory.join(file))?;
    }
    println!(
        "Both tokens, jwks.json, all configuration and the logs are in {}.",
        directory.display()
    );
    Ok(())
}

fn login(domain: &Domain) -> Result<String, Failure> {
    println!("1. Ada logs in; a throw-away IdP gives the app an access token:\n");
    let claims = domain.idp.claims("ada");
    println!("{}\n", pretty(&claims)?);
    Ok(domain.idp.access_token(&claims))
}

async fn exchange(domain: &Domain, access_token: &str) -> Result<String, Failure> {
    println!(
        "2. The gateway exchanges it at the TTS for a Txn-Token (RFC 8693, mutual TLS). The TTS decides"
    );
    println!("   what it says; the appliance signs it in the PKCS#11 token (gRPC, mutual TLS):\n");
    let answer = domain.exchange(domain.gateway(), &Form::start(access_token)).await;
    if !answer.status.is_success() {
        return Err(answer.body.to_string().into());
    }
    println!("{}\n", pretty(&answer.body)?);
    Ok(answer.token())
}

async fn verify(reach: &Reach, token: &str) -> Result<(Bytes, Verifier), Failure> {
    println!("3. The appliance publishes its keys (HTTPS, no certificate needed):\n");
    let jwks = fetch(&reach.jwks, &reach.ca).await?;
    println!("   {}\n{}\n", reach.jwks, pretty(&serde_json::from_slice(&jwks)?)?);
    println!(
        "   The library jsonwebtoken, which shares no code with it, verifies the token under them:\n"
    );
    let verifier = Verifier::new(&jwks, &[TRUST_DOMAIN])?;
    let verified = verifier.verify(token)?;
    println!("   header  {}", pretty(&Value::Object(verified.header))?.trim_start());
    println!("   claims  {}\n", pretty(&Value::Object(verified.claims))?.trim_start());
    println!(
        "   It is good, and made by key {}, whose private half never left the PKCS#11",
        verified.kid
    );
    println!("   token. Its tctx comes from the TTS's rules; the request is never copied.\n");
    Ok((jwks, verifier))
}

async fn trade(domain: &Domain, token: &str) -> Result<(Program, Program), Failure> {
    println!("4. Two workloads, orders and settlement, verify it and do what its tctx says:\n");
    let settlement = domain.workload("settlement", &["orders"], |_| {}).await;
    let next = settlement.url("/trade");
    let orders = domain
        .workload("orders", &["gateway"], |config| {
            config.insert("next".into(), next.into());
        })
        .await;
    let done = domain.call(domain.gateway(), &orders, token, &order(100)).await;
    if !done.status.is_success() {
        return Err(done.body.to_string().into());
    }
    println!("   orders      traded {}", done.body["traded"]);
    println!("   settlement  traded {}\n", done.body["next"]["traded"]);
    Ok((orders, settlement))
}

async fn outside_the_profile(issuer: &Issuer) -> Result<(), Failure> {
    println!(
        "6. And were the TTS itself taken over, the appliance still signs only what the issuer's"
    );
    println!("   profile allows:\n");
    let for_a_day = claims::trade(1).claim("exp", claims::now() + 24 * 3600);
    match issuer.sign(for_a_day).await {
        Ok(_) => Err("a token for a day was signed".into()),
        Err(refused) => {
            println!("   a token for a day   {refused}\n");
            Ok(())
        }
    }
}

/// What the gateway's caller says in the body.
fn order(amount: u64) -> Value {
    json!({ "action": "BUY", "ticker": "MSFT", "amount": amount })
}

/// Ada's access token, meant for the TTS and for this agent.
fn meant_for(domain: &Domain, agent: &str) -> String {
    let mut claims = domain.idp.claims("ada");
    claims["aud"] = json!([AUDIENCE, agent]);
    domain.idp.access_token(&claims)
}

fn reach() -> Result<Reach, Failure> {
    let signer =
        Identity { certificate: variable("CERT")?.into(), private_key: variable("KEY")?.into() };
    Ok(Reach {
        endpoint: variable("ENDPOINT")?,
        issuer: variable("ISSUER")?,
        signer,
        jwks: variable("JWKS_URL")?,
        ca: variable("CA")?.into(),
    })
}

fn issuer(reach: &Reach) -> Result<Issuer, Failure> {
    let Identity { certificate, private_key } = &reach.signer;
    let client = Client::builder()
        .endpoint(&*reach.endpoint)
        .identity(mintwarden_client::Identity::from_files(certificate, private_key))
        .ca(TrustAnchors::from_file(&reach.ca))
        .build()?;
    Ok(client.issuer(&*reach.issuer))
}

fn variable(name: &str) -> Result<String, String> {
    let name = format!("MINTWARDEN_{name}");
    env::var(&name).map_err(|_| format!("{name} is not set: run by `mintwarden dev -- demo …`"))
}

async fn fetch(url: &str, ca: &Path) -> Result<Bytes, Failure> {
    let https = reqwest::Client::builder().use_preconfigured_tls(channel::tls(ca, None)).build()?;
    Ok(https.get(url).send().await?.error_for_status()?.bytes().await?)
}

/// JSON for people, a little to the right.
fn pretty(value: &Value) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(text.lines().map(|line| format!("   {line}")).collect::<Vec<_>>().join("\n"))
}
