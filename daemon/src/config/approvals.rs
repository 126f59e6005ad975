//! How many persons have to agree to a custodian's act, and the persons themselves.

use std::{fmt, sync::Arc, time::Duration};

/// How many distinct persons have to agree to each act; proposing counts as the first. Never zero.
///
/// `suspend` is not among them: it needs one person, at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approvals {
    /// To make the first keys of an issuer.
    pub init: usize,
    /// To make the keys of an emptied or restored store verify-only, and new ones.
    pub recover: usize,
    /// To replace the active keys now.
    pub rotate: usize,
    /// To let a mature standby sign now.
    pub activate: usize,
    /// To let a key sign that verifiers may not know yet, by whichever act.
    pub activate_immature: usize,
    /// To let a suspended key sign again.
    pub resume: usize,
    /// To unpublish and destroy a key at once.
    pub revoke: usize,
    /// To destroy the private key of one that does not sign any more.
    pub destroy: usize,
    /// How long a proposal waits for them.
    pub expire: Duration,
}

impl Approvals {
    /// Most persons that an act may need.
    pub const MAX_PERSONS: usize = 16;
    /// Shortest and longest that a proposal may wait.
    pub const EXPIRE: std::ops::RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);

    /// Each act by its key in the configuration, with the number of persons that it needs.
    #[must_use]
    pub const fn acts(&self) -> [(&'static str, usize); 8] {
        [
            ("init", self.init),
            ("recover", self.recover),
            ("rotate", self.rotate),
            ("activate", self.activate),
            ("activate_immature", self.activate_immature),
            ("resume", self.resume),
            ("revoke", self.revoke),
            ("destroy", self.destroy),
        ]
    }

    /// The acts, among those that cannot be undone or that verifiers notice, that one person can do
    /// alone.
    pub fn grave_acts_of_one(&self) -> impl Iterator<Item = &'static str> {
        const GRAVE: [&str; 4] = ["recover", "activate_immature", "revoke", "destroy"];
        let alone = |(act, persons): (&'static str, usize)| {
            (persons < 2 && GRAVE.contains(&act)).then_some(act)
        };
        self.acts().into_iter().filter_map(alone)
    }
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            init: 1,
            recover: 1,
            rotate: 1,
            activate: 1,
            activate_immature: 1,
            resume: 1,
            revoke: 1,
            destroy: 1,
            expire: Duration::from_secs(24 * 3600),
        }
    }
}

/// A person behind a custodian's identities. Only a configuration makes one, so that whoever is
/// counted as a person is one by the configuration that is in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Person(Arc<str>);

impl Person {
    /// Longest name, bytes.
    pub const MAX_BYTES: usize = 64;

    /// A name that can be shown and told apart: not empty, no control characters, no space around
    /// it.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let fits = (1..=Self::MAX_BYTES).contains(&name.len())
            && name.trim() == name
            && !name.contains(char::is_control);
        fits.then(|| Self(name.into()))
    }

    /// The name as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
