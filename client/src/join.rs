//! Joins concurrent calls into batches, without a timer.
//!
//! - A call that finds nothing in flight goes out alone, from the caller's own task: an idle
//!   client adds neither delay nor a task.
//! - Any other call waits in the queue. While more batches may be in flight, a driver task is
//!   started for what waits. It first lets every task run that is ready, so that callers which were
//!   woken together go out together.
//! - A driver takes its share of what waits, sends it, hands out the answers, and goes on until
//!   nothing waits: whatever waits when a batch comes back goes out with the next.
//!
//! A batch as a whole has the latest deadline of its members. Each caller that waits keeps its
//! own, with an entry in Tokio's timer wheel: two short locks, where a task or a sorted queue of
//! our own would cost more. A caller that gives up closes its end of the channel; if its item is not sent
//! yet it is left out, otherwise its answer is dropped.

mod queue;

use std::{
    iter,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use mintwarden_proto::v1::{
    SignBatchRequest, SignBatchResponse, sign_result, signing_service_client::SigningServiceClient,
};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    task,
    time::{self, Instant},
};

use self::queue::{Queue, Waiting};
use crate::{
    Error, Token,
    call::{Call, Caller},
    clock, observe,
    pool::Route,
    status,
};

/// What the appliance returned for one item. With the claims, which never travel back, it makes
/// the token.
#[derive(Debug)]
pub(crate) struct Signed {
    /// base64url; one for the whole batch.
    protected_header: Arc<str>,
    /// Raw, not base64url.
    signature: Bytes,
}

impl Signed {
    pub(crate) fn token(&self, claims: &[u8]) -> Token {
        Token::assemble(&self.protected_header, claims, &self.signature)
    }
}

/// Why a call has no signature.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The batch as a whole failed; what was worth trying again was tried again.
    Batch(Error),
    /// The appliance refused this item alone.
    Item(Error),
}

/// What became of one item.
type Outcome = Result<Signed, Failure>;

/// Joins the calls of one issuer.
pub(crate) struct Joiner {
    issuer: String,
    caller: Arc<Caller>,
    route: Route,
    queue: Mutex<Queue>,
}

/// How a call goes on after it was let in.
enum Admitted {
    /// Nothing is in flight: it goes out now.
    Alone(Alone),
    /// A driver will send it.
    Waits(oneshot::Receiver<Outcome>),
}

