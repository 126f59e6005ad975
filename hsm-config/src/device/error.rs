//! What can be wrong with a `[[device]]` table.

use std::path::PathBuf;

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
    /// A PIN from the environment, not in development.
    #[error(
        "pin = {{ env = {variable:?} }} is for `mintwarden dev` only, because other processes can read an environment; use pin = {{ file = … }} with mode 600 or pin = {{ credential = … }}"
    )]
    PinInEnvironment {
        /// The variable.
        variable: String,
    },
    /// A name that no credential or environment variable can have.
    #[error("pin = {{ {key} = {value:?} }}: {rule}")]
    PinName {
        /// `credential`, `env` or `file`.
        key: &'static str,
        /// The value.
        value: String,
        /// What is asked of it.
        rule: &'static str,
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
