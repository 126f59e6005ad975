//! The module itself: what a process that loads the library gets.

#![allow(unsafe_code, reason = "a PKCS#11 module is foreign functions")]

mod attributes;
mod call;
mod entry;
mod handles;
mod link;
mod pairs;
mod real;
mod signing;
mod token;

use std::{
    env,
    io::Write as _,
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use self::{handles::Handles, link::Link, real::Real};
use crate::{
    Action, Function, Rule,
    control::{MODULE, Rules, STATE},
    state::State,
};

/// Everything that the module knows in this process.
struct Engine {
    real: Real,
    state: State,
    handles: Handles,
    rules: RwLock<Arc<Rules>>,
    changed: Changed,
    turns: call::Turns,
    /// Sessions of this process, to be taken off the shared count when it closes them all.
    sessions: AtomicU64,
}

/// Wakes whoever waits for a rule to be removed.
#[derive(Default)]
struct Changed {
    count: Mutex<u64>,
    condition: Condvar,
}

/// A rule that takes effect on a call.
struct Effect {
    slot: usize,
    rule: Rule,
}

impl Engine {
    fn load() -> Result<&'static Self, String> {
        static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
        let mut link = None;
        let engine = ENGINE.get_or_init(|| {
            let real =
                Real::load(&variable(MODULE).ok_or_else(|| {
                    format!("{MODULE} is not set: name the real PKCS#11 module")
                })?)?;
            let state = match variable(STATE) {
                Some(path) => State::open(path.as_ref())
                    .map_err(|error| format!("{STATE}: {}: {error}", path.display()))?,
                None => State::private().map_err(|error| error.to_string())?,
            };
            let (opened, rules) = Link::open()?;
            link = Some(opened);
            Ok(Self {
                real,
                state,
                handles: Handles::default(),
                rules: RwLock::new(Arc::new(rules)),
                changed: Changed::default(),
                turns: call::Turns::default(),
                sessions: AtomicU64::new(0),
            })
        });
        let engine = engine.as_ref().map_err(Clone::clone)?;
        if let Some(link) = link.filter(|link| !matches!(link, Link::None)) {
            let followed = thread::Builder::new()
                .name("faulty-pkcs11".into())
                .spawn(move || link.follow(engine));
            followed.map_err(|error| format!("no thread can be started: {error}"))?;
        }
        Ok(engine)
    }

    /// The engine of a process that has called a function, which it can only have found through an
    /// engine.
    fn get() -> &'static Self {
        Self::load().unwrap_or_else(|problem| {
            complain(&problem);
            std::process::abort()
        })
    }

    fn set(&self, rules: Rules) {
        let absent = |rules: &Rules| {
            rules.rules.values().any(|rule| matches!(rule.action, Action::TokenAbsent))
        };
        let newly_absent = absent(&rules) && !absent(&self.rules());
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        if newly_absent {
            self.close_all_sessions();
        }
        *self.changed.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.condition.notify_all();
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits as long as the rule in `slot` is the same.
    fn wait_while_in_force(&self, effect: &Effect) {
        let mut count = self.changed.count.lock().unwrap_or_else(PoisonError::into_inner);
        while self.rules().rules.get(&effect.slot) == Some(&effect.rule) {
            count = self.changed.condition.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The rules that take effect on a call of `function`, in order, up to the first that ends it.
    fn effects(&self, function: Function) -> Vec<Effect> {
        let rules = self.rules();
        let mut effects = Vec::new();
        for (slot, rule) in rules.rules.iter().filter(|(_, rule)| rule.is_for(function)) {
            let numbers = self.state.rule(*slot);
            let n = numbers.next_match();
            let effective = n >= rule.after
                && rule.chance.is_none_or(|chance| chance.hits(n))
                && numbers.take_effect(rule.times);
            if effective {
                effects.push(Effect { slot: *slot, rule: rule.clone() });
                if rule.ends_the_call() {
                    break;
                }
            }
        }
        effects
    }

    fn close_all_sessions(&self) {
        self.real.close_all_sessions();
        self.state.sessions_closed(self.sessions.swap(0, Ordering::SeqCst));
    }
}

#[expect(clippy::disallowed_methods, reason = "a module has no other way to be told")]
fn variable(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Says what is wrong with the module's own set-up.
fn complain(problem: &str) {
    // Nobody is left to tell when standard error is closed.
    let _written = writeln!(std::io::stderr(), "faulty-pkcs11: {problem}");
}
