//! The server's side of an examination: what it says of itself, and to whom.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use mintwarden_worker::finding::{Check, Finding};
use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, geteuid, getrlimit};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};

use super::{
    account::{IssuerAccount, Question, ServerAccount},
    system,
};
use crate::{
    api::App,
    clock::{self, Deadline, UnixTime},
    config::Config,
    launcher::control::Addresses,
};

/// Longest time that a doctor may ask for.
const MAX_WITHIN: Duration = Duration::from_secs(60);
/// How long a doctor may take to ask, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_QUESTION: u64 = 1024;
/// Descriptors that are no connection: store, wires, listeners, log, libraries.
const OTHER_DESCRIPTORS: u64 = 64;

/// Where a running server can be asked: in its own directory, which root and its user alone can enter.
pub(super) fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join("server").join("doctor.sock")
}

/// What a server's process finds of itself, running or started for the examination.
pub(super) fn of_process(config: &Config) -> Vec<Finding> {
    vec![descriptors(config, getrlimit(Resource::Nofile).current), core_dumps()]
}

fn descriptors(config: &Config, limit: Option<u64>) -> Finding {
    let check = Check::SystemDescriptors;
    let listen = &config.listen;
    let tcp = [listen.grpc, listen.jwks, listen.ops].map(|address| address.is_some());
    let listeners = [listen.unix.is_some()].into_iter().chain(tcp);
    let listeners = listeners.filter(|there| *there).count();
    let most = config.limits.max_connections * listeners;
    let needed = most as u64 + OTHER_DESCRIPTORS;
    match limit {
        Some(limit) if limit < needed => Finding::warning(
            check,
            "server",
            format!(
                "it may open {limit} descriptors; {most} connections on {listeners} listeners need \
                 {needed}"
            ),
            "raise the limit (LimitNOFILE= of the unit), or lower limits.max_connections",
        ),
        limit => {
            let limit = limit.map_or_else(|| "any number of".to_owned(), |limit| limit.to_string());
            let found = format!("it may open {limit} descriptors, and needs {needed} at most");
            Finding::ok(check, "server", found)
        }
    }
}

fn core_dumps() -> Finding {
    let limit = getrlimit(Resource::Core).maximum;
    let dumpable = dumpable_behavior();
    if limit == Some(0) && dumpable == Ok(DumpableBehavior::NotDumpable) {
        let found =
            "off: size limit 0, and not dumpable; a worker that cannot do the same does not start";
        return Finding::ok(Check::SystemCoreDumps, "server", found);
    }
    let found = format!("size limit {limit:?}, {dumpable:?}: its memory could be written to disk");
    Finding::fault(
        Check::SystemCoreDumps,
        "server",
        found,
        "restart the appliance, and report this",
    )
}

/// A running server, ready to be asked.
pub(crate) struct Examined {
    app: Arc<App>,
    config: Config,
    addresses: Addresses,
    started: (UnixTime, Instant),
}

impl Examined {
    /// Of a server that starts to serve now.
    pub(crate) fn new(app: Arc<App>, config: Config, addresses: Addresses) -> Self {
        let started = (clock::wall(), clock::monotonic());
        Self { app, config, addresses, started }
    }

    /// Answers doctors until the server ends. One that cannot be asked serves all the same.
    pub(crate) fn serve(self) {
        let path = socket_path(&self.config.state_dir);
        match bind(&path) {
            Ok(socket) => _ = tokio::spawn(async move { self.answer_all(&socket.listener).await }),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a doctor will not be heard");
            }
        }
    }

    /// One at a time: a second doctor waits.
    async fn answer_all(&self, listener: &UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = self.answer(stream).await {
                        tracing::debug!(%error, "a doctor went away");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a doctor cannot be heard");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn answer(&self, stream: UnixStream) -> io::Result<()> {
        let peer = stream.peer_cred()?.uid();
        if peer != 0 && peer != geteuid().as_raw() {
            return Err(io::Error::other(format!("uid {peer} is no doctor")));
        }
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        let mut read = BufReader::new(read.take(MAX_QUESTION));
        tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await??;
        let question: Question = serde_json::from_str(&line)?;
        let within = Duration::from_millis(question.within_ms.into()).min(MAX_WITHIN);
        let account = serde_json::to_vec(&self.account(Deadline::within(within)).await)?;
        tokio::time::timeout(PATIENCE, write.write_all(&account)).await?
    }

    async fn account(&self, deadline: Deadline) -> ServerAccount {
        let usual = self.config.limits.default_deadline;
        let workers = self.config.devices.iter();
        let workers = workers.filter_map(|device| self.app.workers.get(device.name.as_str()));
        let workers = workers.map(|worker| worker.examine(deadline, usual));
        let devices = join_all(workers).await;
        let issuers = self.app.issuers.values().map(|(issuer, _)| {
            let snapshot = issuer.snapshot();
            let snapshot = snapshot.as_deref();
            let jwks = snapshot.and_then(|snapshot| snapshot.jwks.as_ref());
            IssuerAccount::new(issuer.config.name().as_str(), snapshot.map(|s| &s.keyset), jwks)
        });
        let mut findings = of_process(&self.config);
        findings.push(self.clock());
        findings.extend(self.certificates());
        ServerAccount {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            digest: self.config.digest.clone(),
            addresses: self.addresses.clone(),
            findings,
            issuers: issuers.collect(),
            devices,
        }
    }

    fn clock(&self) -> Finding {
        let (wall, monotonic) = self.started;
        let went = clock::wall().0.saturating_sub(wall.0);
        let monotonic = clock::monotonic().saturating_duration_since(monotonic);
        system::drift(Duration::from_secs(went.unsigned_abs()), monotonic, went < 0)
    }

    fn certificates(&self) -> Option<Finding> {
        let live = self.app.certificates.as_ref()?;
        Some(match live.problem() {
            None => Finding::ok(Check::TlsFiles, "server", "the files are in use"),
            Some(problem) => Finding::fault(
                Check::TlsFiles,
                "server",
                format!("the files cannot be used, older ones are in use: {problem}"),
                "mend them before the next start; they are taken over as soon as they can be used",
            ),
        })
    }
}

/// A socket that goes away in the file system too when it is closed.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.path);
    }
}

/// A socket that a killed server left behind is replaced, any other file is not.
fn bind(path: &Path) -> io::Result<Socket> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is no socket")),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    let socket = Socket { listener, path: path.to_owned() };
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use mintwarden_worker::finding::Verdict;

    use super::*;

    #[test]
    fn i9_a_limit_below_the_promised_connections_is_told() {
        let text = r#"
            state_dir = "state"
            [listen]
            unix = "/run/api.sock"
            jwks = "127.0.0.1:0"
            [[device]]
            name = "a"
            kind = "pkcs11"
            model = "softhsm2"
            module = "/module.so"
            token_label = "a"
            pin = { file = "pin" }
            [[issuer]]
            name = "a"
            iss = "https://a.example"
            devices = ["a"]
            audience = ["a"]
            [limits]
            max_connections = 1000
        "#;
        let config = Config::parse(text, Path::new("/mintwarden.toml")).expect("good");
        for (limit, verdict) in [
            (Some(1024), Verdict::Warning),
            (Some(2063), Verdict::Warning),
            (Some(2064), Verdict::Ok),
            (None, Verdict::Ok),
        ] {
            assert_eq!(descriptors(&config, limit).verdict, verdict, "{limit:?}");
        }
    }
}
