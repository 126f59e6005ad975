//! What there is to say about the state of the machine, for the doctor.

use mintwarden_attestation::pcr::PcrState;
use mintwarden_worker::finding::{Check, Finding};

use super::{Pcrs, SignedOff, pcrs};

impl Pcrs {
    /// How the machine is, and what each sign-off is worth: a planned update is looked at before it is made.
    pub(crate) fn findings(&self, now: &PcrState) -> Vec<Finding> {
        let check = Check::DevicePcrs;
        let differing = self.record.accepted().map_or_else(Vec::new, |state| state.differing(now));
        let state = if differing.is_empty() {
            Finding::ok(check, "", format!("{}: the accepted state", self.selection))
        } else {
            let remedy =
                "see docs/devices.md: it is signed off, accepted by a custodian, or went wrong";
            let found = format!("{} not as in the accepted state", pcrs(&differing, now));
            Finding::fault(check, "", found, remedy)
        };
        let mut findings = vec![state];
        for (name, signed) in self.authority.iter().flat_map(SignedOff::all) {
            findings.push(match signed {
                Err(problem) => {
                    let remedy =
                        "it signs nothing off; make it anew with `mintwardenctl pcr sign-off`";
                    Finding::warning(check, "", format!("{name}: {problem}"), remedy)
                }
                Ok(signed) if signed.state() == now => {
                    Finding::ok(check, "", format!("{name} signs off the state of now"))
                }
                Ok(signed) if signed.state().selection() == self.selection => {
                    let which = pcrs(&signed.state().differing(now), now);
                    Finding::ok(check, "", format!("{name} signs off a state with another {which}"))
                }
                Ok(signed) => {
                    let named = signed.state().selection();
                    let found =
                        format!("{name} names the PCRs {named}, and not {}", self.selection);
                    let remedy =
                        "it signs nothing off here: a sign-off names the PCRs of `pcrs.selection`";
                    Finding::warning(check, "", found, remedy)
                }
            });
        }
        findings
    }
}
