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
    apply::{self, Call, Heard, Keeper, KeyOps, KeyOpsError, OrderError, Request},
    live::{LiveIssuer, Report, Snapshot},
    plan::Obstacle,
    precaution::Precaution,
    proposal::{ProposalId, ProposalRefusal},
};
use crate::{
    access::Custodian,
    clock::{self, Deadline, SystemClock, UnixTime},
    listen::LiveCertificates,
    record::Book,
    store::{Store, StoreError},
};

/// Orders that wait for a steward.
const QUEUE: usize = 16;

/// How long a custodian waits for what an act leaves to do in a device. The act itself is done by
/// then; a device that hangs delays the answer by no more.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the server serves JWK Sets now: what maturity counts (I4).
#[derive(Clone, Debug, Default)]
pub struct Serving {
    accepting: Arc<AtomicBool>,
    /// What verifiers have to accept before they are served; `None`: they need not.
    certificates: Option<LiveCertificates>,
}

impl Serving {
    /// Where verifiers fetch over TLS by these certificates.
    #[must_use]
    pub fn by(certificates: Option<LiveCertificates>) -> Self {
        Self { certificates, ..Self::default() }
    }

    /// Says that listeners accept, or do no longer.
    pub fn set(&self, serving: bool) {
        self.accepting.store(serving, Ordering::Release);
    }

    /// Under a certificate that does not hold nobody is served, however many listeners accept.
    pub(crate) fn at(&self, now: UnixTime) -> bool {
        self.accepting.load(Ordering::Acquire)
            && self.certificates.as_ref().is_none_or(|certificates| certificates.now().hold(now))
    }
}

/// Why a custodian's act did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StewardError {
    /// It is refused; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What was said about a proposal is refused; nothing changed by it.
    #[error(transparent)]
    Proposal(#[from] ProposalRefusal),
    /// A device or the store could not do its part yet.
    #[error("{0}; the work goes on by itself when this is mended")]
    Interrupted(String),
    /// A device or the store could not do its part, and nothing goes on by itself.
    #[error("{0}")]
    Failed(String),
    /// No key is made until a person acts.
    #[error("{0}")]
    GivenUp(Obstacle),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Stopping,
}

impl From<OrderError> for StewardError {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Refused(refusal) => Self::Refused(refusal),
            OrderError::Proposal(refusal) => Self::Proposal(refusal),
            OrderError::Store(error) => Self::Failed(error.to_string()),
            OrderError::Device(error) => Self::Failed(error.to_string()),
        }
    }
}

/// What came of what a custodian asked for.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The keys as they stand; `None` where there never were any.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The proposal, where it was about one: open where more persons have to agree.
    pub proposal: Option<ProposalId>,
}

type Outcome = Result<Answer, StewardError>;

enum Message {
    Order(Order),
    Close(oneshot::Sender<()>),
}

struct Order {
    by: Custodian,
    request: Request,
    reply: oneshot::Sender<Outcome>,
}

