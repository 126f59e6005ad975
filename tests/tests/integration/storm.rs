//! Ten thousand calls under way while something breaks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mintwarden_client::{Client, Error};
use mintwarden_tests::{ISSUER, Verifier, claims, eventually};
use tokio::task::JoinSet;

pub(crate) const CALLS: usize = 10_000;
/// So many calls wait at once.
const CALLERS: usize = 200;
/// A caller's own deadline: far more than a restart takes, also on a loaded machine.
const WITHIN: Duration = Duration::from_secs(20);

/// Calls under way, and how they end.
pub(crate) struct Storm {
    callers: JoinSet<Vec<Result<String, Error>>>,
    answered: Arc<AtomicUsize>,
}

impl Storm {
    pub(crate) fn start(client: &Client) -> Self {
        let answered = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (issuer, answered) = (client.issuer(ISSUER), Arc::clone(&answered));
            callers.spawn(async move {
                let mut answers = Vec::with_capacity(CALLS / CALLERS);
                for call in 0..CALLS / CALLERS {
                    let number = (caller * CALLS / CALLERS + call) as u64;
                    let answer = issuer.sign_within(claims::trade(number), WITHIN).await;
                    answers.push(answer.map(|token| token.into_string()));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                answers
            });
        }
        Self { callers, answered }
    }

    /// Waits until so many calls are answered.
    pub(crate) async fn reaches(&self, answers: usize) {
        eventually(&format!("{answers} answers"), async || {
            (self.answered.load(Ordering::Relaxed) >= answers).then_some(())
        })
        .await;
    }

    /// Waits for the end: no call is lost, and each has a token that one of the verifiers believes.
    /// How many each of them does.
    pub(crate) async fn ends(self, verifiers: &[Verifier]) -> Vec<usize> {
        let answers: Vec<_> = self.callers.join_all().await.into_iter().flatten().collect();
        assert_eq!(answers.len(), CALLS);
        let mut tokens = vec![0; verifiers.len()];
        for answer in answers {
            let token = answer.unwrap_or_else(|error| panic!("a call is lost: {error}"));
            let by = verifiers.iter().position(|verifier| verifier.verify(&token).is_ok());
            tokens[by.expect("some verifier believes it")] += 1;
        }
        tokens
    }
}
