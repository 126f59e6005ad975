//! Keysets and proposals as they are stored: JSON with a format number. An older format is read, never
//! written.

mod format1;
mod format2;

use mintwarden_worker::IssuerName;
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::keyset::{Keyset, proposal::Proposals};

/// What is written.
const FORMAT: u32 = 3;
/// The same of proposals.
const PROPOSALS: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<K> {
    format: u32,
    keyset: K,
}

/// Only the number: what else there is depends on it.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// The bytes of a keyset.
pub(super) fn encode(keyset: &Keyset) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Stored { format: FORMAT, keyset })
}

/// Reads a keyset of `issuer`.
///
/// # Errors
/// [`StoreError::Unreadable`].
pub(super) fn decode(issuer: &IssuerName, bytes: &[u8]) -> Result<Keyset, StoreError> {
    let unreadable = |why: String| StoreError::Unreadable { issuer: issuer.clone(), why };
    let malformed = |error: serde_json::Error| unreadable(error.to_string());
    let Format { format } = serde_json::from_slice(bytes).map_err(malformed)?;
    let keyset = match format {
        1 => {
            let stored: Stored<format1::Keyset> =
                serde_json::from_slice(bytes).map_err(malformed)?;
            stored.keyset.into()
        }
        2 => {
            let stored: Stored<format2::Keyset> =
                serde_json::from_slice(bytes).map_err(malformed)?;
            stored.keyset.into()
        }
        FORMAT => {
            let stored: Stored<Keyset> = serde_json::from_slice(bytes).map_err(malformed)?;
            stored.keyset
        }
        other => {
            return Err(unreadable(format!("format {other}, this version reads 1 to {FORMAT}")));
        }
    };
    if keyset.issuer != *issuer {
        return Err(unreadable("it belongs to another issuer".into()));
    }
    Ok(keyset)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredProposals<P> {
    format: u32,
    proposals: P,
}

/// The bytes of an issuer's proposals.
pub(super) fn encode_proposals(proposals: &Proposals) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&StoredProposals { format: PROPOSALS, proposals })
}

/// Reads the proposals of `issuer`.
///
/// # Errors
/// [`StoreError::Unreadable`].
pub(super) fn decode_proposals(issuer: &IssuerName, bytes: &[u8]) -> Result<Proposals, StoreError> {
    let unreadable = |why: String| StoreError::Unreadable {
        issuer: issuer.clone(),
        why: format!("proposals: {why}"),
    };
    let malformed = |error: serde_json::Error| unreadable(error.to_string());
    let Format { format } = serde_json::from_slice(bytes).map_err(malformed)?;
    if format != PROPOSALS {
        return Err(unreadable(format!("format {format}, this version reads {PROPOSALS}")));
    }
    let stored: StoredProposals<Proposals> = serde_json::from_slice(bytes).map_err(malformed)?;
    if stored.proposals.issuer != *issuer {
        return Err(unreadable("they belong to another issuer".into()));
    }
    Ok(stored.proposals)
}