/// A custodian whose act the plan is still carrying out.
struct Waiting {
    act: CustodianAct,
    proposal: Option<ProposalId>,
    patience: Deadline,
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
        book: Book,
    ) -> Result<Self, StoreError>
    where
        S: Store + 'static,
        K: KeyOps + 'static,
    {
        let show = {
            let (issuer, ops) = (Arc::clone(&issuer), Arc::clone(&ops));
            Box::new(move |keyset: &super::Keyset| {
                ops.keep(keyset);
                issuer.show(keyset);
            })
        };
        let (name, policy) = (issuer.config.name().clone(), issuer.policy().clone());
        let keeper = Keeper::open(name, policy, pairs, store, SystemClock, show).await?;
        let keeper = keeper.staffed(issuer.quorum().clone(), book);
        let (messages, asked) = mpsc::channel(QUEUE);
        let calls = Calls::default();
        let (waiting, deferred) = (vec![], VecDeque::new());
        let mut work = Work { issuer, keeper, ops, serving, calls, waiting, deferred };
        // Whoever asks first is told of it, alarms and all.
        work.tick();
        work.show();
        tokio::spawn(work.run(asked));
        Ok(Self { messages })
    }

    /// Does what a custodian asks for; answers when it is done, or as far as it can be by now. Goes on
    /// even if this future is dropped.
    ///
    /// # Errors
    /// [`StewardError`].
    pub async fn order(&self, by: Custodian, request: Request) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let order = Message::Order(Order { by, request, reply });
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
    waiting: Vec<Waiting>,
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
                () = self.issuer.suspects().until_condemned() => {}
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

    fn tick(&mut self) {
        self.keeper.tick(self.serving.at(clock::wall()), &*self.ops);
    }

    /// Shows how it stands.
    fn show(&self) {
        self.issuer.show_proposals(self.keeper.proposals());
        self.issuer.set_report(Report {
            now: self.keeper.now(),
            view: self.keeper.view().clone(),
            alarms: self.keeper.alarms(),
        });
    }

    async fn go_on(&mut self) {
        self.tick();
        // A key stays condemned until the keyset says that it is suspended.
        for kid in self.issuer.suspects().condemned() {
            self.keeper.take_precaution(&Precaution::SuspendWrongSigner(kid)).await;
        }
        for call in self.keeper.work(&*self.ops).await {
            self.calls.begin(call, self.issuer.config.name().clone(), Arc::clone(&self.ops));
        }
        self.show();
        let waiting = std::mem::take(&mut self.waiting);
        for waiting in waiting {
            match self.outcome(&waiting) {
                // Whoever asked may be gone; the work is done all the same.
                Some(outcome) => drop(waiting.reply.send(outcome)),
                None => self.waiting.push(waiting),
            }
        }
        while !self.waiting.iter().any(|waiting| is_first(&waiting.act))
            && let Some(order) = self.deferred.pop_front()
        {
            self.order(order).await;
        }
    }

    async fn order(&mut self, order: Order) {
        let first = matches!(&order.request, Request::Act { act, .. } if is_first(act));
        if first && self.waiting.iter().any(|waiting| is_first(&waiting.act)) {
            self.deferred.retain(|order| !order.reply.is_closed());
            if self.deferred.len() < QUEUE {
                self.deferred.push_back(order);
            } else {
                drop(order.reply.send(Err(ProposalRefusal::TooOften.into())));
            }
            return;
        }
        let Order { by, request, reply } = order;
        let heard = self.keeper.hear(&by, &request, &*self.ops).await;
        self.issuer.show_proposals(self.keeper.proposals());
        match heard {
            Ok(Heard::Done { act, proposal }) => {
                let patience = Deadline::within(PATIENCE);
                self.waiting.push(Waiting { act, proposal, patience, reply });
            }
            // Whoever asked may be gone; it is stored all the same.
            Ok(Heard::Waits(id) | Heard::Rejected(id)) => {
                let answer = Answer { snapshot: self.issuer.snapshot(), proposal: Some(id) };
                drop(reply.send(Ok(answer)));
            }
            Err(error) => drop(reply.send(Err(error.into()))),
        }
    }

    /// What an act has come to; `None` while the plan is at it.
    fn outcome(&self, Waiting { act, proposal, patience, .. }: &Waiting) -> Option<Outcome> {
        let as_it_stands = || {
            let proposal = proposal.clone();
            Some(Ok(Answer { snapshot: Some(self.issuer.snapshot()?), proposal }))
        };
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
            return as_it_stands();
        }
        if keyset.phase != Phase::Published {
            let refused = self.keeper.init_refused().map(StewardError::Refused);
            let given_up = || self.keeper.given_up().map(StewardError::GivenUp);
            let trouble = || self.keeper.trouble(&*self.ops).map(StewardError::Interrupted);
            return refused.or_else(given_up).or_else(trouble).map(Err);
        }
        // What is left waits for something else than a device that is at it, or for too long.
        let leave_it = self.calls.is_empty() || patience.left().is_none();
        if leave_it { as_it_stands() } else { None }
    }
}

/// Whether an act makes the first keys.
fn is_first(act: &CustodianAct) -> bool {
    matches!(act, CustodianAct::Init | CustodianAct::Recover { .. })
}

/// Calls of devices under way.
#[derive(Default)]
struct Calls {
    tasks: JoinSet<Result<apply::Answer, KeyOpsError>>,
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

    async fn next(&mut self) -> Option<(Call, Result<apply::Answer, KeyOpsError>)> {
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
