//! The configuration as written: only shapes and types, no sense yet.

use std::{net::SocketAddr, path::PathBuf};

use mintwarden_hsm_config::device::DeviceEntry;
use serde::Deserialize;

use super::Role;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) state_dir: PathBuf,
    /// Written by `mintwarden dev`: allows what only a throw-away appliance may do.
    #[serde(default)]
    pub(super) dev: bool,
    pub(super) listen: Listen,
    pub(super) tls: Option<Tls>,
    pub(super) users: Option<Users>,
    #[serde(default)]
    pub(super) device: Vec<DeviceEntry>,
    #[serde(default)]
    pub(super) issuer: Vec<Issuer>,
    #[serde(default)]
    pub(super) grant: Vec<Grant>,
    #[serde(default)]
    pub(super) approvals: Approvals,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) metrics: Metrics,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    pub(super) grpc: Option<SocketAddr>,
    pub(super) unix: Option<PathBuf>,
    pub(super) jwks: Option<SocketAddr>,
    pub(super) ops: Option<SocketAddr>,
    #[serde(default)]
    pub(super) insecure_plaintext: bool,
    #[serde(default)]
    pub(super) insecure_plaintext_ops: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) certificate: PathBuf,
    pub(super) private_key: PathBuf,
    pub(super) client_ca: PathBuf,
    pub(super) trust_domain: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Users {
    pub(super) server: Option<String>,
    pub(super) worker: Option<String>,
    #[serde(default)]
    pub(super) danger_shared_root: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    pub(super) name: String,
    pub(super) iss: String,
    pub(super) devices: Vec<String>,
    pub(super) algorithm: Option<String>,
    pub(super) rsa_bits: Option<u32>,
    pub(super) profile: Option<String>,
    pub(super) audience: Vec<String>,
    pub(super) required: Option<Vec<String>>,
    pub(super) max_token_lifetime: Option<String>,
    pub(super) max_claims_bytes: Option<usize>,
    pub(super) max_act_depth: Option<usize>,
    #[serde(default)]
    pub(super) req_wl: Vec<String>,
    pub(super) standbys: Option<usize>,
    pub(super) jwks_max_age: Option<String>,
    #[serde(default)]
    pub(super) lost_devices: Vec<String>,
    pub(super) rotate_every: Option<String>,
    pub(super) sign_until: Option<String>,
    pub(super) verifier_refresh: Option<String>,
    pub(super) propagation: Option<String>,
    pub(super) skew: Option<String>,
    pub(super) destroy_after: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grant {
    pub(super) role: Role,
    pub(super) person: Option<String>,
    pub(super) to: Vec<String>,
    pub(super) issuers: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approvals {
    pub(super) init: Option<usize>,
    pub(super) recover: Option<usize>,
    pub(super) rotate: Option<usize>,
    pub(super) activate: Option<usize>,
    pub(super) activate_immature: Option<usize>,
    pub(super) resume: Option<usize>,
    pub(super) revoke: Option<usize>,
    pub(super) destroy: Option<usize>,
    /// Not allowed: its refusal gives the reason.
    pub(super) suspend: Option<toml::Value>,
    pub(super) expire: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) max_connections: Option<usize>,
    pub(super) max_streams: Option<u32>,
    pub(super) max_inflight_items: Option<usize>,
    pub(super) max_inflight_bytes: Option<usize>,
    pub(super) max_caller_bytes: Option<usize>,
    pub(super) default_deadline: Option<String>,
    pub(super) max_deadline: Option<String>,
    pub(super) drain: Option<String>,
    pub(super) handshake: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) workloads: Option<usize>,
}
