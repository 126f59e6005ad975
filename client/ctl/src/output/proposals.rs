//! Proposals, and the record of acts.

use std::io::{self, Write};

use mintwarden_client::api;
use serde::Serialize;

use super::{
    model::{Keysets, some, term, time},
    table::{print, table, text},
};

/// The answer to an act: the keys after it, and the proposal where it is about one.
#[derive(Debug, Serialize)]
pub(super) struct Acted {
    #[serde(flatten)]
    pub(super) keysets: Keysets,
    pub(super) proposal: Option<Proposal>,
}

/// The answer to `proposals list`.
#[derive(Debug, Serialize)]
pub(super) struct Proposals {
    pub(super) proposals: Vec<Proposal>,
}

#[derive(Debug, Serialize)]
pub(super) struct Proposal {
    pub(super) id: String,
    pub(super) issuer: String,
    /// `open`, `carried-out`, `rejected`, `expired`, `void`, `refused`.
    pub(super) state: String,
    pub(super) act: Option<Act>,
    pub(super) reason: Option<String>,
    pub(super) proposed_by: Option<Person>,
    pub(super) proposed_at: Option<String>,
    pub(super) expires_at: Option<String>,
    /// Persons that have to agree, and that have, who count.
    pub(super) needed: u32,
    pub(super) counted: u32,
    pub(super) approvals: Vec<Approval>,
    pub(super) closed_at: Option<String>,
    /// How it ended, in words.
    pub(super) ending: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Act {
    pub(super) name: String,
    pub(super) kid: Option<String>,
    pub(super) device: Option<String>,
    pub(super) danger_immature: bool,
    /// Of a revocation: `unspecified`, `activate-immature`, `wait`.
    pub(super) fallback: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) identity: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Approval {
    pub(super) by: Option<Person>,
    pub(super) at: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) counts: bool,
}

/// The answer to `acts list`.
#[derive(Debug, Serialize)]
pub(super) struct Acts {
    /// The newest first.
    pub(super) entries: Vec<Entry>,
    /// What to give as `--before` to read on; null where there is nothing older.
    pub(super) next_before: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    /// To the millisecond.
    pub(super) at: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) kind: String,
    pub(super) act: Option<Act>,
    pub(super) what: Option<String>,
    pub(super) by: Vec<Person>,
    pub(super) proposal: Option<String>,
    pub(super) keys: Vec<String>,
    pub(super) device: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) outcome: Option<String>,
    pub(super) left_out: u64,
    /// SHA-256 of the configuration in force.
    pub(super) config: String,
    pub(super) version: Option<String>,
}

impl From<api::Proposal> for Proposal {
    fn from(proposal: api::Proposal) -> Self {
        let approval = |approval: api::Approval| Approval {
            by: approval.by.map(Person::from),
            at: approval.at.and_then(time),
            reason: some(approval.reason),
            counts: approval.counts,
        };
        Self {
            state: term(proposal.state().as_str_name(), "PROPOSAL_STATE_"),
            id: proposal.id,
            issuer: proposal.issuer,
            act: proposal.act.map(Act::from),
            reason: some(proposal.reason),
            proposed_by: proposal.proposed_by.map(Person::from),
            proposed_at: proposal.proposed_at.and_then(time),
            expires_at: proposal.expires_at.and_then(time),
            needed: proposal.needed,
            counted: proposal.counted,
            approvals: proposal.approvals.into_iter().map(approval).collect(),
            closed_at: proposal.closed_at.and_then(time),
            ending: some(proposal.ending),
        }
    }
}

impl From<api::Act> for Act {
    fn from(act: api::Act) -> Self {
        let fallback = term(act.fallback().as_str_name(), "REVOKE_FALLBACK_");
        Self {
            fallback: (act.name == "revoke").then_some(fallback),
            name: act.name,
            kid: some(act.kid),
            device: some(act.device),
            danger_immature: act.danger_immature,
        }
    }
}

impl From<api::Person> for Person {
    fn from(api::Person { name, identity }: api::Person) -> Self {
        Self { name, identity }
    }
}

impl From<api::ListActsResponse> for Acts {
    fn from(response: api::ListActsResponse) -> Self {
        let next = response.next_before;
        let entries = response.entries.into_iter().map(Entry::from).collect();
        Self { entries, next_before: (next > 0).then_some(next) }
    }
}

impl From<api::RecordEntry> for Entry {
    fn from(entry: api::RecordEntry) -> Self {
        let at = entry.at.and_then(|at| std::time::SystemTime::try_from(at).ok());
        Self {
            sequence: entry.sequence,
            at: at.map(|at| humantime::format_rfc3339_millis(at).to_string()),
            issuer: some(entry.issuer),
            kind: entry.kind,
            act: entry.act.map(Act::from),
            what: some(entry.what),
            by: entry.by.into_iter().map(Person::from).collect(),
            proposal: some(entry.proposal),
            keys: entry.keys,
            device: some(entry.device),
            reason: some(entry.reason),
            outcome: some(entry.outcome),
            left_out: entry.left_out,
            config: entry.config,
            version: some(entry.version),
        }
    }
}

