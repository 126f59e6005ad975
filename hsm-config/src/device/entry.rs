//! `[[device]]` as an operator writes it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Device, DeviceConfigError, PcrsEntry, Problem, pkcs11, tpm};
use crate::{name::DeviceName, pin::PinSource, quirks::QuirksEntry};

/// Time for one device call where the operator says nothing. Key generation in a network HSM is the
/// slowest call; a hung one is to be noticed while callers still wait.
const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A `[[device]]` table of the configuration file.
///
/// ```
/// # use mintwarden_hsm_config::device::DeviceEntry;
/// let entry: DeviceEntry = toml::from_str(r#"
///     name = "hsm-a"
///     kind = "pkcs11"
///     model = "softhsm2"
///     token_label = "tts"
///     pin = { credential = "hsm-a-pin" }
/// "#)?;
/// assert_eq!(entry.name.as_str(), "hsm-a");
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceEntry {
    /// What issuers, logs and commands call it.
    pub name: DeviceName,
    /// What sort of device it is.
    pub kind: Kind,
    /// PKCS#11: the make of device, the name of a [`Model`](crate::model::Model).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The PKCS#11 module, where it is not where the model expects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<PathBuf>,
    /// The PKCS#11 token's label. Exactly one of this and `token_serial`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_label: Option<String>,
    /// The PKCS#11 token's serial number. Exactly one of this and `token_label`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_serial: Option<String>,
    /// PKCS#11: where the worker reads the user PIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<PinSource>,
    /// Signing sessions to open; the model's number where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<usize>,
    /// How long one call into the device may take, e.g. `"10s"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_call_timeout: Option<String>,
    /// A string for the module's initialisation (`pReserved` of `C_Initialize`), where it wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_args: Option<String>,
    /// TPM: the way to it, a [`Tcti`](super::Tcti).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcti: Option<String>,
    /// TPM: where the worker reads the device secret, from which the authorisation values of its keys
    /// are derived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<PinSource>,
    /// TPM: the persistent storage key under which keys are made, e.g. `"0x81000001"`; absent: a primary
    /// key that is made anew from a fixed template at each start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// TPM: whether Mintwarden alone uses it, with no resource manager in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<bool>,
    /// TPM: the state of the machine that its keys are bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcrs: Option<PcrsEntry>,
    /// In what the module differs from what its model says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quirks: Option<QuirksEntry>,
    /// Environment variables that the vendor's library wants, e.g. `SOFTHSM2_CONF`. Taken as they
    /// are: a relative path in a value is not resolved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

/// The sorts of device that a configuration can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// A PKCS#11 token.
    Pkcs11,
    /// A TPM 2.0.
    Tpm,
}

impl DeviceEntry {
    /// A table with nothing but a name and a kind.
    #[must_use]
    pub fn new(name: DeviceName, kind: Kind) -> Self {
        Self {
            name,
            kind,
            model: None,
            module: None,
            token_label: None,
            token_serial: None,
            pin: None,
            sessions: None,
            device_call_timeout: None,
            init_args: None,
            tcti: None,
            secret: None,
            parent: None,
            exclusive: None,
            pcrs: None,
            quirks: None,
            environment: BTreeMap::new(),
        }
    }

    /// Checks the table, fills in what the model knows, and resolves relative paths against
    /// `base_dir`, the directory of the configuration file. `dev` allows a PIN from the environment.
    ///
    /// Looks for the model's module on this machine, but opens no file and no device.
    ///
    /// # Errors
    /// [`DeviceConfigError`], naming key, value and remedy.
    pub fn resolve(self, base_dir: &Path, dev: bool) -> Result<Device, DeviceConfigError> {
        let name = self.name.clone();
        self.checked(base_dir, dev).map_err(|problem| DeviceConfigError { device: name, problem })
    }

