//! The one way of all acts: who may, what is kept of it, who carries it out.

use std::sync::Arc;

use mintwarden_proto::v1;
use mintwarden_worker::IssuerName;

use super::{
    asked::{self, Asked},
    proposals,
};
use crate::{
    access::Custodian,
    api::{App, errors::ApiError, status},
    clock,
    identity::Caller,
    keyset::{act::CustodianAct, apply::Request, proposal::ProposalId, steward::Answer},
    record::Refused,
};

/// Carries out an act, or proposes it. It goes on if this future is dropped.
///
/// # Errors
/// [`ApiError`]; whether something has changed, its reason says.
pub(super) async fn carry_out(
    app: &Arc<App>,
    caller: &Caller,
    asked: Asked,
) -> Result<v1::ActResponse, ApiError> {
    let Asked { issuer, act, reason } = asked;
    let (issuer, custodian) = app.access.custodian(caller, &issuer).inspect_err(|_| {
        let name = act.as_ref().map_or("act", CustodianAct::name);
        let about = act.as_ref().ok().and_then(CustodianAct::kid);
        note_stranger(app, caller, &issuer, name, about, reason.as_ref());
    })?;
    let request = Request::Act { act: act?, reason: reason? };
    order(app, &issuer, custodian, request).await
}

/// The same for a word about a proposal.
///
/// # Errors
/// [`ApiError`]; whether something has changed, its reason says.
pub(super) async fn decide(
    app: &Arc<App>,
    caller: &Caller,
    (issuer, id): (String, String),
    reason: Result<String, ApiError>,
    word: fn(ProposalId, String) -> Request,
) -> Result<v1::ActResponse, ApiError> {
    let id = asked::proposal(id);
    let (issuer, custodian) = app.access.custodian(caller, &issuer).inspect_err(|_| {
        let about = id.as_ref().ok().map(ProposalId::as_str);
        note_stranger(app, caller, &issuer, "decide", about, reason.as_ref());
    })?;
    order(app, &issuer, custodian, word(id?, reason?)).await
}

/// Hands a custodian's request to the issuer's steward.
async fn order(
    app: &App,
    issuer: &IssuerName,
    custodian: Custodian,
    request: Request,
) -> Result<v1::ActResponse, ApiError> {
    let (live, steward) = app.steward(issuer)?;
    let (act, caller) = (request.name(), custodian.identity.clone());
    tracing::info!(target: "custodian", act, asked = ?request, %issuer, %caller, "asked");
    let outcome = steward.order(custodian, request).await;
    let refused = outcome.as_ref().err().map(ToString::to_string);
    tracing::info!(target: "custodian", act, %issuer, %caller, refused, "answered");
    let Answer { snapshot, proposal } = outcome?;
    let keyset = match &snapshot {
        Some(snapshot) => status::keyset(live, &snapshot.keyset),
        None => v1::Keyset { issuer: issuer.to_string(), ..v1::Keyset::default() },
    };
    let proposal = proposal.and_then(|id| proposals::one(live, &id));
    Ok(v1::ActResponse { keyset: Some(keyset), proposal })
}

/// A custodian of another issuer who asks for what is not his: the record of this one has it.
fn note_stranger(
    app: &Arc<App>,
    caller: &Caller,
    issuer: &str,
    asked: &str,
    about: Option<&str>,
    reason: Result<&String, &ApiError>,
) {
    let (Some(custodian), Some((live, _))) = (app.access.person(caller), app.issuers.get(issuer))
    else {
        return;
    };
    let reason = reason.map(String::as_str).unwrap_or_default();
    let refused = Refused { asked, about, reason, refusal: "NO_GRANT" };
    if let Some(entry) = app.book.refusal(clock::reading(), live.config.name(), &custodian, refused)
    {
        let _goes_on_by_itself = app.note(entry);
    }
}
