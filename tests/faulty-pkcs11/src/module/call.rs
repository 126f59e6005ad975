//! One call: what takes effect before it, the real function, what takes effect after it.

use std::{
    cell::Cell,
    collections::HashMap,
    num::NonZeroU64,
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use cryptoki_sys::CK_RV;
use rustix::process::{Signal, getpid, kill_process};

use super::{Effect, Engine, token};
use crate::{Action, Crash, Function, When};

/// Reads the clock.
#[expect(clippy::disallowed_methods, reason = "latency is what this module makes")]
fn now() -> Instant {
    Instant::now()
}

impl Engine {
    /// Calls `real`, the real function with all that is special about `function`, unless an effect
    /// says otherwise. `asks_for_length`: the caller gave no buffer for the output, which rules let
    /// pass.
    pub(super) fn call(
        &self,
        function: Function,
        asks_for_length: bool,
        real: impl FnOnce(&[Effect]) -> CK_RV,
    ) -> CK_RV {
        self.state.count_call(function);
        let effects = if asks_for_length { vec![] } else { self.effects(function) };
        if effects.is_empty() {
            return real(&effects);
        }
        let _turns: Vec<_> = effects.iter().filter_map(|effect| self.turns.wait(effect)).collect();
        let start = now();
        let value = self.decide(function, &effects, real);
        let latency = effects.iter().filter_map(|effect| match effect.rule.action {
            Action::LatencyUs(micros) => Some(Duration::from_micros(micros)),
            _ => None,
        });
        if let Some(latency) = latency.max() {
            sleep_until(start + latency);
        }
        value
    }

    fn decide(
        &self,
        function: Function,
        effects: &[Effect],
        real: impl FnOnce(&[Effect]) -> CK_RV,
    ) -> CK_RV {
        let at = |when| effects.iter().filter(move |effect| effect.rule.when == when);
        for effect in at(When::Before) {
            if let Some(value) = self.strike(function, effect) {
                return value;
            }
        }
        let mut value = real(effects);
        for effect in at(When::After) {
            value = self.strike(function, effect).unwrap_or(value);
        }
        value
    }

    /// Lets an effect happen that is the same for all functions; what the call returns, if the effect
    /// decides it.
    fn strike(&self, function: Function, effect: &Effect) -> Option<CK_RV> {
        match effect.rule.action {
            Action::Fail(value) => return Some(value.0),
            Action::TokenAbsent => return token::absent(function),
            Action::Block => self.wait_while_in_force(effect),
            Action::Crash(how) => crash(how),
            Action::CrashAtExit => crash_at_exit(),
            Action::LoseSessions => self.close_all_sessions(),
            Action::LoseLogin => token::log_out(self),
            Action::LoseHandles => self.handles.lose(),
            _ => {}
        }
        None
    }
}

/// Ends the process.
fn crash(how: Crash) -> ! {
    let signal = match how {
        Crash::Segfault => Signal::SEGV,
        Crash::Abort => Signal::ABORT,
        Crash::Kill => Signal::KILL,
    };
    // More than once, because the standard library's handler for SIGSEGV, which looks for stack
    // overflows, only puts the default one back.
    loop {
        let _sent = kill_process(getpid(), signal);
        thread::yield_now();
    }
}

/// Makes exit(3) crash.
fn crash_at_exit() {
    extern "C" fn handler() {
        crash(Crash::Segfault);
    }
    // SAFETY: the handler is a function of this module, which has no state that could be gone by then.
    #[expect(unsafe_code, reason = "atexit(3)")]
    let registered = unsafe { libc::atexit(handler) };
    assert_eq!(registered, 0, "no room for an exit handler");
}

/// Sleeps as exactly as the system can.
fn sleep_until(deadline: Instant) {
    thread_local! {
        static EXACT: Cell<bool> = const { Cell::new(false) };
    }
    if !EXACT.replace(true) {
        // Timers of a thread may be late by 50 µs by default (prctl(2), PR_SET_TIMERSLACK).
        let _kept = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    }
    thread::sleep(deadline.saturating_duration_since(now()));
}

/// Calls that are limited in number take turns, by rule.
#[derive(Default)]
pub(super) struct Turns {
    taken: Mutex<HashMap<usize, u32>>,
    freed: Condvar,
}

/// A call's turn, until it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    slot: usize,
}

impl Turns {
    /// Waits for a turn, if `effect` asks for one.
    fn wait(&self, effect: &Effect) -> Option<Turn<'_>> {
        let Action::Parallel(limit) = effect.rule.action else { return None };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while taken.get(&effect.slot).is_some_and(|taken| *taken >= limit.max(1)) {
            taken = self.freed.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken.entry(effect.slot).or_default() += 1;
        Some(Turn { turns: self, slot: effect.slot })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = self.turns.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = taken.get_mut(&self.slot) {
            *taken -= 1;
        }
        drop(taken);
        self.turns.freed.notify_all();
    }
}
