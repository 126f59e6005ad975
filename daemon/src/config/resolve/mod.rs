//! From what is written to what is meant: names resolved, bounds checked, contradictions refused.

mod approvals;
mod grant;
mod issuer;
mod rotation;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};

use mintwarden_hsm_config::device::Device;

use super::{Config, ConfigError, Limits, Listen, Metrics, Tls, Users, file, fixed};
use crate::admission::share;

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

pub(super) fn resolve(
    file: file::File,
    path: &Path,
    digest: String,
) -> Result<Config, ConfigError> {
    let base = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let base = base.parent().unwrap_or(Path::new("/")).to_owned();
    let cx = Context { file: path, base };
    let tls = file.tls.map(|tls| resolve_tls(&cx, tls)).transpose()?;
    let listen = resolve_listen(&cx, file.listen, tls.is_some())?;
    let devices = resolve_devices(&cx, file.device, file.dev)?;
    let issuers = issuer::resolve_issuers(&cx, file.issuer, &devices)?;
    let grants = file
        .grant
        .into_iter()
        .enumerate()
        .map(|(index, grant)| grant::resolve_grant(&cx, index, grant, &issuers, tls.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    let approvals = approvals::resolve(&cx, file.approvals, &issuers, &grants)?;
    let config = Config {
        path: path.to_owned(),
        state_dir: cx.path(&file.state_dir),
        listen,
        tls,
        users: resolve_users(&cx, file.users, file.dev)?,
        devices,
        issuers,
        grants,
        approvals,
        limits: resolve_limits(&cx, file.limits)?,
        metrics: Metrics {
            workloads: cx.bounded("metrics.workloads", file.metrics.workloads, 100, 0..=10_000)?,
        },
        digest,
    };
    check_shares(&cx, &config)?;
    Ok(config)
}

/// A full batch has to fit into the share of a caller.
fn check_shares(cx: &Context<'_>, config: &Config) -> Result<(), ConfigError> {
    let fits = |key: &str, size: usize, full: usize, signers: usize| {
        if share(size, signers) >= full {
            return Ok(());
        }
        let what = format!(
            "{size} leaves each of {signers} signers half of it, which is less than a full batch: {full}"
        );
        Err(cx.error(key, what, format!("choose at least {}", 2 * full)))
    };
    let Limits { max_inflight_bytes, max_inflight_items, .. } = config.limits;
    let signers = config.signers(None).len();
    fits("limits.max_inflight_bytes", max_inflight_bytes, fixed::MAX_BATCH_BYTES, signers)?;
    config.issuers.iter().try_for_each(|issuer| {
        let signers = config.signers(Some(issuer.name())).len();
        fits("limits.max_inflight_items", max_inflight_items, fixed::MAX_BATCH_ITEMS, signers)
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
    if listen.ops.is_some_and(|address| !address.ip().is_loopback())
        && !listen.insecure_plaintext_ops
    {
        return Err(cx.error(
            "listen.ops",
            "would serve health and metrics over plain HTTP beyond loopback",
            "listen on loopback, or set listen.insecure_plaintext_ops = true where only operators reach it",
        ));
    }
    Ok(Listen {
        grpc: listen.grpc,
        unix: listen.unix.map(|path| cx.path(&path)),
        jwks: listen.jwks,
        jwks_plaintext,
        ops: listen.ops,
    })
}

fn resolve_users(
    cx: &Context<'_>,
    users: Option<file::Users>,
    dev: bool,
) -> Result<Users, ConfigError> {
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
        (None, None, true) if dev => Ok(Users::DangerSharedRoot),
        (None, None, true) => Err(cx.error(
            "users.danger_shared_root",
            "is for throw-away appliances only: a broken server could read the PIN",
            "set users.server and users.worker to two system users, or start as a plain user",
        )),
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
        max_caller_bytes: cx.bounded(
            "limits.max_caller_bytes",
            limits.max_caller_bytes,
            64 << 20,
            2 * fixed::MAX_MESSAGE_BYTES..=1 << 30,
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
