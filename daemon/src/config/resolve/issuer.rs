//! Issuers.

use std::time::Duration;

use mintwarden_hsm_config::device::Device;
use mintwarden_worker::{
    Algorithm, IssuerName, KeySpec,
    algorithm::{KeySpecError, RsaBits},
    claims::Profile,
    label::Label,
};

use super::{Context, rotation};
use crate::config::{ConfigError, Issuer, MAX_TOKEN_LIFETIME, file};

pub(super) fn resolve_issuers(
    cx: &Context<'_>,
    entries: Vec<file::Issuer>,
    devices: &[Device],
) -> Result<Vec<Issuer>, ConfigError> {
    let mut issuers: Vec<Issuer> = Vec::new();
    for entry in entries {
        let issuer = resolve_issuer(cx, entry, devices)?;
        if issuers.iter().any(|other| other.name() == issuer.name()) {
            return Err(cx.error(
                format!("issuer.{}", issuer.name()),
                "is defined twice",
                "give each issuer a name of its own",
            ));
        }
        issuers.push(issuer);
    }
    if issuers.is_empty() {
        return Err(cx.error("issuer", "there is none", "add an [[issuer]]"));
    }
    Ok(issuers)
}

fn resolve_issuer(
    cx: &Context<'_>,
    entry: file::Issuer,
    devices: &[Device],
) -> Result<Issuer, ConfigError> {
    let at = |key: &str| format!("issuer.{}.{key}", entry.name);
    let name = IssuerName::parse(&entry.name).map_err(|e| {
        cx.error(at("name"), e.to_string(), "use a-z, 0-9 and '-', at most 63 characters")
    })?;
    let known = || devices.iter().map(|d| d.name.to_string()).collect::<Vec<_>>().join(", ");
    if entry.devices.is_empty() {
        return Err(cx.error(
            at("devices"),
            "names no device",
            format!("name one or more of: {}", known()),
        ));
    }
    for (index, device) in entry.devices.iter().enumerate() {
        if !devices.iter().any(|d| d.name.as_str() == device) {
            return Err(cx.error(
                at("devices"),
                format!("there is no device {device:?}"),
                format!("name one or more of: {}", known()),
            ));
        }
        if entry.devices[..index].contains(device) {
            return Err(cx.error(
                at("devices"),
                format!("{device:?} is named twice"),
                "name each device once",
            ));
        }
    }
    let key = key_spec(cx, &entry)?;
    let label = Label { issuer: name.clone(), algorithm: key.algorithm() }.to_string();
    let of_issuer = |device: &&Device| entry.devices.iter().any(|d| d == device.name.as_str());
    if let Some(device) =
        devices.iter().filter(of_issuer).find(|device| label.len() > device.label_bytes())
    {
        let (device, max) = (&device.name, device.label_bytes());
        return Err(cx.error(
            at("name"),
            format!(
                "its keys' label {label:?} has {} bytes, device {device} keeps {max}",
                label.len()
            ),
            "give the issuer a shorter name",
        ));
    }
    if let Some(profile) = entry.profile.as_deref().filter(|profile| *profile != "txn-token") {
        return Err(cx.error(
            at("profile"),
            format!("{profile:?} is not a profile"),
            "use \"txn-token\" or leave it out",
        ));
    }
    let strings = |key: &str, values: &[String], may_be_empty: bool| {
        if values.iter().any(String::is_empty) || (values.is_empty() && !may_be_empty) {
            return Err(cx.error(
                at(key),
                "is empty or has an empty value",
                "list the allowed values",
            ));
        }
        Ok(())
    };
    strings("audience", &entry.audience, false)?;
    strings("req_wl", &entry.req_wl, true)?;
    if entry.iss.is_empty() {
        return Err(cx.error(at("iss"), "is empty", "write the issuer's `iss` value, a URI"));
    }
    let required = entry
        .required
        .clone()
        .unwrap_or_else(|| Profile::DEFAULT_REQUIRED.map(str::to_owned).to_vec());
    strings("required", &required, true)?;
    let lifetime = cx.duration(
        &at("max_token_lifetime"),
        entry.max_token_lifetime.clone(),
        Duration::from_secs(300),
        MAX_TOKEN_LIFETIME,
    )?;
    if lifetime.subsec_nanos() != 0 {
        return Err(cx.error(
            at("max_token_lifetime"),
            "is not in whole seconds",
            "NumericDates have whole seconds",
        ));
    }
    if let Some(both) = entry.lost_devices.iter().find(|lost| entry.devices.contains(lost)) {
        return Err(cx.error(
            at("lost_devices"),
            format!("{both:?} is also one of its devices"),
            "name it in one of the two",
        ));
    }
    let standbys = cx.bounded(&at("standbys"), entry.standbys, 1, 1..=3)?;
    let skew = rotation::skew(cx, &entry)?;
    let rotation = rotation::resolve(cx, &entry, lifetime, skew, standbys)?;
    let jwks_max_age = cx.duration(
        &at("jwks_max_age"),
        entry.jwks_max_age.clone(),
        Duration::from_secs(600).min(rotation.verifier_refresh),
        rotation.verifier_refresh,
    )?;
    Ok(Issuer {
        standbys,
        rotation,
        profile: Profile {
            issuer: name,
            key,
            required,
            max_token_lifetime: lifetime,
            skew,
            max_claims_bytes: cx.bounded(
                &at("max_claims_bytes"),
                entry.max_claims_bytes,
                Profile::DEFAULT_MAX_CLAIMS_BYTES,
                64..=65_536,
            )?,
            max_act_depth: cx.bounded(
                &at("max_act_depth"),
                entry.max_act_depth,
                Profile::DEFAULT_MAX_ACT_DEPTH,
                0..=32,
            )?,
            iss: entry.iss,
            audience: entry.audience,
            req_wl: entry.req_wl,
        },
        devices: entry.devices,
        lost_devices: entry.lost_devices,
        jwks_max_age,
    })
}

fn key_spec(cx: &Context<'_>, entry: &file::Issuer) -> Result<KeySpec, ConfigError> {
    let at = |key: &str| format!("issuer.{}.{key}", entry.name);
    let algorithm = match &entry.algorithm {
        None => Algorithm::default(),
        Some(name) => Algorithm::from_name(name).ok_or_else(|| {
            let offered = Algorithm::ALL.map(|algorithm| format!("\"{algorithm}\"")).join(", ");
            cx.error(
                at("algorithm"),
                format!("{name:?} is not supported"),
                format!("use one of {offered}"),
            )
        })?,
    };
    let refused = |error: KeySpecError| {
        cx.error(at("rsa_bits"), error.to_string(), "leave it out for the default")
    };
    let rsa_bits = entry.rsa_bits.map(RsaBits::try_from).transpose().map_err(refused)?;
    KeySpec::new(algorithm, rsa_bits).map_err(refused)
}
