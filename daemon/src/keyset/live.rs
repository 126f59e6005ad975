//! The keyset that requests see: a snapshot that is replaced as a whole.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::Keyset;
use crate::{config, jwks::Jwks};

/// An issuer as requests see it.
#[derive(Debug)]
pub struct LiveIssuer {
    /// Its configuration.
    pub config: config::Issuer,
    snapshot: ArcSwapOption<Snapshot>,
}

/// A keyset, and what is rendered from it.
#[derive(Debug)]
pub struct Snapshot {
    /// The keyset as stored.
    pub keyset: Keyset,
    /// Its JWK Set, once published.
    pub jwks: Option<Jwks>,
}

impl LiveIssuer {
    /// An issuer whose keyset is not loaded yet.
    #[must_use]
    pub fn new(config: config::Issuer) -> Self {
        Self { config, snapshot: ArcSwapOption::empty() }
    }

    /// The keyset now; `None` before `init`.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// Shows a keyset to all requests from now on. Only after it is stored.
    pub(super) fn show(&self, keyset: Keyset) {
        let jwks = Jwks::render(&keyset, self.config.jwks_max_age);
        self.snapshot.store(Some(Arc::new(Snapshot { keyset, jwks })));
    }
}
