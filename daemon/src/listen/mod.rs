//! Listeners: accept, authenticate, serve, and stop in order. One loop for every kind of socket.

mod certificates;
mod connection;
mod socket;

use std::{io, sync::Arc};

use axum::Router;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::Limits;

pub use certificates::{Certificates, CertificatesError};
pub use connection::Protocol;
pub use socket::Endpoint;

/// Stops listeners and their connections: first no new ones, then those under way finish.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    stop: CancellationToken,
    connections: TaskTracker,
}

impl Drain {
    /// Stops accepting, lets accepted calls finish until `limit`. Returns how many connections were
    /// cut because they did not.
    pub async fn drain(&self, limit: std::time::Duration) -> usize {
        self.stop.cancel();
        self.connections.close();
        match tokio::time::timeout(limit, self.connections.wait()).await {
            Ok(()) => 0,
            Err(_) => self.connections.len(),
        }
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
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    continue;
                }
            },
            () = drain.stop.cancelled() => return,
        };
        let (endpoint, settings) = (Arc::clone(&endpoint), settings.clone());
        let (router, stop) = (router.clone(), drain.stop.clone());
        drain.connections.spawn(async move {
            if let Err(error) =
                connection::serve(accepted, &endpoint, &settings, router, stop).await
            {
                tracing::debug!(%error, "a connection ended with an error");
            }
            drop(permit);
        });
    }
}
