//! Verifiers of tokens: they keep what they read of the JWK Set for as long as they may.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mintwarden_worker::jwk::Kid;

use super::{SimClock, millis};
use crate::keyset::Policy;

/// The `kid`s of a JWK Set.
pub(in crate::keyset) type Kids = Arc<BTreeSet<Kid>>;

/// How a verifier goes about it.
#[derive(Clone, Copy, Debug)]
pub(in crate::keyset) struct Habit {
    /// How long it keeps a set, as a part of R in percent.
    pub(in crate::keyset) keeps: u64,
    /// How far its clock is off, as a part of S in percent.
    pub(in crate::keyset) skew: i64,
    /// How old the set is that its nearest node serves, as a part of P in percent; and how long it
    /// waits to ask again after a failure.
    pub(in crate::keyset) lag: u64,
    /// Whether it asks at once when it meets an unknown `kid`.
    pub(in crate::keyset) asks_on_unknown: bool,
}

#[derive(Debug)]
struct Verifier {
    habit: Habit,
    /// The set that it keeps; absent before it first met a token.
    cache: Option<Kids>,
    asks_at: u64,
    /// The node that it asks never goes back to an older set.
    as_of: u64,
}

/// All verifiers, the sets that they can read, and the tokens that they meet. Times are milliseconds of
/// the truth.
pub(in crate::keyset) struct Verifiers {
    clock: SimClock,
    verifiers: Vec<Verifier>,
    /// Sets that were served, with the time since when; for nodes that lag behind.
    sets: Vec<(u64, Kids)>,
    /// By key and by how much the appliance's clock was off: when the youngest token expires. The
    /// others make no difference.
    tokens: BTreeMap<(Kid, i64), u64>,
}

impl Verifiers {
    pub(super) fn new(clock: SimClock) -> Self {
        let mut all = Self { clock, verifiers: vec![], sets: vec![], tokens: [].into() };
        for (keeps, skew, lag) in [(100, 100, 0), (100, -100, 100), (60, 0, 100), (10, 50, 30)] {
            all.join(Habit { keeps, skew, lag, asks_on_unknown: false });
        }
        all
    }

    /// One more, which has read nothing yet.
    pub(in crate::keyset) fn join(&mut self, habit: Habit) {
        self.verifiers.push(Verifier { habit, cache: None, asks_at: 0, as_of: 0 });
    }

    /// What R was before is not on record any more: nobody goes by a longer one.
    pub(super) fn forget_longer_than(&mut self, policy: &Policy) {
        let latest = self.clock.truth() + millis(policy.verifier_refresh);
        for verifier in &mut self.verifiers {
            verifier.asks_at = verifier.asks_at.min(latest);
        }
    }

    /// The keys of all tokens that are still valid.
    pub(super) fn met(&self) -> impl Iterator<Item = &Kid> {
        self.tokens.keys().map(|(kid, _)| kid)
    }

    /// A token was released by an appliance whose clock is off by `wrong_by`.
    pub(super) fn released(&mut self, kid: &Kid, wrong_by: i64, policy: &Policy) {
        let lifetime = millis(policy.max_token_lifetime);
        let expires = (self.clock.truth() + lifetime).saturating_add_signed(wrong_by);
        let youngest = self.tokens.entry((kid.clone(), wrong_by)).or_default();
        *youngest = expires.max(*youngest);
    }

    /// This set is served from now on.
    pub(super) fn serve(&mut self, set: &Kids) {
        if self.sets.last().is_none_or(|(_, last)| last != set) {
            self.sets.push((self.clock.truth(), Arc::clone(set)));
        }
    }

    /// Time has passed: those ask whose time it is, then no token that was valid when released fails at
    /// any of them. `served` is the set that the appliance serves now.
    pub(super) fn verify(
        &mut self,
        served: Option<&Kids>,
        policy: &Policy,
        excused: &BTreeSet<Kid>,
    ) {
        let truth = self.clock.truth();
        let skew = i64::try_from(millis(policy.skew)).expect("short");
        self.tokens.retain(|(kid, _), expires| {
            *expires + 2 * skew.unsigned_abs() > truth && !excused.contains(kid)
        });
        for verifier in &mut self.verifiers {
            if verifier.cache.is_some() && truth >= verifier.asks_at {
                verifier.ask(truth, served.is_some(), &self.sets, policy);
            }
            let off = skew * verifier.habit.skew / 100;
            let clock = truth.saturating_add_signed(off);
            for ((kid, wrong_by), expires) in &self.tokens {
                // The clocks of those who sign and of those who verify differ by S at most.
                let valid = clock < *expires && (off - wrong_by).abs() <= skew;
                if valid && !verifier.knows(kid, truth, served, &self.sets, policy) {
                    let clocks = format!("at {truth}, a token that ends at {expires}");
                    panic!("{clocks}: {verifier:?} refuses {kid}, {served:?} is served");
                }
            }
        }
    }
}

impl Verifier {
    fn ask(&mut self, truth: u64, served: bool, sets: &[(u64, Kids)], policy: &Policy) {
        let lag = millis(policy.propagation) * self.habit.lag / 100;
        if !served {
            self.asks_at = truth + lag;
            return;
        }
        self.as_of = self.as_of.max(truth - lag);
        let seen = sets.iter().rev().find(|(since, _)| *since <= self.as_of);
        // A node without any set has asked for the first.
        self.cache = Some(Arc::clone(&seen.or(sets.first()).expect("one is served").1));
        self.asks_at = truth + millis(policy.verifier_refresh) * self.habit.keeps / 100;
    }

    fn knows(
        &mut self,
        kid: &Kid,
        truth: u64,
        served: Option<&Kids>,
        sets: &[(u64, Kids)],
        policy: &Policy,
    ) -> bool {
        match (&self.cache, served) {
            (Some(cache), _) if cache.contains(kid) => true,
            (Some(_), Some(_)) if self.habit.asks_on_unknown => {
                self.ask(truth, true, sets, policy);
                self.cache.as_ref().is_some_and(|cache| cache.contains(kid))
            }
            (Some(_), _) => false,
            // It has never met the issuer: it asks now, or cannot verify anything yet.
            (None, None) => true,
            (None, Some(current)) => {
                self.cache = Some(Arc::clone(current));
                self.asks_at = truth + millis(policy.verifier_refresh) * self.habit.keeps / 100;
                current.contains(kid)
            }
        }
    }
}
