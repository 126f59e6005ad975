//! Issuers: readiness, keys, what is under way.

use std::{collections::BTreeMap, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{Labels, gauges};
use crate::{
    admission::Admission,
    keyset::{KeyState, live::LiveIssuer},
    readiness,
    workers::Workers,
};

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
            "keys",
            "Keys of the issuer by device and state",
            self.issuers.iter().flat_map(|issuer| keys(issuer)),
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

/// Keys by device and state; active keys and standbys also where there are none.
fn keys(issuer: &LiveIssuer) -> Vec<(Labels, u64)> {
    let mut keys = BTreeMap::new();
    for device in &issuer.config.devices {
        for state in [KeyState::Active, KeyState::PreActive] {
            keys.insert((device.clone(), state.as_str()), 0);
        }
    }
    for key in issuer.snapshot().iter().flat_map(|snapshot| &snapshot.keyset.keys) {
        *keys.entry((key.device.clone(), key.state.as_str())).or_default() += 1;
    }
    keys.into_iter()
        .map(|((device, state), count)| {
            let more = [("device", device), ("state", state.to_owned())];
            (label(issuer).into_iter().chain(more).collect(), count)
        })
        .collect()
}
