//! A simulated world for tests: store, devices, clocks and verifiers, beside the real plan and apply.

mod crashes;
mod device;
mod model;
mod store;
mod verifiers;
mod witness;
pub(super) mod world;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mintwarden_worker::{Algorithm, IssuerName};

use super::Policy;
use crate::clock::{Clock, Reading, WallTime};

pub(super) use device::{Devices, Mishap};
pub(super) use store::{Cut, Memory};

pub(super) fn issuer() -> IssuerName {
    IssuerName::parse("payments-tts").expect("a name")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("short")
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// R 100 s, P 10 s, S 5 s: mature after 115 s. L 60 s, rotation every 300 s.
pub(super) fn policy(devices: &[&str]) -> Policy {
    Policy {
        devices: devices.iter().map(|&device| device.to_owned()).collect(),
        lost_devices: vec![],
        standbys: 1,
        algorithm: Algorithm::ES256,
        rsa_bits: None,
        rotate_every: seconds(300),
        sign_until: None,
        verifier_refresh: seconds(100),
        propagation: seconds(10),
        skew: seconds(5),
        max_token_lifetime: seconds(60),
        destroy_after: seconds(50),
    }
}

/// Clocks that go as they are told.
#[derive(Clone, Debug)]
pub(super) struct SimClock(Arc<Mutex<Clocks>>);

#[derive(Debug)]
pub(super) struct Clocks {
    /// Milliseconds since the world began: what verifiers go by.
    pub(super) truth: u64,
    /// What the wall clock shows beyond the truth, milliseconds.
    pub(super) wrong_by: i64,
    /// When the machine started.
    pub(super) booted: u64,
    pub(super) boot: u32,
}

/// The wall clock at the beginning of the world, milliseconds.
const EPOCH: i64 = 1_700_000_000_000;

impl SimClock {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Clocks { truth: 0, wrong_by: 0, booted: 0, boot: 1 })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Clocks> {
        self.0.lock().expect("unpoisoned")
    }

    pub(super) fn truth(&self) -> u64 {
        self.lock().truth
    }

    /// The machine starts anew.
    pub(super) fn reboot(&self) {
        let mut clocks = self.lock();
        clocks.booted = clocks.truth;
        clocks.boot += 1;
    }

    pub(super) fn advance(&self, by: Duration) {
        self.lock().truth += millis(by);
    }
}

impl Clock for SimClock {
    fn reading(&self) -> Reading {
        let clocks = self.lock();
        let truth = i64::try_from(clocks.truth).expect("short");
        Reading {
            wall: WallTime(EPOCH + truth + clocks.wrong_by),
            boot: Duration::from_millis(clocks.truth - clocks.booted),
        }
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.lock().boot)
    }
}
