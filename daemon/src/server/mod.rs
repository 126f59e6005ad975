//! The server process: what meets the network and holds no signing secret.

mod endpoints;
mod health;
mod upstream;

use std::{collections::BTreeMap, io, process::ExitCode, sync::Arc, time::Duration};

use axum::middleware;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use self::{endpoints::Endpoints, health::Health};
use crate::{
    access::{Access, Custodians},
    admission::{Admission, Memory},
    api::{self, App},
    clock,
    config::{Config, ConfigError, EXIT_CONFIG},
    doctor::server::Examined,
    keyset::{
        Keyset, Pairs, Policy,
        live::LiveIssuer,
        proposal::Quorum,
        start,
        steward::{Serving, Steward},
    },
    launcher::control::{Downward, Upward},
    listen::{self, Certificates, CertificatesError, Drain, Endpoint, LiveCertificates, Protocol},
    readiness,
    record::{Book, Entry, Event},
    signer::Signer,
    store::{Redb, Store as _, StoreError},
    telemetry::{
        self,
        metrics::{
            Metrics, Registered,
            observed::{self, Parts},
        },
    },
    workers::{Reason, Said, Workers},
};

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The keysets cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A socket cannot be used.
    #[error("{what}: {error}")]
    Socket {
        /// Which.
        what: String,
        /// Why.
        error: io::Error,
    },
    /// The process was not started by a launcher, or could not be protected.
    #[error("{0}")]
    Process(String),
}

impl ServerError {
    fn socket(what: impl ToString) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |error| Self::Socket { what, error }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => EXIT_CONFIG.into(),
            _ => ExitCode::FAILURE,
        }
    }
}

/// The server's main function.
pub fn run() -> ExitCode {
    let _log = telemetry::init();
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the server ends");
            error.exit_code()
        }
    }
}

/// Everything that can be said about a configuration without opening a port or a device.
///
/// # Errors
/// [`ConfigError`] for certificates that cannot be used.
pub fn preflight(config: &Config) -> Result<Option<Certificates>, ConfigError> {
    let load = |tls| {
        Certificates::load(tls).map_err(|CertificatesError { key, path, what }| {
            let what = format!("{}: {what}", path.display());
            let remedy = "name PEM files: a certificate chain, its private key, the callers' CAs";
            ConfigError::key(&config.path, format!("tls.{key}"), what, remedy)
        })
    };
    config.tls.as_ref().map(load).transpose()
}

/// Bound on connections to the ops port: each may ask for all metrics, which are long.
const MAX_OPS_CONNECTIONS: usize = 64;

/// Threads for verifying batches and for the store; more would only wait for each other.
const MAX_BLOCKING_THREADS: usize = 32;

/// Takes all descriptors that the system allows: the usual soft limit is below the default number of
/// connections.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, it stays: connections beyond it wait.
    let _kept = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn process(error: impl std::fmt::Display) -> ServerError {
    ServerError::Process(error.to_string())
}

fn start() -> Result<(), ServerError> {
    mintwarden_worker::harden::protect().map_err(process)?;
    raise_descriptors();
    let (launcher, config, orders) = upstream::connect()?;
    mintwarden_worker::harden::die_with_maker_of(io::stdin()).map_err(process)?;
    let certificates = preflight(&config)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build()
        .map_err(process)?
        .block_on(serve(config, certificates, launcher, orders))
}

