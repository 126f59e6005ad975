//! A call's way: an endpoint, an attempt, and where it failed another one, within the caller's
//! deadline and the client's retry budget.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{self, Instant, error::Elapsed};
use tonic::{Code, Request, Response, Status};
use tower::retry::budget::{Budget as _, TpsBudget};

use crate::{
    Error,
    builder::Settings,
    clock,
    error::TransportError,
    http2::Connection,
    observe,
    pool::{Choice, Lease, Pool, Route, back_off},
    status,
};

/// So long an endpoint may be silent before another one is asked, where there is another one; longer
/// where the deadline allows.
const SILENCE: Duration = Duration::from_secs(1);

/// What the retry budget looks back on.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);

/// Sends calls. Everything that a client sends goes through [`call`](Self::call).
pub(crate) struct Caller {
    pub(crate) pool: Arc<Pool>,
    pub(crate) settings: Settings,
    budget: TpsBudget,
    /// For calls that need no device.
    plain: Route,
}

/// What is asked for.
pub(crate) struct Call<'a> {
    pub(crate) method: &'static str,
    /// What is known of the endpoints for this issuer; `None` for calls that need no device.
    pub(crate) route: Option<&'a Route>,
    pub(crate) deadline: Instant,
    /// Whether it may be sent again without knowing what became of it.
    pub(crate) repeatable: bool,
}

/// A call in progress.
struct Progress {
    attempts: u32,
    /// Where it failed last.
    failed_at: Option<usize>,
    /// Endpoints that have failed since have been tried for this call.
    since: Instant,
}

/// Who is to blame for a failure.
enum Blame {
    /// The connection.
    Connection,
    /// The appliance, for this issuer: it said so, and when to come back.
    Appliance { retry_after: Duration },
    /// It gave no answer in this time; the connection may be to blame, or what is at its other end.
    Silence(Duration),
    /// Nobody; another attempt may do.
    Nobody { retry_after: Duration },
}

impl Caller {
    pub(crate) fn new(pool: Arc<Pool>, settings: Settings) -> Self {
        let (ratio, per_second) = settings.retry_budget;
        let budget = TpsBudget::new(BUDGET_WINDOW, per_second, ratio);
        let plain = pool.route(None);
        Self { pool, settings, budget, plain }
    }

    /// The deadline of a call that names none.
    pub(crate) fn deadline(&self) -> Instant {
        clock::deadline(self.settings.timeout)
    }

