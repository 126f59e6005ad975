//! The one task per issuer that changes its keyset. It outlives every request: what it has begun it
//! finishes, also when the custodian hangs up.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mintwarden_worker::IssuerName;
use tokio::{
    sync::{mpsc, oneshot},
    task::{Id, JoinError, JoinSet},
    time::MissedTickBehavior,
};

use super::{
    KeyState, Pairs, Phase, WishedFor,
    act::{CustodianAct, Refusal},
    apply::{Answer, Call, Keeper, KeyOps, KeyOpsError, OrderError},
    live::{LiveIssuer, Report, Snapshot},
};
use crate::{
    clock::SystemClock,
    store::{Store, StoreError},
};

/// Orders that wait for a steward.
const QUEUE: usize = 16;

/// Whether the server serves JWK Sets now: what maturity counts (I4).
#[derive(Clone, Debug, Default)]
pub struct Serving(Arc<AtomicBool>);

impl Serving {
    /// Says that listeners accept, or do no longer.
    pub fn set(&self, serving: bool) {
        self.0.store(serving, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Why a custodian's act did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StewardError {
    /// It is refused; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A device or the store could not do its part yet.
    #[error("{0}; the work goes on by itself when this is mended")]
    Interrupted(String),
    /// A device or the store could not do its part, and nothing goes on by itself.
    #[error("{0}")]
    Failed(String),
    /// Too many attempts came to nothing.
    #[error("{0}; look at the device, then say it again")]
    GivenUp(String),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Stopping,
}

impl From<OrderError> for StewardError {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Refused(refusal) => Self::Refused(refusal),
            OrderError::Store(error) => Self::Failed(error.to_string()),
            OrderError::Device(error) => Self::Failed(error.to_string()),
        }
    }
}

type Outcome = Result<Arc<Snapshot>, StewardError>;

enum Message {
    Order(Order),
    Close(oneshot::Sender<()>),
}

struct Order {
    act: CustodianAct,
    reason: String,
    reply: oneshot::Sender<Outcome>,
}

/// Asks an issuer's steward.
#[derive(Clone, Debug)]
pub struct Steward {
    messages: mpsc::Sender<Message>,
}

impl Steward {
    /// Loads the issuer's keyset and starts its steward.
    ///
    /// # Errors
    /// [`StoreError`] if the keyset cannot be read, or not taken over to the configuration's timing.
    pub async fn start<S, K>(
        issuer: Arc<LiveIssuer>,
        pairs: Pairs,
        store: S,
        ops: Arc<K>,
        serving: Serving,
    ) -> Result<Self, StoreError>
    where
        S: Store + 'static,
        K: KeyOps + 'static,
    {
        let show = {
            let issuer = Arc::clone(&issuer);
            Box::new(move |keyset: &super::Keyset| issuer.show(keyset))
        };
        let (name, policy) = (issuer.config.name().clone(), issuer.policy().clone());
        let keeper = Keeper::open(name, policy, pairs, store, SystemClock, show).await?;
        let (messages, asked) = mpsc::channel(QUEUE);
        let calls = Calls::default();
        let (waiting, deferred) = (vec![], VecDeque::new());
        let work = Work { issuer, keeper, ops, serving, calls, waiting, deferred };
        tokio::spawn(work.run(asked));
        Ok(Self { messages })
    }

    /// Carries out a custodian's act; answers when it is done, or as far as it can be by now. Goes on
    /// even if this future is dropped.
    ///
    /// # Errors
    /// [`StewardError`].
    pub async fn order(&self, act: CustodianAct, reason: &str) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let order = Order { act, reason: reason.to_owned(), reply };
        let order = Message::Order(order);
        self.messages.send(order).await.map_err(|_| StewardError::Stopping)?;
        answer.await.map_err(|_| StewardError::Stopping)?
    }

    /// Stores the credit so far, and ends the steward: the server is going down.
    pub async fn close(&self) {
        let (closed, end) = oneshot::channel();
        if self.messages.send(Message::Close(closed)).await.is_ok() {
            let _ended = end.await;
        }
    }
}

struct Work<S, K> {
    issuer: Arc<LiveIssuer>,
    keeper: Keeper<S, SystemClock>,
    ops: Arc<K>,
    serving: Serving,
    calls: Calls,
    /// Custodians whose acts the plan is still carrying out.
    waiting: Vec<(CustodianAct, oneshot::Sender<Outcome>)>,
    /// First keys asked for while first keys are being made: once that is done, they are answered.
    deferred: VecDeque<Order>,
}

