//! What `GetStatus` and `ListKeys` show.

use std::{collections::HashSet, sync::Arc};

use mintwarden_proto::v1::{self, DeviceState, DeviceStatus, IssuerStatus};
use mintwarden_worker::IssuerName;

use super::App;
use crate::{
    clock::{Moment, UnixTime},
    config::Role,
    identity::Caller,
    keyset::{
        Key, KeyState, Keyset,
        alarm::Alarm,
        live::LiveIssuer,
        outlook::{self, Outlook},
    },
    listen::LiveCertificates,
    readiness,
    workers::{State, Worker},
};

pub(super) fn timestamp(time: UnixTime) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: time.0, nanos: 0 })
}

fn moment(moment: Option<Moment>) -> Option<prost_types::Timestamp> {
    timestamp(moment?.wall.seconds())
}

fn shown(key: &Key, outlook: Option<Outlook>) -> v1::Key {
    let state = match key.state {
        KeyState::Generating => v1::KeyState::Generating,
        KeyState::PreActive => v1::KeyState::PreActive,
        KeyState::Active => v1::KeyState::Active,
        KeyState::Suspended => v1::KeyState::Suspended,
        KeyState::Deactivated => v1::KeyState::Deactivated,
        KeyState::Compromised => v1::KeyState::Compromised,
        KeyState::Destroyed => v1::KeyState::Destroyed,
    };
    let made = key.made.as_ref();
    v1::Key {
        kid: made.map(|made| made.kid.to_string()).unwrap_or_default(),
        device: key.device.clone(),
        state: state.into(),
        algorithm: key.algorithm.to_string(),
        created_at: timestamp(key.created_at),
        changed_at: timestamp(key.changed_at),
        jwk: made.map(|made| made.jwk.to_published().to_string()).unwrap_or_default(),
        published: key.is_published(),
        mature: key.mature,
        next: outlook.as_ref().map(|o| o.next.as_str().to_owned()).unwrap_or_default(),
        next_at: outlook.as_ref().and_then(|o| o.at).and_then(timestamp),
        outlook: outlook.map(|o| o.words).unwrap_or_default(),
        published_at: moment(key.published),
        activated_at: moment(key.activated),
        stopped_at: moment(key.signatures.and_then(|signatures| signatures.stopped)),
        unpublished_at: moment(key.unpublished),
    }
}

/// A key, and what happens to it next.
pub(super) fn key(live: &LiveIssuer, keyset: &Keyset, key: &Key) -> v1::Key {
    let report = live.report();
    let outlook = report.map(|r| outlook::outlook(key, keyset, &r.now, live.policy(), &r.view));
    shown(key, outlook)
}

/// A keyset, active keys first.
pub(super) fn keyset(live: &LiveIssuer, keyset: &Keyset) -> v1::Keyset {
    let mut keys: Vec<&Key> = keyset.keys.iter().collect();
    keys.sort_by_key(|key| key.state != KeyState::Active);
    v1::Keyset {
        issuer: keyset.issuer.to_string(),
        revision: keyset.revision,
        keys: keys.into_iter().map(|of| key(live, keyset, of)).collect(),
    }
}

/// The appliance as callers of the `visible` issuers may see it.
pub(super) fn status(app: &App, caller: &Caller, visible: &HashSet<IssuerName>) -> v1::Status {
    let shown = || {
        app.issuers.values().map(|(issuer, _)| issuer).filter(|i| visible.contains(i.config.name()))
    };
    let mut devices: Vec<&str> =
        shown().flat_map(|issuer| issuer.config.devices.iter().map(String::as_str)).collect();
    devices.sort_unstable();
    devices.dedup();
    v1::Status {
        version: env!("CARGO_PKG_VERSION").into(),
        started_at: timestamp(app.started_at),
        issuers: shown().map(|issuer| issuer_status(app, caller, issuer)).collect(),
        devices: devices
            .into_iter()
            .filter_map(|name| app.workers.get(name))
            .map(|worker| device_status(worker, may_see_inside(app, caller, &worker.device)))
            .collect(),
        alarms: appliance_alarms(app, caller),
    }
}

