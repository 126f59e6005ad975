//! What the launcher tells a worker: the first frame on its wire, sent before the server has the
//! other end, so that a broken server cannot change it.

use std::path::PathBuf;

use mintwarden_hsm_config::device::Device;
use serde::{Deserialize, Serialize};

use crate::claims::Profile;

/// A worker's whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The device to serve.
    pub device: Device,
    /// A directory that is this worker's alone: it keeps the record of pending logins (I10).
    pub state_dir: PathBuf,
    /// The profiles of all issuers that use the device.
    pub profiles: Vec<Profile>,
    /// An operator said `device resume`: forget an earlier login that did not clearly succeed.
    pub resume: bool,
}
