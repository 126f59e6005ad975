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
    // Beside the signing, on a thread of its own, and each as soon as it is signed: tokens live four minutes.
    let verifier = appliance.verifier(ISSUER).await;
    let (done, signed) = mpsc::channel::<Token>();
    let checking = thread::spawn(move || {
        let mut transactions = HashSet::with_capacity(TOKENS);
        for token in signed {
            let verified = verifier.verify(&token).unwrap();
            transactions.insert(verified.claims["txn"].as_str().unwrap().to_owned());
        }
        transactions
    });
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (issuer, done) = (client.issuer(ISSUER), done.clone());
        callers.spawn(async move {
            for call in 0..TOKENS / CALLERS {
                let number = (caller * (TOKENS / CALLERS) + call) as u64;
                done.send(issuer.sign(claims::trade(number)).await.unwrap()).unwrap();
            }
        });
    }
    drop(done);
    callers.join_all().await;
    let transactions = checking.join().unwrap();
    assert_eq!(transactions.len(), TOKENS, "each payload came back in exactly one token");
    appliance.stop().await;
}
