use std::time::Duration;

use tokio::time::Instant;

use super::health::{Health, Standing};
use crate::{Error, http2::Connection};

/// The one connection to an endpoint: there, on its way, or set aside.
#[derive(Default)]
pub(super) struct Link {
    connection: Option<Connection>,
    connecting: bool,
    health: Health,
    /// Which connection this is: what an earlier one comes to is no news of this one.
    pub(super) generation: u64,
    /// Calls under way.
    pub(super) calls: usize,
}

pub(super) enum LinkState<'a> {
    Up,
    Connecting,
    /// It is time to connect.
    Due,
    SetAside {
        until: Instant,
        failed_at: Instant,
        error: &'a Error,
    },
}

impl Link {
    pub(super) fn state(&self, now: Instant) -> LinkState<'_> {
        if self.connection.is_some() {
            return LinkState::Up;
        }
        if self.connecting {
            return LinkState::Connecting;
        }
        match self.health.standing(now) {
            Standing::Well | Standing::Due => LinkState::Due,
            Standing::SetAside { until, failed_at, error } => {
                LinkState::SetAside { until, failed_at, error }
            }
        }
    }

    /// The connection, if it is up.
    pub(super) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// Somebody connects from now on.
    pub(super) fn connecting(&mut self) {
        self.connecting = true;
    }

    /// There is a connection; its generation.
    pub(super) fn connected(&mut self, connection: Connection) -> u64 {
        self.connection = Some(connection);
        self.connecting = false;
        self.health.succeed(self.health.epoch());
        self.generation += 1;
        self.generation
    }

    /// No connection could be made.
    pub(super) fn failed(&mut self, now: Instant, error: Error) -> Option<Duration> {
        self.connecting = false;
        self.health.fail(self.health.epoch(), now, Duration::ZERO, error)
    }

    /// Whoever was connecting is gone without an outcome.
    pub(super) fn abandoned(&mut self) {
        self.connecting = false;
    }

    /// The connection of this generation is not to be used any more. Answers whether it was until now.
    pub(super) fn lost(&mut self, generation: u64) -> bool {
        generation == self.generation && self.connection.take().is_some()
    }
}
