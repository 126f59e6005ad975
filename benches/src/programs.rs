//! The programs that are measured.

use std::{env, path::Path, process::Command};

use crate::error::{BenchError, system};

/// Builds the programs that are measured, where `cargo run` started this one: cargo builds what this
/// program links, not what it starts, and measuring old programs helps nobody. Otherwise they are
/// taken as they are, beside this one.
///
/// # Errors
/// [`BenchError::Programs`].
pub fn make() -> Result<(), BenchError> {
    let Some(cargo) = env::var_os("CARGO") else { return Ok(()) };
    let mut command = Command::new(Path::new(&cargo));
    command.args(["build", "--locked", "--bins", "-p", "mintwarden", "-p", "mintwarden-pkcs11"]);
    command.args(["-p", "mintwarden-tpm", "-p", "mintwarden-client", "--example", "tts"]);
    command.args(["-p", "faulty-pkcs11", "--lib"]);
    // Built already; but with it dependencies get the same features, and are not built twice.
    command.args(["-p", "mintwarden-benches"]);
    command.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command.status().map_err(system("cargo"))?;
    if status.success() { Ok(()) } else { Err(BenchError::Programs(status)) }
}
