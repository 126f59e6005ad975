//! Who acts for whom: the claim `act` (RFC 8693 section 4.1) of a transaction that starts.
//!
//! Two good tokens are not yet a delegation. The subject's token has to say that it was meant for this actor: its
//! `aud` contains the actor. `may_act` (section 4.4), where it is there, has to name the actor as well.

use mintwarden_client::verify::VerifiedToken;
use serde_json::{Map, Value, json};

use crate::error::Refusal;

/// The longest chain of actors, the new one included. The appliance has a bound of its own (`max_act_depth`).
const MAX_ACTORS: usize = 8;

/// `act` of the Txn-Token: the actor on top of those whom the subject's token already names.
///
/// Without an actor token the subject's own `act` stays: leaving it out would make of an agent's call one of the
/// subject's own.
pub(crate) fn act(
    subject: &VerifiedToken,
    actor: Option<&VerifiedToken>,
) -> Result<Option<Value>, Refusal> {
    let before = subject.claims().get("act");
    if let Some(before) = before {
        well_formed(before)?;
    }
    let Some(actor) = actor else { return Ok(before.cloned()) };
    belongs(subject, actor)?;
    let mut act = json!({ "sub": name(actor)? });
    if let Some(before) = before {
        act["act"] = before.clone();
    }
    if depth(&act) > MAX_ACTORS {
        let message = format!("more than {MAX_ACTORS} actors");
        return Err(Refusal::request("TOO_MANY_ACTORS", message));
    }
    Ok(Some(act))
}

fn belongs(subject: &VerifiedToken, actor: &VerifiedToken) -> Result<(), Refusal> {
    let name = name(actor)?;
    let refuse = |reason, message: &str| Err(Refusal::request(reason, message));
    // An actor who is himself acted for is another chain: its end would be lost in this one.
    if actor.claims().contains_key("act") {
        return refuse("ACTOR_DELEGATED", "actor_token: it has an act of its own");
    }
    if subject.text("sub") == Ok(name) {
        return refuse("ACTOR_IS_SUBJECT", "actor_token: nobody acts for himself");
    }
    if !subject.audiences().any(|audience| audience == name) {
        return refuse("ACTOR_MISMATCH", "subject_token: its aud does not contain the actor");
    }
    let allowed = match subject.claims().get("may_act") {
        None => true,
        Some(Value::Object(members)) => names(members, actor),
        Some(_) => false,
    };
    if !allowed {
        return refuse("ACTOR_NOT_ALLOWED", "subject_token: its may_act does not name the actor");
    }
    // Where the IdP says which transaction its tokens are of, it has to be the same one.
    match (subject.claims().get("txn"), actor.claims().get("txn")) {
        (subject, Some(actor)) if subject != Some(actor) => {
            refuse("CHAINS_DIFFER", "subject_token and actor_token are of different transactions")
        }
        _ => Ok(()),
    }
}

/// Whether `may_act` names the actor: all that it says of him is true, and `sub` is part of it.
fn names(may_act: &Map<String, Value>, actor: &VerifiedToken) -> bool {
    may_act.contains_key("sub")
        && may_act.iter().all(|(claim, value)| actor.claims().get(claim) == Some(value))
}

fn name(actor: &VerifiedToken) -> Result<&str, Refusal> {
    actor
        .text("sub")
        .map_err(|error| Refusal::request(error.reason(), format!("actor_token: {error}")))
}

/// Each actor is an object with a `sub`.
fn well_formed(act: &Value) -> Result<(), Refusal> {
    let malformed =
        || Refusal::request("ACT_MALFORMED", "subject_token: its act is not as RFC 8693 has it");
    let actors = std::iter::successors(Some(act), |actor| actor.get("act"));
    for actor in actors {
        let sub = actor.as_object().and_then(|members| members.get("sub")).and_then(Value::as_str);
        sub.filter(|sub| !sub.is_empty()).ok_or_else(malformed)?;
    }
    Ok(())
}

fn depth(act: &Value) -> usize {
    std::iter::successors(Some(act), |actor| actor.get("act")).count()
}
