//! Listeners: accept, authenticate, serve, and stop in order. One loop for every kind of socket.

mod answer;
mod causes;
pub(crate) mod certificates;
mod connection;
mod door;
mod socket;

use std::{sync::Arc, time::Duration};

use axum::Router;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{access::Access, config::Limits, telemetry::metrics};
use door::Door;

pub use answer::Keep;
pub use causes::{End, NotLetIn};
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

/// Serves `router` on `endpoint` until the drain begins: at most `max_connections` at once. In
/// a full house peers without a grant give way first (I9).
pub async fn serve(
    endpoint: Endpoint,
    router: Router,
    protocol: Protocol,
    limits: &Limits,
    access: &Arc<Access>,
    drain: &Drain,
    metrics: Arc<metrics::Listener>,
) {
    let door = Door::new(limits.max_connections);
    let settings = connection::Settings::new(protocol, limits, access, metrics);
    let endpoint = Arc::new(endpoint);
    loop {
        // The place first: what is accepted before there is one would be beyond every bound.
        let place = tokio::select! {
            place = door.place() => place,
            () = drain.stop.cancelled() => return,
        };
        let accepted = tokio::select! {
            accepted = endpoint.accept() => match accepted {
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
        let newcomer = door.come(place);
        let (endpoint, settings) = (Arc::clone(&endpoint), settings.clone());
        let (router, drain) = (router.clone(), drain.clone());
        let connections = drain.connections.clone();
        connections.spawn(async move {
            let _open = settings.metrics.accepted();
            let served =
                connection::serve(accepted, newcomer, &endpoint, &settings, router, &drain).await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended with an error");
            }
        });
    }
}