fn issuer_status(app: &App, caller: &Caller, issuer: &LiveIssuer) -> IssuerStatus {
    let snapshot = issuer.snapshot();
    let keyset = snapshot.as_ref().map(|snapshot| &snapshot.keyset);
    let ready = readiness::ready(issuer, &app.workers);
    let published = keyset.map_or(0, |keyset| keyset.published().count());
    let roles = &[Role::Custodian, Role::Auditor];
    let inside = app.access.authorise(caller, roles, issuer.config.name().as_str()).is_ok();
    IssuerStatus {
        name: issuer.config.name().to_string(),
        ready: ready.is_ok(),
        reason: ready.err().map(|unready| unready.reason.to_owned()).unwrap_or_default(),
        revision: keyset.map_or(0, |keyset| keyset.revision),
        published_keys: u32::try_from(published).unwrap_or(u32::MAX),
        alarms: alarms(issuer, inside),
    }
}

/// Alarms of no issuer. They name paths: not for a TTS that may be compromised.
fn appliance_alarms(app: &App, caller: &Caller) -> Vec<String> {
    let inside = app.issuers.keys().any(|issuer| {
        app.access.authorise(caller, &[Role::Custodian, Role::Auditor], issuer).is_ok()
    });
    app.certificates.iter().filter(|_| inside).flat_map(LiveCertificates::alarms).collect()
}

/// What a device said is not for a TTS that may be compromised: it sees the alarms' words alone.
fn alarms(issuer: &LiveIssuer, inside: bool) -> Vec<String> {
    let words = |alarm: &Alarm| if inside { alarm.to_string() } else { alarm.reason().into() };
    let report = issuer.report();
    report.iter().flat_map(|report| &report.alarms).map(words).collect()
}

/// What a device says of itself, and paths, are for custodians and auditors of an issuer that uses it:
/// not for a TTS that may be compromised.
fn may_see_inside(app: &App, caller: &Caller, device: &str) -> bool {
    let users = app.issuers.values().map(|(issuer, _)| &issuer.config);
    users.filter(|issuer| issuer.devices.iter().any(|used| used == device)).any(|issuer| {
        let roles = &[Role::Custodian, Role::Auditor];
        app.access.authorise(caller, roles, issuer.name().as_str()).is_ok()
    })
}

fn device_status(worker: &Arc<Worker>, inside: bool) -> DeviceStatus {
    let mut status = DeviceStatus {
        name: worker.device.clone(),
        kind: "pkcs11".into(),
        starts: worker.starts(),
        signatures_per_second: worker.signatures_per_second().unwrap_or_default(),
        ..DeviceStatus::default()
    };
    let state = match worker.state() {
        State::Starting => DeviceState::Starting,
        State::Ready(ready) => {
            status.description = ready.description.clone();
            status.sessions = ready.sessions;
            let lacking = ready.lacking.iter();
            let lacking =
                lacking.map(|l| format!("issuer {} gets no keys: {}", l.issuer, l.missing));
            let told = lacking.chain(ready.unproven.iter().cloned());
            status.detail = told.chain(ready.keys.defects()).collect::<Vec<_>>().join("; ");
            DeviceState::Ready
        }
        State::Down(reason) => {
            (status.reason, status.detail) = (reason.reason, reason.detail);
            DeviceState::Down
        }
        State::Parked(reason) => {
            (status.reason, status.detail) = (reason.reason, reason.detail);
            DeviceState::Parked
        }
        State::Closed => DeviceState::Down,
    };
    status.state = state.into();
    status.last_fault = worker.fault().map(|fault| v1::DeviceFault {
        reason: fault.reason.reason,
        detail: if inside { fault.reason.detail } else { String::new() },
        at: timestamp(fault.at),
    });
    if !inside {
        (status.detail, status.description) = Default::default();
    }
    status
}
