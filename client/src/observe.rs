//! Hooks for metrics and logs.

use std::time::Duration;

use crate::Error;

/// Is told what a client does: the place for metrics and logs.
///
/// All methods do nothing by themselves. They are called from the tasks that sign, some while a lock
/// is held: so they must be quick, must not block and must not call the client. Time is only measured
/// where there is an observer.
///
/// ```
/// use std::sync::{
///     Arc,
///     atomic::{AtomicU64, Ordering},
/// };
///
/// use mintwarden_client::{Client, observe};
///
/// #[derive(Default)]
/// struct Counters {
///     items: AtomicU64,
///     retries: AtomicU64,
/// }
///
/// impl observe::Observer for Counters {
///     fn batch(&self, batch: &observe::Batch<'_>) {
///         self.items.fetch_add(batch.items as u64, Ordering::Relaxed);
///     }
///
///     fn retry(&self, _: &observe::Retry<'_>) {
///         self.retries.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let counters = Arc::new(Counters::default());
/// let builder = Client::builder()
///     .endpoint("unix:/run/mintwarden/api.sock")
///     .observer(counters.clone());
/// ```
pub trait Observer: Send + Sync + 'static {
    /// A [`sign`](crate::Issuer::sign) ended, for its caller.
    fn sign(&self, sign: &Sign<'_>) {
        let _ = sign;
    }

    /// Payloads are about to be sent together.
    fn batch(&self, batch: &Batch<'_>) {
        let _ = batch;
    }

    /// One attempt at a call ended.
    fn call(&self, call: &Call<'_>) {
        let _ = call;
    }

    /// A call failed and will be tried again.
    fn retry(&self, retry: &Retry<'_>) {
        let _ = retry;
    }

    /// A call that failed at one endpoint goes to another one.
    fn fail_over(&self, fail_over: &FailOver<'_>) {
        let _ = fail_over;
    }

    /// An endpoint is in another state than before.
    fn endpoint(&self, endpoint: &EndpointChange<'_>) {
        let _ = endpoint;
    }
}

/// The end of a [`sign`](crate::Issuer::sign).
#[derive(Debug)]
#[non_exhaustive]
pub struct Sign<'a> {
    /// The issuer's name.
    pub issuer: &'a str,
    /// From the call to its answer: waiting, joining and retries included.
    pub latency: Duration,
    /// Why there is no token, if there is none.
    pub error: Option<&'a Error>,
}

/// Payloads that are sent together.
#[derive(Debug)]
#[non_exhaustive]
pub struct Batch<'a> {
    /// The issuer's name.
    pub issuer: &'a str,
    /// How many.
    pub items: usize,
}

/// One attempt at a call.
#[derive(Debug)]
#[non_exhaustive]
pub struct Call<'a> {
    /// The gRPC method, e.g. `SignBatch`.
    pub method: &'static str,
    /// The endpoint that it was sent to, as `https://HOST:PORT` or `unix:/PATH`.
    pub endpoint: &'a str,
    /// From sending to the answer.
    pub latency: Duration,
    /// Why it failed, if it did.
    pub error: Option<&'a Error>,
}

/// A call that will be tried again.
#[derive(Debug)]
#[non_exhaustive]
pub struct Retry<'a> {
    /// The gRPC method.
    pub method: &'static str,
    /// The endpoint at which it failed.
    pub endpoint: &'a str,
    /// How often it was tried so far.
    pub attempts: u32,
    /// Why it failed.
    pub error: &'a Error,
}

/// A call that goes elsewhere.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailOver<'a> {
    /// The gRPC method.
    pub method: &'static str,
    /// The endpoint at which it failed.
    pub from: &'a str,
    /// The endpoint that it goes to.
    pub to: &'a str,
}

/// What became of an endpoint.
#[derive(Debug)]
#[non_exhaustive]
pub struct EndpointChange<'a> {
    /// The endpoint, as `https://HOST:PORT` or `unix:/PATH`.
    pub endpoint: &'a str,
    /// Its state now.
    pub state: EndpointState<'a>,
}

/// How an endpoint is.
#[derive(Debug)]
#[non_exhaustive]
pub enum EndpointState<'a> {
    /// There is a connection.
    Connected,
    /// The connection ended. The next call makes another one.
    Disconnected,
    /// No connection could be made; it is tried again after this time.
    SetAside {
        /// How long it is set aside.
        wait: Duration,
        /// Why.
        error: &'a Error,
    },
    /// It cannot serve one issuer; others are served on.
    SetAsideFor {
        /// The issuer's name.
        issuer: &'a str,
        /// How long it is set aside, until one call tries it.
        wait: Duration,
        /// Why.
        error: &'a Error,
    },
    /// It serves an issuer again that it could not serve.
    Recovered {
        /// The issuer's name.
        issuer: &'a str,
    },
}
