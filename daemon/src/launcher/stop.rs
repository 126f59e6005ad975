//! The end of the appliance.

use std::{process::ExitCode, time::Duration};

use rustix::process::Signal;

use super::Launcher;
use crate::clock;

/// How long children may take to end after the server's own limit, before they are killed.
const GRACE: Duration = Duration::from_secs(5);

impl Launcher {
    /// Stops the server, which lets its calls finish and then cuts the wires, which ends the
    /// workers. Whoever exceeds the limit is killed.
    pub(super) fn stop(&mut self) -> ExitCode {
        let _unless_systemd = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        if let Some(server) = &self.server.running {
            server.signal(Signal::TERM);
        }
        let mut limit = clock::monotonic() + self.config.limits.drain + GRACE;
        let mut killed = false;
        loop {
            let server = self.server.ended().is_none() && self.server.running.is_some();
            let slots = self.workers.iter_mut().map(|(_, slot)| slot);
            let workers =
                slots.filter_map(|slot| slot.ended().is_none().then_some(slot.running.is_some()));
            let workers = workers.filter(|running| *running).count();
            if !server && workers == 0 {
                break;
            }
            if clock::monotonic() >= limit && !killed {
                tracing::error!("children do not end in time and are killed");
                self.kill_all();
                killed = true;
                limit = clock::monotonic() + GRACE;
            } else if clock::monotonic() >= limit {
                break; // Not even killed children end: nothing more can be done from here.
            }
            self.server.due = None;
            self.workers.iter_mut().for_each(|(_, slot)| slot.due = None);
            match self.wait(Some(limit)) {
                // A second signal: no more patience.
                Ok(true) if !killed => {
                    self.kill_all();
                    killed = true;
                    limit = clock::monotonic() + GRACE;
                }
                Ok(_) => {}
                Err(_) => break,
            }
            if self.server.running.is_none() {
                self.control = None;
            } else {
                self.heed_server();
            }
        }
        if killed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn kill_all(&self) {
        let all = self.workers.iter().map(|(_, slot)| slot).chain([&self.server]);
        all.filter_map(|slot| slot.running.as_ref())
            .for_each(|process| process.signal(Signal::KILL));
    }
}
