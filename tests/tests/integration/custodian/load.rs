//! Callers who never rest.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use mintwarden_client::Client;
use mintwarden_tests::{ISSUER, claims, eventually};

/// Signs all the time until it is told to stop; every call has to succeed.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    signed: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    pub(super) fn start(client: &Client) -> Self {
        let (stop, signed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let task = |n| {
            let (stop, signed) = (Arc::clone(&stop), Arc::clone(&signed));
            let issuer = client.issuer(ISSUER);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    issuer.sign(claims::trade(n)).await.unwrap();
                    signed.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let tasks = (0..8).map(task).collect();
        Self { stop, signed, tasks }
    }

    pub(super) async fn some_more(&self) {
        let so_far = self.signed.load(Ordering::Relaxed);
        eventually("calls are signed", async || {
            (self.signed.load(Ordering::Relaxed) > so_far + 20).then_some(())
        })
        .await;
    }

    pub(super) async fn stop(self) {
        self.some_more().await;
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}
