//! Names this build by a hash of the crate's own sources, for the wire's hello: worker and server
//! of different builds refuse each other. It guards against mix-ups, not against attackers.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::Path,
};

#[expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts through the environment"
)]
fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src");
    let mut state = DefaultHasher::new();
    absorb(
        &Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("src"),
        &mut state,
    )?;
    println!("cargo::rustc-env=MINTWARDEN_WIRE_BUILD={:016x}", state.finish());
    Ok(())
}

fn absorb(directory: &Path, state: &mut DefaultHasher) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_type()?.is_dir() {
            absorb(&entry.path(), state)?;
        } else {
            entry.file_name().hash(state);
            fs::read(entry.path())?.hash(state);
        }
    }
    Ok(())
}
