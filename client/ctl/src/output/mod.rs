//! What commands print: tables for people, JSON for programs.

mod model;
mod proposals;
mod table;
mod verdict;

use std::io::{self, Write};

use mintwarden_client::api;
use serde::Serialize;

pub(crate) use self::verdict::verdict;
use self::{
    model::{Keysets, OneKey, Status},
    proposals::{Acted, Acts, Proposal, Proposals},
};

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

/// One key with its history.
pub(crate) fn key(
    out: &mut impl Write,
    format: Format,
    response: api::GetKeyResponse,
) -> io::Result<()> {
    let key = OneKey::from(response);
    match format {
        Format::Table => table::key(out, &key),
        Format::Json => json(out, &key),
    }
}

/// What an act has come to: the keys after it, or the proposal that waits.
pub(crate) fn acted(
    out: &mut impl Write,
    format: Format,
    response: api::ActResponse,
) -> io::Result<()> {
    let waits = response.proposal.as_ref().map(api::Proposal::state);
    let waits = waits == Some(api::ProposalState::Open);
    let keysets = Keysets::from(Vec::from_iter(response.keyset));
    let acted = Acted { keysets, proposal: response.proposal.map(Proposal::from) };
    match (format, &acted.proposal) {
        (Format::Json, _) => json(out, &acted),
        (Format::Table, Some(proposal)) if waits => proposals::waits(out, proposal),
        (Format::Table, _) => table::keysets(out, &acted.keysets),
    }
}

/// Proposals, open ones and others.
pub(crate) fn proposals(
    out: &mut impl Write,
    format: Format,
    found: Vec<api::Proposal>,
) -> io::Result<()> {
    let found = Proposals { proposals: found.into_iter().map(Proposal::from).collect() };
    match format {
        Format::Table => proposals::list(out, &found),
        Format::Json => json(out, &found),
    }
}

/// One proposal.
pub(crate) fn proposal(
    out: &mut impl Write,
    format: Format,
    proposal: api::Proposal,
) -> io::Result<()> {
    let proposal = Proposal::from(proposal);
    match format {
        Format::Table => proposals::one(out, &proposal),
        Format::Json => json(out, &proposal),
    }
}

/// A part of the record.
pub(crate) fn acts(
    out: &mut impl Write,
    format: Format,
    response: api::ListActsResponse,
) -> io::Result<()> {
    let acts = Acts::from(response);
    match format {
        Format::Table => proposals::acts(out, &acts),
        Format::Json => json(out, &acts),
    }
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
