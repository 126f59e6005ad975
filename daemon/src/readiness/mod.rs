//! Whether each issuer could sign now: its keys are published, and one of its devices is usable and
//! holds the active key without defect and without suspicion. The same answer for `/readyz`, gRPC health, `GetStatus` and
//! metrics.

mod look;

use std::{fmt, sync::Arc};

use crate::{
    keyset::{
        Phase,
        live::{Idle, LiveIssuer, Snapshot},
    },
    workers::{State, Workers},
};

pub use look::look_after;

/// Why an issuer could not sign now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unready {
    /// Stable reason: `NOT_INITIALISED`, `RESTORED`, `DEVICE_UNAVAILABLE`, or `KEY_UNAVAILABLE` where a device is
    /// usable and the key in it is not.
    pub reason: &'static str,
    /// Each device that has an active key of the issuer, or had one that is suspended, with the stable reason why that is of no use.
    pub devices: Vec<(String, String)>,
}

impl fmt::Display for Unready {
    /// `REASON (device REASON, …)`: no details, which are for operators.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)?;
        for (at, (device, reason)) in self.devices.iter().enumerate() {
            let before = if at == 0 { " (" } else { ", " };
            write!(f, "{before}{device} {reason}")?;
        }
        if self.devices.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

/// Whether `issuer` could sign now.
///
/// # Errors
/// [`Unready`].
pub fn ready(issuer: &LiveIssuer, workers: &Workers) -> Result<(), Unready> {
    let snapshot = issuer.snapshot().filter(|snapshot| snapshot.jwks.is_some());
    let Some(snapshot) = snapshot else {
        let restored = |snapshot: &Arc<Snapshot>| snapshot.keyset.phase == Phase::Restored;
        let restored = issuer.snapshot().as_ref().is_some_and(restored);
        let reason = if restored { "RESTORED" } else { "NOT_INITIALISED" };
        return Err(Unready { reason, devices: vec![] });
    };
    let mut unready = Unready { reason: "DEVICE_UNAVAILABLE", devices: vec![] };
    for device in issuer.signing_devices(&snapshot) {
        let key = match issuer.signs(&snapshot, device) {
            Ok((key, _)) => key,
            Err(Idle::NoActiveKey) => continue,
            Err(idle) => {
                unready.reason = "KEY_UNAVAILABLE";
                unready.devices.push((device.clone(), idle.reason().to_owned()));
                continue;
            }
        };
        let why = match workers.get(device).map(|worker| worker.state()) {
            Some(State::Ready(ready)) => match ready.keys.unfit(&key.handle) {
                None => return Ok(()),
                Some(unfit) => {
                    unready.reason = "KEY_UNAVAILABLE";
                    unfit.reason
                }
            },
            Some(State::Starting) => "STARTING".to_owned(),
            Some(State::Down(reason) | State::Parked(reason)) => reason.reason,
            Some(State::Closed) | None => "CLOSED".to_owned(),
        };
        unready.devices.push((device.clone(), why));
    }
    if unready.devices.is_empty() {
        unready.reason = "KEY_UNAVAILABLE";
    }
    Err(unready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_in_public_is_reasons_alone() {
        let devices = vec![("a".to_owned(), "LOGIN_FAILED".to_owned()), ("b".into(), "X".into())];
        let unready = Unready { reason: "DEVICE_UNAVAILABLE", devices };
        assert_eq!(unready.to_string(), "DEVICE_UNAVAILABLE (a LOGIN_FAILED, b X)");
        let unready = Unready { reason: "NOT_INITIALISED", devices: vec![] };
        assert_eq!(unready.to_string(), "NOT_INITIALISED");
    }
}
