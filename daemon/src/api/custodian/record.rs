//! The record of acts, as custodians and auditors may read it.

use std::collections::HashSet;

use mintwarden_proto::v1;
use mintwarden_worker::IssuerName;

use super::proposals::{act, person};
use crate::{
    api::{App, errors::ApiError},
    record::{Entry, Event, Numbered},
    store::{Page, Span},
};

/// Entries of an answer, where the caller does not say, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 200;
/// Entries that are looked at for one answer.
const MAX_LOOKED_AT: usize = 2000;

/// The entries that the caller may see: of the issuers `visible`, and where `appliance` those that
/// belong to none.
///
/// # Errors
/// [`ApiError::Record`] where the store fails.
pub(super) async fn list(
    app: &App,
    visible: HashSet<IssuerName>,
    appliance: bool,
    before: u64,
    limit: u32,
) -> Result<v1::ListActsResponse, ApiError> {
    let limit = match usize::try_from(limit).unwrap_or(MAX_PAGE) {
        0 => PAGE,
        limit => limit.min(MAX_PAGE),
    };
    let before = (before > 0).then_some(before);
    let span = Span { before, limit, look_at: MAX_LOOKED_AT };
    let shown = move |entry: &Entry| match &entry.issuer {
        Some(issuer) => visible.contains(issuer),
        None => appliance,
    };
    let Page { entries, next_before } = app.store.entries(span, shown).await.map_err(|error| {
        tracing::error!(%error, "the record cannot be read");
        ApiError::Record
    })?;
    let entries = entries.into_iter().map(|Numbered { sequence, entry }| shape(sequence, entry));
    Ok(v1::ListActsResponse { entries: entries.collect(), next_before })
}

fn shape(sequence: u64, Entry { at, issuer, config, event }: Entry) -> v1::RecordEntry {
    let kind = event.word().to_owned();
    let nanos = at.0.rem_euclid(1000) * 1_000_000;
    let at = prost_types::Timestamp {
        seconds: at.seconds().0,
        nanos: i32::try_from(nanos).unwrap_or(0),
    };
    let mut entry = v1::RecordEntry {
        sequence,
        at: Some(at),
        issuer: issuer.map(|issuer| issuer.to_string()).unwrap_or_default(),
        kind,
        config,
        ..v1::RecordEntry::default()
    };
    let about = |entry: &mut v1::RecordEntry, of: &crate::keyset::act::CustodianAct| {
        entry.act = Some(act(of));
        entry.keys = of.kid().map(str::to_owned).into_iter().collect();
    };
    match event {
        Event::Started { version } => entry.version = version,
        Event::Restored => {}
        Event::Proposed { proposal, by, act, reason }
        | Event::Approved { proposal, by, act, reason }
        | Event::Rejected { proposal, by, act, reason } => {
            about(&mut entry, &act);
            (entry.by, entry.reason) = (vec![person(&by)], reason);
            entry.proposal = proposal.to_string();
        }
        Event::Closed { proposal, act, ending } => {
            about(&mut entry, &act);
            entry.proposal = proposal.to_string();
            entry.outcome = ending.to_string();
        }
        Event::Acted { by, act, reason, proposal } => {
            about(&mut entry, &act);
            (entry.by, entry.reason) = (by.iter().map(person).collect(), reason);
            entry.proposal = proposal.map(|id| id.to_string()).unwrap_or_default();
        }
        Event::Refused { by, asked, about, reason, refusal, left_out } => {
            (entry.by, entry.what, entry.reason) = (vec![person(&by)], asked, reason);
            (entry.outcome, entry.left_out) = (refusal, left_out);
            match entry.what.as_str() {
                "approve" | "reject" => entry.proposal = about.unwrap_or_default(),
                _ => entry.keys = about.into_iter().collect(),
            }
        }
        Event::DeviceResumed { by, device, reason } => {
            (entry.by, entry.device, entry.reason) = (vec![person(&by)], device, reason);
        }
        Event::Stepped { step, keys, reason } => {
            (entry.what, entry.keys, entry.reason) = (step, keys, reason);
        }
    }
    entry
}
