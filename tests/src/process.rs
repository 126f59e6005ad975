//! The processes of an appliance, as `/proc` shows them.
//!
//! Each appliance runs in a session (setsid(2)) of its own, which every process below it inherits:
//! so its processes are found even when their parent is gone.

use std::{
    fs, io,
    process::{Child, Command},
    sync::{OnceLock, mpsc},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

/// The kinds of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Starts the others.
    Launcher,
    /// Meets the network.
    Server,
    /// Holds PIN and sessions of one device.
    Worker,
}

/// A process that runs, or ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// What it is.
    pub role: Role,
    /// Its id.
    pub pid: i32,
    /// When it started, in clock ticks since boot: tells it from a later one with the same id.
    started: u64,
}

impl Process {
    /// Whether it still runs. One that ended and was not reaped yet does not.
    #[must_use]
    pub fn runs(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.runs && stat.started == self.started)
    }

    /// Ends it by SIGKILL.
    pub fn kill9(&self) {
        if self.runs() {
            self.signal(Signal::KILL);
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid).expect("a process id is above zero");
        // It may have ended meanwhile.
        let _sent = kill_process(pid, signal);
    }

    /// Reads a file of its directory in `/proc`.
    ///
    /// # Errors
    /// The system's: some files are not for everybody.
    pub fn read(&self, file: &str) -> io::Result<Vec<u8>> {
        fs::read(format!("/proc/{}/{file}", self.pid))
    }
}

/// All running processes of a session, launcher first.
#[must_use]
pub fn of_session(session: i32) -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<_> = pids
        .filter_map(|pid: i32| Some((pid, Stat::read(pid)?)))
        .filter(|(_, stat)| stat.session == session && stat.runs)
        .map(|(pid, stat)| Process { role: role(pid, session), pid, started: stat.started })
        .collect();
    found.sort();
    found
}

fn role(pid: i32, session: i32) -> Role {
    if pid == session {
        return Role::Launcher;
    }
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if command.split(|byte| *byte == 0).nth(1) == Some(b"server") {
        Role::Server
    } else {
        Role::Worker
    }
}

struct Stat {
    runs: bool,
    session: i32,
    started: u64,
}

impl Stat {
    /// Of `/proc/PID/stat` (proc(5)); `None` where there is no such process.
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field, the program's name in parentheses, may itself have any character.
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        Some(Self {
            runs: !matches!(*fields.first()?, "Z" | "X"),
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a process from a thread that lives as long as this process: `PR_SET_PDEATHSIG`
/// (`--die-with-parent`) goes by the thread, and that of a test ends with the test.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, ordered) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in ordered {
                let _asker_is_there = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, answer) = mpsc::channel();
    spawner.send((command, reply)).expect("the spawning thread never ends");
    answer.recv().expect("the spawning thread answers every order")
}
