//! Timings of an issuer's keys. Those that contradict each other are refused, with the arithmetic.

use std::time::Duration;

use super::Context;
use crate::{
    config::{ConfigError, Rotation, file},
    keyset::Policy,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest of all these times.
const LONGEST: Duration = Duration::from_secs(800 * 24 * 3600);

fn text(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn key(entry: &file::Issuer, name: &str) -> String {
    format!("issuer.{}.{name}", entry.name)
}

/// S.
pub(super) fn skew(cx: &Context<'_>, entry: &file::Issuer) -> Result<Duration, ConfigError> {
    let skew = cx.duration(
        &key(entry, "skew"),
        entry.skew.clone(),
        Duration::from_secs(30),
        Duration::from_secs(600),
    )?;
    if skew.subsec_nanos() != 0 {
        return Err(cx.error(
            key(entry, "skew"),
            "is not in whole seconds",
            "NumericDates have whole seconds",
        ));
    }
    Ok(skew)
}

/// Everything else. `lifetime` is L, `skew` is S.
pub(super) fn resolve(
    cx: &Context<'_>,
    entry: &file::Issuer,
    lifetime: Duration,
    skew: Duration,
    standbys: usize,
) -> Result<Rotation, ConfigError> {
    let duration = |name: &str, text: &Option<String>, default: Duration, max: Duration| {
        cx.duration(&key(entry, name), text.clone(), default, max)
    };
    let sign_until = match &entry.sign_until {
        Some(_) => Some(duration("sign_until", &entry.sign_until, DAY, LONGEST)?),
        None => None,
    };
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let rotation = Rotation {
        rotate_every: duration("rotate_every", &entry.rotate_every, DAY, LONGEST)?,
        sign_until,
        verifier_refresh: duration(
            "verifier_refresh",
            &entry.verifier_refresh,
            minutes(66),
            30 * DAY,
        )?,
        propagation: duration("propagation", &entry.propagation, minutes(1), 24 * HOUR)?,
        destroy_after: duration("destroy_after", &entry.destroy_after, DAY, LONGEST)?,
    };
    matures_in_time(cx, entry, &rotation, skew)?;
    outlives_rotation(cx, entry, &rotation)?;
    has_room(cx, entry, &rotation, lifetime + skew, standbys)?;
    Ok(rotation)
}

/// A standby is published when the one before it is activated, and has to be mature at the next rotation.
fn matures_in_time(
    cx: &Context<'_>,
    entry: &file::Issuer,
    rotation: &Rotation,
    skew: Duration,
) -> Result<(), ConfigError> {
    let Rotation { rotate_every, verifier_refresh, propagation, .. } = rotation;
    let maturity = *verifier_refresh + *propagation + skew;
    if *rotate_every >= maturity {
        return Ok(());
    }
    let what = format!(
        "{} is shorter than verifier_refresh + propagation + skew = {} + {} + {} = {}: no standby \
         would be known to every verifier in time",
        text(*rotate_every),
        text(*verifier_refresh),
        text(*propagation),
        text(skew),
        text(maturity)
    );
    Err(cx.error(
        key(entry, "rotate_every"),
        what,
        format!("choose at least {}, or have verifiers refresh more often", text(maturity)),
    ))
}

fn outlives_rotation(
    cx: &Context<'_>,
    entry: &file::Issuer,
    rotation: &Rotation,
) -> Result<(), ConfigError> {
    match rotation.sign_until {
        Some(limit) if limit <= rotation.rotate_every => Err(cx.error(
            key(entry, "sign_until"),
            format!(
                "{} is not longer than rotate_every = {}: every key would refuse before its \
                 successor takes over",
                text(limit),
                text(rotation.rotate_every)
            ),
            "leave time for a late rotation, e.g. twice rotate_every; or leave it out",
        )),
        _ => Ok(()),
    }
}

/// The keys of one device that exist at a time: active, standbys, one being made, and those that are
/// not destroyed yet.
fn has_room(
    cx: &Context<'_>,
    entry: &file::Issuer,
    rotation: &Rotation,
    published: Duration,
    standbys: usize,
) -> Result<(), ConfigError> {
    let kept = published + rotation.destroy_after;
    let every = rotation.rotate_every;
    let old = kept.as_millis().div_ceil(every.as_millis().max(1));
    let all = old.saturating_add(standbys as u128 + 2);
    if all <= Policy::MAX_KEYS as u128 {
        return Ok(());
    }
    let what = format!(
        "{}: with a rotation every {} that is {old} old keys in each device, and {all} in all; at \
         most {} are kept",
        text(rotation.destroy_after),
        text(every),
        Policy::MAX_KEYS
    );
    Err(cx.error(key(entry, "destroy_after"), what, "shorten it, or rotate less often"))
}
