//! A device: as an operator writes it ([`DeviceEntry`]) and checked ([`Device`]).

mod entry;
mod error;
mod pcrs;
mod pkcs11;
mod tcti;
mod tpm;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    entry::{DeviceEntry, Kind},
    error::{DeviceConfigError, Problem},
    pcrs::{PcrAuthority, PcrBank, Pcrs, PcrsEntry},
    tcti::{Tcti, TctiError},
    tpm::{PersistentHandle, Tpm},
};
use crate::{name::DeviceName, pin::PinSource, quirks::Quirks};

/// A device whose description was checked. [`DeviceEntry::resolve`] makes one; it travels to the
/// worker as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// What issuers, logs and commands call it.
    pub name: DeviceName,
    /// What sort of device it is and how it is reached.
    pub kind: DeviceKind,
    /// Signing sessions to open; at least 1.
    pub sessions: usize,
    /// How long one call into the device may take before its worker is killed.
    pub call_timeout: Duration,
    /// Environment variables that the vendor's library wants, for the worker's process.
    pub environment: BTreeMap<String, String>,
}

impl Device {
    /// Length of the handle of a new key, in bytes.
    #[must_use]
    pub fn handle_bytes(&self) -> usize {
        match &self.kind {
            DeviceKind::Pkcs11(pkcs11) => pkcs11.quirks.id_bytes,
            DeviceKind::Tpm(_) => Quirks::MAX_ID_BYTES,
        }
    }

    /// Longest label that a key can have, in bytes.
    #[must_use]
    pub fn label_bytes(&self) -> usize {
        match &self.kind {
            DeviceKind::Pkcs11(pkcs11) => pkcs11.quirks.label_bytes,
            DeviceKind::Tpm(_) => Quirks::MAX_LABEL_BYTES,
        }
    }

    /// Where its worker reads what it authorises itself with: a PIN, or a TPM's device secret.
    #[must_use]
    pub fn secret(&self) -> &PinSource {
        match &self.kind {
            DeviceKind::Pkcs11(pkcs11) => &pkcs11.pin,
            DeviceKind::Tpm(tpm) => &tpm.secret,
        }
    }
}

/// What sort of device it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DeviceKind {
    /// A PKCS#11 token.
    Pkcs11(Pkcs11),
    /// A TPM 2.0.
    Tpm(Tpm),
}

impl DeviceKind {
    /// The name of the program that is its worker.
    #[must_use]
    pub const fn worker(&self) -> &'static str {
        match self {
            Self::Pkcs11(_) => "mintwarden-pkcs11",
            Self::Tpm(_) => "mintwarden-tpm",
        }
    }
}

/// How a PKCS#11 token is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11 {
    /// The name of its [`Model`](crate::model::Model).
    pub model: String,
    /// The PKCS#11 module: an absolute path.
    pub module: PathBuf,
    /// Which of the module's tokens it is.
    pub token: TokenSelector,
    /// Where the worker reads the user PIN.
    pub pin: PinSource,
    /// What its module is initialised with, where it wants something.
    pub init_args: Option<String>,
    /// In what its module differs from the usual.
    pub quirks: Quirks,
}

/// Which of a module's tokens is meant. Slot numbers are not used: SoftHSM and others change them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenSelector {
    /// The token with this label (`CK_TOKEN_INFO.label`), padding taken off.
    Label(String),
    /// The token with this serial number (`CK_TOKEN_INFO.serialNumber`), padding taken off.
    Serial(String),
}

impl fmt::Display for TokenSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(label) => write!(f, "label {label:?}"),
            Self::Serial(serial) => write!(f, "serial number {serial:?}"),
        }
    }
}
