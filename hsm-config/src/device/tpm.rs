//! The keys of a `[[device]]` table that describe a TPM.

use std::{fmt, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    Device, DeviceEntry, DeviceKind, Pcrs, Problem, Tcti,
    entry::{call_timeout, environment, secret_source},
    pcrs,
};
use crate::pin::PinSource;

/// How a TPM is reached and used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tpm {
    /// The way to it.
    pub tcti: Tcti,
    /// Where the worker reads the device secret.
    pub secret: PinSource,
    /// The storage key under which keys are made; absent: a primary key of the owner hierarchy.
    pub parent: Option<PersistentHandle>,
    /// Whether nothing else uses it and no resource manager stands before it: what is loaded in it is
    /// flushed at each start.
    pub exclusive: bool,
    /// The state of the machine that its keys are bound to; absent: to none.
    pub pcrs: Option<Pcrs>,
}

/// The handle of an object that a TPM keeps across restarts (TPM 2.0 part 2 section 7.2, `TPM_HT_PERSISTENT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PersistentHandle(u32);

impl PersistentHandle {
    /// The handle as a number.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl FromStr for PersistentHandle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 8);
        let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        value.filter(|value| value >> 24 == 0x81).map(Self).ok_or_else(|| text.to_owned())
    }
}

impl fmt::Display for PersistentHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl TryFrom<String> for PersistentHandle {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PersistentHandle> for String {
    fn from(handle: PersistentHandle) -> Self {
        handle.to_string()
    }
}

/// libtss2 writes what it does, and each error once more, to standard error in a form of its own. What
/// matters of it is in the worker's log.
const TSS2_LOG: (&str, &str) = ("TSS2_LOG", "all+none");

/// A table with `kind = "tpm"`, checked.
pub(super) fn resolve(entry: DeviceEntry, base_dir: &Path, dev: bool) -> Result<Device, Problem> {
    let absent = |key, hint| Problem::Absent { key, kind: "tpm", hint };
    let tcti =
        entry.tcti.ok_or(absent("tcti", "the way to the TPM, e.g. \"device:/dev/tpmrm0\""))?;
    let hint = "where the worker reads the secret from which its keys' authorisation values come";
    let secret = entry.secret.ok_or(absent("secret", hint))?;
    let exclusive = entry.exclusive.unwrap_or(false);
    let value = tcti.clone();
    let tcti: Tcti = tcti.parse().map_err(|problem| Problem::Tcti { value, problem })?;
    match (tcti.is_managed(), exclusive) {
        (false, false) => return Err(Problem::Unmanaged { value: tcti.to_string() }),
        (true, true) => return Err(Problem::Managed { value: tcti.to_string() }),
        _ => {}
    }
    let parent = entry.parent.map(|text| text.parse().map_err(|value| Problem::Parent { value }));
    let mut environment = environment(entry.environment, dev)?;
    environment.entry(TSS2_LOG.0.to_owned()).or_insert_with(|| TSS2_LOG.1.to_owned());
    Ok(Device {
        kind: DeviceKind::Tpm(Tpm {
            tcti,
            secret: secret_source("secret", secret, base_dir, dev)?,
            parent: parent.transpose()?,
            exclusive,
            pcrs: entry.pcrs.map(|entry| pcrs::resolve(entry, base_dir)).transpose()?,
        }),
        // A TPM does one thing at a time.
        sessions: 1,
        call_timeout: call_timeout(entry.device_call_timeout)?,
        environment,
        name: entry.name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceConfigError;

    const MINIMAL: &str = r#"
        name = "tpm-a"
        kind = "tpm"
        secret = { file = "secrets/tpm" }
    "#;

    fn resolve(more: &str) -> Result<Device, DeviceConfigError> {
        let text = format!("{MINIMAL}\n{more}");
        let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
        entry.resolve(Path::new("/etc/mintwarden"), false)
    }

    fn tpm(device: &Device) -> &Tpm {
        match &device.kind {
            DeviceKind::Tpm(tpm) => tpm,
            DeviceKind::Pkcs11(_) => panic!("a TPM"),
        }
    }

    #[test]
    fn a_tpm_behind_a_resource_manager() {
        let device = resolve("tcti = 'device:/dev/tpmrm0'\nparent = '0x81000001'").expect("a TPM");
        assert_eq!((device.sessions, device.kind.worker()), (1, "mintwarden-tpm"));
        assert_eq!(device.environment["TSS2_LOG"], "all+none");
        let tpm = tpm(&device);
        assert_eq!(tpm.secret, PinSource::File("/etc/mintwarden/secrets/tpm".into()));
        assert_eq!(tpm.parent.map(PersistentHandle::value), Some(0x8100_0001));
        assert!(!tpm.exclusive);
        let json = serde_json::to_string(&device).expect("travels as JSON");
        assert_eq!(serde_json::from_str::<Device>(&json).expect("and back"), device);
    }

    #[test]
    fn a_tpm_of_its_own() {
        let text = "tcti = 'swtpm:host=localhost,port=2321'\nexclusive = true
                    environment = { TSS2_LOG = 'all+info' }";
        let device = resolve(text).expect("a TPM");
        assert_eq!(device.environment["TSS2_LOG"], "all+info");
        assert!(tpm(&device).exclusive && tpm(&device).parent.is_none());
    }

    #[test]
    fn a_log_that_tells_secrets_is_for_development() {
        for level in ["all+trace", "all+error,esys+DEBUG"] {
            let text = format!(
                "{MINIMAL}\ntcti = 'device:/dev/tpmrm0'\nenvironment = {{ TSS2_LOG = '{level}' }}"
            );
            let resolve = |dev| {
                let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
                entry.resolve(Path::new("/"), dev)
            };
            let refused = resolve(false).expect_err(level).to_string();
            assert!(refused.contains("TSS2_LOG") && refused.contains("all+info"), "{refused}");
            assert_eq!(resolve(true).expect("in development").environment["TSS2_LOG"], level);
        }
    }

    #[test]
    fn each_mistake_names_device_key_value_and_remedy() {
        let cases = [
            ("", "tcti is missing"),
            ("tcti = '/dev/tpmrm0'", "tcti = \"/dev/tpmrm0\": it begins with none of"),
            ("tcti = 'device:/dev/tpm0'", "exclusive = true"),
            ("tcti = 'swtpm:host=a,port=1'", "has no resource manager"),
            ("tcti = 'tabrmd'\nexclusive = true", "nothing is exclusive"),
            ("tcti = 'tabrmd'\nparent = '0x40000001'", "parent = \"0x40000001\""),
            ("tcti = 'tabrmd'\nparent = '81000001'", "tpm2_getcap handles-persistent"),
            ("tcti = 'tabrmd'\npin = { file = 'x' }", "pin means nothing for a device of kind"),
            ("tcti = 'tabrmd'\nsessions = 4", "sessions means nothing"),
            ("tcti = 'tabrmd'\nmodel = 'generic'", "model means nothing"),
            ("tcti = 'tabrmd'\npcrs = { selection = [24] }", "pcrs.selection: there is no PCR 24"),
        ];
        for (more, expected) in cases {
            let error = resolve(more).expect_err(more).to_string();
            assert!(error.starts_with("device tpm-a: "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
        let text = MINIMAL.replace("secret =", "tcti = 'tabrmd' #");
        let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
        let error = entry.resolve(Path::new("/"), false).expect_err("no secret").to_string();
        assert!(error.contains("secret is missing"), "{error}");
    }

    #[test]
    fn the_secret_comes_from_where_it_may() {
        let text = MINIMAL.replace("{ file = \"secrets/tpm\" }", "{ env = 'SECRET' }");
        let text = format!("{text}\ntcti = 'tabrmd'");
        let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
        assert!(entry.clone().resolve(Path::new("/"), true).is_ok());
        let error = entry.resolve(Path::new("/"), false).expect_err("not in dev").to_string();
        assert!(error.contains("secret = { env = \"SECRET\" }"), "{error}");
    }
}