    fn checked(self, base_dir: &Path, dev: bool) -> Result<Device, Problem> {
        let foreign = |(key, is_set): &(&'static str, bool)| is_set.then_some(*key);
        let (kind, others) = match self.kind {
            Kind::Pkcs11 => ("pkcs11", self.tpm_keys()),
            Kind::Tpm => ("tpm", self.pkcs11_keys()),
        };
        if let Some(key) = others.iter().find_map(foreign) {
            return Err(Problem::NotOfKind { key, kind });
        }
        match self.kind {
            Kind::Pkcs11 => pkcs11::resolve(self, base_dir, dev),
            Kind::Tpm => tpm::resolve(self, base_dir, dev),
        }
    }

    /// The keys that only a PKCS#11 token has, and whether they are set.
    fn pkcs11_keys(&self) -> Vec<(&'static str, bool)> {
        vec![
            ("model", self.model.is_some()),
            ("module", self.module.is_some()),
            ("token_label", self.token_label.is_some()),
            ("token_serial", self.token_serial.is_some()),
            ("pin", self.pin.is_some()),
            ("sessions", self.sessions.is_some()),
            ("init_args", self.init_args.is_some()),
            ("quirks", self.quirks.is_some()),
        ]
    }

    /// The keys that only a TPM has, and whether they are set.
    fn tpm_keys(&self) -> Vec<(&'static str, bool)> {
        vec![
            ("tcti", self.tcti.is_some()),
            ("secret", self.secret.is_some()),
            ("parent", self.parent.is_some()),
            ("exclusive", self.exclusive.is_some()),
            ("pcrs", self.pcrs.is_some()),
        ]
    }
}

/// Where a PIN or a device secret is read from, checked; `key` is the one that says so.
pub(super) fn secret_source(
    key: &'static str,
    source: PinSource,
    base_dir: &Path,
    dev: bool,
) -> Result<PinSource, Problem> {
    let bad = |place, value: &str, rule| {
        Err(Problem::SecretName { key, place, value: value.to_owned(), rule })
    };
    match source {
        PinSource::File(path) if path.as_os_str().is_empty() => {
            bad("file", "", "name the file that has it")
        }
        PinSource::File(path) => Ok(PinSource::File(base_dir.join(path))),
        PinSource::Credential(name) if !is_credential_name(&name) => bad(
            "credential",
            &name,
            "a credential is named like a file, without '/' and other than \".\" and \"..\"",
        ),
        PinSource::Credential(name) => Ok(PinSource::Credential(name)),
        PinSource::Env(variable) if !dev => Err(Problem::SecretInEnvironment { key, variable }),
        PinSource::Env(variable) if !is_variable_name(&variable) => {
            bad("env", &variable, "a variable's name has at least one character, no '=' and no NUL")
        }
        PinSource::Env(variable) => Ok(PinSource::Env(variable)),
    }
}

fn is_credential_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

pub(super) fn call_timeout(value: Option<String>) -> Result<Duration, Problem> {
    let Some(value) = value else { return Ok(DEFAULT_CALL_TIMEOUT) };
    match humantime::parse_duration(&value) {
        Ok(Duration::ZERO) => {
            Err(Problem::CallTimeout { value, reason: "every call would be too slow".to_owned() })
        }
        Ok(timeout) => Ok(timeout),
        Err(error) => Err(Problem::CallTimeout { value, reason: error.to_string() }),
    }
}

pub(super) fn environment(
    entries: BTreeMap<String, String>,
    dev: bool,
) -> Result<BTreeMap<String, String>, Problem> {
    let bad = |(name, value): &(&String, &String)| !is_variable_name(name) || value.contains('\0');
    if let Some((variable, _)) = entries.iter().find(bad) {
        return Err(Problem::Environment { variable: variable.clone() });
    }
    // libtss2 takes names and levels in any case.
    let tells = |(name, value): &(&String, &String)| {
        let value = value.to_ascii_lowercase();
        *name == "TSS2_LOG" && ["debug", "trace"].iter().any(|level| value.contains(level))
    };
    match entries.iter().find(tells) {
        Some((variable, value)) if !dev => {
            Err(Problem::TellingLog { variable: variable.clone(), value: value.clone() })
        }
        _ => Ok(entries),
    }
}

#[cfg(test)]
mod tests;
