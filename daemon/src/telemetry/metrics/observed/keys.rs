//! Keys: how old, what next, what is wrong with them.

use std::{collections::BTreeMap, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{Labels, gauges};
use crate::{
    clock::UnixTime,
    keyset::{
        KeyState,
        alarm::Alarm,
        live::{LiveIssuer, Report, Snapshot},
        outlook::{Next, outlook},
    },
};

#[derive(Debug)]
pub(super) struct Keys {
    pub(super) issuers: Vec<Arc<LiveIssuer>>,
}

impl Collector for Keys {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let each = |samples: fn(&LiveIssuer) -> Vec<(Labels, u64)>| {
            self.issuers.iter().flat_map(move |issuer| samples(issuer))
        };
        gauges(&mut encoder, "keys", "Keys of the issuer by device and state", each(by_state))?;
        gauges(
            &mut encoder,
            "mature_standbys",
            "Standbys that could take over now: every verifier knows them",
            each(mature_standbys),
        )?;
        gauges(
            &mut encoder,
            "active_key_since_timestamp_seconds",
            "When the key that signs in a device began to; 0 where none does",
            each(active_since),
        )?;
        gauges(
            &mut encoder,
            "next_act_timestamp_seconds",
            "When the next key of a device is mature, activated, deactivated, unpublished or destroyed, \
             if all goes well; 0 where nothing waits for time",
            each(next_acts),
        )?;
        gauges(
            &mut encoder,
            "alarms",
            "What a person should look at, by its word; GetStatus has the details",
            each(alarms),
        )
    }
}

fn labels(issuer: &LiveIssuer, more: &[(&'static str, &str)]) -> Labels {
    let issuer = [("issuer", issuer.config.name().as_str())];
    issuer.iter().chain(more).map(|(name, value)| (*name, (*value).to_owned())).collect()
}

/// Keys by device and state; active keys and standbys also where there are none.
fn by_state(issuer: &LiveIssuer) -> Vec<(Labels, u64)> {
    let snapshot = issuer.snapshot();
    let mut keys = BTreeMap::new();
    for device in devices(issuer) {
        keys.extend([KeyState::Active, KeyState::PreActive].map(|s| ((device, s.as_str()), 0)));
    }
    for key in snapshot.iter().flat_map(|snapshot| &snapshot.keyset.keys) {
        *keys.entry((&key.device, key.state.as_str())).or_default() += 1;
    }
    let sample =
        |((device, state), count)| (labels(issuer, &[("device", device), ("state", state)]), count);
    keys.into_iter().map(sample).collect()
}

fn mature_standbys(issuer: &LiveIssuer) -> Vec<(Labels, u64)> {
    let snapshot = issuer.snapshot();
    let count = |device| {
        let keys = snapshot.iter().flat_map(|snapshot| &snapshot.keyset.keys);
        let mature = keys.filter(|key| key.device == device && key.is_standby() && key.mature);
        (labels(issuer, &[("device", device)]), mature.count() as u64)
    };
    devices(issuer).map(count).collect()
}

fn active_since(issuer: &LiveIssuer) -> Vec<(Labels, u64)> {
    let snapshot = issuer.snapshot();
    let mut since: BTreeMap<&str, u64> = devices(issuer).map(|device| (device, 0)).collect();
    for key in snapshot.iter().flat_map(|snapshot| &snapshot.keyset.keys) {
        if let (KeyState::Active, Some(activated)) = (key.state, key.activated) {
            since.insert(&key.device, timestamp(activated.wall.seconds()));
        }
    }
    let sample = |(device, since)| (labels(issuer, &[("device", device)]), since);
    since.into_iter().map(sample).collect()
}

/// Of each device the first of each kind.
fn next_acts(issuer: &LiveIssuer) -> Vec<(Labels, u64)> {
    let (snapshot, report) = (issuer.snapshot(), issuer.report());
    let mut first = BTreeMap::new();
    for device in devices(issuer) {
        first.extend(Next::TIMED.map(|act| ((device, act.as_str()), 0)));
    }
    for (Snapshot { keyset, .. }, Report { now, view, .. }) in
        snapshot.as_deref().into_iter().zip(report.as_deref())
    {
        for key in &keyset.keys {
            let next = outlook(key, keyset, now, issuer.policy(), view);
            let Some(at) = next.at.map(timestamp) else { continue };
            let soonest = first.entry((&key.device, next.next.as_str())).or_insert(0);
            *soonest = if *soonest == 0 { at } else { at.min(*soonest) };
        }
    }
    let sample = |((device, act), at)| (labels(issuer, &[("device", device), ("act", act)]), at);
    first.into_iter().map(sample).collect()
}

fn devices(issuer: &LiveIssuer) -> impl Iterator<Item = &str> {
    issuer.config.devices.iter().map(String::as_str)
}

fn timestamp(time: UnixTime) -> u64 {
    u64::try_from(time.0).unwrap_or(0)
}

/// Every word, also where it does not hold: an alert can tell 0 from absence.
fn alarms(issuer: &LiveIssuer) -> Vec<(Labels, u64)> {
    let report = issuer.report();
    let now = || report.iter().flat_map(|report| &report.alarms);
    let count = |word: &&'static str| {
        let count = now().filter(|alarm| alarm.reason() == *word).count();
        (labels(issuer, &[("alarm", word)]), count as u64)
    };
    Alarm::REASONS.iter().map(count).collect()
}
