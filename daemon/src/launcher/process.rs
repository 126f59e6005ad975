//! Child processes: started with nothing inherited but what they need.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use mintwarden_hsm_config::{device::Device, pin::PinSource};
use mintwarden_worker::setup::Setup;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

use super::layout::Identity;

/// How long a worker may take to read its set-up before the launcher gives up on it.
const SETUP_LIMIT: Duration = Duration::from_secs(5);

/// A child that runs, and the descriptor that tells when it ends.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) pidfd: OwnedFd,
}

impl Process {
    fn new(child: Child) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { child, pidfd }),
            Err(error) => {
                let mut child = child;
                let _reaped = child.kill().and_then(|()| child.wait());
                Err(error.into())
            }
        }
    }

    /// The exit status, if it has ended; reaps it.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; kills it when `within` is over.
    pub(crate) fn end(mut self, within: Duration) {
        let limit = Timespec::try_from(within).ok();
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        if !matches!(poll(&mut ended, limit.as_ref()), Ok(1..)) {
            self.signal(Signal::KILL);
            // One that even a signal does not end is in the kernel's hands, and is not waited for.
            let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
            let grace = Timespec { tv_sec: 1, tv_nsec: 0 };
            let _either_way = poll(&mut ended, Some(&grace));
        }
        let _reaped = self.ended();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It may have ended meanwhile; it is not reaped yet, so the pid is still its own.
        let _sent = kill_process(Pid::from_child(&self.child), signal);
    }
}

/// Where what a child prints goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// To this process's standard error.
    Inherited,
    /// Nowhere.
    Discarded,
}

/// The server, with `control` as its standard input.
pub(super) fn server(program: &Path, control: OwnedFd, identity: Identity) -> io::Result<Process> {
    let mut command = bare(program, identity, Log::Inherited);
    command.arg("server").stdin(control).envs(inherited(&["RUST_LOG", "RUST_BACKTRACE"]));
    Process::new(command.spawn()?)
}

/// The server's part of an examination of a stopped appliance, with one end of a stream as its standard
/// input. Returns the other end.
pub(crate) fn server_account(
    program: &Path,
    identity: Identity,
    log: Log,
) -> io::Result<(Process, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = bare(program, identity, log);
    command.arg("server-account").stdin(OwnedFd::from(theirs));
    command.envs(inherited(&["RUST_LOG", "RUST_BACKTRACE"]));
    Ok((Process::new(command.spawn()?)?, ours))
}

/// A worker, with one end of a fresh wire as its standard input and its set-up already on it.
/// Returns the server's end.
pub(crate) fn worker(
    directory: &Path,
    setup: &Setup,
    identity: Identity,
    log: Log,
) -> io::Result<(Process, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = bare(&directory.join(setup.device.kind.worker()), identity, log);
    command
        .stdin(OwnedFd::from(theirs))
        .envs(environment(&setup.device))
        .envs(inherited(&["RUST_LOG", "RUST_BACKTRACE"]));
    match setup.device.secret() {
        PinSource::Env(name) => command.envs(inherited(&[name.as_str()])),
        PinSource::Credential(_) => command.envs(inherited(&["CREDENTIALS_DIRECTORY"])),
        PinSource::File(_) => &mut command,
    };
    let mut process = Process::new(command.spawn()?)?;
    match send_setup(&ours, setup) {
        Ok(()) => Ok((process, ours.into())),
        Err(error) => {
            let _reaped = process.child.kill().and_then(|()| process.child.wait());
            Err(error)
        }
    }
}

/// Written before the server gets this end of the wire: it cannot change it.
fn send_setup(mut wire: &UnixStream, setup: &Setup) -> io::Result<()> {
    let body = serde_json::to_vec(setup)?;
    wire.set_write_timeout(Some(SETUP_LIMIT))?;
    mintwarden_worker::wire::write_frame(&mut wire, &body).map_err(io::Error::other)?;
    wire.flush()?;
    wire.set_write_timeout(None)
}

fn environment(device: &Device) -> &BTreeMap<String, String> {
    &device.environment
}

/// A command without environment, in a process group of its own (a terminal's Ctrl-C is for the
/// launcher, which stops the others in order), as `identity` without supplementary groups.
fn bare(program: &Path, identity: Identity, log: Log) -> Command {
    let (stdout, stderr) = match log {
        Log::Inherited => (stderr(), Stdio::inherit()),
        Log::Discarded => (Stdio::null(), Stdio::null()),
    };
    let mut command = Command::new(program);
    command.env_clear().process_group(0).stdout(stdout).stderr(stderr).current_dir("/");
    if let Some((uid, gid)) = identity {
        command.gid(gid).uid(uid);
    }
    command
}

/// Standard output belongs to nobody below the launcher: what they print goes to the log.
fn stderr() -> Stdio {
    io::stderr().as_fd().try_clone_to_owned().map_or_else(|_| Stdio::null(), Stdio::from)
}

#[expect(clippy::disallowed_methods, reason = "what children inherit is chosen here, by name")]
fn inherited(names: &[&str]) -> Vec<(String, OsString)> {
    names.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?))).collect()
}

/// The directory of this program: its workers are installed beside it.
pub(crate) fn own_program() -> io::Result<(PathBuf, PathBuf)> {
    let program = std::env::current_exe()?;
    let directory = program.parent().unwrap_or(Path::new("/")).to_owned();
    Ok((program, directory))
}
