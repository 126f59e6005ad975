//! `[[device]]` as an operator writes it.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Device, DeviceConfigError, DeviceKind, Pkcs11, Problem, TokenSelector};
use crate::{
    model::Model,
    name::DeviceName,
    pin::PinSource,
    quirks::{Quirks, QuirksEntry},
};

/// Time for one device call where the operator says nothing. Key generation in a network HSM is the
/// slowest call; a hung one is to be noticed while callers still wait.
const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// More sessions than this are a typing error, not a wish (I9).
const MAX_SESSIONS: usize = 1024;

/// With fewer bytes two keys would meet; with a shorter label no issuer would fit.
const MIN_ID_BYTES: usize = 2;
const MIN_LABEL_BYTES: usize = 24;

/// Lengths of `label` and `serialNumber` in `CK_TOKEN_INFO` (PKCS#11 v3.1 section 3.2).
const MAX_LABEL: usize = 32;
const MAX_SERIAL: usize = 16;

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
    /// The make of device: the name of a [`Model`].
    pub model: String,
    /// The PKCS#11 module, where it is not where the model expects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<PathBuf>,
    /// The PKCS#11 token's label. Exactly one of this and `token_serial`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_label: Option<String>,
    /// The PKCS#11 token's serial number. Exactly one of this and `token_label`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_serial: Option<String>,
    /// Where the worker reads the user PIN.
    pub pin: PinSource,
    /// Signing sessions to open; the model's number where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<usize>,
    /// How long one call into the device may take, e.g. `"10s"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_call_timeout: Option<String>,
    /// A string for the module's initialisation (`pReserved` of `C_Initialize`), where it wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_args: Option<String>,
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
}

impl DeviceEntry {
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
        let Self { kind: Kind::Pkcs11, .. } = self;
        let model = Model::find(&self.model).ok_or_else(|| Problem::UnknownModel {
            model: self.model.clone(),
            known: Model::all().iter().map(|model| model.name.as_str()).collect(),
        })?;
        if let Some(why) = &model.unusable {
            return Err(Problem::ModelUnusable { model: &model.name, why });
        }
        let module = match self.module {
            Some(path) => base_dir.join(path),
            None => model
                .installed_module()
                .ok_or(Problem::ModuleNotInstalled {
                    model: &model.name,
                    looked_for: &model.module,
                    install: &model.install,
                })?
                .to_owned(),
        };
        let sessions = sessions(self.sessions.unwrap_or(model.sessions))?;
        if let Some(max) = model.max_sessions.filter(|max| sessions > *max) {
            return Err(Problem::Sessions { sessions, max });
        }
        Ok(Device {
            kind: DeviceKind::Pkcs11(Pkcs11 {
                model: self.model,
                module,
                token: selector(self.token_label, self.token_serial)?,
                pin: pin(self.pin, base_dir, dev)?,
                init_args: init_args(self.init_args)?,
                quirks: quirks(self.quirks, model)?,
            }),
            sessions,
            call_timeout: call_timeout(self.device_call_timeout)?,
            environment: environment(self.environment)?,
            name: self.name,
        })
    }
}

fn selector(label: Option<String>, serial: Option<String>) -> Result<TokenSelector, Problem> {
    let checked = |key, value: String, max| {
        let fits = (1..=max).contains(&value.len()) && !value.ends_with(' ');
        if fits { Ok(value) } else { Err(Problem::Unmatchable { key, value, max }) }
    };
    match (label, serial) {
        (Some(label), None) => checked("token_label", label, MAX_LABEL).map(TokenSelector::Label),
        (None, Some(serial)) => {
            checked("token_serial", serial, MAX_SERIAL).map(TokenSelector::Serial)
        }
        (label, _) => Err(Problem::Selector { both: label.is_some() }),
    }
}

