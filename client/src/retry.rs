//! Trying again: within the caller's deadline, a count of attempts, and a budget that keeps a
//! client from doubling the load of an appliance that is down.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{self, Instant};

use crate::{Error, clock};

/// The back-off after the first failure; it doubles from there.
const FIRST_BACK_OFF: Duration = Duration::from_millis(25);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// How many retries may be saved up. A full store rides out a restart of the server with
/// hundreds of calls waiting.
const BUDGET: u64 = 4096;
/// One retry is earned by this many calls.
const CALLS_PER_RETRY: u64 = 5;

/// How often to try, and what is left of the budget. Shared by all calls of a client.
#[derive(Debug)]
pub(crate) struct Retry {
    max_attempts: u32,
    /// In units of one call's contribution.
    budget: AtomicU64,
}

impl Retry {
    pub(crate) fn new(max_attempts: u32) -> Self {
        Self { max_attempts, budget: AtomicU64::new(BUDGET * CALLS_PER_RETRY) }
    }

    /// Runs `attempt` until it succeeds, fails for good, or the deadline, the count or the budget
    /// forbid another try; then answers with the last error.
    pub(crate) async fn run<T, F>(
        &self,
        deadline: Instant,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.earn();
        let mut attempts = 1;
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(wait) = self.wait_before_next(&error, attempts, deadline) else {
                return Err(error);
            };
            time::sleep(wait).await;
            attempts += 1;
        }
    }

    fn wait_before_next(
        &self,
        error: &Error,
        attempts: u32,
        deadline: Instant,
    ) -> Option<Duration> {
        // Being overloaded or late is the caller's to act on: more of the same makes it worse.
        let ours = matches!(error, Error::Refused(_) | Error::Transport(_));
        if !ours || !error.is_retryable() || attempts >= self.max_attempts {
            return None;
        }
        let wait = back_off(attempts).max(error.retry_after().unwrap_or_default());
        (wait < clock::left(deadline) && self.spend()).then_some(wait)
    }

    fn earn(&self) {
        // The store is full nearly always; a read is cheaper than a write that all cores share.
        if self.budget.load(Ordering::Relaxed) < BUDGET * CALLS_PER_RETRY {
            self.budget.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn spend(&self) -> bool {
        let spend = |budget: u64| budget.checked_sub(CALLS_PER_RETRY);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }
}

/// Half of the exponential back-off, and up to as much again by chance, so that callers that
/// failed together do not come back together.
fn back_off(attempts: u32) -> Duration {
    let doubled = FIRST_BACK_OFF.saturating_mul(1 << (attempts - 1).min(10));
    let half = doubled.min(LONGEST_BACK_OFF) / 2;
    // A fresh RandomState is seeded by the operating system: good enough to spread callers.
    let random = RandomState::new().hash_one(attempts);
    half + half.mul_f64((random >> 32) as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future};

    use tonic::Code;

    use super::*;
    use crate::Refusal;

    fn refused(retryable: bool, retry_after: Option<Duration>) -> Error {
        Refusal {
            code: Code::Unavailable,
            reason: "DEVICE_DOWN".into(),
            message: String::new(),
            retry_after,
            claim: None,
            rule: None,
            retryable,
        }
        .into()
    }

    async fn attempts(retry: &Retry, within: Duration, error: Error) -> u32 {
        let count = Cell::new(0);
        let result: Result<(), _> = retry
            .run(clock::deadline(within), || {
                count.set(count.get() + 1);
                future::ready(Err(error.clone()))
            })
            .await;
        assert!(result.is_err());
        count.get()
    }

    #[tokio::test]
    async fn stops_at_the_count_of_attempts() {
        let retry = Retry::new(3);
        assert_eq!(attempts(&retry, Duration::from_secs(9), refused(true, None)).await, 3);
        assert_eq!(attempts(&retry, Duration::from_secs(9), refused(false, None)).await, 1);
    }

    #[tokio::test]
    async fn does_not_wait_past_the_deadline() {
        let retry = Retry::new(3);
        let error = refused(true, Some(Duration::from_secs(60)));
        assert_eq!(attempts(&retry, Duration::from_secs(1), error).await, 1);
    }

    #[tokio::test]
    async fn stops_when_the_budget_is_spent_and_earns_it_back() {
        let retry = Retry { max_attempts: 9, budget: AtomicU64::new(0) };
        let error = refused(true, None);
        for _ in 1..CALLS_PER_RETRY {
            assert_eq!(attempts(&retry, Duration::from_secs(9), error.clone()).await, 1);
        }
        assert_eq!(attempts(&retry, Duration::from_secs(9), error).await, 2);
    }

    #[test]
    fn back_off_grows_to_its_bound_and_is_jittered() {
        for attempts in 1..40 {
            let wait = back_off(attempts);
            assert!(wait >= FIRST_BACK_OFF / 2 && wait <= LONGEST_BACK_OFF, "{attempts}: {wait:?}");
        }
        assert!((0..20).any(|_| back_off(5) != back_off(5)));
    }
}
