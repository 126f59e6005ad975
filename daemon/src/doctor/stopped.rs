//! A stopped appliance: its parts are started for the examination, as the launcher starts them, and
//! ended again. The caller holds the lock on the state directory meanwhile.

use std::{
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use mintwarden_worker::{
    device::KeptKey,
    finding::{Check, Finding},
    harden,
    setup::Setup,
};
use serde::{Deserialize, Serialize};

use super::{
    account::{DeviceAccount, IssuerAccount, ServerAccount},
    bounded, device, running, server,
};
use crate::{
    config::{Config, MAX_CONFIG},
    jwks::Jwks,
    launcher::{
        layout::Layout,
        process::{self, Log},
    },
    server::preflight,
    store::Redb,
};

/// How long the server's part may take.
const SERVER_LIMIT: Duration = Duration::from_secs(20);
/// How long a process may take to end after its work.
const ENDING: Duration = Duration::from_secs(5);

/// What the launcher would start, and how.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) text: &'a str,
    pub(super) layout: &'a Layout,
    pub(super) log: Log,
    /// How long a device may take to answer, once it is open.
    pub(super) within: Duration,
}

impl Parts<'_> {
    /// Starts everything, has it examine itself, and ends it.
    ///
    /// # Errors
    /// The server's part said nothing: why, in words.
    pub(super) fn examine(&self) -> Result<ServerAccount, String> {
        let (program, directory) = process::own_program().map_err(|error| error.to_string())?;
        let mut account = self.server(&program)?;
        account.devices = thread::scope(|scope| {
            let workers: Vec<_> = self
                .config
                .devices
                .iter()
                .map(|device| {
                    let setup = self.setup(device.name.as_str());
                    let kept = account.kept(device.name.as_str());
                    let directory = &directory;
                    scope.spawn(move || self.device(directory, setup?, kept))
                })
                .collect();
            workers.into_iter().filter_map(|worker| worker.join().ok().flatten()).collect()
        });
        Ok(account)
    }

    fn server(&self, program: &Path) -> Result<ServerAccount, String> {
        let (process, mut stream) = process::server_account(program, self.layout.server, self.log)
            .map_err(|error| format!("it cannot be started: {error}"))?;
        let order = Order { path: self.config.path.clone(), text: self.text.to_owned() };
        let answer = bounded(SERVER_LIMIT, move || {
            stream.write_all(&serde_json::to_vec(&order)?)?;
            stream.shutdown(Shutdown::Write)?;
            running::read(&stream)
        });
        process.end(ENDING);
        match answer {
            Some(answer) => answer.map_err(|error| error.to_string()),
            None => Err(format!("it did not answer within {SERVER_LIMIT:?}")),
        }
    }

    /// A worker's set-up as the launcher gives it; never one that forgets a pending login.
    fn setup(&self, name: &str) -> Option<Setup> {
        let device = self.config.devices.iter().find(|device| device.name.as_str() == name)?;
        Some(Setup {
            device: device.clone(),
            state_dir: self.layout.device_dir(name),
            profiles: self.config.profiles_on(name),
            resume: false,
        })
    }

    fn device(&self, directory: &Path, setup: Setup, kept: Vec<KeptKey>) -> Option<DeviceAccount> {
        let (name, worker) = (setup.device.name.to_string(), setup.device.kind.worker());
        Some(match process::worker(directory, &setup, self.layout.worker, self.log) {
            Ok((process, socket)) => {
                let account = device::ask(&name, socket, kept, self.within);
                process.end(ENDING);
                account
            }
            Err(error) => {
                let found = format!("its worker cannot be started: {error}");
                let remedy = format!("install {worker} beside mintwarden");
                let finding = Finding::fault(Check::DeviceState, &name, found, remedy);
                DeviceAccount { device: name, findings: vec![finding], keys: None }
            }
        })
    }
}

/// What the server's part is told, on its standard input.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    path: PathBuf,
    text: String,
}

/// The main function of the server's part: it runs as the server's user, opens what the server opens,
/// and changes nothing.
pub(crate) fn server_account() -> ExitCode {
    match write_account() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mintwarden server-account is started by `mintwarden doctor`: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_account() -> io::Result<()> {
    harden::protect().map_err(io::Error::other)?;
    let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    harden::die_with_maker_of(&stream).map_err(io::Error::other)?;
    let mut text = Vec::new();
    // JSON may take six bytes for one.
    (&stream).take(8 * MAX_CONFIG).read_to_end(&mut text)?;
    let order: Order = serde_json::from_slice(&text)?;
    let config = Config::parse(&order.text, &order.path).map_err(io::Error::other)?;
    let mut findings = server::of_process(&config);
    findings.extend(certificates(&config));
    let issuers = issuers(&config).unwrap_or_else(|finding| {
        findings.push(finding);
        vec![]
    });
    let account = ServerAccount {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        digest: config.digest,
        findings,
        issuers,
        ..ServerAccount::default()
    };
    stream.write_all(&serde_json::to_vec(&account)?)
}

fn certificates(config: &Config) -> Option<Finding> {
    config.tls.as_ref()?;
    Some(match preflight(config) {
        Ok(_) => Finding::ok(Check::TlsFiles, "server", "the server's user can use them together"),
        Err(error) => {
            let found = format!("{}: {}", error.key, error.what);
            Finding::fault(Check::TlsFiles, "server", found, error.remedy)
        }
    })
}

fn issuers(config: &Config) -> Result<Vec<IssuerAccount>, Finding> {
    let path = config.state_dir.join("server").join("keysets.redb");
    let unreadable = |error: &dyn std::fmt::Display| {
        let remedy = "it is never made anew over an old one: restore it, or look at the disk";
        Finding::fault(Check::FileState, path.display(), error, remedy)
    };
    let store = Redb::copy(&path).map_err(|error| unreadable(&error))?;
    let issuer = |issuer: &crate::config::Issuer| {
        let name = issuer.name();
        let keyset = match &store {
            Some(store) => store.load_blocking(name).map_err(|error| unreadable(&error))?,
            None => None,
        };
        let jwks = keyset.as_ref().and_then(|keyset| Jwks::render(keyset, issuer.jwks_max_age));
        Ok(IssuerAccount::new(name.as_str(), keyset.as_ref(), jwks.as_ref()))
    };
    config.issuers.iter().map(issuer).collect()
}
