//! The controlling side: rules are set here, modules connect to it, and counts are read here.
//!
//! The socket is this side's and not a module's, because processes under test come and go: a module
//! connects when it is loaded, and gets the rules before its first function is called. A line of JSON
//! to the module sets all rules; a line back says that they are in force.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    Function, Rule,
    state::{RULES, State},
};

/// How long a module may take to put rules in force. A process that is stopped never does.
const LIMIT: Duration = Duration::from_secs(10);

/// The path of the real module.
pub(crate) const MODULE: &str = "FAULTY_PKCS11_MODULE";
/// The path of the control socket.
pub(crate) const CONTROL: &str = "FAULTY_PKCS11_CONTROL";
/// The path of a script file.
pub(crate) const SCRIPT: &str = "FAULTY_PKCS11_SCRIPT";
/// The path of the state file.
pub(crate) const STATE: &str = "FAULTY_PKCS11_STATE";

/// To a module: all rules from now on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Rules {
    /// Grows with every change.
    pub(crate) sequence: u64,
    /// The rules by their slots.
    pub(crate) rules: BTreeMap<usize, Rule>,
}

/// From a module.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// The first line: the process that it is in.
    Pid(u32),
    /// The rules of this sequence number are in force.
    Applied(u64),
}

/// Why a module cannot be steered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused a file or the socket.
    #[error("{path}: {error}")]
    Io {
        /// Of what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There are as many rules as fit.
    #[error("there are {RULES} rules already; remove some")]
    Full,
    /// A process did not put the rules in force in time. Is it stopped?
    #[error("process {0} did not put the rules in force within {LIMIT:?}")]
    Silent(u32),
}

/// A rule in force.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Applied {
    slot: usize,
}

