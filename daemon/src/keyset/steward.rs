//! The one task per issuer that changes its keyset. It outlives every request: what it has begun it
//! finishes, also when the custodian hangs up.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::{
    Keyset, Phase,
    apply::{ApplyError, KeyOps, apply},
    live::{LiveIssuer, Snapshot},
    plan::Policy,
};
use crate::{
    config,
    store::{Store, StoreError},
};

/// How long to wait before an interrupted plan is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Why an `init` did not end with published keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The issuer has published before.
    #[error("the issuer has keys already; init is only for one that never published")]
    AlreadyInitialised,
    /// A device or the store could not do its part yet.
    #[error("{0}; the work goes on by itself when this is mended")]
    Interrupted(String),
    /// Too many attempts came to nothing.
    #[error("{0}; look at the device, then say init again")]
    GivenUp(String),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Stopping,
}

type Reply = oneshot::Sender<Result<Arc<Snapshot>, InitError>>;

/// Asks an issuer's steward.
#[derive(Clone, Debug)]
pub struct Steward {
    inits: mpsc::Sender<Reply>,
}

impl Steward {
    /// Loads the issuer's keyset and starts its steward.
    ///
    /// # Errors
    /// [`StoreError`] if the keyset cannot be read.
    pub async fn start<S, K>(
        issuer: Arc<LiveIssuer>,
        store: S,
        ops: Arc<K>,
    ) -> Result<Self, StoreError>
    where
        S: Store + 'static,
        K: KeyOps + 'static,
    {
        let keyset = store.load(issuer.config.name()).await?;
        if let Some(keyset) = &keyset {
            issuer.show(keyset.clone());
        }
        let (inits, asked) = mpsc::channel(4);
        let work = Work { policy: policy(&issuer.config), keyset, issuer, store, ops };
        tokio::spawn(work.run(asked));
        Ok(Self { inits })
    }

    /// Makes and publishes the first keys of the issuer.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn init(&self) -> Result<Arc<Snapshot>, InitError> {
        let (reply, answer) = oneshot::channel();
        self.inits.send(reply).await.map_err(|_| InitError::Stopping)?;
        answer.await.map_err(|_| InitError::Stopping)?
    }
}

fn policy(issuer: &config::Issuer) -> Policy {
    Policy {
        devices: issuer.devices.clone(),
        standbys: issuer.standbys,
        algorithm: issuer.profile.key.algorithm(),
    }
}

struct Work<S, K> {
    issuer: Arc<LiveIssuer>,
    policy: Policy,
    keyset: Option<Keyset>,
    store: S,
    ops: Arc<K>,
}

impl<S: Store, K: KeyOps> Work<S, K> {
    async fn run(mut self, mut asked: mpsc::Receiver<Reply>) {
        let mut unfinished = self.keyset.as_ref().is_some_and(|k| k.phase == Phase::Initialising);
        loop {
            let reply = if unfinished {
                match tokio::time::timeout(AGAIN, asked.recv()).await {
                    Ok(None) => return,
                    Ok(Some(reply)) => Some(reply),
                    Err(_) => None,
                }
            } else {
                let Some(reply) = asked.recv().await else { return };
                Some(reply)
            };
            let outcome = match &reply {
                Some(_) => self.init().await,
                None => self.go_on().await,
            };
            unfinished = matches!(outcome, Err(InitError::Interrupted(_)));
            if let Err(error) = &outcome {
                tracing::warn!(issuer = %self.issuer.config.name(), %error, "keyset work stopped");
            }
            if let Some(reply) = reply {
                // Whoever asked may be gone; the work is done all the same.
                let _gone = reply.send(outcome);
            }
        }
    }

    async fn init(&mut self) -> Result<Arc<Snapshot>, InitError> {
        let (expected, keyset) = match &self.keyset {
            Some(keyset) if keyset.phase == Phase::Published => {
                return Err(InitError::AlreadyInitialised);
            }
            Some(keyset) => {
                let again = keyset.succeed(|next| {
                    next.leftovers_allowed = next.leftovers.len() + Keyset::ATTEMPTS;
                });
                (Some(keyset.revision), again)
            }
            None => (None, Keyset::initialising(self.issuer.config.name().clone())),
        };
        self.store
            .compare_and_swap(expected, &keyset)
            .await
            .map_err(|error| InitError::Interrupted(error.to_string()))?;
        self.keyset = Some(keyset);
        self.go_on().await
    }

    /// Continues the plan from what is stored.
    async fn go_on(&mut self) -> Result<Arc<Snapshot>, InitError> {
        let interrupted = |error: &dyn std::fmt::Display| InitError::Interrupted(error.to_string());
        let stored =
            self.store.load(self.issuer.config.name()).await.map_err(|e| interrupted(&e))?;
        let Some(keyset) = stored else {
            return Err(InitError::Interrupted("the keyset is gone from the store".into()));
        };
        let applied = apply(keyset, &self.policy, &self.store, &*self.ops).await;
        // Whatever happened, requests see what is stored, never what was only intended.
        let stored =
            self.store.load(self.issuer.config.name()).await.map_err(|e| interrupted(&e))?;
        if let Some(stored) = &stored {
            self.issuer.show(stored.clone());
        }
        self.keyset = stored;
        match applied {
            Ok(_) => self.issuer.snapshot().ok_or(InitError::Stopping),
            Err(error @ ApplyError::GivenUp(..)) => Err(InitError::GivenUp(error.to_string())),
            Err(error) => Err(interrupted(&error)),
        }
    }
}
