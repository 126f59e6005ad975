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
    control::{Downward, WORKER_PARKED},
    doom::Sentence,
    process::{self, Log},
    resumption::Answer,
    slot::Slot,
};
use crate::clock;

impl Launcher {
    pub(super) fn start_worker(&mut self, index: usize, now: Instant) {
        let (device, slot) = &mut self.workers[index];
        let device = &self.config.devices[*device];
        let name = device.name.to_string();
        let setup = Setup {
            device: device.clone(),
            state_dir: self.layout.device_dir(&name),
            profiles: self.config.profiles_on(&name),
            resume: slot.resumption.is_granted(),
        };
        slot.due = None;
        slot.generation = self.generation;
        slot.backoff.started(now);
        match process::worker(&self.directory, &setup, self.layout.worker, Log::Inherited) {
            Ok((process, socket)) => {
                slot.running = Some(process);
                slot.resumption.is_used();
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
        if slot.generation != self.generation && !slot.parked {
            slot.due = Some(now); // It ended with the server before this one, as it should.
            return;
        }
        // Parked already: it was killed, and took its time to end.
        let parked = slot.parked || status.code() == Some(WorkerExit::PARKED.into());
        if parked && !slot.resumption.is_granted() {
            slot.parked = true;
            slot.due = None;
            let (start, heard) = (slot.start, slot.resumption.heard());
            tracing::error!(device, "parked");
            self.tell_parked(device, start, heard);
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

    /// An operator wants a device tried again whose `start`th worker is parked: the server's `number`th request.
    pub(super) fn resume(&mut self, device: &str, start: u64, number: u64) {
        let now = clock::monotonic();
        let devices = &self.config.devices;
        let named = |index: &usize| devices[*index].name.as_str() == device;
        let Some((_, slot)) = self.workers.iter_mut().find(|(index, _)| named(index)) else {
            return;
        };
        let latest = slot.latest();
        let answer = slot.resumption.heed(start, number, latest, now);
        let (device, heard) = (device.to_owned(), slot.resumption.heard());
        match answer {
            Answer::Start => {
                slot.backoff.reset();
                slot.parked = false;
                slot.due = Some(now);
            }
            Answer::WhenEnded => slot.backoff.reset(),
            Answer::Stuck(pid) => {
                slot.backoff.reset();
                self.tell_stuck(device, latest.start, heard, pid);
            }
            Answer::Parked => self.tell_parked(device, latest.start, heard),
            Answer::Late => {
                tracing::warn!(device, start, "resumed too late: another worker has started");
            }
            Answer::TooOften => {
                tracing::error!(device, "not resumed: too often within an hour");
                let detail = "it was resumed too often within an hour; restart the appliance";
                let (start, detail) = (latest.start, detail.to_owned());
                let reason = "RESUMED_TOO_OFTEN".to_owned();
                self.tell(&Downward::Parked { device, start, heard, reason, detail });
            }
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
                    stuck.push((device, slot.start, slot.resumption.heard(), process.id()));
                }
                None => {}
            }
        }
        for (device, start, heard, pid) in stuck {
            tracing::error!(device, pid, "a killed worker does not end: its device is parked");
            self.tell_stuck(device, start, heard, pid);
        }
    }

    fn tell_parked(&self, device: String, start: u64, heard: u64) {
        let detail = format!("`mintwardenctl device resume {device}` is the way back");
        let reason = WORKER_PARKED.to_owned();
        self.tell(&Downward::Parked { device, start, heard, reason, detail });
    }

    fn tell_stuck(&self, device: String, start: u64, heard: u64, pid: u32) {
        let detail = format!(
            "process {pid} does not end although it was killed: its driver hangs in the kernel; mend that, or \
             restart the machine, then say `mintwardenctl device resume {device}`"
        );
        let reason = "WORKER_STUCK".to_owned();
        self.tell(&Downward::Parked { device, start, heard, reason, detail });
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