    /// Reads something, which is safe to repeat and needs no device.
    pub(crate) async fn read<Q, R, F>(
        &self,
        method: &'static str,
        message: Q,
        send: impl Fn(Connection, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let call = Call { method, route: None, deadline: self.deadline(), repeatable: true };
        self.call(&call, message, send).await
    }

    /// Carries out an act: once it was sent, only the person who asked can tell whether to ask again.
    pub(crate) async fn act<Q, R, F>(
        &self,
        method: &'static str,
        message: Q,
        send: impl Fn(Connection, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let call = Call { method, route: None, deadline: self.deadline(), repeatable: false };
        self.call(&call, message, send).await
    }

    /// Sends a call until it succeeds, fails for good, or may not be tried again.
    pub(crate) async fn call<Q, R, F>(
        &self,
        call: &Call<'_>,
        message: Q,
        send: impl Fn(Connection, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.budget.deposit();
        let mut progress = Progress { attempts: 0, failed_at: None, since: clock::now() };
        loop {
            let lease = self.endpoint(call, &mut progress).await?;
            progress.attempts += 1;
            let error = match self.attempt(call, &lease, message.clone(), &send).await {
                Ok(answer) => {
                    lease.served(self.route(call));
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let wait = self.blame(call, &lease, &error, progress.attempts);
            if !call.repeatable || self.is_in_vain(call, &lease, &error, &progress) {
                return Err(error);
            }
            self.may_repeat(&error, progress.attempts, wait, call.deadline)?;
            if let Some(observer) = self.pool.observer() {
                observer.retry(&observe::Retry {
                    method: call.method,
                    endpoint: self.pool.name(lease.endpoint),
                    attempts: progress.attempts,
                    error: &error,
                });
            }
            progress.failed_at = Some(lease.endpoint);
            drop(lease);
            if !wait.is_zero() {
                time::sleep(wait).await;
            }
        }
    }

    /// Whether there is no point in trying again what its appliance cannot do by the deadline: later is
    /// too late as well. Another endpoint is asked once.
    fn is_in_vain(
        &self,
        call: &Call<'_>,
        lease: &Lease,
        error: &Error,
        progress: &Progress,
    ) -> bool {
        let has_other = || self.pool.has_other(self.route(call), lease.endpoint, clock::now());
        error.fits().is_some() && (progress.failed_at.is_some() || !has_other())
    }

    /// Whether what has failed with `error` may be tried again after `wait`; takes that from the
    /// budget.
    ///
    /// # Errors
    /// The error to answer with instead.
    fn may_repeat(
        &self,
        error: &Error,
        attempts: u32,
        wait: Duration,
        deadline: Instant,
    ) -> Result<(), Error> {
        let may =
            is_worth_repeating(error) && self.may_try(attempts) && wait < clock::left(deadline);
        if !may {
            return Err(error.clone());
        }
        if !self.budget.withdraw() {
            return Err(Error::RetryBudgetExhausted { last: Box::new(error.clone()) });
        }
        Ok(())
    }

    /// Waits until an item that was refused alone may be tried again.
    ///
    /// # Errors
    /// The error to answer with instead.
    pub(crate) async fn repeat_item(
        &self,
        error: &Error,
        attempts: u32,
        deadline: Instant,
    ) -> Result<(), Error> {
        let wait = back_off(attempts).max(error.retry_after().unwrap_or_default());
        self.may_repeat(error, attempts, wait, deadline)?;
        time::sleep(wait).await;
        Ok(())
    }

    /// Connects to every endpoint, and waits until one is reached or none can be.
    pub(crate) async fn reach(&self) -> Result<(), Error> {
        let since = clock::now();
        loop {
            let changed = self.pool.change();
            match self.pool.choose(&self.plain, None, clock::now(), since) {
                Choice::Use(_) => return Ok(()),
                Choice::None(outage) if outage.fresh => return Err(outage.error),
                // Connecting takes no longer than its timeout.
                Choice::Wait { .. } | Choice::None(_) => changed.await,
            }
        }
    }

    /// An endpoint for the next attempt, as soon as there is one.
    async fn endpoint(&self, call: &Call<'_>, progress: &mut Progress) -> Result<Lease, Error> {
        // That nothing could be reached says more than that the time is over; not so what may be mended by now.
        let mut unreached = None;
        loop {
            let changed = self.pool.change();
            let now = clock::now();
            let late = now >= call.deadline;
            let route = self.route(call);
            let until = match self.pool.choose(route, progress.failed_at, now, progress.since) {
                Choice::None(outage) if late => return Err(outage.error),
                Choice::Wait { .. } if late => {
                    return Err(unreached.unwrap_or(Error::DeadlineExceeded));
                }
                Choice::Use(_) if late => return Err(Error::DeadlineExceeded),
                Choice::Use(lease) => {
                    self.tell_fail_over(call, progress.failed_at, &lease);
                    return Ok(lease);
                }
                Choice::Wait { until } => until,
                Choice::None(outage) => {
                    if outage.fresh {
                        progress.attempts += 1;
                        progress.since = now;
                    }
                    let hopeless = outage.fresh && !outage.retryable;
                    let late = outage.until >= call.deadline;
                    if hopeless || late || !self.may_try(progress.attempts) {
                        return Err(outage.error);
                    }
                    unreached = outage.retryable.then_some(outage.error);
                    Some(outage.until)
                }
            };
            let until = until.map_or(call.deadline, |until| until.min(call.deadline));
            // Whichever comes first: then there is another choice.
            let _ = time::timeout_at(until, changed).await;
        }
    }

    async fn attempt<Q, R, F>(
        &self,
        call: &Call<'_>,
        lease: &Lease,
        message: Q,
        send: impl Fn(Connection, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let begun = clock::now();
        let endpoint = self.pool.name(lease.endpoint);
        let mut request = Request::new(message);
        request.set_timeout(call.deadline.saturating_duration_since(begun));
        let answer = self.patiently(call, lease, send(lease.connection.clone(), request)).await;
        let result = match answer {
            Ok(Ok(response)) => Ok(response.into_inner()),
            // The appliance watches the deadline too, and may come first.
            Ok(Err(_)) | Err(_) if clock::left(call.deadline).is_zero() => {
                Err(Error::DeadlineExceeded)
            }
            Ok(Err(status)) => Err(status::to_error(status, endpoint)),
            Err(_) => {
                let waited = clock::now().saturating_duration_since(begun);
                Err(Arc::new(TransportError::silent(endpoint.clone(), waited)).into())
            }
        };
        if let Some(observer) = self.pool.observer() {
            observer.call(&observe::Call {
                method: call.method,
                endpoint,
                latency: clock::now().saturating_duration_since(begun),
                error: result.as_ref().err(),
            });
        }
        result
    }

    /// Waits for an answer until the deadline, or until half of the time has passed and another
    /// endpoint would take the call; of what was set aside until now no longer than needed to tell.
    async fn patiently<T>(
        &self,
        call: &Call<'_>,
        lease: &Lease,
        answer: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        let mut answer = pin!(answer);
        loop {
            let left = clock::left(call.deadline);
            let patience = match (call.repeatable, lease.is_probe) {
                (false, _) => left,
                (true, true) => left.min(SILENCE),
                (true, false) => left.min(SILENCE.max(left / 2)),
            };
            let elapsed = match time::timeout(patience, &mut answer).await {
                Ok(answer) => return Ok(answer),
                Err(elapsed) => elapsed,
            };
            let now = clock::now();
            let late = now >= call.deadline;
            if late || self.pool.has_other(self.route(call), lease.endpoint, now) {
                return Err(elapsed);
            }
        }
    }

    /// Sets aside what is to blame. Answers how long this call has to wait apart from that.
    fn blame(&self, call: &Call<'_>, lease: &Lease, error: &Error, attempts: u32) -> Duration {
        let route = self.route(call);
        match blame(error) {
            Blame::Connection => lease.broken(),
            Blame::Appliance { retry_after } => lease.unavailable(route, error, retry_after),
            Blame::Silence(waited) => {
                lease.broken();
                lease.unavailable(route, error, waited.saturating_mul(2));
            }
            Blame::Nobody { retry_after } => return back_off(attempts).max(retry_after),
        }
        Duration::ZERO
    }

    fn tell_fail_over(&self, call: &Call<'_>, failed_at: Option<usize>, lease: &Lease) {
        if let Some(from) = failed_at
            && from != lease.endpoint
            && let Some(observer) = self.pool.observer()
        {
            let (from, to) = (self.pool.name(from), self.pool.name(lease.endpoint));
            observer.fail_over(&observe::FailOver { method: call.method, from, to });
        }
    }

    fn route<'a>(&'a self, call: &Call<'a>) -> &'a Route {
        call.route.unwrap_or(&self.plain)
    }

    fn may_try(&self, attempts: u32) -> bool {
        self.settings.max_attempts.is_none_or(|most| attempts < most)
    }
}

fn blame(error: &Error) -> Blame {
    let retry_after = error.retry_after().unwrap_or_default();
    match error {
        Error::Transport(error) if error.is_of_one_call() => Blame::Nobody { retry_after },
        Error::Transport(error) => error.silence().map_or(Blame::Connection, Blame::Silence),
        Error::Refused(refusal) if refusal.code == Code::Unavailable => {
            Blame::Appliance { retry_after }
        }
        // Asked elsewhere, if at all: nothing is gained by waiting.
        _ if error.fits().is_some() => Blame::Nobody { retry_after: Duration::ZERO },
        _ => Blame::Nobody { retry_after },
    }
}

/// Being late is the caller's to act on: more of the same makes it worse.
fn is_worth_repeating(error: &Error) -> bool {
    matches!(error, Error::Refused(_) | Error::Transport(_))
        && (error.is_retryable() || error.fits().is_some())
}
