//! Connections: how many, who is not let in, why they end.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::Labels;
use crate::listen::{End, NotLetIn};

/// Connections, by listener.
#[derive(Clone, Debug)]
pub struct Listeners {
    open: Family<Labels, Gauge>,
    accepted: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    ended: Family<Labels, Counter>,
}

/// One listener's handles.
#[derive(Debug)]
pub struct Listener {
    open: Gauge,
    accepted: Counter,
    refused: Vec<(NotLetIn, Counter)>,
    ended: Vec<(End, Counter)>,
}

/// A connection that is open, until this is dropped.
#[derive(Debug)]
pub struct Open<'a>(&'a Gauge);

impl Listeners {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let listeners = Self {
            open: Family::default(),
            accepted: Family::default(),
            refused: Family::default(),
            ended: Family::default(),
        };
        registry.register("connections", "Connections that are open", listeners.open.clone());
        registry.register(
            "connections_accepted",
            "Connections that were accepted",
            listeners.accepted.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections that were not let in: the TLS handshake failed, or there was no room",
            listeners.refused.clone(),
        );
        registry.register(
            "connections_ended",
            "Connections that the server ended, and that their peers would have kept",
            listeners.ended.clone(),
        );
        listeners
    }

    /// The handles of one listener.
    #[must_use]
    pub fn of(&self, listener: &str) -> Listener {
        let labels = |cause: Option<&str>| -> Labels {
            let cause = cause.map(|cause| ("cause", cause.to_owned()));
            [("listener", listener.to_owned())].into_iter().chain(cause).collect()
        };
        let refusal = |cause: NotLetIn| {
            (cause, self.refused.get_or_create_owned(&labels(Some(cause.as_str()))))
        };
        let end =
            |cause: End| (cause, self.ended.get_or_create_owned(&labels(Some(cause.as_str()))));
        Listener {
            open: self.open.get_or_create_owned(&labels(None)),
            accepted: self.accepted.get_or_create_owned(&labels(None)),
            refused: NotLetIn::ALL.map(refusal).to_vec(),
            ended: End::ALL.map(end).to_vec(),
        }
    }
}

impl Listener {
    /// A connection was accepted.
    pub fn accepted(&self) -> Open<'_> {
        self.accepted.inc();
        self.open.inc();
        Open(&self.open)
    }

    /// A connection is not let in.
    pub fn refused(&self, cause: NotLetIn) {
        count(&self.refused, cause);
    }

    /// The server ends a connection.
    pub fn ended(&self, cause: End) {
        count(&self.ended, cause);
    }
}

fn count<C: Copy + PartialEq>(counters: &[(C, Counter)], cause: C) {
    if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == cause) {
        counter.inc();
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
