//! Makes entries: with the time, the configuration's digest, and no more refusals than are of use.

use std::sync::{Arc, Mutex, PoisonError};

use mintwarden_worker::IssuerName;

use super::{By, Entry, Event, hourly::Hourly};
use crate::{access::Custodian, clock::Reading, config::Config};

/// Refusals of one person that are kept in an hour.
const REFUSALS: u32 = 60;
/// Acts and words of one person in an hour; all of them are kept.
const ACTS: u32 = 240;

/// Makes entries for a server's record. All clones count together.
#[derive(Clone, Debug)]
pub struct Book {
    config: Arc<str>,
    refusals: Arc<Mutex<Hourly>>,
    acts: Arc<Mutex<Hourly>>,
}

impl Book {
    /// For a server that runs by this configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::of_digest(&config.digest)
    }

    /// The same by the configuration's digest.
    #[must_use]
    pub fn of_digest(digest: &str) -> Self {
        let hourly = |bound| Arc::new(Mutex::new(Hourly::new(bound)));
        Self { config: digest.into(), refusals: hourly(REFUSALS), acts: hourly(ACTS) }
    }

    /// An entry.
    #[must_use]
    pub fn entry(&self, now: Reading, issuer: Option<&IssuerName>, event: Event) -> Entry {
        Entry { at: now.wall, issuer: issuer.cloned(), config: self.config.to_string(), event }
    }

    /// Whether a person may have one more act, or word about a proposal: each is kept for good.
    #[must_use]
    pub fn has_room(&self, now: Reading, by: &Custodian) -> bool {
        let mut acts = self.acts.lock().unwrap_or_else(PoisonError::into_inner);
        acts.admit(by.person.as_str(), now.boot).is_some()
    }

    /// The entry for a refusal, if it is kept.
    #[must_use]
    pub fn refusal(
        &self,
        now: Reading,
        issuer: &IssuerName,
        by: &Custodian,
        refused: Refused<'_>,
    ) -> Option<Entry> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let left_out = refusals.admit(by.person.as_str(), now.boot)?;
        drop(refusals);
        let event = Event::Refused {
            by: By::from(by),
            asked: refused.asked.to_owned(),
            about: refused.about.map(str::to_owned),
            reason: refused.reason.to_owned(),
            refusal: refused.refusal.to_owned(),
            left_out,
        };
        Some(self.entry(now, Some(issuer), event))
    }
}

/// What was refused. All of it bounded by whoever parsed it.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// What was asked for.
    pub asked: &'a str,
    /// The key or proposal that was named.
    pub about: Option<&'a str>,
    /// Why the custodian asked.
    pub reason: &'a str,
    /// The stable reason of the refusal.
    pub refusal: &'a str,
}
