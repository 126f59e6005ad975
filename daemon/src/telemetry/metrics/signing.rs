//! Signing: what was released, what was refused, how long it took.

use std::{collections::HashMap, time::Duration};

use mintwarden_worker::{IssuerName, claims::Rule, wire::Facts};
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::{Registry, Unit},
};

use super::{Histogram, Labels, workloads::Workloads};
use crate::{
    config::{self, Config},
    signer::SignError,
};

const BATCH: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
const DEPTH: &[u64] = &[0, 1, 2, 3, 4, 6, 8, 16, 32];

/// A caller that hung up before its batch was answered.
const CALLER_GONE: &str = "CALLER_GONE";
/// A payload whose time was over before its turn came.
const EXPIRED: &str = "DEADLINE_EXCEEDED";
/// What is not known here.
const OTHER: &str = "OTHER";

/// A stage of a batch's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Admitted, key and device chosen.
    Admit,
    /// Waiting in the worker for a session to be free.
    Queue,
    /// From there on to the last answer: claims checked, signed by the device.
    Device,
    /// Every signature verified under the published key.
    Verify,
    /// From the call's arrival to its release.
    Total,
}

impl Stage {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Admit, "admit"),
        (Self::Queue, "queue"),
        (Self::Device, "device"),
        (Self::Verify, "verify"),
        (Self::Total, "total"),
    ];
}

/// Signing, by issuer.
#[derive(Debug)]
pub struct Signing {
    issuers: HashMap<IssuerName, Issuer>,
}

/// One issuer's handles.
#[derive(Debug)]
pub struct Issuer {
    signatures: Vec<(String, Counter)>,
    rules: Vec<(Rule, Counter)>,
    reasons: Vec<(&'static str, Counter)>,
    stages: [Histogram; 5],
    batches: Histogram,
    depths: Histogram,
    workloads: Workloads,
}

struct Families {
    signatures: Family<Labels, Counter>,
    refusals: Family<Labels, Counter>,
    stages: Family<Labels, Histogram, fn() -> Histogram>,
    batches: Family<Labels, Histogram, fn() -> Histogram>,
    depths: Family<Labels, Histogram, fn() -> Histogram>,
    workloads: Family<Labels, Counter>,
}

impl Signing {
    pub(super) fn register(registry: &mut Registry, config: &Config) -> Self {
        let families = Families {
            signatures: Family::default(),
            refusals: Family::default(),
            stages: Family::new_with_constructor(Histogram::of_seconds),
            batches: Family::new_with_constructor(|| Histogram::of(BATCH)),
            depths: Family::new_with_constructor(|| Histogram::of(DEPTH)),
            workloads: Family::default(),
        };
        registry.register("signatures", "Signatures released", families.signatures.clone());
        registry.register(
            "refusals",
            "Payloads that were asked for and not signed; of a batch that failed as a whole each, and at least one",
            families.refusals.clone(),
        );
        registry.register_with_unit(
            "stage_duration",
            "Time that a batch spent in a stage of its way",
            Unit::Seconds,
            families.stages.clone(),
        );
        registry.register("batch_payloads", "Payloads in a batch", families.batches.clone());
        registry.register(
            "delegation_depth",
            "Delegations in a signed payload: nesting of act or length of act_chain",
            families.depths.clone(),
        );
        registry.register(
            "workload_signatures",
            "Signatures released by requesting workload; bounded, see metrics.workloads",
            families.workloads.clone(),
        );
        let places = config.metrics.workloads;
        let issuer = |issuer: &config::Issuer| {
            (issuer.name().clone(), Issuer::new(&families, issuer, places))
        };
        Self { issuers: config.issuers.iter().map(issuer).collect() }
    }

    /// The handles of an issuer.
    #[must_use]
    pub fn of(&self, issuer: &IssuerName) -> Option<&Issuer> {
        self.issuers.get(issuer)
    }
}

impl Issuer {
    fn new(families: &Families, issuer: &config::Issuer, places: usize) -> Self {
        let name = issuer.name().as_str();
        let labels = |more: &[(&'static str, &str)]| -> Labels {
            let more = more.iter().map(|(label, value)| (*label, (*value).to_owned()));
            [("issuer", name.to_owned())].into_iter().chain(more).collect()
        };
        let refusals = |reason: &str, rule: &str| {
            families.refusals.get_or_create_owned(&labels(&[("reason", reason), ("rule", rule)]))
        };
        let devices = issuer.devices.iter().map(|device| {
            let labels = labels(&[("device", device)]);
            (device.clone(), families.signatures.get_or_create_owned(&labels))
        });
        let reasons = SignError::REASONS.iter().copied().chain([CALLER_GONE, OTHER]);
        Self {
            signatures: devices.collect(),
            rules: Rule::ALL.map(|rule| (rule, refusals(rule.reason(), rule.as_str()))).to_vec(),
            reasons: reasons.map(|reason| (reason, refusals(reason, ""))).collect(),
            stages: Stage::ALL.map(|(_, stage)| {
                families.stages.get_or_create_owned(&labels(&[("stage", stage)]))
            }),
            batches: families.batches.get_or_create_owned(&labels(&[])),
            depths: families.depths.get_or_create_owned(&labels(&[])),
            workloads: Workloads::new(name, &families.workloads, &issuer.profile.req_wl, places),
        }
    }

    /// A batch of so many payloads has arrived.
    pub fn arrived(&self, payloads: usize) {
        self.batches.observe(payloads as u64);
    }

    /// A batch has left a stage.
    pub fn passed(&self, stage: Stage, after: Duration) {
        self.stages[stage as usize].observe_duration(after);
    }

    /// So many signatures of a device are released.
    pub fn released(&self, device: &str, signatures: usize) {
        if let Some((_, counter)) = self.signatures.iter().find(|(name, _)| name == device) {
            counter.inc_by(signatures as u64);
        }
    }

    /// One of them, and what its payload said.
    pub fn released_payload(&self, facts: &Facts) {
        self.depths.observe(facts.delegation_depth.into());
        self.workloads.count(&facts.req_wl);
    }

    /// A payload is refused by a rule, as a worker names it.
    pub fn refused(&self, rule: &str) {
        match self.rules.iter().find(|(known, _)| known.as_str() == rule) {
            Some((_, counter)) => {
                counter.inc();
            }
            None => self.count(OTHER, 1),
        }
    }

    /// A payload whose time was over before its turn came.
    pub fn expired(&self) {
        self.count(EXPIRED, 1);
    }

    /// A batch of so many payloads failed as a whole.
    pub fn failed(&self, reason: &str, payloads: usize) {
        self.count(reason, payloads.max(1));
    }

    /// A batch of so many payloads was given up by its caller.
    pub fn given_up(&self, payloads: usize) {
        self.failed(CALLER_GONE, payloads);
    }

    fn count(&self, reason: &str, payloads: usize) {
        let known = self.reasons.iter().find(|(known, _)| *known == reason);
        let known = known.or_else(|| self.reasons.iter().find(|(known, _)| *known == OTHER));
        if let Some((_, counter)) = known {
            counter.inc_by(payloads as u64);
        }
    }
}
