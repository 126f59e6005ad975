//! The launcher: no network, no async. Starts the server and one worker per device, hands each side
//! its end of the wire, reaps and restarts them, and stops everything in order.

mod addresses;
mod backoff;
pub mod control;
mod doom;
pub(crate) mod layout;
pub(crate) mod process;
mod resumption;
mod server;
mod slot;
mod stop;
mod workers;

use std::{
    fs,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Pid,
};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use self::{doom::Doom, layout::Layout, slot::Slot};
use crate::{
    clock,
    config::{Config, ConfigError, EXIT_CONFIG},
    telemetry,
};

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
        crate::server::preflight(&config)?;
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

    /// Notes who has ended. An exit code, if the appliance cannot go on.
    fn reap(&mut self) -> Option<ExitCode> {
        let now = clock::monotonic();
        if let Some(status) = self.server.ended()
            && let Some(exit) = self.server_ended(status, now)
        {
            return Some(exit);
        }
        for index in 0..self.workers.len() {
            let Some(status) = self.workers[index].1.ended() else { continue };
            self.worker_ended(index, status, now);
        }
        None
    }
}
