//! What commands print: tables for people, JSON for programs.

mod model;
mod table;

use std::io::{self, Write};

use mintwarden_client::api;
use serde::Serialize;

use self::model::{Keysets, Status};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format {
    Table,
    Json,
}

/// Keysets with their keys.
pub(crate) fn keysets(
    out: &mut impl Write,
    format: Format,
    keysets: Vec<api::Keyset>,
) -> io::Result<()> {
    let keysets = Keysets::from(keysets);
    match format {
        Format::Table => table::keysets(out, &keysets),
        Format::Json => json(out, &keysets),
    }
}

/// What `init` made, as a keyset.
pub(crate) fn created(issuer: String, response: api::InitResponse) -> api::Keyset {
    api::Keyset { issuer, revision: response.revision, keys: response.keys }
}

/// Issuers and devices.
pub(crate) fn status(out: &mut impl Write, format: Format, status: api::Status) -> io::Result<()> {
    let status = Status::from(status);
    match format {
        Format::Table => table::status(out, &status),
        Format::Json => json(out, &status),
    }
}

/// A device was told to try again.
pub(crate) fn resumed(out: &mut impl Write, format: Format, device: &str) -> io::Result<()> {
    match format {
        Format::Table => {
            writeln!(out, "{device} tries again; see how it goes with: mintwardenctl status")
        }
        Format::Json => json(out, &serde_json::json!({ "device": device, "resumed": true })),
    }
}

fn json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

#[cfg(test)]
mod tests;
