//! How fast it signs.

use std::time::Instant;

use mintwarden_client::Issuer;
use mintwarden_tests::{Verifier, claims};
use tokio::task::JoinSet;

use crate::Failure;

/// Tokens in one batch, and how many batches.
const BATCH: u64 = 256;
const BATCHES: u64 = 16;
/// Batches under way at once.
const IN_FLIGHT: u64 = 4;

/// Signs batches, and verifies all of them.
pub(crate) async fn show(issuer: &Issuer, verifier: &Verifier) -> Result<(), Failure> {
    println!("7. Batches of {BATCH}, {IN_FLIGHT} at a time:\n");
    let begun = Instant::now();
    let tokens = batches(issuer).await?;
    let elapsed = begun.elapsed();
    for token in &tokens {
        verifier.verify(token)?;
    }
    let rate = tokens.len() as f64 / elapsed.as_secs_f64();
    println!("   {} tokens in {elapsed:.2?}: {rate:.0} per second; all verified.", tokens.len());
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!("   (A {build} build, keys in SoftHSM2; `make bench` measures with care.)\n");
    Ok(())
}

async fn batches(issuer: &Issuer) -> Result<Vec<String>, Failure> {
    let mut under_way = JoinSet::new();
    for lane in 0..IN_FLIGHT {
        let issuer = issuer.clone();
        under_way.spawn(async move {
            let mut tokens = Vec::new();
            for batch in 0..BATCHES / IN_FLIGHT {
                let first = (lane * BATCHES + batch) * BATCH;
                let claims =
                    (first..first + BATCH).map(|number| claims::trade(number).to_json()).collect();
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