async fn serve(
    config: Config,
    certificates: Option<Certificates>,
    launcher: Upward,
    orders: mpsc::UnboundedReceiver<Downward>,
) -> Result<(), ServerError> {
    // From here on a signal is kept until it is heeded.
    let terminate = signal(SignalKind::terminate()).map_err(process)?;
    let Registered { metrics, mut registry } = Registered::new(&config);
    let certificates =
        config.tls.clone().zip(certificates).map(|(files, first)| {
            LiveCertificates::start(files, first, metrics.certificates.clone())
        });
    let serving = Serving::by(certificates.clone().filter(|_| verifiers_need_tls(&config)));
    let app =
        build(&config, launcher.clone(), certificates.clone(), Arc::clone(&metrics), &serving)
            .await?;
    observed::register(&mut registry, &config, parts(&app));
    let endpoints = Endpoints::bind(&config, certificates.as_ref()).await?;
    let addresses = endpoints.addresses(&config);
    let (reporter, health_service) = tonic_health::server::health_reporter();
    // Before anybody can ask: of a service that it never heard of it says that there is none.
    let health = Health::new(Arc::clone(&app), reporter).await;
    let routes = api::grpc_routes(&app, health_service).map_err(process)?;
    let routes = routes.layer(middleware::from_fn_with_state(Arc::clone(&app), api::count));
    let drain = Drain::default();
    for endpoint in endpoints.grpc {
        let name = if matches!(endpoint, Endpoint::Unix(_)) { "unix" } else { "grpc" };
        let metrics = Arc::new(metrics.listeners.of(name));
        let (routes, limits, drain) = (routes.clone(), config.limits.clone(), drain.clone());
        let access = Arc::clone(&app.access);
        tokio::spawn(async move {
            listen::serve(endpoint, routes, Protocol::Grpc, &limits, &access, &drain, metrics)
                .await;
        });
    }
    let http = [
        ("jwks", endpoints.jwks, api::http_router(Arc::clone(&app))),
        ("ops", endpoints.ops, api::ops_router(Arc::clone(&app), registry)),
    ];
    for (name, endpoint, router) in http {
        let Some(endpoint) = endpoint else { continue };
        let metrics = Arc::new(metrics.listeners.of(name));
        let (mut limits, drain) = (config.limits.clone(), drain.clone());
        if name == "ops" {
            limits.max_connections = limits.max_connections.min(MAX_OPS_CONNECTIONS);
        }
        let access = Arc::clone(&app.access);
        tokio::spawn(async move {
            listen::serve(endpoint, router, Protocol::Http, &limits, &access, &drain, metrics)
                .await;
        });
    }
    Examined::new(Arc::clone(&app), config.clone(), addresses.clone()).serve();
    let unhealthy = CancellationToken::new();
    let health = tokio::spawn(health.report(unhealthy.clone()));
    serving.set(true);
    tracing::info!(?addresses, "serving");
    launcher.ready(&addresses).map_err(process)?;

    let why = follow(orders, terminate, &app.workers).await;
    tracing::info!(why, "shutting down");
    unhealthy.cancel();
    let _told = health.await;
    serving.set(false);
    let cut = drain.drain(config.limits.drain).await;
    for (_, steward) in app.issuers.values() {
        steward.close().await;
    }
    app.workers.close();
    tracing::info!(cut_connections = cut, "shut down");
    Ok(())
}

/// Whether nobody can fetch a JWK Set but over TLS. Without a listener for it verifiers ask by gRPC.
fn verifiers_need_tls(config: &Config) -> bool {
    let listen = &config.listen;
    if listen.jwks.is_some() { !listen.jwks_plaintext } else { listen.unix.is_none() }
}

