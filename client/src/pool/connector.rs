use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time;

use super::Pool;
use crate::{connect::Target, error::TransportError, http2};

/// Makes a connection to one endpoint, and serves it until its end.
pub(super) struct Connecting {
    pool: Weak<Pool>,
    endpoint: usize,
    target: Arc<Target>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Connecting,
    Connected { generation: u64 },
    Ended,
}

impl Connecting {
    pub(super) fn new(pool: Weak<Pool>, endpoint: usize, target: Arc<Target>) -> Self {
        Self { pool, endpoint, target, state: State::Connecting }
    }

    pub(super) async fn run(mut self, connect_timeout: Duration) {
        let opened = time::timeout(connect_timeout, http2::open(&self.target)).await;
        let name = self.target.name.clone();
        let failure = match opened {
            Ok(Ok((connection, moves))) => {
                let Some(pool) = self.pool.upgrade() else { return };
                let generation = pool.connected(self.endpoint, connection);
                self.state = State::Connected { generation };
                drop(pool);
                // Why it ended is told to the calls that it carried.
                let _ = moves.await;
                return;
            }
            Ok(Err(error)) => TransportError::new(name, error.into_source()),
            Err(_) => TransportError::silent(name, connect_timeout),
        };
        self.state = State::Ended;
        if let Some(pool) = self.pool.upgrade() {
            pool.unreachable(self.endpoint, &Arc::new(failure).into());
        }
    }
}

impl Drop for Connecting {
    /// Also where the runtime ends before the connection does.
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        match self.state {
            State::Connecting => pool.abandoned(self.endpoint),
            State::Connected { generation } => pool.disconnected(self.endpoint, generation),
            State::Ended => {}
        }
    }
}