/// Environment variables, by name.
pub type Variables = [(&'static str, OsString); 3];

/// Steers every faulty module whose process has its [environment](Self::environment), however many
/// there are and however often they are started again.
#[derive(Debug)]
pub struct Faulty {
    socket: PathBuf,
    state_path: PathBuf,
    state: State,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Now {
    rules: Rules,
    modules: BTreeMap<u64, Module>,
    next_module: u64,
}

#[derive(Debug)]
struct Module {
    pid: u32,
    stream: UnixStream,
    applied: u64,
}

impl Faulty {
    /// Begins to listen, with its socket and its state file in `directory`. The socket's path has to
    /// be short (107 bytes); both are for this user alone unless their modes are changed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn listen(directory: &Path) -> Result<Self, Error> {
        let (socket, state_path) = (directory.join("faulty.sock"), directory.join("faulty.state"));
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| Error::Io { path, error }
        };
        let state = State::open(&state_path).map_err(io(&state_path))?;
        let listener = UnixListener::bind(&socket).map_err(io(&socket))?;
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::Builder::new()
            .name("faulty-pkcs11".into())
            .spawn(move || accept(&listener, &accepting))
            .map_err(io(&socket))?;
        Ok(Self { socket, state_path, state, shared })
    }

    /// The environment that a process needs, beside what the real module at `module` needs.
    #[must_use]
    pub fn environment(&self, module: &Path) -> Variables {
        [
            (MODULE, module.as_os_str().to_owned()),
            (CONTROL, self.socket.as_os_str().to_owned()),
            (STATE, self.state_path.as_os_str().to_owned()),
        ]
    }

    /// Socket and state file: for whoever has to give them to another user.
    #[must_use]
    pub fn files(&self) -> [&Path; 2] {
        [&self.socket, &self.state_path]
    }

    /// Puts a rule in force; returns when it is, in every process that has loaded the module, and
    /// with it for every process to come.
    ///
    /// # Errors
    /// [`Error::Full`], or [`Error::Silent`], whereupon the rule stays set.
    pub fn add(&self, rule: Rule) -> Result<Applied, Error> {
        let mut now = self.shared.lock();
        let slot = (0..RULES).find(|slot| !now.rules.rules.contains_key(slot));
        let slot = slot.ok_or(Error::Full)?;
        // No module has a rule in this slot: removals return only when they are in force.
        self.state.rule(slot).reset();
        now.rules.rules.insert(slot, rule);
        self.shared.apply(now)?;
        Ok(Applied { slot })
    }

    /// Takes a rule back; calls that it blocks go on. Returns how often it took effect.
    ///
    /// # Errors
    /// [`Error::Silent`].
    pub fn remove(&self, rule: Applied) -> Result<u64, Error> {
        let mut now = self.shared.lock();
        now.rules.rules.remove(&rule.slot);
        self.shared.apply(now)?;
        Ok(self.state.rule(rule.slot).effects())
    }

    /// Takes all rules back. What was returned for them by [`add`](Self::add) is of no further use.
    ///
    /// # Errors
    /// [`Error::Silent`].
    pub fn clear(&self) -> Result<(), Error> {
        let mut now = self.shared.lock();
        now.rules.rules.clear();
        self.shared.apply(now)
    }

    /// How often a function was called, in all processes, since the state file was made. Queries of
    /// an output's length count too.
    #[must_use]
    pub fn calls(&self, function: Function) -> u64 {
        self.state.calls(function)
    }

    /// How often a rule took effect.
    #[must_use]
    pub fn fired(&self, rule: &Applied) -> u64 {
        self.state.rule(rule.slot).effects()
    }

    /// How many calls a rule was for.
    #[must_use]
    pub fn matched(&self, rule: &Applied) -> u64 {
        self.state.rule(rule.slot).matches()
    }

    /// How many sessions are open, those of processes that ended without closing theirs included.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.state.sessions()
    }

    /// Forgets all open sessions, as a device does with those of a process that is gone.
    pub fn forget_sessions(&self) {
        self.state.sessions_closed(u64::MAX);
    }

    /// The processes that have the module loaded.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.shared.lock().modules.values().map(|module| module.pid).collect()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        // Wakes the thread that accepts, which ends because nobody else has the state any more.
        let _connected = UnixStream::connect(&self.socket);
        let _removed = std::fs::remove_file(&self.socket);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the rules as they are now to all modules, and waits until they are in force.
    fn apply(&self, mut now: MutexGuard<'_, Now>) -> Result<(), Error> {
        now.rules.sequence += 1;
        let (sequence, line) = (now.rules.sequence, now.rules.line());
        for module in now.modules.values_mut() {
            // One that is gone is noticed by the thread that listens to it.
            let _sent = module.stream.write_all(&line);
        }
        let behind = |now: &mut Now| now.modules.values().any(|m| m.applied < sequence);
        let waited = self.changed.wait_timeout_while(now, LIMIT, behind);
        let (now, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match now.modules.values().find(|module| module.applied < sequence) {
            None => Ok(()),
            Some(silent) => Err(Error::Silent(silent.pid)),
        }
    }
}

impl Rules {
    fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("rules have only numbers and strings");
        line.push(b'\n');
        line
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if Arc::strong_count(shared) == 1 {
            return; // The `Faulty` is gone.
        }
        let shared = Arc::downgrade(shared);
        thread::spawn(move || serve(&stream, &shared));
    }
}

/// Listens to one module until it is gone.
fn serve(stream: &UnixStream, shared: &Weak<Shared>) {
    let mut lines = BufReader::new(stream).lines();
    let mut next = || serde_json::from_str::<Said>(&lines.next()?.ok()?).ok();
    let Some(Said::Pid(pid)) = next() else { return };
    let number = {
        let Some(shared) = shared.upgrade() else { return };
        let mut now = shared.lock();
        let Ok(mut writing) = stream.try_clone() else { return };
        let bounded = writing.set_write_timeout(Some(LIMIT));
        if bounded.and_then(|()| writing.write_all(&now.rules.line())).is_err() {
            return;
        }
        now.next_module += 1;
        let number = now.next_module;
        now.modules.insert(number, Module { pid, stream: writing, applied: 0 });
        number
    };
    while let Some(Said::Applied(sequence)) = next() {
        let Some(shared) = shared.upgrade() else { return };
        if let Some(module) = shared.lock().modules.get_mut(&number) {
            module.applied = sequence;
        }
        shared.changed.notify_all();
    }
    if let Some(shared) = shared.upgrade() {
        shared.lock().modules.remove(&number);
        shared.changed.notify_all();
    }
}
