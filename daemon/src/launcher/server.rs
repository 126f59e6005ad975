//! The launcher's side of the server: starts it, tells it what became of workers, does what it asks for.

use std::{
    io,
    process::{ExitCode, ExitStatus},
    time::Instant,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    Launcher, addresses,
    control::{self, Addresses, Downward, ToLauncher},
    doom::Doom,
    process,
};
use crate::{clock, config::EXIT_CONFIG};

/// How often a server that never served is started before the launcher gives up.
const START_TRIES: u32 = 5;

impl Launcher {
    /// Starts the server and, with it, every worker: wires do not outlive a server.
    pub(super) fn start_server(&mut self, now: Instant) -> io::Result<()> {
        let (ours, theirs) = control::pair()?;
        self.server.running = Some(process::server(&self.program, theirs, self.layout.server)?);
        self.server.backoff.started(now);
        self.generation += 1;
        let path = self.config.path.display().to_string();
        let message = Downward::Config { path, text: self.text.clone() };
        if let Err(error) = control::send_downward(&ours, &message) {
            // The server has ended already; that is noticed by its descriptor.
            tracing::error!(%error, "the server cannot be told its configuration");
        }
        self.control = Some(ours);
        for (_, slot) in &mut self.workers {
            slot.due = Some(now);
            slot.parked = false;
            slot.resumption.begin_anew();
            // It ends with the wire that the server before had; where it does not, this one has to hear of it.
            slot.doom = slot.running.is_some().then(|| Doom::new(now, false));
        }
        Ok(())
    }

    pub(super) fn tell(&self, message: &Downward) {
        if let Some(control) = &self.control
            && let Err(error) = control::send_downward(control, message)
        {
            // The server is gone, and its end is noticed by its descriptor.
            tracing::debug!(%error, "the server cannot be told");
        }
    }

    /// Reads what the server says, if it says something.
    pub(super) fn heed_server(&mut self) {
        let Some(control) = &self.control else { return };
        let mut ready = [PollFd::new(control, PollFlags::IN)];
        if !matches!(poll(&mut ready, Some(&Timespec::default())), Ok(1..)) {
            return;
        }
        match control::receive_upward(control) {
            Ok(Some(ToLauncher::Ready(addresses))) => self.ready(&addresses),
            Ok(Some(ToLauncher::Resume { device, start, number })) => {
                self.resume(&device, start, number);
            }
            Ok(Some(ToLauncher::Proved { device, start })) => {
                if let Some(slot) = self.running(&device, start) {
                    slot.backoff.proved();
                }
            }
            Ok(Some(ToLauncher::Discard { device, start, hangs })) => {
                let now = clock::monotonic();
                if let Some(slot) = self.running(&device, start) {
                    slot.doom.get_or_insert_with(|| Doom::new(now, hangs));
                }
            }
            // Not watched any more; its process is.
            Ok(None) | Err(_) => self.control = None,
        }
    }

    fn ready(&mut self, addresses: &Addresses) {
        self.served = true;
        if let Some(path) = &self.addresses
            && let Err(error) =
                addresses::write_whole(path, &serde_json::to_vec(addresses).unwrap_or_default())
        {
            tracing::error!(path = %path.display(), %error, "the addresses cannot be written");
        }
        let _unless_systemd = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }

    /// Starts it again in a while. An exit code, if the appliance cannot go on.
    pub(super) fn server_ended(&mut self, status: ExitStatus, now: Instant) -> Option<ExitCode> {
        self.control = None;
        if status.code() == Some(EXIT_CONFIG.into()) && !self.served {
            tracing::error!("the server refuses the configuration");
            self.stop();
            return Some(EXIT_CONFIG.into());
        }
        let wait = self.server.backoff.ended(now);
        // A little patience: a server that was killed may still hold the store and its ports.
        if !self.served && self.server.backoff.failures() >= START_TRIES {
            tracing::error!(%status, "the server cannot start");
            self.stop();
            return Some(ExitCode::FAILURE);
        }
        tracing::error!(%status, ?wait, "the server ended and is started again");
        self.server.due = Some(now + wait);
        None
    }
}
