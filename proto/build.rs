//! Generates the API's types and stubs from `proto/`; needs `protoc` (Debian: protobuf-compiler).

use std::{env, io, path::PathBuf};

#[expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts through the environment"
)]
fn main() -> io::Result<()> {
    let descriptors =
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("mintwarden.bin");
    tonic_prost_build::configure()
        .bytes(".mintwarden.v1")
        .build_transport(false)
        .file_descriptor_set_path(descriptors)
        .compile_protos(&["proto/mintwarden/v1/mintwarden.proto"], &["proto"])
}
