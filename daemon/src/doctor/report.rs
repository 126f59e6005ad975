//! All findings, for people and for programs.

use std::{
    fmt::{self, Write as _},
    path::Path,
};

use mintwarden_worker::finding::{Finding, Verdict};
use serde::Serialize;

/// Whether the examined appliance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Condition {
    /// It runs, and was asked.
    Running,
    /// It does not run; its parts were started for the examination.
    Stopped,
    /// It could not be told, or could not be asked.
    Unknown,
}

/// The outcome of an examination. Its form in JSON is documented in docs/doctor.md.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The form: grows when a member changes its meaning or goes away.
    format: u32,
    version: &'static str,
    config: String,
    pub(super) appliance: Condition,
    faults: usize,
    warnings: usize,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(config: &Path) -> Self {
        Self {
            format: 1,
            version: env!("CARGO_PKG_VERSION"),
            config: config.display().to_string(),
            appliance: Condition::Unknown,
            faults: 0,
            warnings: 0,
            findings: vec![],
        }
    }

    pub(super) fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings.into_iter().map(Finding::tamed));
    }

    pub(super) fn push(&mut self, finding: Finding) {
        self.extend([finding]);
    }

    /// Orders and counts the findings: nothing is added after this.
    pub(super) fn close(&mut self) {
        self.findings.sort_by_key(|finding| finding.check);
        self.faults = self.count(Verdict::Fault);
        self.warnings = self.count(Verdict::Warning);
    }

    pub(super) fn is_faultless(&self) -> bool {
        self.faults == 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }

    pub(super) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("it has only numbers and strings");
        text.push('\n');
        text
    }
}

/// For people: a line per finding, its remedy below it, groups by the first part of the check.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let appliance = match self.appliance {
            Condition::Running => "it runs",
            Condition::Stopped => "it is stopped",
            Condition::Unknown => "whether it runs is not known",
        };
        writeln!(f, "mintwarden {}, {}: {appliance}", self.version, self.config)?;
        let mut group = "";
        for finding in &self.findings {
            let check = finding.check.as_str();
            let now = check.split('.').next().unwrap_or(check);
            if now != group {
                writeln!(f)?;
                group = now;
            }
            let mut line = String::new();
            write!(line, "{:<8} {check}", shown(finding.verdict))?;
            if !finding.subject.is_empty() {
                write!(line, " [{}]", finding.subject)?;
            }
            writeln!(f, "{line}: {}", finding.found)?;
            if !finding.remedy.is_empty() {
                writeln!(f, "         -> {}", finding.remedy)?;
            }
        }
        let [ok, skipped] = [Verdict::Ok, Verdict::Skipped].map(|verdict| self.count(verdict));
        let (faults, warnings) = (self.faults, self.warnings);
        writeln!(f, "\n{faults} faults, {warnings} warnings, {skipped} skipped, {ok} ok")
    }
}

/// What needs somebody is seen from afar.
const fn shown(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Skipped => "skipped",
        Verdict::Warning => "WARNING",
        Verdict::Fault => "FAULT",
    }
}

#[cfg(test)]
mod tests {
    use mintwarden_worker::finding::Check;

    use super::*;

    fn report() -> Report {
        let mut report = Report::new(Path::new("/etc/mintwarden/mintwarden.toml"));
        report.push(Finding::fault(Check::DeviceLogin, "hsm-a", "parked", "look at the PIN"));
        report.push(Finding::ok(Check::ConfigFile, "", "2 issuers"));
        report.push(Finding::warning(Check::Users, "", "all are uid 1000", "start as root"));
        report.push(Finding::skipped(Check::ConfigRunning, "", "it does not run", ""));
        report.appliance = Condition::Stopped;
        report.close();
        report
    }

    #[test]
    fn people_see_what_is_wrong_and_what_to_do() {
        let expected = format!(
            "mintwarden {}, /etc/mintwarden/mintwarden.toml: it is stopped

ok       config.file: 2 issuers
skipped  config.running: it does not run

WARNING  users: all are uid 1000
         -> start as root

FAULT    device.login [hsm-a]: parked
         -> look at the PIN

1 faults, 1 warnings, 1 skipped, 1 ok
",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn programs_get_the_same() {
        let mut json: serde_json::Value = serde_json::from_str(&report().to_json()).expect("JSON");
        json["version"] = "…".into();
        let expected = serde_json::json!({
            "format": 1,
            "version": "…",
            "config": "/etc/mintwarden/mintwarden.toml",
            "appliance": "stopped",
            "faults": 1,
            "warnings": 1,
            "findings": [
                { "check": "config.file", "subject": "", "verdict": "ok", "found": "2 issuers", "remedy": "" },
                { "check": "config.running", "subject": "", "verdict": "skipped",
                  "found": "it does not run", "remedy": "" },
                { "check": "users", "subject": "", "verdict": "warning", "found": "all are uid 1000",
                  "remedy": "start as root" },
                { "check": "device.login", "subject": "hsm-a", "verdict": "fault", "found": "parked",
                  "remedy": "look at the PIN" },
            ],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn the_page_explains_every_check_in_the_order_of_the_report() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/doctor.md");
        let page = std::fs::read_to_string(page).expect("the page");
        let (_, table) = page.split_once("\n## Checks\n").expect("the table of checks");
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let explained: Vec<_> = rows.map(|(check, _)| check).collect();
        let checks: Vec<_> = Check::ALL.iter().map(|check| check.as_str()).collect();
        assert_eq!(explained, checks);
    }
}