impl Act {
    /// The act in words.
    fn words(&self) -> String {
        let kid = text(&self.kid);
        let immature =
            if self.danger_immature { ", although verifiers may not know it" } else { "" };
        match self.name.as_str() {
            "init" => "init".into(),
            "recover" if self.danger_immature => {
                "recover, with keys that sign before verifiers know them".into()
            }
            "recover" => "recover".into(),
            "rotate" => match &self.device {
                Some(device) => format!("rotate the key in {device}"),
                None => "rotate all active keys".into(),
            },
            "revoke" => match self.fallback.as_deref() {
                Some("activate-immature") => {
                    format!("revoke {kid}; an immature standby signs where none is mature")
                }
                Some("wait") => {
                    format!("revoke {kid}; nothing signs in its device until a standby is mature")
                }
                _ => format!("revoke {kid}"),
            },
            name => format!("{name} {kid}{immature}"),
        }
    }
}

fn words(act: &Option<Act>) -> String {
    act.as_ref().map(Act::words).unwrap_or_default()
}

fn name(person: &Option<Person>) -> &str {
    person.as_ref().map_or("-", |person| person.name.as_str())
}

pub(super) fn list(out: &mut impl Write, Proposals { proposals }: &Proposals) -> io::Result<()> {
    let mut rows = table(&["ID", "ISSUER", "STATE", "AGREED", "BY", "ENDS", "ACT"]);
    for proposal in proposals {
        rows.add_row([
            &proposal.id,
            &proposal.issuer,
            &proposal.state,
            &format!("{} of {}", proposal.counted, proposal.needed),
            name(&proposal.proposed_by),
            text(if proposal.closed_at.is_some() {
                &proposal.closed_at
            } else {
                &proposal.expires_at
            }),
            &words(&proposal.act),
        ]);
    }
    print(out, &rows)
}

/// A line for each thing to know of a proposal.
pub(super) fn one(out: &mut impl Write, proposal: &Proposal) -> io::Result<()> {
    let agreed = format!("{} of {} persons", proposal.counted, proposal.needed);
    for (label, value) in [
        ("proposal", proposal.id.as_str()),
        ("issuer", &proposal.issuer),
        ("act", &words(&proposal.act)),
        ("reason", text(&proposal.reason)),
        ("state", &proposal.state),
        ("agreed", &agreed),
        ("proposed", text(&proposal.proposed_at)),
        ("ends", text(&proposal.expires_at)),
        ("ended", text(&proposal.closed_at)),
        ("ending", text(&proposal.ending)),
    ] {
        writeln!(out, "{label:<12}{value}")?;
    }
    for approval in &proposal.approvals {
        let identity = approval.by.as_ref().map_or("-", |by| by.identity.as_str());
        let (who, at, why) = (name(&approval.by), text(&approval.at), text(&approval.reason));
        let counts = if approval.counts { "" } else { " (does not count any more)" };
        writeln!(out, "{:<12}{who} at {at}, as {identity}{counts}: {why}", "agreed by")?;
    }
    Ok(())
}

/// What is still to be done of an act that waits.
pub(super) fn waits(out: &mut impl Write, proposal: &Proposal) -> io::Result<()> {
    let Proposal { id, issuer, counted, needed, .. } = proposal;
    let (act, ends) = (words(&proposal.act), text(&proposal.expires_at));
    writeln!(out, "Not done yet: {act}, of {issuer}. {counted} of {needed} persons have agreed.")?;
    writeln!(out, "By {ends} another custodian says:")?;
    writeln!(out, "  mintwardenctl proposals approve {id} --issuer {issuer}")
}

pub(super) fn acts(out: &mut impl Write, acts: &Acts) -> io::Result<()> {
    let mut rows = table(&["NUMBER", "AT", "ISSUER", "KIND", "WHAT", "BY", "OUTCOME", "REASON"]);
    for entry in acts.entries.iter().rev() {
        let by: Vec<_> = entry.by.iter().map(|person| person.name.as_str()).collect();
        let left_out = match entry.left_out {
            0 => String::new(),
            n => format!(" ({n} more before it)"),
        };
        rows.add_row([
            entry.sequence.to_string().as_str(),
            text(&entry.at),
            text(&entry.issuer),
            &entry.kind,
            &what(entry),
            &if by.is_empty() { "-".to_owned() } else { by.join(", ") },
            &format!("{}{left_out}", text(&entry.outcome)),
            text(&entry.reason),
        ]);
    }
    print(out, &rows)?;
    match acts.next_before {
        Some(before) => writeln!(out, "\nolder: --before {before}"),
        None => Ok(()),
    }
}

fn what(entry: &Entry) -> String {
    let said = match (&entry.act, &entry.what) {
        (Some(act), _) => act.words(),
        (None, Some(what)) => [what.clone(), entry.keys.join(", ")].join(" ").trim_end().to_owned(),
        (None, None) => match (&entry.device, &entry.version) {
            (Some(device), _) => device.clone(),
            (_, Some(version)) => format!("mintwarden {version}, configuration {}", entry.config),
            _ => "-".to_owned(),
        },
    };
    match &entry.proposal {
        Some(proposal) => format!("{said} (proposal {proposal})"),
        None => said,
    }
}
