//! How full a TPM is, and how near it is to its dictionary-attack lockout (TPM 2.0 part 1 section 19.8).

use mintwarden_worker::{
    device::DeviceError,
    finding::{Check, Finding},
};
use tss_esapi::{Context, constants::PropertyTag};

use crate::properties;

/// `TPMA_PERMANENT.inLockout` (TPM 2.0 part 2 section 8.6).
const IN_LOCKOUT: u32 = 1 << 9;

/// Objects that signing needs room for: the storage key and one other.
const NEEDED: u32 = 2;

/// The properties of a TPM that change (`PT_VAR`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    in_lockout: bool,
    /// Wrong authorisations that are counted, and how many there may be.
    failures: u32,
    max_failures: u32,
    /// Seconds until one of them is forgotten.
    forgets_after: u32,
    /// Room for so many objects and sessions more.
    objects: u32,
    sessions: u32,
    active_sessions: u32,
    persistent: u32,
}

impl State {
    /// Asks the TPM.
    pub(crate) fn read(context: &mut Context) -> Result<Self, DeviceError> {
        let value = properties::ask(context, PropertyTag::Permanent)?;
        Ok(Self {
            in_lockout: value(PropertyTag::Permanent) & IN_LOCKOUT != 0,
            failures: value(PropertyTag::LockoutCounter),
            max_failures: value(PropertyTag::MaxAuthFail),
            forgets_after: value(PropertyTag::LockoutInterval),
            objects: value(PropertyTag::HrTransientAvail),
            sessions: value(PropertyTag::HrLoadedAvail),
            active_sessions: value(PropertyTag::HrActiveAvail),
            persistent: value(PropertyTag::HrPersistentAvail),
        })
    }

    /// What there is to say about it; `managed`: a resource manager stands before the TPM; `own`: how many
    /// objects this worker has loaded in it.
    pub(crate) fn findings(&self, managed: bool, own: u32) -> [Finding; 3] {
        [self.lockout(), self.sessions(managed), self.memory(managed, own)]
    }

    fn lockout(&self) -> Finding {
        let Self { failures, max_failures, forgets_after, .. } = self;
        let check = Check::DeviceLockout;
        let counted = format!(
            "{failures} of {max_failures} wrong authorisations counted; one is forgotten after {forgets_after} s"
        );
        let remedy = "issuers' keys have noDA and sign all the same; find out who gives wrong \
                      authorisations, and see tpm2_dictionarylockout";
        if self.in_lockout {
            return Finding::warning(check, "", format!("it is in lockout: {counted}"), remedy);
        }
        // Most TPMs allow 32, some three.
        if failures.saturating_mul(2) >= *max_failures {
            return Finding::warning(check, "", format!("lockout is near: {counted}"), remedy);
        }
        Finding::ok(check, "", counted)
    }

    fn sessions(&self, managed: bool) -> Finding {
        let Self { sessions, active_sessions, .. } = self;
        let found = format!("room for {sessions} sessions more, {active_sessions} with saved ones");
        full(Check::DeviceSessions, found, (*sessions).min(*active_sessions) == 0, managed)
    }

    fn memory(&self, managed: bool, own: u32) -> Finding {
        let Self { objects, persistent, .. } = self;
        let found = format!(
            "room for {objects} objects beside {own} of this appliance's, and for some {persistent} \
             persistent ones"
        );
        let is_full = objects.saturating_add(own) < NEEDED;
        full(Check::DeviceMemory, found, is_full, managed)
    }
}

fn full(check: Check, found: String, is_full: bool, managed: bool) -> Finding {
    if !is_full {
        return Finding::ok(check, "", found);
    }
    if managed {
        let found = format!("{found}; the resource manager makes room");
        return Finding::ok(check, "", found);
    }
    let remedy = "somebody else uses this TPM: flush it (tpm2_flushcontext), or come through a \
                  resource manager (device:/dev/tpmrm0)";
    Finding::warning(check, "", found, remedy)
}

#[cfg(test)]
mod tests {
    use mintwarden_worker::finding::Verdict;

    use super::*;

    const WELL: State = State {
        in_lockout: false,
        failures: 0,
        max_failures: 32,
        forgets_after: 7200,
        objects: 3,
        sessions: 3,
        active_sessions: 61,
        persistent: 7,
    };

    fn verdicts(state: State, managed: bool) -> [Verdict; 3] {
        state.findings(managed, 1).map(|finding| finding.verdict)
    }

    #[test]
    fn a_lockout_is_told_before_it_comes_and_a_full_tpm_where_nothing_makes_room() {
        use Verdict::{Ok, Warning};
        assert_eq!(verdicts(WELL, false), [Ok; 3]);
        assert_eq!(verdicts(State { failures: 15, ..WELL }, true), [Ok; 3]);
        assert_eq!(verdicts(State { failures: 16, ..WELL }, true), [Warning, Ok, Ok]);
        assert_eq!(verdicts(State { failures: 1, max_failures: 2, ..WELL }, true)[0], Warning);
        assert_eq!(verdicts(State { in_lockout: true, ..WELL }, true)[0], Warning);
        assert_eq!(verdicts(State { max_failures: 0, ..WELL }, true)[0], Warning);
        let full = State { objects: 0, active_sessions: 0, ..WELL };
        assert_eq!(verdicts(full, false), [Ok, Warning, Warning]);
        assert_eq!(verdicts(full, true), [Ok; 3]);
        // What this worker has loaded, it can make room with.
        assert_eq!(full.findings(false, 2)[2].verdict, Ok);
    }
}
