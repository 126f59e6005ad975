//! What is there anyway, and read at each scrape.

mod build;
mod certificates;
mod devices;
mod issuers;
mod keys;
mod process;

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeExemplarValue, EncodeGaugeValue, NoLabelSet,
    },
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};

use super::{Labels, PREFIX};
use crate::{
    admission::Admission, clock::UnixTime, config::Config, keyset::live::LiveIssuer,
    listen::LiveCertificates, workers::Workers,
};

/// The parts of a server that are looked at.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Its issuers.
    pub issuers: Vec<Arc<LiveIssuer>>,
    /// Its devices.
    pub workers: Arc<Workers>,
    /// What is under way.
    pub admission: Arc<Admission>,
    /// Its certificates, where it has some.
    pub certificates: Option<LiveCertificates>,
    /// When it started.
    pub started_at: UnixTime,
}

/// Adds them to a registry.
pub fn register(registry: &mut Registry, config: &Config, parts: Parts) {
    registry.register_collector(Box::new(process::Process { started_at: parts.started_at }));
    let ours = registry.sub_registry_with_prefix(PREFIX);
    build::register(ours, config);
    let Parts { issuers, workers, admission, certificates, .. } = parts;
    let shared = Arc::clone(&workers);
    ours.register_collector(Box::new(keys::Keys { issuers: issuers.clone() }));
    ours.register_collector(Box::new(issuers::Issuers { issuers, workers: shared, admission }));
    ours.register_collector(Box::new(devices::Devices { workers }));
    if let Some(certificates) = certificates {
        ours.register_collector(Box::new(certificates::Files { certificates }));
    }
}

/// Encodes one gauge with all its samples.
fn gauges<V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels, V)>,
) -> fmt::Result {
    let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    samples.into_iter().try_for_each(|(labels, value)| match &labels[..] {
        [] => encoder.encode_gauge(&value),
        _ => encoder.encode_family(&labels)?.encode_gauge(&value),
    })
}

/// Encodes one counter with all its samples.
fn counters<V: EncodeCounterValue + EncodeExemplarValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels, V)>,
) -> fmt::Result {
    let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    let no_exemplar = None::<&Exemplar<NoLabelSet, V>>;
    samples.into_iter().try_for_each(|(labels, value)| match &labels[..] {
        [] => encoder.encode_counter(&value, no_exemplar),
        _ => encoder.encode_family(&labels)?.encode_counter(&value, no_exemplar),
    })
}
