//! What an observer is told.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use mintwarden_client::{
    Client,
    observe::{Batch, Call, EndpointChange, EndpointState, Observer, Retry, Sign},
};
use tempfile::TempDir;

use crate::server::{self, Seen};

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl Observer for Log {
    fn sign(&self, sign: &Sign<'_>) {
        assert!(sign.latency < Duration::from_secs(60));
        self.note(format!("sign {} ok={}", sign.issuer, sign.error.is_none()));
    }

    fn batch(&self, batch: &Batch<'_>) {
        self.note(format!("batch of {}", batch.items));
    }

    fn call(&self, call: &Call<'_>) {
        assert!(call.endpoint.starts_with("unix:"));
        self.note(format!("{} ok={}", call.method, call.error.is_none()));
    }

    fn retry(&self, retry: &Retry<'_>) {
        self.note(format!("retry after {} because of {}", retry.attempts, retry.error.reason()));
    }

    fn endpoint(&self, change: &EndpointChange<'_>) {
        self.note(match &change.state {
            EndpointState::Connected => "connected".into(),
            EndpointState::SetAsideFor { issuer, .. } => format!("set aside for {issuer}"),
            EndpointState::Recovered { issuer } => format!("recovered for {issuer}"),
            other => format!("{other:?}"),
        });
    }
}

#[tokio::test]
async fn an_observer_is_told_everything_in_order() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("api.sock");
    let seen = Seen::new(true);
    seen.unavailable.store(1, Ordering::SeqCst);
    server::serve(&path, seen);
    let log = Arc::new(Log::default());
    let client =
        Client::builder().endpoint(format!("unix:{}", path.display())).observer(log.clone());
    client.build().unwrap().issuer("payments-tts").sign("{}").await.unwrap();
    let lines = log.0.lock().unwrap();
    assert_eq!(
        *lines,
        [
            "batch of 1",
            "connected",
            "SignBatch ok=false",
            "set aside for payments-tts",
            "retry after 1 because of DEVICE_DOWN",
            "SignBatch ok=true",
            "recovered for payments-tts",
            "sign payments-tts ok=true",
        ]
    );
}
