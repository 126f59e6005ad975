//! What a device's worker tells the doctor.

use std::time::Duration;

use mintwarden_worker::{
    finding::{Check, Finding},
    wire::{Answer, Ask, Examine, Examined},
};

use super::{State, UNASKED, Worker, device_key, wire::Lost};
use crate::{
    clock::Deadline,
    doctor::account::{DeviceAccount, KeyObject},
};

/// The findings of a worker, which is not believed to write JSON.
pub(crate) fn decode(findings: &str) -> Vec<Finding> {
    if findings.is_empty() {
        return vec![];
    }
    serde_json::from_str(findings).unwrap_or_else(|error| {
        let found = format!("the worker's findings cannot be read: {error}");
        vec![Finding::fault(Check::DeviceState, "", found, "install worker and server together")]
    })
}

/// A worker's answer as an account.
pub(crate) fn account(device: &str, examined: Examined) -> DeviceAccount {
    let keys = examined.keys.into_iter().map(device_key);
    DeviceAccount {
        device: device.to_owned(),
        findings: decode(&examined.findings),
        keys: Some(keys.map(|key| KeyObject::from(&key)).collect()),
    }
}

/// The finding of a device that gave no answer in time.
pub(crate) fn silent(device: &str) -> Finding {
    Finding::fault(
        Check::DeviceState,
        device,
        "it did not answer in time: the device, its network or the vendor's module hangs",
        "look at the device; the worker can be killed at any instant, and is started again by itself",
    )
}

impl Worker {
    /// What there is to say about the rate at which the device signs.
    fn pace_found(&self, usual: Duration) -> Finding {
        let (check, device) = (Check::DeviceRate, self.device.as_str());
        let Some(rate) = self.signatures_per_second() else {
            let why = "nothing was signed since the server started";
            return Finding::skipped(check, device, why, "look again when it has signed");
        };
        let within = usual.as_secs_f64();
        let fits = (rate * within).floor();
        let found = format!(
            "{rate:.1} signatures a second: a batch of {fits:.0} in {within} s, the deadline of callers that give none"
        );
        if rate * within >= 1.0 {
            return Finding::ok(check, device, found);
        }
        Finding::warning(
            check,
            device,
            found,
            "callers have to allow more time, or use another device",
        )
    }

    /// Asks the worker for everything that a doctor wants to know. Never starts one, never logs in.
    /// `usual`: the deadline of callers that give none.
    pub(crate) async fn examine(&self, deadline: Deadline, usual: Duration) -> DeviceAccount {
        let device = self.device.as_str();
        let seen =
            || DeviceAccount { device: device.to_owned(), findings: self.state.seen(), keys: None };
        let check = Check::DeviceState;
        let with = |account: DeviceAccount, finding: Finding| {
            let mut account = account;
            account.findings.push(finding);
            account
        };
        let ready = match self.state() {
            State::Ready(ready) => ready,
            State::Starting => {
                let finding =
                    Finding::warning(check, device, "its worker is starting", "look again");
                return with(seen(), finding);
            }
            State::Down(reason) => {
                let remedy = "a worker is started again by itself, with growing pauses";
                return with(seen(), Finding::fault(check, device, reason, remedy));
            }
            State::Parked(reason) => {
                let found = format!("parked: {reason}");
                let remedy = format!(
                    "correct the PIN, make sure of it, then `mintwardenctl device resume {device}`"
                );
                return with(seen(), Finding::fault(check, device, found, remedy));
            }
            State::Closed => {
                let finding = Finding::fault(check, device, "the server is shutting down", "");
                return with(seen(), finding);
            }
        };
        match ready.wire.ask(Ask::Examine(Examine {}), None, deadline).await {
            Ok(Answer::Examined(examined)) => {
                let starts = self.starts();
                let found =
                    format!("ready: {} sessions sign; worker number {starts}", ready.sessions);
                let finding = match starts {
                    1 => Finding::ok(check, device, found),
                    _ => Finding::warning(
                        check,
                        device,
                        format!("{found}: it had to be started again since the server started"),
                        "the log says why the ones before it ended",
                    ),
                };
                with(with(account(device, examined), finding), self.pace_found(usual))
            }
            Ok(Answer::Refused(refused)) => {
                let found = format!("{}: {}", refused.reason, refused.detail);
                let remedy = "look at the device; a worker is started again by itself";
                with(seen(), Finding::fault(check, device, found, remedy))
            }
            Ok(_) => {
                self.state.distrusted(&ready.wire, UNASKED);
                let found = "its worker answered what was not asked, and was discarded";
                with(seen(), Finding::fault(check, device, found, "look again"))
            }
            Err(Lost::Deadline) => with(seen(), silent(device)),
            Err(Lost::Wire) => {
                let found = "its worker ended while it was asked";
                with(seen(), Finding::fault(check, device, found, "look again; the log says why"))
            }
        }
    }
}
