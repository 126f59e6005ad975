//! Evidence of where keys live: asked of real devices, judged offline by `mintwardenctl`.

mod permission;
mod pkcs11;
mod tpm;

use std::path::PathBuf;

use mintwarden_tests::{
    Appliance, ISSUER,
    ctl::{Ctl, Said},
};
use serde_json::Value;

/// A verifier's desk: what it asked, what it got, what it knows besides.
struct Desk<'a> {
    appliance: &'a Appliance,
    kid: String,
}

impl<'a> Desk<'a> {
    /// About the active key of the issuer, whose published keys are at hand in `jwks.json`.
    async fn new(appliance: &'a Appliance) -> Self {
        let keyset = appliance.custodian().list_keys(Some(ISSUER)).await.unwrap().remove(0);
        let kid = keyset.keys[0].kid.clone();
        let jwks = appliance.ctl(["jwks", "--issuer", ISSUER]).run().await.success();
        std::fs::write(appliance.file("jwks.json"), jwks).unwrap();
        Self { appliance, kid }
    }

    fn path(&self, name: &str) -> String {
        self.file(name).into_os_string().into_string().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.appliance.file(name)
    }

    /// A plain challenge as file `name`.
    async fn challenge(&self, name: &str) -> String {
        let path = self.path(name);
        self.appliance.ctl(["attest", "challenge", "-o", &path]).run().await.success();
        path
    }

    /// Asks the device about the key.
    fn ask(&self, challenge: &str, evidence: &str) -> Ctl {
        let path = self.path(evidence);
        self.appliance.ctl(["keys", "attest", &self.kid, "--challenge", challenge, "-o", &path])
    }

    /// Judges evidence by the published keys and these further options.
    async fn judge(&self, evidence: &str, challenge: &str, options: &[&str]) -> Said {
        let (evidence, jwks) = (self.path(evidence), self.path("jwks.json"));
        let verify = ["attest", "verify", &evidence, "--challenge", challenge, "--jwks", &jwks];
        self.appliance.ctl(verify.into_iter().chain(options.iter().copied())).run().await
    }
}

/// What a verdict in JSON says of a check.
fn outcome(verdict: &str, check: &str) -> String {
    let verdict: Value = serde_json::from_str(verdict).unwrap();
    let findings = verdict["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["check"] == check);
    finding.unwrap_or_else(|| panic!("{check} is not in {verdict:#}"))["outcome"]
        .as_str()
        .unwrap()
        .to_owned()
}