impl<S: Store, K: KeyOps + 'static> Work<S, K> {
    async fn run(mut self, mut asked: mpsc::Receiver<Message>) {
        let every = self.keeper.policy().maturity() / 50;
        let every = every.clamp(Duration::from_millis(100), Duration::from_secs(1));
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let closed = loop {
            tokio::select! {
                message = asked.recv() => match message {
                    Some(Message::Order(order)) => self.order(order).await,
                    Some(Message::Close(closed)) => break Some(closed),
                    None => break None,
                },
                Some((call, outcome)) = self.calls.next() => {
                    self.keeper.finish(&call, outcome).await;
                }
                _ = ticks.tick() => {}
            }
            self.go_on().await;
        };
        // The server is going down: the credit so far is kept.
        if let Err(error) = self.keeper.checkpoint().await {
            tracing::warn!(issuer = %self.issuer.config.name(), %error, "credit is lost");
        }
        closed.map(|closed| closed.send(()));
    }

    async fn go_on(&mut self) {
        self.keeper.tick(self.serving.get(), &*self.ops);
        for call in self.keeper.work(&*self.ops).await {
            self.calls.begin(call, self.issuer.config.name().clone(), Arc::clone(&self.ops));
        }
        self.issuer.set_report(Report {
            now: self.keeper.now(),
            view: self.keeper.view().clone(),
            alarms: self.keeper.alarms(),
        });
        let waiting = std::mem::take(&mut self.waiting);
        for (act, reply) in waiting {
            match self.outcome(&act) {
                // Whoever asked may be gone; the work is done all the same.
                Some(outcome) => drop(reply.send(outcome)),
                None => self.waiting.push((act, reply)),
            }
        }
        if !self.waiting.iter().any(|(act, _)| is_first(act))
            && let Some(order) = self.deferred.pop_front()
        {
            self.order(order).await;
        }
    }

    async fn order(&mut self, order: Order) {
        if is_first(&order.act) && self.waiting.iter().any(|(act, _)| is_first(act)) {
            self.deferred.push_back(order);
            return;
        }
        let Order { act, reason, reply } = order;
        match self.keeper.order(&act, &reason, &*self.ops).await {
            Ok(()) => self.waiting.push((act, reply)),
            Err(error) => drop(reply.send(Err(error.into()))),
        }
    }

    /// What an act has come to; `None` while the plan is at it.
    fn outcome(&self, act: &CustodianAct) -> Option<Outcome> {
        let keyset = self.keeper.keyset()?;
        let done = match act {
            CustodianAct::Init | CustodianAct::Recover { .. } => keyset.phase == Phase::Published,
            CustodianAct::Rotate { .. } | CustodianAct::Activate { .. } => {
                !keyset.keys.iter().any(|key| {
                    let wish = key.wish.as_ref().map(|wish| wish.what);
                    wish.is_some_and(|what| what != WishedFor::Destruction)
                })
            }
            CustodianAct::Destroy { kid } | CustodianAct::Revoke { kid, .. } => {
                keyset.by_kid(kid).is_none_or(|key| key.state == KeyState::Destroyed)
            }
            _ => true,
        };
        if done {
            return self.issuer.snapshot().map(Ok);
        }
        if keyset.phase != Phase::Published {
            let refused = self.keeper.init_refused().map(StewardError::Refused);
            let given_up = || self.keeper.given_up().map(StewardError::GivenUp);
            let trouble = || self.keeper.trouble(&*self.ops).map(StewardError::Interrupted);
            return refused.or_else(given_up).or_else(trouble).map(Err);
        }
        // What is left waits for something else than a device that is at it.
        self.calls.is_empty().then(|| self.issuer.snapshot().map(Ok)).flatten()
    }
}

/// Whether an act makes the first keys.
fn is_first(act: &CustodianAct) -> bool {
    matches!(act, CustodianAct::Init | CustodianAct::Recover { .. })
}

/// Calls of devices under way.
#[derive(Default)]
struct Calls {
    tasks: JoinSet<Result<Answer, KeyOpsError>>,
    calls: HashMap<Id, Call>,
}

impl Calls {
    fn begin<K: KeyOps + 'static>(&mut self, call: Call, issuer: IssuerName, ops: Arc<K>) {
        let made = call.clone();
        let task = self.tasks.spawn(async move { made.make(&issuer, &*ops).await });
        self.calls.insert(task.id(), call);
    }

    fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    async fn next(&mut self) -> Option<(Call, Result<Answer, KeyOpsError>)> {
        let (id, outcome) = match self.tasks.join_next_with_id().await? {
            Ok((id, outcome)) => (id, Ok(outcome)),
            Err(error) => (error.id(), Err(error)),
        };
        let call = self.calls.remove(&id)?;
        let broken = |error: JoinError| KeyOpsError {
            device: call.device.clone(),
            reason: "INTERNAL".into(),
            detail: error.to_string(),
        };
        let outcome = outcome.map_err(broken).and_then(|outcome| outcome);
        Some((call, outcome))
    }
}
