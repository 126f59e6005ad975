//! Many tokens.

use std::{collections::HashSet, sync::mpsc, thread};

use mintwarden_client::Token;
use mintwarden_tests::{Appliance, ISSUER, claims};
use tokio::task::JoinSet;

const TOKENS: usize = 100_000;
/// Tasks that sign one after the other; the client joins their calls into batches.
const CALLERS: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_100_000_tokens_through_the_client_all_verify() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let client = appliance.client();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let issuer = client.issuer(ISSUER);
        callers.spawn(async move {
            let mut tokens = Vec::with_capacity(TOKENS / CALLERS);
            for call in 0..TOKENS / CALLERS {
                let number = (caller * (TOKENS / CALLERS) + call) as u64;
                tokens.push(issuer.sign(claims::trade(number)).await.unwrap());
            }
            tokens
        });
    }
    // Beside the signing, on a thread of its own: tokens live four minutes.
    let verifier = appliance.verifier(ISSUER).await;
    let (done, finished) = mpsc::channel::<Vec<Token>>();
    let checking = thread::spawn(move || {
        let mut transactions = HashSet::with_capacity(TOKENS);
        for token in finished.iter().flatten() {
            let verified = verifier.verify(&token).unwrap();
            transactions.insert(verified.claims["txn"].as_str().unwrap().to_owned());
        }
        transactions
    });
    while let Some(tokens) = callers.join_next().await {
        done.send(tokens.unwrap()).unwrap();
    }
    drop(done);
    let transactions = checking.join().unwrap();
    assert_eq!(transactions.len(), TOKENS, "each payload came back in exactly one token");
    appliance.stop().await;
}