impl Joiner {
    pub(crate) fn new(issuer: String, caller: Arc<Caller>) -> Self {
        let queue = Mutex::new(Queue::new(caller.settings.max_in_flight));
        let route = caller.pool.route(Some(&issuer));
        Self { issuer, caller, route, queue }
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Signs one payload, in a batch with others.
    pub(crate) async fn sign(self: &Arc<Self>, claims: Bytes, deadline: Instant) -> Outcome {
        loop {
            match self.admit(&claims, deadline).map_err(Failure::Batch)? {
                // Boxed, because the future of a call is large and most callers only wait.
                Admitted::Alone(alone) => return Box::pin(alone.send(claims, deadline)).await,
                Admitted::Waits(answer) => match time::timeout_at(deadline, answer).await {
                    Ok(Ok(result)) => return result,
                    // The driver went down with its runtime; this caller lives in another one.
                    Ok(Err(_)) => {}
                    Err(_) => return Err(Failure::Batch(Error::DeadlineExceeded)),
                },
            }
        }
    }

    fn admit(self: &Arc<Self>, claims: &Bytes, deadline: Instant) -> Result<Admitted, Error> {
        let mut queue = self.lock();
        if queue.start_alone() {
            return Ok(Admitted::Alone(Alone { joiner: self.clone(), runtime: Handle::current() }));
        }
        let (answer, receiver) = oneshot::channel();
        queue.push(Waiting { claims: claims.clone(), deadline, answer })?;
        if queue.start_driver() {
            drop(queue);
            self.spawn_driver(&Handle::current());
        }
        Ok(Admitted::Waits(receiver))
    }

    /// Runs a driver that the queue has counted already.
    fn spawn_driver(self: &Arc<Self>, runtime: &Handle) {
        let driver = Driver { joiner: self.clone(), state: DriverState::Starting };
        runtime.spawn(driver.run());
    }

    /// Sends a batch as it is.
    pub(crate) async fn send(
        &self,
        claims: Vec<Bytes>,
        deadline: Instant,
    ) -> Result<SignBatchResponse, Error> {
        if let Some(observer) = self.caller.pool.observer() {
            observer.batch(&observe::Batch { issuer: &self.issuer, items: claims.len() });
        }
        let request = SignBatchRequest { issuer: self.issuer.clone(), claims };
        let route = Some(&self.route);
        let call = Call { method: "SignBatch", route, deadline, repeatable: true };
        self.caller
            .call(&call, request, |connection, request| async move {
                SigningServiceClient::new(connection).sign_batch(request).await
            })
            .await
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue's methods do not panic half-way, so a poisoned lock guards a sound queue.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The only call in flight, sent by its caller. If the caller drops it, only its own call ends.
struct Alone {
    joiner: Arc<Joiner>,
    runtime: Handle,
}

impl Alone {
    async fn send(self, claims: Bytes, deadline: Instant) -> Outcome {
        let response = self.joiner.send(vec![claims], deadline).await;
        let results = response.and_then(|response| results(response, 1)).map_err(Failure::Batch)?;
        results.last().unwrap_or(Err(WRONG_COUNT)).map_err(Failure::Item)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let mut queue = self.joiner.lock();
        queue.release();
        if queue.start_driver() {
            drop(queue);
            self.joiner.spawn_driver(&self.runtime);
        }
    }
}

/// Sends batches until nothing waits.
struct Driver {
    joiner: Arc<Joiner>,
    state: DriverState,
}

#[derive(Clone, Copy, PartialEq)]
enum DriverState {
    /// Will take a share of the queue.
    Starting,
    /// Has a batch in flight.
    Sending,
    /// Found nothing, and is not counted any more.
    Done,
}

impl Driver {
    async fn run(mut self) {
        loop {
            task::yield_now().await;
            let Some(batch) = self.take() else { return };
            self.send(batch).await;
            self.joiner.lock().restart();
            self.state = DriverState::Starting;
        }
    }

    fn take(&mut self) -> Option<Vec<Waiting>> {
        let mut queue = self.joiner.lock();
        let batch = queue.take(clock::now());
        self.state = if batch.is_empty() { DriverState::Done } else { DriverState::Sending };
        if queue.start_driver() {
            drop(queue);
            self.joiner.spawn_driver(&Handle::current());
        }
        (!batch.is_empty()).then_some(batch)
    }

    async fn send(&self, batch: Vec<Waiting>) {
        let latest = batch.iter().map(|waiting| waiting.deadline).max();
        let (claims, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.claims, waiting.answer)).unzip();
        let deadline = latest.unwrap_or_else(clock::now);
        let response = self.joiner.send(claims.clone(), deadline).await;
        // They were joined here: that they are too many together is no caller's fault. What fits goes out
        // once more, without the rest.
        if let Err(error) = &response
            && let Some(fits @ 1..) = error.fits()
            && fits < answers.len()
        {
            let mut answers = answers;
            for answer in answers.split_off(fits) {
                let _ = answer.send(Err(Failure::Batch(error.clone())));
            }
            let response = self.joiner.send(claims[..fits].to_vec(), deadline).await;
            return Self::answer(answers, response);
        }
        Self::answer(answers, response);
    }

    /// Hands out the answers of a batch.
    fn answer(answers: Vec<oneshot::Sender<Outcome>>, response: Result<SignBatchResponse, Error>) {
        // An answer that nobody waits for any more is no error.
        match response.and_then(|response| results(response, answers.len())) {
            Ok(results) => iter::zip(answers, results).for_each(|(answer, result)| {
                let _ = answer.send(result.map_err(Failure::Item));
            }),
            Err(error) => answers.into_iter().for_each(|answer| {
                let _ = answer.send(Err(Failure::Batch(error.clone())));
            }),
        }
    }
}

impl Drop for Driver {
    /// Matters only where the runtime ends before the driver does.
    fn drop(&mut self) {
        match self.state {
            DriverState::Done => {}
            DriverState::Starting => self.joiner.lock().abandon_start(),
            DriverState::Sending => self.joiner.lock().abandon(),
        }
    }
}

const WRONG_COUNT: Error = Error::Protocol("the number of results is not that of the payloads");

/// The results of a batch of `count`, in order.
pub(crate) fn results(
    response: SignBatchResponse,
    count: usize,
) -> Result<impl Iterator<Item = Result<Signed, Error>>, Error> {
    if response.results.len() != count {
        return Err(WRONG_COUNT);
    }
    let protected_header: Arc<str> = response.protected_header.into();
    Ok(response.results.into_iter().map(move |result| match result.outcome {
        Some(sign_result::Outcome::Signature(signature))
            if !signature.is_empty() && !protected_header.is_empty() =>
        {
            Ok(Signed { protected_header: protected_header.clone(), signature })
        }
        Some(sign_result::Outcome::Signature(_)) => {
            Err(Error::Protocol("a signature or its header is empty"))
        }
        Some(sign_result::Outcome::Error(error)) => Err(status::from_item(error)),
        None => Err(Error::Protocol("an item has neither signature nor error")),
    }))
}
