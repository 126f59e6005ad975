//! The public gRPC API of Mintwarden: messages, client and server stubs, and the descriptor set
//! for reflection.
//!
//! The contract, with units, encodings and errors, is in
//! `proto/mintwarden/v1/mintwarden.proto`; this crate only renders it into Rust.

/// Package `mintwarden.v1`.
#[allow(
    clippy::all,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "generated from the .proto, which documents it"
)]
pub mod v1 {
    tonic::include_proto!("mintwarden.v1");
}

/// The encoded `FileDescriptorSet` of the API, for server reflection and for shape tests.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("mintwarden");

/// The `domain` of every `google.rpc.ErrorInfo` that an appliance sends.
pub const ERROR_DOMAIN: &str = "mintwarden";
