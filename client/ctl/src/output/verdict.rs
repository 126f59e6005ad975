use std::io::{self, Write};

use mintwarden_attestation::{Outcome, Verdict};
use serde::Serialize;

use super::{Format, json, table};

/// The answer to `attest verify`: whether all of it holds, and what was found.
#[derive(Serialize)]
struct Judged<'a> {
    holds: bool,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

/// What evidence proves. `holds`: with what the caller accepts without a proof.
pub(crate) fn verdict(
    out: &mut impl Write,
    format: Format,
    verdict: &Verdict,
    holds: bool,
) -> io::Result<()> {
    if format == Format::Json {
        return json(out, &Judged { holds, verdict });
    }
    let mut checks = table::table(&["CHECK", "OUTCOME", "WHY"]);
    for finding in &verdict.findings {
        checks.add_row([finding.check.as_str(), finding.outcome.as_str(), &finding.words]);
    }
    table::print(out, &checks)?;
    writeln!(out)?;
    for (name, value) in &verdict.facts {
        writeln!(out, "{name}: {value}")?;
    }
    writeln!(out)?;
    let kid = &verdict.kid;
    let unproved = verdict.findings.iter().filter(|finding| finding.outcome != Outcome::Holds);
    let unproved: Vec<_> = unproved.map(|finding| finding.check.as_str()).collect();
    match (holds, unproved.as_slice()) {
        (true, []) => writeln!(
            out,
            "PROVED: key {kid} lives in a TPM whose endorsement key the given authorities certified"
        ),
        (true, unproved) => {
            writeln!(out, "ACCEPTED without a proof of {}: key {kid}", unproved.join(", "))
        }
        (false, unproved) => {
            writeln!(out, "NOT PROVED, for want of {}: where key {kid} lives", unproved.join(", "))
        }
    }
}
