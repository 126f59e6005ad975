//! What outlives a process: counts of calls and of rules' effects, in a file that every process maps.
//!
//! The file has 64-bit numbers in the machine's byte order: a magic number, the count of open
//! sessions, 128 counts of calls (in the order of [`Function`]), then for each of 128 rules the count
//! of matches and the count of effects. Memory of a shared mapping is the kernel's: a process that is
//! killed loses none of it.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};

use crate::Function;

/// How many rules there can be at a time.
pub(crate) const RULES: usize = 128;
/// Room for functions of versions to come.
const FUNCTIONS: usize = 128;
const MAGIC: u64 = u64::from_be_bytes(*b"FAULTY01");

/// The mapped numbers.
#[repr(C)]
struct Numbers {
    magic: AtomicU64,
    sessions: AtomicU64,
    calls: [AtomicU64; FUNCTIONS],
    rules: [RuleNumbers; RULES],
}

#[repr(C)]
pub(crate) struct RuleNumbers {
    matches: AtomicU64,
    effects: AtomicU64,
}

const SIZE: usize = size_of::<Numbers>();

/// The state that all processes with the same file share.
#[derive(Debug)]
pub(crate) struct State(MmapRaw);

impl State {
    /// Opens the state in `path`; a file that is new or empty begins with zeros.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < SIZE as u64 {
            file.set_len(SIZE as u64)?;
        }
        let state = Self::map(&file)?;
        let before =
            state.numbers().magic.compare_exchange(0, MAGIC, Ordering::SeqCst, Ordering::SeqCst);
        match before {
            Ok(_) | Err(MAGIC) => Ok(state),
            Err(_) => Err(io::Error::other("it is no state file of this version")),
        }
    }

    /// A state of this process alone.
    pub(crate) fn private() -> io::Result<Self> {
        Ok(Self(MmapOptions::new().len(SIZE).map_anon()?.into()))
    }

    fn map(file: &File) -> io::Result<Self> {
        Ok(Self(MmapOptions::new().len(SIZE).map_raw(file)?))
    }

    #[allow(unsafe_code)]
    fn numbers(&self) -> &Numbers {
        // SAFETY: the mapping has `SIZE` bytes, lives as long as `self`, and begins at a page;
        // `Numbers` is `repr(C)`, valid for any bytes, and changed through atomics only, here and in
        // other processes.
        unsafe { &*self.0.as_ptr().cast::<Numbers>() }
    }

    pub(crate) fn count_call(&self, function: Function) {
        self.numbers().calls[function as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn calls(&self, function: Function) -> u64 {
        self.numbers().calls[function as usize].load(Ordering::SeqCst)
    }

    pub(crate) fn rule(&self, slot: usize) -> &RuleNumbers {
        &self.numbers().rules[slot]
    }

    /// Notes that a session was opened.
    pub(crate) fn session_opened(&self) {
        self.numbers().sessions.fetch_add(1, Ordering::SeqCst);
    }

    /// Notes that sessions were closed.
    pub(crate) fn sessions_closed(&self, count: u64) {
        let less = |open: u64| Some(open.saturating_sub(count));
        // Never refused: the function always gives a number.
        let _before =
            self.numbers().sessions.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }

    pub(crate) fn sessions(&self) -> u64 {
        self.numbers().sessions.load(Ordering::SeqCst)
    }
}

impl RuleNumbers {
    /// Counts a match; its number, from 0.
    pub(crate) fn next_match(&self) -> u64 {
        self.matches.fetch_add(1, Ordering::SeqCst)
    }

    /// Counts an effect, unless there were `times` of them.
    pub(crate) fn take_effect(&self, times: Option<u64>) -> bool {
        let more = |effects: u64| times.is_none_or(|times| effects < times).then_some(effects + 1);
        self.effects.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    pub(crate) fn matches(&self) -> u64 {
        self.matches.load(Ordering::SeqCst)
    }

    pub(crate) fn effects(&self) -> u64 {
        self.effects.load(Ordering::SeqCst)
    }

    pub(crate) fn reset(&self) {
        self.matches.store(0, Ordering::SeqCst);
        self.effects.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_shared_by_everyone_with_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        let (one, other) = (State::open(&path).expect("new"), State::open(&path).expect("there"));
        one.count_call(Function::C_Login);
        drop(one);
        assert_eq!(other.calls(Function::C_Login), 1);
        assert_eq!(other.calls(Function::C_Logout), 0);
    }

    #[test]
    fn an_effect_that_is_limited_happens_so_often_over_all() {
        let state = State::private().expect("memory");
        let rule = state.rule(5);
        assert_eq!((rule.next_match(), rule.next_match()), (0, 1));
        assert!(rule.take_effect(Some(2)) && rule.take_effect(Some(2)));
        assert!(!rule.take_effect(Some(2)));
        assert_eq!((rule.matches(), rule.effects()), (2, 2));
        assert!(rule.take_effect(None));
    }

    #[test]
    fn another_file_is_not_taken_for_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        std::fs::write(&path, [7; SIZE]).expect("written");
        assert!(State::open(&path).is_err());
    }
}
