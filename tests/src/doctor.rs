//! Runs `mintwarden doctor`.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::{Appliance, PATIENCE, programs};

/// What the doctor said.
#[derive(Clone, Debug)]
pub struct Examination {
    /// Exit status.
    pub code: Option<i32>,
    /// Standard output.
    pub text: String,
    /// The same as JSON; null where it was asked for text.
    pub report: Value,
}

/// One finding of an [`Examination`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, e.g. `device.token`.
    pub check: String,
    /// Of what.
    pub subject: String,
    /// `ok`, `skipped`, `warning` or `fault`.
    pub verdict: String,
    /// What was found.
    pub found: String,
    /// What to do.
    pub remedy: String,
}

impl Appliance {
    /// Has the doctor examine it, with these further arguments.
    ///
    /// # Panics
    /// If it cannot be run, does not end, or says no JSON.
    pub async fn doctor(&self, arguments: &[&str]) -> Examination {
        let arguments: Vec<_> = [&["--json"], arguments].concat();
        let mut examination = self.doctor_says(&arguments).await;
        examination.report = serde_json::from_str(&examination.text)
            .unwrap_or_else(|error| panic!("{error}: {}", examination.text));
        examination
    }

    /// As [`doctor`](Self::doctor), in text for people.
    ///
    /// # Panics
    /// If it cannot be run or does not end.
    pub async fn doctor_says(&self, arguments: &[&str]) -> Examination {
        let mut command = Command::new(self.program(programs::MINTWARDEN));
        command.env_clear().arg("doctor").arg("--config").arg(self.config()).args(arguments);
        examine(command).await
    }
}

/// Runs a command that ends up as the doctor.
///
/// # Panics
/// If it cannot be run or does not end.
pub async fn examine(mut command: Command) -> Examination {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(4 * PATIENCE, command.output()).await;
    let output = output.expect("the doctor ends").expect("the doctor can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "{errors}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    Examination { code: output.status.code(), text, report: Value::Null }
}

impl Examination {
    /// All findings.
    ///
    /// # Panics
    /// If the report has not the documented form.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let findings = self.report["findings"].as_array().expect("an array of findings");
        let text = |finding: &Value, name: &str| {
            finding[name].as_str().unwrap_or_else(|| panic!("{name} of {finding}")).to_owned()
        };
        let finding = |finding: &Value| Finding {
            check: text(finding, "check"),
            subject: text(finding, "subject"),
            verdict: text(finding, "verdict"),
            found: text(finding, "found"),
            remedy: text(finding, "remedy"),
        };
        findings.iter().map(finding).collect()
    }

    /// The findings of one check.
    #[must_use]
    pub fn of(&self, check: &str) -> Vec<Finding> {
        self.findings().into_iter().filter(|finding| finding.check == check).collect()
    }

    /// The worst finding of one check.
    ///
    /// # Panics
    /// If it was not looked at.
    #[must_use]
    pub fn worst(&self, check: &str) -> Finding {
        let rank = |finding: &Finding| {
            ["ok", "skipped", "warning", "fault"].iter().position(|v| *v == finding.verdict)
        };
        let worst = self.of(check).into_iter().max_by_key(rank);
        worst.unwrap_or_else(|| panic!("{check} is not in: {:#}", self.report))
    }

    /// The faults, as words: `check [subject]: found`.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let faults = self.findings().into_iter().filter(|finding| finding.verdict == "fault");
        faults.map(|f| format!("{} [{}]: {}", f.check, f.subject, f.found)).collect()
    }
}
