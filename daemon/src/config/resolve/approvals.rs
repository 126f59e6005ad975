//! Approvals, and the persons who can give them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Context;
use crate::{
    config::{Approvals, ConfigError, Grant, Issuer, Person, Role, file},
    identity::Caller,
};

/// The `[approvals]` table, held against the persons that there are.
pub(super) fn resolve(
    cx: &Context<'_>,
    file: file::Approvals,
    issuers: &[Issuer],
    grants: &[Grant],
) -> Result<Approvals, ConfigError> {
    if file.suspend.is_some() {
        return Err(cx.error(
            "approvals.suspend",
            "cannot be set: suspend needs one person, at once",
            "remove it; resume, which undoes it, can need more",
        ));
    }
    check_persons(cx, grants)?;
    let usual = Approvals::default();
    let persons = |act: &str, value: Option<usize>, usual: usize| {
        cx.bounded(&format!("approvals.{act}"), value, usual, 1..=Approvals::MAX_PERSONS)
    };
    let (shortest, longest) = (*Approvals::EXPIRE.start(), *Approvals::EXPIRE.end());
    let expire = cx.duration("approvals.expire", file.expire, usual.expire, longest)?;
    if expire < shortest {
        let shortest = humantime::format_duration(shortest);
        let what = format!("{} is too short", humantime::format_duration(expire));
        return Err(cx.error("approvals.expire", what, format!("choose at least {shortest}")));
    }
    let approvals = Approvals {
        init: persons("init", file.init, usual.init)?,
        recover: persons("recover", file.recover, usual.recover)?,
        rotate: persons("rotate", file.rotate, usual.rotate)?,
        activate: persons("activate", file.activate, usual.activate)?,
        activate_immature: persons(
            "activate_immature",
            file.activate_immature,
            usual.activate_immature,
        )?,
        resume: persons("resume", file.resume, usual.resume)?,
        revoke: persons("revoke", file.revoke, usual.revoke)?,
        destroy: persons("destroy", file.destroy, usual.destroy)?,
        expire,
    };
    check_suffices(cx, &approvals, issuers, grants)?;
    Ok(approvals)
}

/// Whoever has two persons' identities could agree with himself.
fn check_persons(cx: &Context<'_>, grants: &[Grant]) -> Result<(), ConfigError> {
    let mut owners: HashMap<&Caller, &Person> = HashMap::new();
    let mut spelt: BTreeMap<String, &Person> = BTreeMap::new();
    for (index, grant) in grants.iter().enumerate() {
        let Some(person) = &grant.person else { continue };
        let known = *spelt.entry(person.as_str().to_lowercase()).or_insert(person);
        if known != person {
            return Err(cx.error(
                format!("grant[{index}].person"),
                format!("{:?} and {:?} differ in case alone", known.as_str(), person.as_str()),
                "write a person's name the same everywhere: each spelling would count as one more \
                 person",
            ));
        }
        for caller in &grant.to {
            let owner = *owners.entry(caller).or_insert(person);
            if owner != person {
                return Err(cx.error(
                    format!("grant[{index}].to"),
                    format!(
                        "{:?} is {:?} here and {:?} before: it could agree with itself",
                        caller.to_string(),
                        person.as_str(),
                        owner.as_str()
                    ),
                    "give each person identities of their own",
                ));
            }
        }
    }
    Ok(())
}

/// An act that needs more persons than there are could never be done.
fn check_suffices(
    cx: &Context<'_>,
    approvals: &Approvals,
    issuers: &[Issuer],
    grants: &[Grant],
) -> Result<(), ConfigError> {
    for issuer in issuers {
        let custodians =
            |grant: &&Grant| grant.role == Role::Custodian && grant.issuers.contains(issuer.name());
        let persons: BTreeSet<&str> = grants
            .iter()
            .filter(custodians)
            .filter_map(|grant| grant.person.as_ref())
            .map(Person::as_str)
            .collect();
        // An issuer without any custodian is warned of elsewhere.
        let missed =
            approvals.acts().into_iter().find(|(_, needed)| *needed > persons.len().max(1));
        if let Some((act, needed)) = missed {
            let there = match persons.len() {
                0 => "no custodian".to_owned(),
                1 => format!("1 custodian ({})", Vec::from_iter(persons).join(", ")),
                n => format!("{n} custodians ({})", Vec::from_iter(persons).join(", ")),
            };
            return Err(cx.error(
                format!("approvals.{act}"),
                format!("needs {needed} persons, and issuer {} has {there}", issuer.name()),
                format!(
                    "add a [[grant]] with role = \"custodian\" for each further person, or lower \
                     approvals.{act}"
                ),
            ));
        }
    }
    Ok(())
}