fn pin(source: PinSource, base_dir: &Path, dev: bool) -> Result<PinSource, Problem> {
    let bad = |key, value: &str, rule| Err(Problem::PinName { key, value: value.to_owned(), rule });
    match source {
        PinSource::File(path) if path.as_os_str().is_empty() => {
            bad("file", "", "name the file that has the PIN")
        }
        PinSource::File(path) => Ok(PinSource::File(base_dir.join(path))),
        PinSource::Credential(name) if !is_credential_name(&name) => bad(
            "credential",
            &name,
            "a credential is named like a file, without '/' and other than \".\" and \"..\"",
        ),
        PinSource::Credential(name) => Ok(PinSource::Credential(name)),
        PinSource::Env(variable) if !dev => Err(Problem::PinInEnvironment { variable }),
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

fn init_args(text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.is_empty() || text.contains('\0') => Err(Problem::InitArgs),
        text => Ok(text),
    }
}

fn quirks(entry: Option<QuirksEntry>, model: &Model) -> Result<Quirks, Problem> {
    let quirks = entry.unwrap_or_default().over(model.quirks.clone());
    if let Err([one, other]) = quirks.provable() {
        return Err(Problem::Unprovable { one, other });
    }
    let in_range = |key, value, range: RangeInclusive<usize>| {
        let (min, max) = (*range.start(), *range.end());
        if range.contains(&value) { Ok(()) } else { Err(Problem::Quirk { key, value, min, max }) }
    };
    in_range("id_bytes", quirks.id_bytes, MIN_ID_BYTES..=Quirks::MAX_ID_BYTES)?;
    in_range("label_bytes", quirks.label_bytes, MIN_LABEL_BYTES..=Quirks::MAX_LABEL_BYTES)?;
    Ok(quirks)
}

fn sessions(sessions: usize) -> Result<usize, Problem> {
    if (1..=MAX_SESSIONS).contains(&sessions) {
        Ok(sessions)
    } else {
        Err(Problem::Sessions { sessions, max: MAX_SESSIONS })
    }
}

fn call_timeout(value: Option<String>) -> Result<Duration, Problem> {
    let Some(value) = value else { return Ok(DEFAULT_CALL_TIMEOUT) };
    match humantime::parse_duration(&value) {
        Ok(Duration::ZERO) => {
            Err(Problem::CallTimeout { value, reason: "every call would be too slow".to_owned() })
        }
        Ok(timeout) => Ok(timeout),
        Err(error) => Err(Problem::CallTimeout { value, reason: error.to_string() }),
    }
}

fn environment(entries: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Problem> {
    let bad = |(name, value): &(&String, &String)| !is_variable_name(name) || value.contains('\0');
    match entries.iter().find(bad) {
        Some((variable, _)) => Err(Problem::Environment { variable: variable.clone() }),
        None => Ok(entries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        name = "hsm-a"
        kind = "pkcs11"
        model = "softhsm2"
        module = "lib/module.so"
        pin = { file = "secrets/pin" }
    "#;

    fn resolve(more: &str) -> Result<Device, DeviceConfigError> {
        let text = format!("{MINIMAL}\n{more}");
        let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
        entry.resolve(Path::new("/etc/mintwarden"), false)
    }

    #[test]
    fn defaults_come_from_the_model_and_paths_from_the_file() {
        let device = resolve("token_label = 'tts'").expect("a device");
        assert_eq!(device.name.as_str(), "hsm-a");
        assert_eq!((device.sessions, device.call_timeout), (4, DEFAULT_CALL_TIMEOUT));
        let DeviceKind::Pkcs11(pkcs11) = device.kind;
        assert_eq!(pkcs11.module, Path::new("/etc/mintwarden/lib/module.so"));
        assert_eq!(pkcs11.pin, PinSource::File("/etc/mintwarden/secrets/pin".into()));
        assert_eq!(pkcs11.token, TokenSelector::Label("tts".to_owned()));
    }

    #[test]
    fn what_the_operator_says_wins() {
        let device = resolve(
            "token_serial = '0a1b'\nsessions = 9\ndevice_call_timeout = '1m 500ms'
             environment = { SOFTHSM2_CONF = '/x.conf' }",
        )
        .expect("a device");
        assert_eq!((device.sessions, device.call_timeout), (9, Duration::from_millis(60_500)));
        assert_eq!(device.environment["SOFTHSM2_CONF"], "/x.conf");
        let json = serde_json::to_string(&device).expect("travels as JSON");
        assert_eq!(serde_json::from_str::<Device>(&json).expect("and back"), device);
    }

    #[test]
    fn each_mistake_names_device_key_value_and_remedy() {
        let cases = [
            ("", "exactly one of token_label and token_serial; there is neither"),
            ("token_label = 'a'\ntoken_serial = 'b'", "there are both"),
            ("token_label = ''", "token_label = \"\""),
            ("token_label = 'ends with blank '", "no blank at its end"),
            ("token_label = '123456789012345678901234567890123'", "1 to 32 bytes"),
            ("token_serial = '12345678901234567'", "1 to 16 bytes"),
            ("token_label = 'a'\ninit_args = ''", "init_args"),
            ("token_label = 'a'\nquirks = { id_bytes = 1 }", "quirks.id_bytes = 1: use 2 to 16"),
            ("token_label = 'a'\nquirks = { label_bytes = 9 }", "quirks.label_bytes = 9"),
            (
                "token_label = 'a'\nquirks = { not_shown = ['CKA_SENSITIVE', 'CKA_ALWAYS_SENSITIVE'] }",
                "neither CKA_SENSITIVE nor CKA_ALWAYS_SENSITIVE",
            ),
            ("token_label = 'a'\nsessions = 0", "sessions = 0: use 1 to 1024"),
            ("token_label = 'a'\nsessions = 100000", "sessions = 100000"),
            ("token_label = 'a'\ndevice_call_timeout = '0s'", "device_call_timeout = \"0s\""),
            ("token_label = 'a'\ndevice_call_timeout = '10'", "write e.g. \"10s\""),
            ("token_label = 'a'\nenvironment = { 'A=B' = '' }", "\"A=B\""),
            ("token_label = 'a'\nenvironment = { A = \"\\u0000\" }", "\"A\""),
        ];
        for (more, expected) in cases {
            let error = resolve(more).expect_err(more).to_string();
            assert!(error.starts_with("device hsm-a: "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_unknown_model_lists_the_known_ones() {
        let text = MINIMAL.replace("softhsm2", "luna7");
        let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
        let error = entry.resolve(Path::new("/"), false).expect_err("no such model").to_string();
        assert!(error.contains("\"luna7\" is not known; known are"), "{error}");
        for model in Model::all() {
            assert!(error.contains(&model.name), "{error}");
        }
    }

    #[test]
    fn every_model_resolves_with_what_it_says_or_says_why_not() {
        for model in Model::all() {
            let text = MINIMAL.replace("softhsm2", &model.name) + "\ntoken_label = 'a'";
            let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
            match (entry.resolve(Path::new("/"), false), &model.unusable) {
                (Ok(device), None) => {
                    let DeviceKind::Pkcs11(pkcs11) = device.kind;
                    assert_eq!(device.sessions, model.sessions, "{}", model.name);
                    let quirks = model.quirks.clone().over(QuirksEntry::default());
                    assert_eq!(pkcs11.quirks, quirks, "{}", model.name);
                }
                (Err(error), Some(why)) => {
                    assert!(error.to_string().contains(why.as_str()), "{error}");
                    assert!(error.to_string().contains("generic"), "{error}");
                }
                (outcome, _) => panic!("{}: {outcome:?}", model.name),
            }
        }
    }

    #[test]
    fn a_model_without_a_module_asks_for_its_path() {
        let text = MINIMAL.replace("softhsm2", "generic").replace("module = \"lib/module.so\"", "");
        let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
        let error = entry.resolve(Path::new("/"), false).expect_err("no path").to_string();
        assert!(error.contains("set `module`"), "{error}");
    }

    #[test]
    fn pins_come_from_where_they_may() {
        let with = |pin: &str, dev| {
            let text = MINIMAL.replace(r#"{ file = "secrets/pin" }"#, pin);
            let text = format!("{text}\ntoken_label = 'a'");
            let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
            entry.resolve(Path::new("/"), dev)
        };
        assert!(with("{ credential = 'hsm-a-pin' }", false).is_ok());
        for name in ["", "..", "a/b"] {
            let error = with(&format!("{{ credential = '{name}' }}"), false).expect_err(name);
            assert!(matches!(error.problem, Problem::PinName { key: "credential", .. }));
        }
        assert!(with("{ env = 'PIN' }", true).is_ok());
        assert!(with("{ env = 'A=B' }", true).is_err());
        let error = with("{ env = 'PIN' }", false).expect_err("not in dev").to_string();
        assert!(error.contains("mintwarden dev") && error.contains("credential"), "{error}");
    }

    #[test]
    fn tables_with_unknown_keys_or_bad_names_do_not_parse() {
        for bad in [
            MINIMAL.replace("module =", "modul ="),
            MINIMAL.replace("hsm-a", "HSM A"),
            MINIMAL.replace("pkcs11", "tpm3"),
            format!("{MINIMAL}\nslot = 0"),
            format!("{MINIMAL}\nsessions = -1"),
            format!("{MINIMAL}\nsessions = '4'"),
        ] {
            assert!(toml::from_str::<DeviceEntry>(&bad).is_err(), "{bad}");
        }
    }
}
