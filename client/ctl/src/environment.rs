//! The only place that reads the environment, apart from clap's `env` for the options.

use std::{env, path::PathBuf};

/// Where the configuration file is by default (XDG Base Directory Specification); none if the
/// environment does not say where home is.
#[expect(clippy::disallowed_methods, reason = "this is the environment module")]
pub(crate) fn default_config_file() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(base.join("mintwarden").join("ctl.toml"))
}
