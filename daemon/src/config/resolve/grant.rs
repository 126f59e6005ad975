//! Grants.

use super::Context;
use crate::{
    config::{ConfigError, Grant, Issuer, Person, Role, Tls, file},
    identity::Caller,
};

pub(super) fn resolve_grant(
    cx: &Context<'_>,
    index: usize,
    grant: file::Grant,
    issuers: &[Issuer],
    tls: Option<&Tls>,
) -> Result<Grant, ConfigError> {
    let at = |key: &str| format!("grant[{index}].{key}");
    let to = grant
        .to
        .iter()
        .map(|text| {
            let caller = Caller::parse(text).map_err(|e| {
                cx.error(
                    at("to"),
                    format!("{text:?}: {e}"),
                    "write a SPIFFE ID, a DNS name or \"unix:uid=N\"",
                )
            })?;
            if let (Caller::Spiffe(id), Some(tls)) = (&caller, tls)
                && id.trust_domain() != &tls.trust_domain
            {
                let what = format!("{text:?} is not of the trust domain {}", tls.trust_domain);
                return Err(cx.error(
                    at("to"),
                    what,
                    "grant to identities of tls.trust_domain only",
                ));
            }
            Ok(caller)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if to.is_empty() {
        return Err(cx.error(
            at("to"),
            "names nobody",
            "name at least one caller, or remove the grant",
        ));
    }
    let mut person = None;
    if grant.role == Role::Custodian {
        if to.iter().any(|caller| matches!(caller, Caller::Unix(_))) {
            return Err(cx.error(
                at("to"),
                "a custodian cannot be a unix user",
                "give the custodian a certificate",
            ));
        }
        let name = grant.person.as_deref().unwrap_or_default();
        person = Person::parse(name);
        if person.is_none() {
            let what = if name.is_empty() {
                "is missing".to_owned()
            } else {
                format!("{name:?} has spaces around it, control characters or too many bytes")
            };
            let remedy = format!(
                "name the person behind these identities, in at most {} bytes",
                Person::MAX_BYTES
            );
            return Err(cx.error(at("person"), what, remedy));
        }
    } else if grant.person.is_some() {
        return Err(cx.error(at("person"), "is only for custodians", "remove it"));
    }
    let all = || issuers.iter().map(|issuer| issuer.name().clone()).collect();
    let issuers = match grant.issuers {
        None if grant.role == Role::Signer => {
            return Err(cx.error(
                at("issuers"),
                "is missing",
                "name the issuers that this signer may use",
            ));
        }
        None => all(),
        Some(names) => names
            .iter()
            .map(|name| {
                issuers
                    .iter()
                    .map(Issuer::name)
                    .find(|issuer| issuer.as_str() == name)
                    .cloned()
                    .ok_or_else(|| {
                        cx.error(
                            at("issuers"),
                            format!("there is no issuer {name:?}"),
                            "name configured issuers only",
                        )
                    })
            })
            .collect::<Result<_, _>>()?,
    };
    Ok(Grant { role: grant.role, person, to, issuers })
}
