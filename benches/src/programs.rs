//! The programs that are measured.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::error::{BenchError, system};

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `mintwarden`: launcher and server.
    pub appliance: PathBuf,
    /// `mintwarden-pkcs11`: the worker.
    pub worker: PathBuf,
}

impl Programs {
    /// The programs beside this one. Where `cargo run` started it, they are built first: cargo builds
    /// what this program links, not what it starts, and measuring old programs helps nobody.
    ///
    /// # Errors
    /// [`BenchError::Programs`].
    pub fn ready() -> Result<Self, BenchError> {
        if let Some(cargo) = env::var_os("CARGO") {
            build(Path::new(&cargo))?;
        }
        let own = env::current_exe().map_err(system("own path"))?;
        let beside = |name: &str| {
            let path = own.with_file_name(name);
            if path.is_file() {
                return Ok(path);
            }
            Err(BenchError::Programs(format!("{} is not there", path.display())))
        };
        Ok(Self { appliance: beside("mintwarden")?, worker: beside("mintwarden-pkcs11")? })
    }
}

fn build(cargo: &Path) -> Result<(), BenchError> {
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "-p", "mintwarden", "-p", "mintwarden-pkcs11"]);
    command.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command.status().map_err(system("cargo"))?;
    if !status.success() {
        return Err(BenchError::Programs(format!("building the programs failed ({status})")));
    }
    Ok(())
}
