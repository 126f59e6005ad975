//! The configuration: what it says is good, so what does it leave out?

use mintwarden_worker::finding::{Check, Finding};

use crate::config::{Config, Role};

/// What there is to say about a configuration that parses.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let (issuers, devices) = (config.issuers.len(), config.devices.len());
    let found = format!(
        "{issuers} {}, {devices} {}, SHA-256 {}",
        plural(issuers, "issuer"),
        plural(devices, "device"),
        config.digest
    );
    let mut findings = vec![Finding::ok(Check::ConfigFile, config.path.display(), found)];
    findings.extend(warnings(config));
    findings
}

/// Whether the appliance runs with what the file says now. `running`: the digest of what it runs
/// with.
pub(super) fn running(running: Option<&String>, config: &Config) -> Finding {
    let check = Check::ConfigRunning;
    match running {
        None => Finding::skipped(check, "", "the appliance does not run", ""),
        Some(running) if *running == config.digest => {
            Finding::ok(check, "", "the appliance runs with this file")
        }
        Some(running) => Finding::warning(
            check,
            "",
            format!("the file has changed: the appliance runs with one whose SHA-256 is {running}"),
            "restart the appliance to apply it; all that is said here of the file is of the new one",
        ),
    }
}

/// What is allowed, and hardly meant.
pub(crate) fn warnings(config: &Config) -> Vec<Finding> {
    let mut findings = grants(config);
    findings.push(approvals(config));
    if config.listen.jwks.is_none() {
        findings.push(Finding::warning(
            Check::ConfigListen,
            "listen.jwks",
            "the JWK Set is served over gRPC alone",
            "set listen.jwks where verifiers fetch it from this appliance",
        ));
    } else if config.listen.jwks_plaintext {
        findings.push(Finding::warning(
            Check::ConfigListen,
            "listen.jwks",
            "the JWK Set is served over plain HTTP: who can change it on its way can make verifiers \
             believe other keys",
            "keep it on loopback, behind a proxy that speaks TLS",
        ));
    }
    findings
}

fn grants(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for issuer in &config.issuers {
        let name = issuer.name();
        let has = |role| {
            config.grants.iter().any(|grant| grant.role == role && grant.issuers.contains(name))
        };
        let lacking = [
            (Role::Signer, "nobody may have anything signed"),
            (Role::Custodian, "nobody can make, rotate or revoke its keys"),
        ];
        for (role, consequence) in lacking.into_iter().filter(|(role, _)| !has(*role)) {
            let role = role.as_str();
            findings.push(Finding::warning(
                Check::ConfigGrants,
                name,
                format!("no [[grant]] has the role {role}: {consequence}"),
                format!("add a [[grant]] with role = \"{role}\" for this issuer"),
            ));
        }
    }
    if findings.is_empty() {
        let found = "each issuer has signers and custodians";
        findings.push(Finding::ok(Check::ConfigGrants, "", found));
    }
    findings
}

/// What one person can do alone, or whoever has that person's key.
fn approvals(config: &Config) -> Finding {
    let check = Check::ConfigApprovals;
    let alone: Vec<_> = config.approvals.grave_acts_of_one().collect();
    if alone.is_empty() {
        return Finding::ok(check, "", "no person alone can do what cannot be undone");
    }
    let alone = alone.join(", ");
    Finding::warning(
        check,
        "approvals",
        format!("one custodian alone can do these: {alone}"),
        "set them to 2 under [approvals], where two persons can be reached",
    )
}

pub(super) fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}
