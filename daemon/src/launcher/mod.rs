//! The launcher: no network, no async. Starts the server and one worker per device, hands each side
//! its end of the wire, reaps and restarts them, and stops everything in order.

mod addresses;
mod backoff;
pub mod control;
mod doom;
pub(crate) mod layout;
pub(crate) mod process;
mod slot;

use std::{
    fs,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::ExitStatusExt as _},
    },
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    sync::Arc,
    time::{Duration, Instant},
};

use mintwarden_worker::{serve::WorkerExit, setup::Setup};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal},
};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use self::{
    control::{Downward, ToLauncher},
    doom::{Doom, Sentence},
    layout::Layout,
    process::Log,
    slot::Slot,
};
use crate::{
    clock,
    config::{Config, ConfigError, EXIT_CONFIG},
    server, telemetry,
};

/// How long children may take to end after the server's own limit, before they are killed.
const GRACE: Duration = Duration::from_secs(5);
/// How often a server that never served is started before the launcher gives up.
const START_TRIES: u32 = 5;
/// How often a device may be resumed within [`RESUMES_WITHIN`]: HSMs lock a PIN after few failures.
const MAX_RESUMES: usize = 5;
const RESUMES_WITHIN: Duration = Duration::from_secs(3600);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Where to write the bound addresses.
    pub addresses: Option<PathBuf>,
    /// The parent process to end with.
    pub die_with_parent: Option<Pid>,
}

/// The launcher's main function: runs the appliance until a signal says stop.
pub fn run(options: &Options) -> ExitCode {
    let _log = telemetry::init();
    let launcher = match Launcher::new(options) {
        Ok(launcher) => launcher,
        Err(error) => {
            // For the person at the terminal, not for a log.
            eprintln!("{error}");
            return match error {
                LaunchError::Config(_) => EXIT_CONFIG.into(),
                LaunchError::System(_) => ExitCode::FAILURE,
            };
        }
    };
    launcher.run()
}

#[derive(Debug, thiserror::Error)]
enum LaunchError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the launcher cannot start: {0}")]
    System(#[from] io::Error),
}

struct Launcher {
    config: Config,
    text: String,
    layout: Layout,
    _lock: fs::File,
    program: PathBuf,
    directory: PathBuf,
    addresses: Option<PathBuf>,
    signals: UnixStream,
    server: Slot,
    control: Option<OwnedFd>,
    /// Which start of the server this is: wires do not outlive the server that they were made for.
    generation: u64,
    /// Whether a server has served yet. One that never did will not do better when started again.
    served: bool,
    workers: Vec<(usize, Slot)>,
}

impl Launcher {
    fn new(options: &Options) -> Result<Self, LaunchError> {
        mintwarden_worker::harden::protect().map_err(io::Error::other)?;
        if let Some(parent) = options.die_with_parent {
            mintwarden_worker::harden::die_with(parent).map_err(io::Error::other)?;
        }
        let path = &options.config;
        let text = Config::read(path)?;
        let config = Config::parse(&text, path)?;
        server::preflight(&config)?;
        let layout = Layout::of(&config)?;
        layout.make(&config)?;
        let lock = layout.lock()?;
        let (program, directory) = process::own_program()?;
        let (signals, sender) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        for signal in [SIGTERM, SIGINT] {
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        // Where SIGCHLD was inherited as ignored, children could not be waited for.
        signal_hook::flag::register(SIGCHLD, Arc::default())?;
        let workers = (0..config.devices.len()).map(|index| (index, Slot::default())).collect();
        Ok(Self {
            config,
            text,
            layout,
            _lock: lock,
            program,
            directory,
            addresses: options.addresses.clone(),
            signals,
            server: Slot::due_now(),
            control: None,
            generation: 0,
            served: false,
            workers,
        })
    }

    fn run(mut self) -> ExitCode {
        loop {
            self.carry_out_sentences();
            if let Err(error) = self.start_due() {
                tracing::error!(%error, "the server cannot be started");
                return ExitCode::FAILURE;
            }
            match self.wait(None) {
                Ok(false) => {}
                Ok(true) => return self.stop(),
                Err(error) => {
                    tracing::error!(%error, "the launcher ends");
                    return ExitCode::FAILURE;
                }
            }
            self.heed_server();
            if let Some(exit) = self.reap() {
                return exit;
            }
        }
    }

    fn start_due(&mut self) -> io::Result<()> {
        let now = clock::monotonic();
        if self.server.is_due(now) {
            self.start_server(now)?;
        }
        for index in 0..self.workers.len() {
            if self.workers[index].1.is_due(now) {
                self.start_worker(index, now);
            }
        }
        Ok(())
    }

    /// Starts the server and, with it, every worker: wires do not outlive a server.
    fn start_server(&mut self, now: Instant) -> io::Result<()> {
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
        }
        Ok(())
    }

