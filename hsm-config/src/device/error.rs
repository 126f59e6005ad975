//! What can be wrong with a `[[device]]` table.

use std::path::PathBuf;

use super::TctiError;
use crate::{name::DeviceName, quirks::KeyAttribute};

/// A `[[device]]` table that describes no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device {device}: {problem}")]
pub struct DeviceConfigError {
    /// The table's `name`.
    pub device: DeviceName,
    /// What is wrong, with key, value and remedy.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a `[[device]]` table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The model is not known.
    #[error("model = {model:?} is not known; known are {}", known.join(", "))]
    UnknownModel {
        /// The value.
        model: String,
        /// What it could be.
        known: Vec<&'static str>,
    },
    /// The model is known not to be able to hold issuers' keys.
    #[error(
        "model = {model:?} cannot hold the keys of issuers: {why}; if that is not so any more, say model = \"generic\" with `module` and `quirks`"
    )]
    ModelUnusable {
        /// The model.
        model: &'static str,
        /// Why.
        why: &'static str,
    },
    /// The string for the module's initialisation cannot be passed on.
    #[error("init_args is empty or has a NUL: leave it out, or write what the module's maker says")]
    InitArgs,
    /// None of the model's usual paths has a module.
    #[error(
        "no PKCS#11 module of model {model:?} is installed: looked for {}; install it ({install}) or set `module` to its path",
        list(looked_for)
    )]
    ModuleNotInstalled {
        /// The model.
        model: &'static str,
        /// The paths that were tried.
        looked_for: &'static [PathBuf],
        /// How the module is installed.
        install: &'static str,
    },
    /// Neither `token_label` nor `token_serial`, or both.
    #[error("set exactly one of token_label and token_serial; there {}", if *both { "are both" } else { "is neither" })]
    Selector {
        /// Both are set, not neither.
        both: bool,
    },
    /// A label or serial number that no PKCS#11 token can have.
    #[error(
        "{key} = {value:?} fits no PKCS#11 token: it must have 1 to {max} bytes and no blank at its end"
    )]
    Unmatchable {
        /// `token_label` or `token_serial`.
        key: &'static str,
        /// The value.
        value: String,
        /// Length of the field in `CK_TOKEN_INFO`.
        max: usize,
    },
    /// The number of sessions is 0 or beyond all reason.
    #[error("sessions = {sessions}: use 1 to {max}")]
    Sessions {
        /// The value.
        sessions: usize,
        /// The bound.
        max: usize,
    },
    /// A quirk's number is out of range.
    #[error("quirks.{key} = {value}: use {min} to {max}")]
    Quirk {
        /// `id_bytes` or `label_bytes`.
        key: &'static str,
        /// The value.
        value: usize,
        /// The least.
        min: usize,
        /// The bound.
        max: usize,
    },
    /// Nothing would show that a private key cannot leave the device.
    #[error(
        "quirks.not_shown: with neither {one} nor {other} shown, nothing tells that a private key cannot leave the device; such a module cannot be used"
    )]
    Unprovable {
        /// An attribute.
        one: KeyAttribute,
        /// The other one.
        other: KeyAttribute,
    },
    /// The time limit is not a duration.
    #[error(
        "device_call_timeout = {value:?} is not a duration above zero: {reason}; write e.g. \"10s\""
    )]
    CallTimeout {
        /// The value.
        value: String,
        /// Why not.
        reason: String,
    },
    /// A PIN or secret from the environment, not in development.
    #[error(
        "{key} = {{ env = {variable:?} }} is for `mintwarden dev` only, because other processes can read an environment; use {key} = {{ file = … }} with mode 600 or {key} = {{ credential = … }}"
    )]
    SecretInEnvironment {
        /// `pin` or `secret`.
        key: &'static str,
        /// The variable.
        variable: String,
    },
    /// A name that no credential or environment variable can have.
    #[error("{key} = {{ {place} = {value:?} }}: {rule}")]
    SecretName {
        /// `pin` or `secret`.
        key: &'static str,
        /// `credential`, `env` or `file`.
        place: &'static str,
        /// The value.
        value: String,
        /// What is asked of it.
        rule: &'static str,
    },
    /// A key that this kind of device needs.
    #[error("{key} is missing: a device of kind \"{kind}\" needs it: {hint}")]
    Absent {
        /// The key.
        key: &'static str,
        /// The kind.
        kind: &'static str,
        /// What it is.
        hint: &'static str,
    },
    /// A key that this kind of device does not have.
    #[error("{key} means nothing for a device of kind \"{kind}\": leave it out")]
    NotOfKind {
        /// The key.
        key: &'static str,
        /// The kind.
        kind: &'static str,
    },
    /// The way to a TPM is none.
    #[error("tcti = {value:?}: {problem}")]
    Tcti {
        /// The value.
        value: String,
        /// What is wrong with it, with the remedy.
        problem: TctiError,
    },
    /// The parent is no persistent handle.
    #[error(
        "parent = {value:?} is no persistent handle: write \"0x81000000\" to \"0x81ffffff\", as `tpm2_getcap handles-persistent` lists them, or leave it out for a primary key of the owner hierarchy"
    )]
    Parent {
        /// The value.
        value: String,
    },
    /// Nothing manages the memory of the TPM.
    #[error(
        "tcti = {value:?} has no resource manager: say exclusive = true if nothing else uses this TPM (what is loaded in it is flushed at each start), or use device:/dev/tpmrm0 or tabrmd"
    )]
    Unmanaged {
        /// The way to it.
        value: String,
    },
    /// A resource manager and exclusive use exclude each other.
    #[error(
        "exclusive = true with tcti = {value:?}: behind a resource manager nothing is exclusive; leave it out, or use device:/dev/tpm0 and have nothing else use the TPM"
    )]
    Managed {
        /// The way to it.
        value: String,
    },
    /// The bank of PCRs is none that keys are bound to.
    #[error(
        "pcrs.bank = {value:?} is none that keys can be bound to: write \"sha256\", \"sha384\" or \"sha512\", whichever `tpm2_getcap pcrs` shows with PCRs; states of a sha1 bank can be forged"
    )]
    PcrBank {
        /// The value.
        value: String,
    },
    /// The PCRs tell no state.
    #[error(
        "pcrs.selection: {why}; name each PCR once, e.g. [0, 2, 4, 7], of 0 to 15 and 17 to 22"
    )]
    PcrSelection {
        /// Why not.
        why: String,
    },
    /// An authority without a place for what it signs off, or the other way round.
    #[error(
        "pcrs.{given} without pcrs.{missing}: an authority signs states off, and signed_off is the directory where that is found; give both or neither"
    )]
    PcrHalf {
        /// What is there.
        given: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// An empty path.
    #[error("pcrs.{key} is empty: name the {} or leave both out", if *key == "authority" { "public key's file, PEM," } else { "directory" })]
    PcrPath {
        /// `authority` or `signed_off`.
        key: &'static str,
    },
    /// A log of libtss2 that has what it sends and gets.
    #[error(
        "environment: {variable} = {value:?} is for `mintwarden dev` only, because at debug and trace libtss2 logs what it sends to the TPM, secrets included; say \"all+info\" or less"
    )]
    TellingLog {
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
    },
    /// A name that no environment variable can have, or a value that it cannot have.
    #[error(
        "environment: {variable:?} cannot be set: a name has at least one character and no '=', and neither name nor value has a NUL"
    )]
    Environment {
        /// The variable.
        variable: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "none, because the model knows no usual place".to_owned();
    }
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}
