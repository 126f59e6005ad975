//! The rules that read claims have to meet, in the order that the module's page gives.

use std::{borrow::Cow, slice};

use super::{
    Facts, Profile,
    claim::Claim,
    read::{Claims, Found},
    refusal::{Refusal, Rule},
};
use crate::clock::UnixTime;

/// The largest integer that all readers of JSON hold exactly (RFC 7493 section 2.2).
const MAX_NUMERIC_DATE: i64 = (1 << 53) - 1;

/// Holds `claims` against `profile` at the time `now`.
pub(super) fn apply(
    profile: &Profile,
    claims: &Claims<'_>,
    now: UnixTime,
) -> Result<Facts, Refusal> {
    presence(profile, claims)?;

    let iss = text(claims, Claim::Iss)?;
    text(claims, Claim::Sub)?;
    let aud = audience(claims)?;
    let txn = text(claims, Claim::Txn)?;
    text(claims, Claim::Scope)?;
    text(claims, Claim::Purp)?;
    let req_wl = text(claims, Claim::ReqWl)?;
    text(claims, Claim::Jti)?;
    let iat = numeric_date(claims, Claim::Iat)?;
    let nbf = numeric_date(claims, Claim::Nbf)?;
    let exp =
        numeric_date(claims, Claim::Exp)?.ok_or_else(|| Refusal::of(Claim::Exp, Rule::Required))?;
    object(claims, Claim::Tctx)?;
    object(claims, Claim::Rctx)?;
    object(claims, Claim::AgenticCtx)?;
    let act = delegation(claims)?;
    let act_chain = delegation_chain(claims)?;

    if iss.is_some_and(|iss| iss != profile.iss) {
        return Err(Refusal::of(Claim::Iss, Rule::Issuer));
    }
    if !aud.iter().all(|aud| profile.audience.iter().any(|allowed| allowed == aud)) {
        return Err(Refusal::of(Claim::Aud, Rule::Audience));
    }
    if let Some(req_wl) = req_wl
        && !profile.req_wl.is_empty()
        && !profile.req_wl.iter().any(|allowed| allowed == req_wl)
    {
        return Err(Refusal::of(Claim::ReqWl, Rule::Workload));
    }
    times(profile, now, iat, nbf, exp)?;
    for (claim, depth) in [(Claim::Act, act), (Claim::ActChain, act_chain)] {
        if depth > profile.max_act_depth {
            let limit = u64::try_from(profile.max_act_depth).unwrap_or(u64::MAX);
            return Err(Refusal::of(claim, Rule::DelegationDepth).at_most(limit));
        }
    }

    Ok(Facts {
        txn: txn.unwrap_or_default().to_owned(),
        req_wl: req_wl.unwrap_or_default().to_owned(),
        exp,
        delegation_depth: act.max(act_chain),
    })
}

fn presence(profile: &Profile, claims: &Claims<'_>) -> Result<(), Refusal> {
    for name in &profile.required {
        let rule = match claims.named(name, &profile.required) {
            None | Some(Found::Null) => Rule::Required,
            Some(found) if found.is_empty() => Rule::NotEmpty,
            Some(_) => continue,
        };
        return Err(match Claim::from_name(name) {
            Some(claim) => Refusal::of(claim, rule),
            None => Refusal::named(Cow::Owned(name.clone()), rule),
        });
    }
    match claims.get(Claim::Exp) {
        None | Some(Found::Null) => Err(Refusal::of(Claim::Exp, Rule::Required)),
        Some(_) => Ok(()),
    }
}

fn times(
    profile: &Profile,
    now: UnixTime,
    iat: Option<UnixTime>,
    nbf: Option<UnixTime>,
    exp: UnixTime,
) -> Result<(), Refusal> {
    if iat.is_some_and(|iat| iat > now.plus(profile.skew)) {
        return Err(Refusal::of(Claim::Iat, Rule::Future).at_most(profile.skew.as_secs()));
    }
    if exp <= now {
        return Err(Refusal::of(Claim::Exp, Rule::Expired));
    }
    if iat.is_some_and(|iat| exp <= iat) {
        return Err(Refusal::of(Claim::Exp, Rule::AfterIat));
    }
    let longest = profile.max_token_lifetime;
    if exp > now.plus(longest) || iat.is_some_and(|iat| exp > iat.plus(longest)) {
        return Err(Refusal::of(Claim::Exp, Rule::Lifetime).at_most(longest.as_secs()));
    }
    if nbf.is_some_and(|nbf| nbf >= exp) {
        return Err(Refusal::of(Claim::Nbf, Rule::BeforeExp));
    }
    Ok(())
}

/// A claim that is a string and not empty.
fn text<'c>(claims: &'c Claims<'_>, claim: Claim) -> Result<Option<&'c str>, Refusal> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Found::Text(text)) if text.is_empty() => Err(Refusal::of(claim, Rule::NotEmpty)),
        Some(Found::Text(text)) => Ok(Some(text)),
        Some(_) => Err(Refusal::of(claim, Rule::String)),
    }
}

/// The values of `aud`; none where there is no `aud`.
fn audience<'c, 'a>(claims: &'c Claims<'a>) -> Result<&'c [Cow<'a, str>], Refusal> {
    let values = match claims.get(Claim::Aud) {
        None => return Ok(&[]),
        Some(Found::Text(value)) => slice::from_ref(value),
        Some(Found::Array { len, texts, .. }) if *len > 0 && texts.len() == *len => &texts[..],
        Some(_) => return Err(Refusal::of(Claim::Aud, Rule::StringOrArray)),
    };
    if values.iter().any(|value| value.is_empty()) {
        return Err(Refusal::of(Claim::Aud, Rule::NotEmpty));
    }
    Ok(values)
}

fn numeric_date(claims: &Claims<'_>, claim: Claim) -> Result<Option<UnixTime>, Refusal> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Found::Integer(seconds)) => i64::try_from(*seconds)
            .ok()
            .filter(|seconds| *seconds <= MAX_NUMERIC_DATE)
            .map(|seconds| Some(UnixTime(seconds)))
            .ok_or_else(|| Refusal::of(claim, Rule::NumericDate)),
        Some(_) => Err(Refusal::of(claim, Rule::NumericDate)),
    }
}

fn object(claims: &Claims<'_>, claim: Claim) -> Result<(), Refusal> {
    match claims.get(claim) {
        None | Some(Found::Object { .. }) => Ok(()),
        Some(_) => Err(Refusal::of(claim, Rule::Object)),
    }
}

/// How deep `act` nests: 0 where there is none, 1 for one without another inside.
fn delegation(claims: &Claims<'_>) -> Result<usize, Refusal> {
    match claims.get(Claim::Act) {
        None => Ok(0),
        Some(Found::Object { delegation: Some(depth), .. }) => Ok(*depth),
        Some(_) => Err(Refusal::of(Claim::Act, Rule::Object)),
    }
}

/// How long `act_chain` is. What nests deeper inside one of its elements counts too: the bound is not
/// to be got around that way.
fn delegation_chain(claims: &Claims<'_>) -> Result<usize, Refusal> {
    match claims.get(Claim::ActChain) {
        None => Ok(0),
        Some(Found::Array { len, delegation: Some(deepest), .. }) => Ok(*len.max(deepest)),
        Some(_) => Err(Refusal::of(Claim::ActChain, Rule::ArrayOfObjects)),
    }
}
