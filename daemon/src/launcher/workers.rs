//! The launcher's side of the workers: starts, kills, parks and resumes them.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    time::{Duration, Instant},
};

use mintwarden_worker::{serve::WorkerExit, setup::Setup};
use rustix::process::Signal;

use super::{
    Launcher,
    control::Downward,
    doom::Sentence,
    process::{self, Log},
    slot::Slot,
};
use crate::clock;

/// How often a device may be resumed within [`RESUMES_WITHIN`]: HSMs lock a PIN after few failures.
const MAX_RESUMES: usize = 5;
const RESUMES_WITHIN: Duration = Duration::from_secs(3600);

impl Launcher {
    pub(super) fn start_worker(&mut self, index: usize, now: Instant) {
        let (device, slot) = &mut self.workers[index];
        let device = &self.config.devices[*device];
        let name = device.name.to_string();
        let setup = Setup {
            device: device.clone(),
            state_dir: self.layout.device_dir(&name),
            profiles: self.config.profiles_on(&name),
            resume: slot.resume,
        };
        slot.due = None;
        slot.generation = self.generation;
        slot.backoff.started(now);
        match process::worker(&self.directory, &setup, self.layout.worker, Log::Inherited) {
            Ok((process, socket)) => {
                slot.running = Some(process);
                slot.resume = false;
                slot.start += 1;
                let start = slot.start;
                self.tell(&Downward::Wire { device: name, start, socket });
            }
            Err(error) => {
                let wait = slot.backoff.ended(now);
                slot.due = Some(now + wait);
                tracing::error!(device = name, %error, ?wait, "a worker cannot be started");
                self.tell(&Downward::Ended {
                    device: name,
                    reason: "WORKER_NOT_STARTED".into(),
                    detail: format!("its worker cannot be started: {error}"),
                    wait_ms: millis(wait),
                });
            }
        }
    }

    pub(super) fn worker_ended(&mut self, index: usize, status: ExitStatus, now: Instant) {
        let (device, slot) = &mut self.workers[index];
        let device = self.config.devices[*device].name.to_string();
        if self.server.running.is_none() {
            return; // Started again with the server.
        }
        if slot.generation != self.generation {
            slot.due = Some(now); // It ended with the server before this one, as it should.
            return;
        }
        // Parked already: it was killed, and took its time to end.
        let parked = slot.parked || status.code() == Some(WorkerExit::PARKED.into());
        if parked && !slot.resume {
            slot.parked = true;
            slot.due = None;
            let detail = format!("`mintwardenctl device resume {device}` is the way back");
            tracing::error!(device, detail, "parked");
            let (heard, reason) = (slot.heard, "WORKER_PARKED".into());
            self.tell(&Downward::Parked { device, heard, reason, detail });
            return;
        }
        slot.parked = false;
        let wait = match status.code() {
            Some(code) if code == i32::from(WorkerExit::EXHAUSTED) => slot.backoff.exhausted(now),
            _ => slot.backoff.ended(now),
        };
        slot.due = Some(now + wait);
        let killed = status.signal();
        tracing::warn!(device, %status, killed, ?wait, "a worker ended and is started again");
        let reason = if killed.is_some() { "WORKER_CRASHED" } else { "WORKER_FAILED" };
        let detail = format!("its worker ended: {status}");
        self.tell(&Downward::Ended {
            device,
            reason: reason.into(),
            detail,
            wait_ms: millis(wait),
        });
    }

    /// An operator wants a parked device tried again. The server is not believed beyond a bound: each
    /// resumption may cost one attempt at the PIN.
    pub(super) fn resume(&mut self, device: &str, number: u64) {
        let now = clock::monotonic();
        let devices = &self.config.devices;
        let named = |index: &usize| devices[*index].name.as_str() == device;
        let Some((_, slot)) = self.workers.iter_mut().find(|(index, _)| named(index)) else {
            return;
        };
        slot.heard = number;
        slot.resumed.retain(|at| now.saturating_duration_since(*at) < RESUMES_WITHIN);
        if slot.resumed.len() >= MAX_RESUMES {
            tracing::error!(device, "not resumed: too often within an hour");
            let detail =
                "it was resumed too often within an hour; restart the appliance".to_owned();
            let (device, reason) = (device.to_owned(), "RESUMED_TOO_OFTEN".to_owned());
            self.tell(&Downward::Parked { device, heard: number, reason, detail });
            return;
        }
        slot.resumed.push(now);
        slot.resume = true;
        slot.backoff.reset();
        // A worker that has said that it is parked may not be reaped yet: its end starts the next.
        match &slot.running {
            None => {
                slot.parked = false;
                slot.due = Some(now);
            }
            Some(process) if slot.parked => {
                let pid = process.id();
                self.tell_stuck(device.to_owned(), number, pid);
            }
            Some(_) => {}
        }
    }

    pub(super) fn carry_out_sentences(&mut self) {
        let now = clock::monotonic();
        let mut stuck = Vec::new();
        for (device, slot) in &mut self.workers {
            let (Some(process), Some(doom)) = (&slot.running, &mut slot.doom) else { continue };
            let device = self.config.devices[*device].name.to_string();
            match doom.due(now) {
                Some(Sentence::Kill) => {
                    tracing::warn!(
                        device,
                        pid = process.id(),
                        "a worker that should be gone is killed"
                    );
                    process.signal(Signal::KILL);
                }
                Some(Sentence::Park) => {
                    slot.parked = true;
                    stuck.push((device, slot.heard, process.id()));
                }
                None => {}
            }
        }
        for (device, heard, pid) in stuck {
            tracing::error!(device, pid, "a killed worker does not end: its device is parked");
            self.tell_stuck(device, heard, pid);
        }
    }

    fn tell_stuck(&self, device: String, heard: u64, pid: u32) {
        let detail = format!(
            "process {pid} does not end although it was killed: its driver hangs in the kernel; mend that, or \
             restart the machine, then say `mintwardenctl device resume {device}`"
        );
        self.tell(&Downward::Parked { device, heard, reason: "WORKER_STUCK".into(), detail });
    }

    /// A device's worker, if it is still the one that the server means.
    pub(super) fn running(&mut self, device: &str, start: u64) -> Option<&mut Slot> {
        let devices = &self.config.devices;
        let named = |index: &usize| devices[*index].name.as_str() == device;
        let (_, slot) = self.workers.iter_mut().find(|(index, _)| named(index))?;
        (slot.running.is_some() && slot.start == start).then_some(slot)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
