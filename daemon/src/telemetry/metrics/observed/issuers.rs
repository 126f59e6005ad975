//! Issuers: readiness, and what is under way.

use std::sync::Arc;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{Labels, gauges};
use crate::{admission::Admission, keyset::live::LiveIssuer, readiness, workers::Workers};

#[derive(Debug)]
pub(super) struct Issuers {
    pub(super) issuers: Vec<Arc<LiveIssuer>>,
    pub(super) workers: Arc<Workers>,
    pub(super) admission: Arc<Admission>,
}

impl Collector for Issuers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let each = |value: &dyn Fn(&LiveIssuer) -> u64| -> Vec<(Labels, u64)> {
            self.issuers.iter().map(|issuer| (label(issuer), value(issuer))).collect()
        };
        let from_keyset = |value: fn(&crate::keyset::Keyset) -> u64| {
            each(&|issuer| issuer.snapshot().map_or(0, |snapshot| value(&snapshot.keyset)))
        };
        gauges(
            &mut encoder,
            "issuer_ready",
            "1 if the issuer could sign now",
            each(&|issuer| readiness::ready(issuer, &self.workers).is_ok().into()),
        )?;
        gauges(
            &mut encoder,
            "keyset_revision",
            "Revision of the issuer's keyset; 0 before its first init",
            from_keyset(|keyset| keyset.revision),
        )?;
        gauges(
            &mut encoder,
            "leftovers",
            "Objects that failed attempts at a key may have left in devices: for a person to look at",
            from_keyset(|keyset| keyset.leftovers.len() as u64),
        )?;
        gauges(
            &mut encoder,
            "payloads_in_flight",
            "Payloads of the issuer that are admitted and not answered",
            each(&|issuer| self.admission.in_flight(issuer.config.name()) as u64),
        )?;
        gauges(
            &mut encoder,
            "claims_in_flight_bytes",
            "Claims that are admitted and not answered, all issuers together",
            [(Labels::new(), self.admission.bytes_in_flight() as u64)],
        )
    }
}

fn label(issuer: &LiveIssuer) -> Labels {
    vec![("issuer", issuer.config.name().to_string())]
}
