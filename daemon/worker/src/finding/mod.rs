//! What an examination found. Workers make findings about their device, `mintwarden doctor` about
//! everything else, and shows them all: docs/doctor.md.

mod device;

use std::fmt;

use serde::{Deserialize, Serialize};

/// How good or bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not looked at; the text says why.
    Skipped,
    /// It works, and somebody should know or do something.
    Warning,
    /// It does not work, or is not safe.
    Fault,
}

impl Verdict {
    /// The verdict as it is written in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// Of what: a device, an issuer, a path, a `kid`; empty where there is only one.
    pub subject: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, in words. No secrets.
    pub found: String,
    /// What to do about it; empty where there is nothing to do.
    pub remedy: String,
}

impl Finding {
    /// Longest text of a finding that came from another process, bytes.
    const MAX_TEXT: usize = 4096;

    /// As it should be.
    #[must_use]
    pub fn ok(check: Check, subject: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::new(check, subject, Verdict::Ok, found, "")
    }

    /// Not looked at, and why not.
    #[must_use]
    pub fn skipped(
        check: Check,
        subject: impl fmt::Display,
        why: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        Self::new(check, subject, Verdict::Skipped, why, remedy)
    }

    /// It works, and somebody should know or do something.
    #[must_use]
    pub fn warning(
        check: Check,
        subject: impl fmt::Display,
        found: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        Self::new(check, subject, Verdict::Warning, found, remedy)
    }

    /// It does not work, or is not safe.
    #[must_use]
    pub fn fault(
        check: Check,
        subject: impl fmt::Display,
        found: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        Self::new(check, subject, Verdict::Fault, found, remedy)
    }

    fn new(
        check: Check,
        subject: impl fmt::Display,
        verdict: Verdict,
        found: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        let (subject, found, remedy) = (subject.to_string(), found.to_string(), remedy.to_string());
        Self { check, subject, verdict, found, remedy }
    }

    /// The same with texts that may be shown on a terminal, whoever wrote them: no control
    /// characters, and of bounded length.
    #[must_use]
    pub fn tamed(mut self) -> Self {
        for text in [&mut self.subject, &mut self.found, &mut self.remedy] {
            tame(text);
        }
        self
    }
}

fn tame(text: &mut String) {
    if text.contains(char::is_control) {
        *text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    }
    if text.len() > Finding::MAX_TEXT {
        text.truncate(text.floor_char_boundary(Finding::MAX_TEXT));
        text.push('…');
    }
}

macro_rules! checks {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// What can be looked at. The words are stable; docs/doctor.md explains them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Check {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $name,)+
        }

        impl Check {
            /// All of them, in the order in which they are shown.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The stable word, e.g. `device.token`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }
    };
}

checks! {
    /// The configuration file parses and makes sense.
    ConfigFile = "config.file",
    /// The running appliance has the configuration that the file has now.
    ConfigRunning = "config.running",
    /// Each issuer has somebody who may do each thing.
    ConfigGrants = "config.grants",
    /// What cannot be undone needs more than one person.
    ConfigApprovals = "config.approvals",
    /// Verifiers and monitoring have something to ask.
    ConfigListen = "config.listen",
    /// Server and workers are different users, neither of them root.
    Users = "users",
    /// Only root or the launcher's user can change the configuration.
    FileConfig = "file.config",
    /// Only the server can read its private key.
    FilePrivateKey = "file.private-key",
    /// Only the worker can read its PIN.
    FilePin = "file.pin",
    /// Nobody else can change the vendor's module.
    FileModule = "file.module",
    /// The worker, and not everybody, can use the TPM's device file.
    FileDevice = "file.device",
    /// State belongs to whom it should, and to nobody else.
    FileState = "file.state",
    /// The unix socket is where callers look for it.
    FileSocket = "file.socket",
    /// Certificate, key and authorities can be used together, by the server's user.
    TlsFiles = "tls.files",
    /// One certificate of the server's chain: names, days left.
    TlsCertificate = "tls.certificate",
    /// The server's chain leads somewhere.
    TlsChain = "tls.chain",
    /// One of the callers' authorities: days left.
    TlsAuthority = "tls.authority",
    /// The wall clock makes sense, and goes as fast as the monotonic one.
    SystemClock = "system.clock",
    /// Somebody keeps the wall clock right.
    SystemClockSync = "system.clock-sync",
    /// The server may open as many descriptors as its limits promise.
    SystemDescriptors = "system.descriptors",
    /// No process of the appliance can leave a core dump.
    SystemCoreDumps = "system.core-dumps",
    /// There is room for state.
    SystemSpace = "system.space",
    /// The appliance runs, or does not, and can be asked.
    Appliance = "appliance",
    /// What is known of the make of a device.
    DeviceModel = "device.model",
    /// The device can be used.
    DeviceState = "device.state",
    /// The vendor's module loads.
    DeviceModule = "device.module",
    /// The PKCS#11 token is there, and only one is meant.
    DeviceToken = "device.token",
    /// What is known against the firmware.
    DeviceFirmware = "device.firmware",
    /// How many wrong PINs the device still takes.
    DevicePin = "device.pin",
    /// How near a TPM's dictionary-attack lockout is.
    DeviceLockout = "device.lockout",
    /// Whether the machine is in the state that a TPM's keys are bound to.
    DevicePcrs = "device.pcrs",
    /// Sessions: as many as configured.
    DeviceSessions = "device.sessions",
    /// Room for keys.
    DeviceMemory = "device.memory",
    /// Mechanisms for an issuer's keys.
    DeviceMechanism = "device.mechanism",
    /// The login, and whether another one may be made (I10).
    DeviceLogin = "device.login",
    /// How fast the device signs, and what that allows.
    DeviceRate = "device.rate",
    /// A recorded key is in its device with the right attributes (I1, I7).
    KeyRecorded = "key.recorded",
    /// An object of ours that no record names (I7).
    KeyStray = "key.stray",
    /// What failed attempts at a key left behind (I7).
    KeyLeftover = "key.leftover",
    /// The issuer could sign now.
    IssuerSigns = "issuer.signs",
    /// The JWK Set as verifiers get it.
    JwksServed = "jwks.served",
    /// The certificate that verifiers get with it.
    JwksCertificate = "jwks.certificate",
    /// Readiness as monitoring gets it.
    OpsReady = "ops.ready",
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_has_a_stable_form() {
        let finding = Finding::fault(Check::DevicePin, "hsm-a", "locked", "unlock it");
        let json = serde_json::to_string(&finding).expect("JSON");
        let expected = r#"{"check":"device.pin","subject":"hsm-a","verdict":"fault","found":"locked","remedy":"unlock it"}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<Finding>(&json).expect("and back"), finding);
    }

    #[test]
    fn what_another_process_wrote_cannot_steer_a_terminal() {
        let finding = Finding::ok(Check::DeviceToken, "a", "\x1b[2J\r\nok").tamed();
        assert_eq!(finding.found, " [2J  ok");
        let long = "é".repeat(Finding::MAX_TEXT);
        let finding = Finding::ok(Check::DeviceToken, "a", long).tamed();
        assert!(finding.found.len() <= Finding::MAX_TEXT + '…'.len_utf8());
    }
}