async fn build(
    config: &Config,
    launcher: Upward,
    certificates: Option<LiveCertificates>,
    metrics: Arc<Metrics>,
    serving: &Serving,
) -> Result<Arc<App>, ServerError> {
    let (directory, beside) = (config.state_dir.join("server"), config.state_dir.join("anchor"));
    let book = Book::new(config);
    let store = Redb::open(&directory.join("keysets.redb"), &beside.join("keysets.json"), &book)?;
    let workers = Arc::new(Workers::new(&config.devices, &launcher));
    let mut issuers = BTreeMap::new();
    let mut configured = Vec::new();
    let pairs = Pairs::default();
    let started = Event::Started { version: env!("CARGO_PKG_VERSION").into() };
    note(&store, book.entry(clock::reading(), None, started)).await;
    for issuer in &config.issuers {
        let custodians = Custodians::of(config, issuer.name());
        let quorum = Quorum { approvals: config.approvals.clone(), custodians };
        let live = Arc::new(LiveIssuer::new(issuer.clone(), quorum));
        if let Some(keyset) = store.load(issuer.name()).await? {
            fits(config, &keyset, live.policy())?;
            pairs.note(&keyset);
        }
        configured.push(live);
    }
    for live in configured {
        let name = live.config.name().to_string();
        let (store, workers) = (store.clone(), Arc::clone(&workers));
        let (issuer, pairs) = (Arc::clone(&live), pairs.clone());
        let (serving, book) = (serving.clone(), book.clone());
        let steward = Steward::start(issuer, pairs, store, workers, serving, book).await?;
        issuers.insert(name, (live, steward));
    }
    for device in &config.devices {
        let device = device.name.to_string();
        let users = issuers.values().map(|(live, _)| Arc::clone(live));
        let users = users.filter(|issuer| issuer.config.devices.contains(&device)).collect();
        tokio::spawn(readiness::look_after(device, users, Arc::clone(&workers)));
    }
    Ok(Arc::new(App {
        access: Arc::new(Access::new(config)),
        book,
        store,
        memory: Memory::new(config),
        issuers,
        signer: Signer::new(
            Arc::new(Admission::new(config)),
            Arc::clone(&workers),
            Arc::clone(&metrics),
        ),
        workers,
        certificates,
        metrics,
        limits: config.limits.clone(),
        started_at: clock::wall(),
    }))
}

/// How long after a failure the store is tried again.
const NOTE_AGAIN: Duration = Duration::from_secs(10);

/// Adds the start to the record. A disk that is full keeps no key from signing: then it is added as soon
/// as there is room, with the time that it was.
async fn note(store: &Redb, started: Entry) {
    let Err(error) = store.append(vec![started.clone()]).await else { return };
    tracing::error!(%error, "the start is not on record yet");
    let store = store.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(NOTE_AGAIN).await;
            match store.append(vec![started.clone()]).await {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "the start is not on record yet"),
            }
        }
    });
}

/// What metrics look at.
fn parts(app: &App) -> Parts {
    Parts {
        issuers: app.issuers.values().map(|(issuer, _)| Arc::clone(issuer)).collect(),
        workers: Arc::clone(&app.workers),
        admission: Arc::clone(app.signer.admission()),
        certificates: app.certificates.clone(),
        started_at: app.started_at,
    }
}

/// Refuses a configuration under which keys that exist would be lost.
fn fits(config: &Config, keyset: &Keyset, policy: &Policy) -> Result<(), ConfigError> {
    let configured = config.devices.iter().map(|device| device.name.to_string()).collect();
    start::check(keyset, policy, &configured).map_err(|misfit| {
        let key = format!("issuer.{}.devices", keyset.issuer);
        ConfigError::key(&config.path, key, misfit.what, misfit.remedy)
    })
}

/// Follows the launcher until it says stop, by signal or by being gone.
async fn follow(
    mut orders: mpsc::UnboundedReceiver<Downward>,
    mut terminate: Signal,
    workers: &Workers,
) -> &'static str {
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            _ = terminate.recv() => return "asked to",
        };
        match order {
            None => return "the launcher is gone",
            Some(Downward::Wire { device, start, socket }) => {
                if let Some(worker) = workers.get(&device)
                    && let Err(error) = worker.attach(start, socket)
                {
                    tracing::error!(device, %error, "a wire cannot be used");
                }
            }
            Some(Downward::WireLost { device }) => {
                tracing::error!(device, "a wire did not arrive: no descriptor is free");
            }
            Some(Downward::Parked { device, start, heard, reason, detail }) => {
                if let Some(worker) = workers.get(&device) {
                    worker.said(Said::Parked { why: Reason::new(reason, detail), start, heard });
                }
            }
            Some(Downward::Ended { device, reason, detail, wait_ms }) => {
                if let Some(worker) = workers.get(&device) {
                    let next = clock::monotonic() + Duration::from_millis(wait_ms);
                    worker.said(Said::Ended(Reason::new(reason, detail), next));
                }
            }
            Some(Downward::Config { .. }) => tracing::warn!("a second configuration is ignored"),
        }
    }
}
