//! A server of the API whose signatures are no signatures: the first bytes of the claims.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mintwarden_client::api::{
    DescribeIssuerRequest, Issuer, ItemError, SignBatchRequest, SignBatchResponse, SignRequest,
    SignResponse, SignResult,
    sign_result::Outcome,
    signing_service_server::{SigningService, SigningServiceServer},
};
use tokio::{net::UnixListener, runtime::Runtime, sync::Semaphore};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

/// What the tests see and steer.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The sizes of the batches, in the order of arrival.
    pub(crate) batches: Mutex<Vec<usize>>,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) most_in_flight: AtomicUsize,
    /// One permit for each batch that may be answered.
    pub(crate) gate: Semaphore,
    /// So many calls fail with UNAVAILABLE first.
    pub(crate) unavailable: AtomicUsize,
    /// Calls for this issuer fail with UNAVAILABLE, and are to come back so much later.
    pub(crate) down: Mutex<Option<(String, Duration)>>,
}

impl Seen {
    pub(crate) fn new(open: bool) -> Arc<Self> {
        Arc::new(Self {
            batches: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            gate: Semaphore::new(if open { 100_000 } else { 0 }),
            unavailable: AtomicUsize::new(0),
            down: Mutex::default(),
        })
    }

    /// Answers nothing from now on.
    pub(crate) fn hold(&self) {
        self.gate.forget_permits(self.gate.available_permits());
    }

    /// Answers everything from now on.
    pub(crate) fn release(&self) {
        self.gate.add_permits(100_000);
    }

    pub(crate) fn batches(&self) -> Vec<usize> {
        self.batches.lock().unwrap().clone()
    }

    /// Waits until so many batches have arrived.
    pub(crate) async fn arrived(&self, batches: usize) {
        for _ in 0..1000 {
            if self.batches().len() >= batches {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("only {:?} arrived", self.batches());
    }
}

#[derive(Debug)]
pub(crate) struct Signing(pub(crate) Arc<Seen>);

#[tonic::async_trait]
impl SigningService for Signing {
    async fn sign(&self, _: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        Err(Status::unimplemented("not used by the client"))
    }

    async fn sign_batch(
        &self,
        request: Request<SignBatchRequest>,
    ) -> Result<Response<SignBatchResponse>, Status> {
        assert!(request.metadata().contains_key("grpc-timeout"));
        let seen = &self.0;
        let SignBatchRequest { issuer, claims } = request.into_inner();
        seen.batches.lock().unwrap().push(claims.len());
        let now = seen.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let permit = seen.gate.acquire().await.map_err(|_| Status::internal("closed"))?;
        permit.forget();
        seen.in_flight.fetch_sub(1, Ordering::SeqCst);
        let count_down = |n: usize| n.checked_sub(1);
        if seen.unavailable.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count_down).is_ok() {
            return Err(unavailable(Duration::from_millis(20)));
        }
        if let Some((down, retry_after)) = &*seen.down.lock().unwrap()
            && *down == issuer
        {
            return Err(unavailable(*retry_after));
        }
        let results =
            claims.iter().map(|claims| SignResult { outcome: Some(outcome(claims)) }).collect();
        Ok(Response::new(SignBatchResponse {
            kid: "kid".into(),
            protected_header: "header".into(),
            results,
        }))
    }

    async fn describe_issuer(
        &self,
        request: Request<DescribeIssuerRequest>,
    ) -> Result<Response<Issuer>, Status> {
        Ok(Response::new(Issuer { name: request.into_inner().issuer, ..Issuer::default() }))
    }
}

fn unavailable(retry_after: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info("DEVICE_DOWN", "mintwarden", HashMap::new());
    details.set_retry_info(Some(retry_after));
    Status::with_error_details(Code::Unavailable, "the device is starting", details)
}

fn outcome(claims: &bytes::Bytes) -> Outcome {
    if claims.starts_with(b"bad") {
        return Outcome::Error(ItemError {
            code: 3,
            reason: "CLAIM_REFUSED".into(),
            message: "exp is too late".into(),
            retryable: false,
            claim: "exp".into(),
            rule: "lifetime".into(),
        });
    }
    Outcome::Signature(claims.slice(..claims.len().min(8)))
}

/// Serves on a unix socket until the test's runtime ends.
pub(crate) fn serve(path: &Path, seen: Arc<Seen>) {
    tokio::spawn(run(UnixListener::bind(path).unwrap(), seen));
}

/// Serves on a unix socket until it is ended, connections included.
pub(crate) fn serve_apart(path: &Path, seen: Arc<Seen>) -> Apart {
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    runtime.spawn(run(UnixListener::bind(path).unwrap(), seen));
    Apart(Some(runtime))
}

/// A server in a runtime of its own, which ends with this.
pub(crate) struct Apart(Option<Runtime>);

impl Drop for Apart {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

async fn run(listener: UnixListener, seen: Arc<Seen>) {
    let signing = SigningServiceServer::new(Signing(seen));
    let incoming = UnixListenerStream::new(listener);
    Server::builder().add_service(signing).serve_with_incoming(incoming).await.unwrap();
}
