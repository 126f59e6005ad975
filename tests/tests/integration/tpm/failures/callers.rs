//! Callers that go on while a TPM comes and goes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mintwarden_client::Client;
use mintwarden_tests::{ISSUER, Verifier, claims, eventually};
use tokio::task::JoinSet;

const CALLERS: u64 = 16;
/// How long a caller waits after an error.
const COME_BACK: Duration = Duration::from_millis(20);

/// Callers that sign one after the other. Each answer is a token that verifies, by the one key, or an error that is
/// worth another try.
pub(super) struct Callers {
    tally: Arc<Tally>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Tally {
    tokens: AtomicU64,
    errors: AtomicU64,
    done: AtomicBool,
}

impl Callers {
    pub(super) fn start(client: &Client, verifier: &Verifier, kid: &str) -> Self {
        let (tally, mut tasks) = (Arc::new(Tally::default()), JoinSet::new());
        for caller in 0..CALLERS {
            let (client, verifier) = (client.clone(), verifier.clone());
            let (kid, tally) = (kid.to_owned(), Arc::clone(&tally));
            tasks.spawn(async move {
                let issuer = client.issuer(ISSUER);
                let mut number = caller << 32;
                while !tally.done.load(Ordering::Relaxed) {
                    number += 1;
                    match issuer.sign(claims::trade(number)).await {
                        Ok(token) => {
                            assert_eq!(verifier.verify(&token).expect("released").kid, kid);
                            tally.tokens.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            assert!(error.is_retryable(), "{error}");
                            tally.errors.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(COME_BACK).await;
                        }
                    }
                }
            });
        }
        Self { tally, tasks }
    }

    /// Waits until so many more tokens were signed.
    pub(super) async fn sign(&self, more: u64) {
        let wanted = self.tally.tokens.load(Ordering::Relaxed) + more;
        eventually("callers get tokens", async || {
            (self.tally.tokens.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    /// Ends them: how many tokens and errors there were.
    pub(super) async fn end(mut self) -> (u64, u64) {
        self.tally.done.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.tally.tokens), read(&self.tally.errors))
    }
}
