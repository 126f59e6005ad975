//! From what is written to what is meant: names resolved, bounds checked, contradictions refused.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};

use mintwarden_hsm_config::device::Device;
use mintwarden_worker::{Algorithm, IssuerName, claims::Profile};

use super::{Config, ConfigError, Grant, Issuer, Limits, Listen, Role, Tls, Users, file, fixed};
use crate::identity::Caller;

/// R, the longest time a verifier keeps a JWKS without asking again (DESIGN.md "Rotation timing").
const VERIFIER_REFRESH: Duration = Duration::from_secs(66 * 60);
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// One file's directory and name, for paths and for errors.
struct Context<'a> {
    file: &'a Path,
    base: PathBuf,
}

impl Context<'_> {
    fn error(
        &self,
        key: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        ConfigError::key(self.file, key, what, remedy)
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// A duration as humans write it, above zero and up to `max`.
    fn duration(
        &self,
        key: &str,
        text: Option<String>,
        default: Duration,
        max: Duration,
    ) -> Result<Duration, ConfigError> {
        let Some(text) = text else { return Ok(default) };
        let remedy = "write a duration such as \"5m\" or \"30s\"";
        let value = humantime::parse_duration(&text)
            .map_err(|e| self.error(key, format!("{text:?} is not a duration: {e}"), remedy))?;
        if value.is_zero() {
            return Err(self.error(key, "is zero", remedy));
        }
        if value > max {
            let max = humantime::format_duration(max);
            return Err(self.error(
                key,
                format!("{text:?} is longer than {max}"),
                format!("choose at most {max}"),
            ));
        }
        Ok(value)
    }

    fn bounded<T: PartialOrd + std::fmt::Display + Copy>(
        &self,
        key: &str,
        value: Option<T>,
        default: T,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<T, ConfigError> {
        let value = value.unwrap_or(default);
        if range.contains(&value) {
            return Ok(value);
        }
        Err(self.error(
            key,
            format!("{value} is out of range"),
            format!("choose {} to {}", range.start(), range.end()),
        ))
    }
}

pub(super) fn resolve(file: file::File, path: &Path) -> Result<Config, ConfigError> {
    let base = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let base = base.parent().unwrap_or(Path::new("/")).to_owned();
    let cx = Context { file: path, base };
    let tls = file.tls.map(|tls| resolve_tls(&cx, tls)).transpose()?;
    let listen = resolve_listen(&cx, file.listen, tls.is_some())?;
    let devices = resolve_devices(&cx, file.device, file.dev)?;
    let issuers = resolve_issuers(&cx, file.issuer, &devices)?;
    let grants = file
        .grant
        .into_iter()
        .enumerate()
        .map(|(index, grant)| resolve_grant(&cx, index, grant, &issuers, tls.as_ref()))
        .collect::<Result<_, _>>()?;
    Ok(Config {
        path: path.to_owned(),
        state_dir: cx.path(&file.state_dir),
        listen,
        tls,
        users: resolve_users(&cx, file.users)?,
        devices,
        issuers,
        grants,
        limits: resolve_limits(&cx, file.limits)?,
    })
}

fn resolve_tls(cx: &Context<'_>, tls: file::Tls) -> Result<Tls, ConfigError> {
    let refused = |why: String| {
        let what = format!("{:?} is not a SPIFFE trust domain: {why}", tls.trust_domain);
        let remedy = "write the domain alone, e.g. \"trust-domain.example\"";
        cx.error("tls.trust_domain", what, remedy)
    };
    let trust_domain =
        spiffe::TrustDomain::new(&tls.trust_domain).map_err(|e| refused(e.to_string()))?;
    if trust_domain.to_string() != tls.trust_domain {
        return Err(refused(format!("it would mean {trust_domain}")));
    }
    Ok(Tls {
        certificate: cx.path(&tls.certificate),
        private_key: cx.path(&tls.private_key),
        client_ca: cx.path(&tls.client_ca),
        trust_domain,
    })
}

fn resolve_listen(
    cx: &Context<'_>,
    listen: file::Listen,
    tls: bool,
) -> Result<Listen, ConfigError> {
    if listen.grpc.is_none() && listen.unix.is_none() {
        return Err(cx.error(
            "listen",
            "neither grpc nor unix is set",
            "set listen.grpc, listen.unix or both",
        ));
    }
    if listen.grpc.is_some() && !tls {
        return Err(cx.error(
            "listen.grpc",
            "needs certificates, and there is no [tls]",
            "add [tls], or listen on unix alone",
        ));
    }
    let jwks_plaintext = match listen.jwks {
        Some(_) if tls => listen.insecure_plaintext,
        Some(address) if address.ip().is_loopback() || listen.insecure_plaintext => true,
        Some(_) => {
            return Err(cx.error(
                "listen.jwks",
                "would serve plain HTTP beyond loopback, because there is no [tls]",
                "add [tls], listen on loopback, or set listen.insecure_plaintext = true behind a TLS proxy",
            ));
        }
        None => false,
    };
    Ok(Listen {
        grpc: listen.grpc,
        unix: listen.unix.map(|path| cx.path(&path)),
        jwks: listen.jwks,
        jwks_plaintext,
    })
}

fn resolve_users(cx: &Context<'_>, users: Option<file::Users>) -> Result<Users, ConfigError> {
    let Some(users) = users else { return Ok(Users::Inherit) };
    match (users.server, users.worker, users.danger_shared_root) {
        (Some(server), Some(worker), false) if server != worker => {
            Ok(Users::Split { server, worker })
        }
        (Some(_), Some(_), false) => Err(cx.error(
            "users",
            "server and worker are the same user",
            "use two: the server must not be able to read the PIN",
        )),
        (None, None, true) => Ok(Users::DangerSharedRoot),
        _ => Err(cx.error(
            "users",
            "is incomplete or contradicts itself",
            "set both users.server and users.worker",
        )),
    }
}

fn resolve_devices(
    cx: &Context<'_>,
    entries: Vec<mintwarden_hsm_config::device::DeviceEntry>,
    dev: bool,
) -> Result<Vec<Device>, ConfigError> {
    let mut names = HashSet::new();
    let mut devices = Vec::new();
    for entry in entries {
        let key = format!("device.{}", entry.name);
        let device = entry.resolve(&cx.base, dev).map_err(|e| {
            cx.error(
                &key,
                e.problem.to_string(),
                "docs/configuration.md lists all keys of [[device]]",
            )
        })?;
        if !names.insert(device.name.to_string()) {
            return Err(cx.error(key, "is defined twice", "give each device a name of its own"));
        }
        devices.push(device);
    }
    if devices.is_empty() {
        return Err(cx.error("device", "there is none", "add a [[device]]"));
    }
    Ok(devices)
}

fn resolve_issuers(
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
    if let Some(profile) = entry.profile.as_deref().filter(|profile| *profile != "txn-token") {
        return Err(cx.error(
            at("profile"),
            format!("{profile:?} is not a profile"),
            "use \"txn-token\" or leave it out",
        ));
    }
    let algorithm = match &entry.algorithm {
        None => Algorithm::default(),
        Some(name) => Algorithm::from_name(name).ok_or_else(|| {
            cx.error(at("algorithm"), format!("{name:?} is not supported"), "use \"ES256\"")
        })?,
    };
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
    let jwks_max_age = cx.duration(
        &at("jwks_max_age"),
        entry.jwks_max_age.clone(),
        Duration::from_secs(600),
        VERIFIER_REFRESH,
    )?;
    Ok(Issuer {
        standbys: cx.bounded(&at("standbys"), entry.standbys, 1, 1..=3)?,
        profile: Profile {
            issuer: name,
            algorithm,
            required,
            max_token_lifetime: lifetime,
            skew: fixed::SKEW,
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
        jwks_max_age,
    })
}

fn resolve_grant(
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
    if grant.role == Role::Custodian {
        if to.iter().any(|caller| matches!(caller, Caller::Unix(_))) {
            return Err(cx.error(
                at("to"),
                "a custodian cannot be a unix user",
                "give the custodian a certificate",
            ));
        }
        if grant.person.as_deref().is_none_or(str::is_empty) {
            return Err(cx.error(
                at("person"),
                "is missing",
                "name the person behind these identities",
            ));
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
    Ok(Grant { role: grant.role, person: grant.person, to, issuers })
}

fn resolve_limits(cx: &Context<'_>, limits: file::Limits) -> Result<Limits, ConfigError> {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let max_deadline =
        cx.duration("limits.max_deadline", limits.max_deadline, minutes(1), minutes(10))?;
    let explicit = limits.default_deadline.is_some();
    let default_deadline = cx.duration(
        "limits.default_deadline",
        limits.default_deadline,
        Duration::from_secs(10),
        minutes(10),
    )?;
    if explicit && default_deadline > max_deadline {
        return Err(cx.error(
            "limits.default_deadline",
            "is longer than limits.max_deadline",
            "shorten it",
        ));
    }
    Ok(Limits {
        max_connections: cx.bounded(
            "limits.max_connections",
            limits.max_connections,
            1024,
            1..=65_536,
        )?,
        max_streams: cx.bounded("limits.max_streams", limits.max_streams, 128, 1..=4096)?,
        max_inflight_items: cx.bounded(
            "limits.max_inflight_items",
            limits.max_inflight_items,
            8192,
            fixed::MAX_BATCH_ITEMS..=32_768,
        )?,
        max_inflight_bytes: cx.bounded(
            "limits.max_inflight_bytes",
            limits.max_inflight_bytes,
            16 << 20,
            fixed::MAX_BATCH_BYTES..=1 << 30,
        )?,
        default_deadline: default_deadline.min(max_deadline),
        max_deadline,
        drain: cx.duration("limits.drain", limits.drain, Duration::from_secs(10), minutes(5))?,
        handshake: cx.duration(
            "limits.handshake",
            limits.handshake,
            Duration::from_secs(10),
            minutes(1),
        )?,
    })
}
