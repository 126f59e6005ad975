//! Listeners: accept, authenticate, serve, and stop in order. One loop for every kind of socket.

mod certificates;
mod connection;
mod socket;

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::Limits;

pub use certificates::{Certificates, CertificatesError, LiveCertificates};
pub use connection::Protocol;
pub use socket::Endpoint;

/// How long connections may stay once no call is under way, to write what is written already.
const FLUSH: Duration = Duration::from_millis(500);

/// Stops listeners and their connections: first no new ones, then calls under way finish.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    stop: CancellationToken,
    connections: TaskTracker,
    calls: TaskTracker,
}

impl Drain {
    /// Stops accepting, lets accepted calls finish until `limit`. Returns how many calls did not. Only
    /// calls are waited for: a peer that keeps a connection or a stream open delays nothing.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.stop.cancel();
        self.calls.close();
        self.connections.close();
        let finished = tokio::time::timeout(limit, self.calls.wait()).await;
        let _flushed = tokio::time::timeout(FLUSH, self.connections.wait()).await;
        finished.map_or_else(|_| self.calls.len(), |()| 0)
    }
}

/// Serves `router` on `endpoint` until the drain begins. At most `max_connections` at once: a permit
/// is taken before a connection is accepted, so that the rest waits in the kernel (I9).
pub async fn serve(
    endpoint: Endpoint,
    router: Router,
    protocol: Protocol,
    limits: &Limits,
    drain: &Drain,
) {
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let settings = connection::Settings::new(protocol, limits);
    let endpoint = Arc::new(endpoint);
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((endpoint.accept().await?, permit))
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or the peer was gone already. Neither ends the listener.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            () = drain.stop.cancelled() => return,
        };
        let (endpoint, settings) = (Arc::clone(&endpoint), settings.clone());
        let (router, drain) = (router.clone(), drain.clone());
        let connections = drain.connections.clone();
        connections.spawn(async move {
            if let Err(error) =
                connection::serve(accepted, &endpoint, &settings, router, &drain).await
            {
                tracing::debug!(%error, "a connection ended with an error");
            }
            drop(permit);
        });
    }
}
