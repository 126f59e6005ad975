//! What runs, and by which configuration.

use mintwarden_worker::wire::BUILD;
use prometheus_client::{metrics::info::Info, registry::Registry};

use crate::config::Config;

pub(super) fn register(registry: &mut Registry, config: &Config) {
    let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("wire", BUILD.to_owned())];
    registry.register(
        "build",
        "The server's version, and the build that its workers have to be of",
        Info::new(build),
    );
    registry.register(
        "config",
        "The configuration file that the server was started with",
        Info::new(vec![("sha256", config.digest.clone())]),
    );
}
