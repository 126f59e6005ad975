//! Where the built programs are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The launcher and server.
pub const MINTWARDEN: &str = "mintwarden";
/// The same, killed on command at a write of its store.
pub const FAULTY_STORE: &str = "mintwarden-faulty-store";
/// The worker for PKCS#11 tokens.
pub const WORKER: &str = "mintwarden-pkcs11";
/// The worker for TPMs.
pub const TPM_WORKER: &str = "mintwarden-tpm";
/// The PKCS#11 module that misbehaves on command.
pub const FAULTY_PKCS11: &str = "libfaulty_pkcs11.so";
/// The operators' command line.
pub const CTL: &str = "mintwardenctl";

/// The path of a built program: in the profile's directory (`target/debug`, `target/release`), in
/// or below which this executable lies.
///
/// # Panics
/// If it is not built.
#[must_use]
pub fn path(program: &str) -> PathBuf {
    find(Path::new(program))
}

/// The path of a built example of the client library, as [`path`].
///
/// # Panics
/// If it is not built.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    find(&Path::new("examples").join(name))
}

fn find(program: &Path) -> PathBuf {
    let own = env::current_exe().expect("a process knows its own path");
    // A test lies in deps/, an example in examples/, any other program beside those.
    let candidates: Vec<_> =
        own.ancestors().skip(1).take(2).map(|directory| directory.join(program)).collect();
    match candidates.iter().find(|path| path.is_file()) {
        Some(found) => found.clone(),
        None => panic!(
            "{} is not built (looked for {candidates:?}): `cargo build --workspace --examples` first, with \
             `--release` where this was built so",
            program.display()
        ),
    }
}
