//! What a process does to itself before it touches a secret or starts work.

use std::{fmt, os::fd::AsFd};

use rustix::{
    io::Errno,
    net::sockopt::socket_peercred,
    process::{
        DumpableBehavior, Pid, Resource, Rlimit, Signal, getppid, set_dumpable_behavior,
        set_parent_process_death_signal, setrlimit,
    },
    thread::set_no_new_privs,
};

/// Keeps this process's memory to itself: no core dumps, no tracing by processes of the same user
/// (`PR_SET_DUMPABLE` 0 also gives `/proc/PID` to root), and no privileges gained by executing
/// another program.
///
/// # Errors
/// [`HardenError`] naming the measure that the kernel refused. The process should then not go on.
pub fn protect() -> Result<(), HardenError> {
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, no_core).map_err(refused("a core size limit of 0"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused("PR_SET_DUMPABLE 0"))?;
    set_no_new_privs(true).map_err(refused("PR_SET_NO_NEW_PRIVS"))
}

/// Has the kernel kill this process (SIGKILL) when `parent` dies, which has to be its parent.
///
/// Two things to know of `PR_SET_PDEATHSIG` (prctl(2)): the parent is the *thread* that started this
/// process, which therefore has to live as long as the parent; and a change of user or group takes
/// the setting off, so it comes after those.
///
/// # Errors
/// [`HardenError`] if the kernel refuses, or if the parent is gone already: the signal then never
/// comes, and the process has to exit by itself.
pub fn die_with(parent: Pid) -> Result<(), HardenError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(refused("PR_SET_PDEATHSIG"))?;
    if getppid() == Some(parent) { Ok(()) } else { Err(HardenError::Orphaned) }
}

/// As [`die_with`], where the parent is who made the pair of sockets that `socket` is one of: the
/// kernel keeps its id, so that a parent is missed that died before this process first looked.
///
/// # Errors
/// As [`die_with`]; also for what is no unix socket.
pub fn die_with_maker_of(socket: impl AsFd) -> Result<(), HardenError> {
    let maker = socket_peercred(socket).map_err(refused("SO_PEERCRED of standard input"))?;
    die_with(maker.pid)
}

/// A measure of protection that could not be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HardenError {
    /// The kernel refused.
    Refused {
        /// The measure.
        what: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// The parent died before its death could be watched for.
    Orphaned,
}

impl fmt::Display for HardenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { what, errno } => write!(f, "the kernel refused {what}: {errno}"),
            Self::Orphaned => f.write_str("the parent process is gone already"),
        }
    }
}

impl std::error::Error for HardenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused { errno, .. } => Some(errno),
            Self::Orphaned => None,
        }
    }
}

fn refused(what: &'static str) -> impl Fn(Errno) -> HardenError {
    move |errno| HardenError::Refused { what, errno }
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getpid, getrlimit, parent_process_death_signal};

    use super::*;

    // These change the test's own process; each runs in one of its own under nextest.

    #[test]
    fn i1_no_core_dump_and_no_tracing() {
        protect().expect("the kernel allows it to everybody");
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(rustix::thread::no_new_privs(), Ok(true));
    }

    #[test]
    fn the_parents_death_is_watched_for() {
        die_with(getppid().expect("a runner in this name space")).expect("it is there");
        assert_eq!(parent_process_death_signal(), Ok(Some(Signal::KILL)));
    }

    #[test]
    fn a_socket_tells_its_maker_and_nothing_else_does() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
        // Made by this very process, which is not its own parent.
        assert_eq!(die_with_maker_of(&ours), Err(HardenError::Orphaned));
        let file = std::fs::File::open("/dev/null").expect("it is everywhere");
        assert!(matches!(die_with_maker_of(&file), Err(HardenError::Refused { .. })));
    }

    #[test]
    fn another_parent_than_expected_means_orphaned() {
        assert_eq!(die_with(getpid()), Err(HardenError::Orphaned));
        assert_eq!(die_with(getppid().expect("a runner in this name space")), Ok(()));
    }
}
