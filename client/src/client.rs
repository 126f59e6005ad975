use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::time::{self, Instant};
use tonic::{Request, Response, Status, transport::Channel};

use crate::{
    Builder, Custodian, Error, Issuer, builder::Settings, clock, join::Joiner, retry::Retry, status,
};

/// A connection to an appliance. Cheap to clone; clones share it.
///
/// ```no_run
/// # async fn example() -> Result<(), mintwarden_client::Error> {
/// use mintwarden_client::{Client, Identity, TrustAnchors};
///
/// let client = Client::builder()
///     .endpoint("https://mintwarden.trust-domain.example:7443")
///     .identity(Identity::from_files("tts.crt", "tts.key"))
///     .ca(TrustAnchors::from_file("ca.crt"))
///     .build()?;
/// let issuer = client.issuer("payments-tts");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    caller: Arc<Caller>,
    /// The joiners in use, so that all handles of an issuer join their calls.
    joiners: Arc<Mutex<HashMap<String, Weak<Joiner>>>>,
}

impl Client {
    /// Starts to build a client.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(channel: Channel, endpoint: Arc<str>, settings: Settings) -> Self {
        let retry = Retry::new(settings.max_attempts);
        let caller = Arc::new(Caller { channel, endpoint, retry, settings });
        Self { caller, joiners: Arc::default() }
    }

    /// A handle to sign for the issuer of this name, e.g. `payments-tts`. Nothing is sent, so
    /// whether there is such an issuer shows with the first call.
    ///
    /// All handles that a client and its clones give for one name join their calls.
    pub fn issuer(&self, name: impl Into<String>) -> Issuer {
        let name = name.into();
        let mut joiners = self.joiners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(joiner) = joiners.get(&name).and_then(Weak::upgrade) {
            return Issuer::new(joiner);
        }
        joiners.retain(|_, joiner| joiner.strong_count() > 0);
        let joiner = Arc::new(Joiner::new(name.clone(), self.caller.clone()));
        joiners.insert(name, Arc::downgrade(&joiner));
        Issuer::new(joiner)
    }

    /// What custodians and auditors do: keys, devices, status.
    pub fn custodian(&self) -> Custodian {
        Custodian::new(self.caller.clone())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.caller.endpoint).finish_non_exhaustive()
    }
}

/// Sends calls. Everything that a client sends goes through [`once`](Self::once): the place for a
/// choice among several endpoints, and for metrics.
pub(crate) struct Caller {
    channel: Channel,
    endpoint: Arc<str>,
    pub(crate) retry: Retry,
    pub(crate) settings: Settings,
}

impl Caller {
    /// Sends a call once and waits until `deadline` at most; the appliance is told the deadline.
    pub(crate) async fn once<Q, R, F>(
        &self,
        deadline: Instant,
        message: Q,
        send: impl FnOnce(Channel, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let left = clock::left(deadline);
        if left.is_zero() {
            return Err(Error::DeadlineExceeded);
        }
        let mut request = Request::new(message);
        request.set_timeout(left);
        match time::timeout_at(deadline, send(self.channel.clone(), request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            // tonic watches the deadline too, and may come first.
            Ok(Err(_)) | Err(_) if clock::left(deadline).is_zero() => Err(Error::DeadlineExceeded),
            Ok(Err(status)) => Err(status::to_error(status, &self.endpoint)),
            Err(_) => Err(Error::DeadlineExceeded),
        }
    }

    /// Sends a call that is safe to repeat, as often as the retry policy allows.
    pub(crate) async fn repeat<Q, R, F, S>(
        &self,
        within: Duration,
        message: Q,
        send: S,
    ) -> Result<R, Error>
    where
        Q: Clone,
        S: Fn(Channel, Request<Q>) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = clock::deadline(within);
        self.retry.run(deadline, || self.once(deadline, message.clone(), &send)).await
    }
}
