//! Published keys, kept fresh ahead of need.

mod pace;
mod source;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{self, Instant},
};

use self::{
    pace::Pace,
    source::{Fetched, Https, Source},
};
use super::{JwksError, VerifyError, jwk::Jwks};
use crate::{Issuer, TrustAnchors, clock};

/// Keeps a published JWK Set fresh, from a task of its own. Cheap to clone; the task ends with the last clone.
///
/// The set is read again before its time is over: that is the shorter of
/// [`refresh_every`](CacheBuilder::refresh_every) and what `Cache-Control: max-age` says. Nothing that a
/// token says changes when it is read. A reading that fails is repeated with back-off, and the last good set
/// serves on, at most as long as [`max_stale`](CacheBuilder::max_stale) says: a key that was revoked must not
/// be believed for ever because someone keeps the news away.
#[derive(Clone)]
pub struct JwksCache(Arc<Inner>);

struct Inner {
    state: watch::Receiver<State>,
    max_stale: Duration,
    task: AbortHandle,
}

/// What is known of the keys.
#[derive(Clone)]
struct State {
    keys: Arc<Jwks>,
    /// When the reading began that gave, or confirmed, them.
    read_at: Instant,
    /// Why the latest reading failed, if it did.
    failure: Option<Arc<JwksError>>,
}

/// Builds a [`JwksCache`]. Made by [`JwksCache::https`] or [`JwksCache::issuer`].
#[derive(Debug)]
#[must_use]
pub struct CacheBuilder {
    from: From,
    ca: Option<TrustAnchors>,
    refresh_every: Duration,
    max_stale: Duration,
}

#[derive(Debug)]
enum From {
    Url(String),
    Issuer(Issuer),
}

impl JwksCache {
    /// Reads the set from an https address; plain http is for loopback addresses only.
    pub fn https(url: impl Into<String>) -> CacheBuilder {
        CacheBuilder::new(From::Url(url.into()))
    }

    /// Reads the set from the appliance over gRPC: for a TTS, which is connected to it anyway.
    pub fn issuer(issuer: &Issuer) -> CacheBuilder {
        CacheBuilder::new(From::Issuer(issuer.clone()))
    }

    /// The keys as last read.
    ///
    /// # Errors
    ///
    /// [`VerifyError::KeysStale`] where they could not be read again in time.
    pub fn keys(&self) -> Result<Arc<Jwks>, VerifyError> {
        let state = self.0.state.borrow();
        if clock::now().saturating_duration_since(state.read_at) > self.0.max_stale {
            return Err(VerifyError::KeysStale(self.0.max_stale));
        }
        Ok(state.keys.clone())
    }

    /// How long ago the keys were last read, or confirmed: for metrics.
    pub fn age(&self) -> Duration {
        clock::now().saturating_duration_since(self.0.state.borrow().read_at)
    }

    /// Why the latest reading failed, if it did: for logs and health.
    pub fn failure(&self) -> Option<Arc<JwksError>> {
        self.0.state.borrow().failure.clone()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for JwksCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.borrow();
        f.debug_struct("JwksCache").field("keys", &state.keys).finish_non_exhaustive()
    }
}

impl CacheBuilder {
    fn new(from: From) -> Self {
        Self {
            from,
            ca: None,
            refresh_every: Duration::from_secs(600),
            max_stale: Duration::from_secs(66 * 60),
        }
    }

    /// The CAs that may sign the certificate of the https server: no others are believed. The file is read
    /// again with each reading of the keys.
    pub fn ca(mut self, ca: TrustAnchors) -> Self {
        self.ca = Some(ca);
        self
    }

    /// The longest time between two readings. Default: 10 min.
    pub fn refresh_every(mut self, every: Duration) -> Self {
        self.refresh_every = every;
        self
    }

    /// How long the last good set is believed when it cannot be read again. Default: 66 min, the longest
    /// that the appliance counts on (`verifier_refresh`); more than that lets a revoked key live on.
    pub fn max_stale(mut self, max_stale: Duration) -> Self {
        self.max_stale = max_stale;
        self
    }

    /// Reads the set once, and keeps it fresh from then on.
    ///
    /// # Errors
    ///
    /// [`JwksError`], where the first reading fails: without keys nothing can be verified.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn start(self) -> Result<JwksCache, JwksError> {
        let source = match self.from {
            From::Url(url) => Source::Https(Https::new(url, self.ca)?),
            From::Issuer(issuer) => Source::Appliance(issuer),
        };
        let mut reader = Reader { source, etag: None, pace: Pace::new(self.refresh_every) };
        let read_at = clock::now();
        let keys = Arc::new(reader.read().await?.unwrap_or_default());
        let (publish, state) = watch::channel(State { keys, read_at, failure: None });
        let task = tokio::spawn(reader.run(publish)).abort_handle();
        Ok(JwksCache(Arc::new(Inner { state, max_stale: self.max_stale, task })))
    }
}

/// The task that reads.
struct Reader {
    source: Source,
    /// Of the set that was read last.
    etag: Option<String>,
    pace: Pace,
}

impl Reader {
    async fn run(mut self, publish: watch::Sender<State>) {
        loop {
            time::sleep(self.pace.wait()).await;
            let began = clock::now();
            let outcome = self.read().await;
            publish.send_modify(|state| match outcome {
                Ok(news) => {
                    if let Some(keys) = news {
                        state.keys = Arc::new(keys);
                    }
                    state.read_at = began;
                    state.failure = None;
                }
                Err(error) => state.failure = Some(Arc::new(error)),
            });
        }
    }

    /// Reads once; `None` where nothing has changed.
    async fn read(&mut self) -> Result<Option<Jwks>, JwksError> {
        match self.source.fetch(self.etag.as_deref()).await {
            Ok(Fetched { news, max_age }) => {
                self.pace.succeeded(max_age);
                Ok(news.map(|(keys, etag)| {
                    self.etag = etag;
                    keys
                }))
            }
            Err(error) => {
                self.pace.failed();
                Err(error)
            }
        }
    }
}

/// Where a verifier takes its keys from.
#[derive(Clone)]
pub(super) enum Keys {
    Fresh(JwksCache),
    Fixed(Arc<Jwks>),
}

impl Keys {
    pub(super) fn current(&self) -> Result<Arc<Jwks>, VerifyError> {
        match self {
            Self::Fresh(cache) => cache.keys(),
            Self::Fixed(keys) => Ok(keys.clone()),
        }
    }
}
