//! What a worker finds of its device.

use super::{Check, Finding};
use crate::{
    IssuerName,
    device::{Cause, DeviceError, Support},
};

impl Finding {
    /// An error that keeps a device from being used.
    #[must_use]
    pub fn of_error(error: &DeviceError) -> Self {
        let (check, remedy) = match error.cause {
            Cause::ModuleUnusable => {
                (Check::DeviceModule, "install the vendor's module, or correct `module`")
            }
            Cause::TokenAbsent => (
                Check::DeviceToken,
                "correct token_label or token_serial, or what the module takes from `environment`",
            ),
            Cause::TokenAmbiguous => {
                (Check::DeviceToken, "say which by token_serial in place of token_label")
            }
            Cause::PinUnavailable => {
                (Check::DeviceLogin, "give the worker's user a PIN that it alone can read")
            }
            Cause::LoginFailed | Cause::LoginPending => (
                Check::DeviceLogin,
                "no login is made again by itself (I10): correct the PIN first; then change its file, \
                 or say `mintwardenctl device resume`",
            ),
            Cause::StateUnusable => {
                (Check::DeviceLogin, "make the worker's directory in state_dir writable for it")
            }
            Cause::ParentMismatch => (
                Check::DeviceState,
                "see that the TPM is the one that it was and that nothing stands before it; if it was cleared or \
                 replaced, a custodian accepts it (`mintwardenctl device resume`): see docs/devices.md",
            ),
            Cause::PcrMismatch => (
                Check::DevicePcrs,
                "if nothing that you know of changed firmware or boot, take the machine for tampered with; \
                 otherwise a custodian accepts the state (`mintwardenctl device resume`), or it goes back to the \
                 accepted one by a restart: see docs/devices.md",
            ),
            Cause::PcrUnusable => {
                (Check::DevicePcrs, "mend what it names; the device stays parked until then")
            }
            Cause::MechanismMissing => {
                (Check::DeviceMechanism, "choose an algorithm that the device has")
            }
            Cause::OutOfResources => (
                Check::DeviceSessions,
                "the device counts the sessions of dead workers for a while; wait, or lower `sessions`",
            ),
            _ => (
                Check::DeviceState,
                "look at the device and its vendor's log; a worker is started again by itself",
            ),
        };
        Self::fault(check, "", error, remedy)
    }

    /// Whether, and how, a device makes and uses an issuer's keys.
    #[must_use]
    pub fn of_support(issuer: &IssuerName, support: &Result<Support, DeviceError>) -> Self {
        match support {
            Ok(Support { key, generates, signs, hashes }) => {
                let hash = if *hashes { "hashing in the device" } else { "hashing in the worker" };
                let found = format!("issuer {issuer}, {key}: {generates}, {signs}, {hash}");
                Self::ok(Check::DeviceMechanism, "", found)
            }
            Err(error) => {
                let finding = Self::of_error(error);
                Self { found: format!("issuer {issuer}: {}", finding.found), ..finding }
            }
        }
    }

    /// The finding with this subject, where it has none.
    #[must_use]
    pub fn about(mut self, subject: &str) -> Self {
        if self.subject.is_empty() {
            self.subject = subject.to_owned();
        }
        self
    }
}
