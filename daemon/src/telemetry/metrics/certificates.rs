//! Certificate files that change. What the certificates say is [`observed`](super::observed).

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::Labels;

/// What became of certificate files that had changed.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// They were taken over.
    pub taken: Counter,
    /// They could not be used.
    pub refused: Counter,
}

impl Certificates {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let reloads = Family::<Labels, Counter>::default();
        registry.register(
            "certificate_reloads",
            "Changes of the certificate files: taken over, or refused because they cannot be used",
            reloads.clone(),
        );
        let outcome =
            |outcome: &str| reloads.get_or_create_owned(&vec![("outcome", outcome.to_owned())]);
        Self { taken: outcome("taken"), refused: outcome("refused") }
    }
}