    fn start_worker(&mut self, index: usize, now: Instant) {
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

    fn tell(&self, message: &Downward) {
        if let Some(control) = &self.control
            && let Err(error) = control::send_downward(control, message)
        {
            // The server is gone, and its end is noticed by its descriptor.
            tracing::debug!(%error, "the server cannot be told");
        }
    }

    /// Waits for something to happen; true if a signal says stop.
    fn wait(&mut self, until: Option<Instant>) -> io::Result<bool> {
        let dues = self.workers.iter().map(|(_, slot)| slot).chain([&self.server]);
        let next = dues
            .filter_map(|slot| match &slot.running {
                None => slot.due,
                Some(_) => slot.doom.as_ref().and_then(Doom::next),
            })
            .chain(until)
            .min();
        let timeout = next.map(|next| next.saturating_duration_since(clock::monotonic()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let running = self.workers.iter().map(|(_, slot)| slot).chain([&self.server]);
        let pidfds =
            running.filter_map(|slot| slot.running.as_ref()).map(|process| process.pidfd.as_fd());
        let mut watched: Vec<_> = [self.signals.as_fd()]
            .into_iter()
            .chain(self.control.as_ref().map(OwnedFd::as_fd))
            .chain(pidfds)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0; 16];
        Ok(matches!((&self.signals).read(&mut bytes), Ok(1..)))
    }

    /// Reads what the server says, if it says something.
    fn heed_server(&mut self) {
        let Some(control) = &self.control else { return };
        let mut ready = [PollFd::new(control, PollFlags::IN)];
        if !matches!(poll(&mut ready, Some(&Timespec::default())), Ok(1..)) {
            return;
        }
        match control::receive_upward(control) {
            Ok(Some(ToLauncher::Ready(addresses))) => self.ready(&addresses),
            Ok(Some(ToLauncher::Resume { device })) => self.resume(&device),
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

    fn ready(&mut self, addresses: &control::Addresses) {
        self.served = true;
        if let Some(path) = &self.addresses
            && let Err(error) =
                addresses::write_whole(path, &serde_json::to_vec(addresses).unwrap_or_default())
        {
            tracing::error!(path = %path.display(), %error, "the addresses cannot be written");
        }
        let _unless_systemd = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }

    /// An operator wants a parked device tried again. The server is not believed beyond a bound: each
    /// resumption may cost one attempt at the PIN.
    fn resume(&mut self, device: &str) {
        let now = clock::monotonic();
        let devices = &self.config.devices;
        let named = |index: &usize| devices[*index].name.as_str() == device;
        let Some((_, slot)) = self.workers.iter_mut().find(|(index, _)| named(index)) else {
            return;
        };
        slot.resumed.retain(|at| now.saturating_duration_since(*at) < RESUMES_WITHIN);
        if slot.resumed.len() >= MAX_RESUMES {
            tracing::error!(device, "not resumed: too often within an hour");
            let detail =
                "it was resumed too often within an hour; restart the appliance".to_owned();
            let (device, reason) = (device.to_owned(), "RESUMED_TOO_OFTEN".to_owned());
            self.tell(&Downward::Parked { device, reason, detail });
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
                self.tell_stuck(device.to_owned(), pid);
            }
            Some(_) => {}
        }
    }

    /// A device's worker, if it is still the one that the server means.
    fn running(&mut self, device: &str, start: u64) -> Option<&mut Slot> {
        let devices = &self.config.devices;
        let named = |index: &usize| devices[*index].name.as_str() == device;
        let (_, slot) = self.workers.iter_mut().find(|(index, _)| named(index))?;
        (slot.running.is_some() && slot.start == start).then_some(slot)
    }

    fn carry_out_sentences(&mut self) {
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
                    stuck.push((device, process.id()));
                }
                None => {}
            }
        }
        for (device, pid) in stuck {
            tracing::error!(device, pid, "a killed worker does not end: its device is parked");
            self.tell_stuck(device, pid);
        }
    }

    fn tell_stuck(&self, device: String, pid: u32) {
        let detail = format!(
            "process {pid} does not end although it was killed: its driver hangs in the kernel; mend that, or \
             restart the machine, then say `mintwardenctl device resume {device}`"
        );
        self.tell(&Downward::Parked { device, reason: "WORKER_STUCK".into(), detail });
    }

    /// Notes who has ended. An exit code, if the appliance cannot go on.
    fn reap(&mut self) -> Option<ExitCode> {
        let now = clock::monotonic();
        if let Some(status) = self.server.ended() {
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
        }
        for index in 0..self.workers.len() {
            let Some(status) = self.workers[index].1.ended() else { continue };
            self.worker_ended(index, status, now);
        }
        None
    }

    fn worker_ended(&mut self, index: usize, status: ExitStatus, now: Instant) {
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
            self.tell(&Downward::Parked { device, reason: "WORKER_PARKED".into(), detail });
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

    /// Stops the server, which lets its calls finish and then cuts the wires, which ends the
    /// workers. Whoever exceeds the limit is killed.
    fn stop(&mut self) -> ExitCode {
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
