use std::sync::{Mutex, MutexGuard, PoisonError};

use super::health::Health;

/// What is known of the endpoints as far as one issuer goes: an appliance whose device is down for one
/// issuer may serve others.
pub(crate) struct Route {
    /// The issuer's name, for observers; `None` for calls that need no device.
    pub(super) issuer: Option<String>,
    health: Mutex<Box<[Health]>>,
}

impl Route {
    pub(super) fn new(issuer: Option<String>, endpoints: usize) -> Self {
        let health = (0..endpoints).map(|_| Health::default()).collect();
        Self { issuer, health: Mutex::new(health) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Box<[Health]>> {
        // Health changes in single steps, so a poisoned lock guards sound ones.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
