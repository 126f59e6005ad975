//! Metrics, as Prometheus reads them (OpenMetrics text). docs/metrics.md lists them.
//!
//! One file per subject, and two kinds:
//!
//! - What is *counted where it happens*: a struct of handles in [`Metrics`], taken once for every set of
//!   labels, so that the hot path costs atomic additions and no lock. A struct registers itself.
//! - What is *there anyway*: read at each scrape, in [`observed`], by a `Collector`.
//!
//! Every label has a closed set of values, of this program or of its configuration. What a caller or a
//! worker says is never a label before it is found in such a set; [`workloads`] is the one exception,
//! and bounded. Every metric has a sample from the start, so that its absence means something.

mod certificates;
mod histogram;
mod listeners;
pub mod observed;
mod rpcs;
mod signing;
#[cfg(all(test, feature = "dev"))]
mod tests;
mod workloads;

use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::config::Config;

pub use certificates::Certificates;
pub use histogram::Histogram;
pub use listeners::{Listener, Listeners};
pub use rpcs::Rpcs;
pub use signing::{Issuer, Signing, Stage};

/// Media type of what [`encode`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Before every name that is ours.
const PREFIX: &str = "mintwarden";

/// A set of labels.
type Labels = Vec<(&'static str, String)>;

/// Everything that is counted where it happens.
#[derive(Debug)]
pub struct Metrics {
    /// Signing.
    pub signing: Signing,
    /// Connections.
    pub listeners: Listeners,
    /// Calls.
    pub rpcs: Rpcs,
    /// Certificate files.
    pub certificates: Certificates,
}

/// Metrics of one server, and where they are read.
#[derive(Debug)]
pub struct Registered {
    /// What is counted where it happens.
    pub metrics: Arc<Metrics>,
    /// Everything, to be encoded; what is read at each scrape is added to it.
    pub registry: Registry,
}

impl Registered {
    /// Metrics for a server of this configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix(PREFIX);
        let metrics = Metrics {
            signing: Signing::register(ours, config),
            listeners: Listeners::register(ours),
            rpcs: Rpcs::register(ours),
            certificates: Certificates::register(ours),
        };
        Self { metrics: Arc::new(metrics), registry }
    }
}

/// All metrics as OpenMetrics text.
#[must_use]
pub fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)
        .expect("writing to a String never fails");
    text
}

/// Metrics of no server, for tests.
#[cfg(all(test, feature = "dev"))]
pub(crate) fn example() -> Arc<Metrics> {
    Registered::new(&tests::config(std::path::Path::new("/nonexistent"))).metrics
}
