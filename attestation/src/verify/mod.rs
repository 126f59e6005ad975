//! What evidence proves: one finding for each check, and a verdict over all of them.

mod check;
mod pkcs11;
#[cfg(test)]
mod tests;
mod tpm;

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

pub use self::check::{Check, Finding, Outcome, Waiver};
use crate::{Authorities, EkCertificate, Evidence, Jwks, Members, Nonce, Residence, Secret};

/// What a verifier knows without the device.
#[derive(Debug)]
pub struct Expected<'a> {
    /// The nonce that it gave.
    pub nonce: &'a Nonce,
    /// The keys that the issuer publishes.
    pub jwks: &'a Jwks,
    /// The key that was asked about, where it matters which of the published ones it is.
    pub kid: Option<&'a str>,
    /// What the challenge's credential holds, where it had one.
    pub secret: Option<&'a Secret>,
    /// The endorsement key's certificate from elsewhere than the device: one that does not show its own can have been
    /// sold with it.
    pub ek: Option<&'a EkCertificate>,
    /// Who is believed to certify endorsement keys.
    pub authorities: Option<&'a Authorities>,
    /// Now, as Unix time: certificates have to be valid.
    pub now: Duration,
}

/// What evidence proves.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The thumbprint of the key that the evidence is about.
    pub kid: String,
    /// One for each check, in order.
    pub findings: Vec<Finding>,
    /// What else the evidence tells, for people: none of it is a check.
    pub facts: BTreeMap<&'static str, String>,
}

impl Verdict {
    /// Whether every check holds, but for those whose absence is accepted. What fails is never accepted.
    #[must_use]
    pub fn holds(&self, accepted: &[Waiver]) -> bool {
        self.findings.iter().all(|finding| finding.is_accepted(accepted))
    }

    fn new(key: &Members) -> Self {
        Self { kid: key.thumbprint(), findings: Vec::new(), facts: BTreeMap::new() }
    }

    fn note(&mut self, check: Check, outcome: Outcome, words: impl Into<String>) {
        self.findings.push(Finding { check, outcome, words: words.into() });
    }

    /// Notes that a check holds or fails.
    fn check(&mut self, check: Check, result: Result<String, String>) {
        match result {
            Ok(words) => self.note(check, Outcome::Holds, words),
            Err(words) => self.note(check, Outcome::Fails, words),
        }
    }

    fn fact(&mut self, name: &'static str, value: impl ToString) {
        self.facts.insert(name, printable(&value.to_string()));
    }
}

/// Judges evidence. Nothing is asked of anybody: all that counts is in the arguments.
#[must_use]
pub fn verify(evidence: &Evidence, expected: &Expected<'_>) -> Verdict {
    match &evidence.residence {
        Residence::Tpm(tpm) => tpm::verify(evidence, tpm, expected),
        Residence::Pkcs11(claim) => pkcs11::verify(evidence, claim, expected),
    }
}

/// Text that somebody else wrote, for a person to read: without what a terminal obeys, and not too much of it.
#[must_use]
pub fn printable(text: &str) -> String {
    // Beside control characters those that change the order in which others are shown.
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().take(1024).map(|c| if obeyed(c) { '\u{fffd}' } else { c }).collect()
}

/// The key is the one that was asked about, and published.
fn published(key: &Members, expected: &Expected<'_>) -> Result<String, String> {
    let kid = key.thumbprint();
    match expected.kid {
        Some(asked) if asked != kid => {
            return Err(format!("this is about key {kid}, and not about {asked}"));
        }
        _ => {}
    }
    if expected.jwks.has(key) {
        Ok(format!("the JWK Set has this public key as {kid}"))
    } else {
        Err(format!("the JWK Set has no such public key; its thumbprint is {kid}"))
    }
}
