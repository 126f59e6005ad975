//! `mintwarden dev`: a throw-away appliance on a SoftHSM2 token or on a swtpm, for a TTS developer's desk and for
//! CI. Makes device, CA, certificates and configuration in a temporary directory, starts the
//! appliance, says `init`, runs a command with the addresses in its environment (or waits for
//! Ctrl-C), and cleans up.

pub mod pki;

use std::{
    fs, io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use mintwarden_hsm_config::{
    name::DeviceName,
    provision::{ProvisionError, SoftHsm, Swtpm},
};
use signal_hook::consts::{SIGINT, SIGTERM};

use self::pki::{Identity, Pki, PkiError};
use crate::{clock, launcher::control::Addresses};

const ISSUER: &str = "dev";
const DEVICE: &str = "dev";
const TRUST_DOMAIN: &str = "trust-domain.example";
const START_LIMIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Arguments of `mintwarden dev`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// On a TPM in software (swtpm) in the place of the SoftHSM2 token.
    #[arg(long)]
    tpm: bool,
    /// Show the appliance's log instead of keeping it in a file.
    #[arg(long)]
    verbose: bool,
    /// A command to run against the appliance; its exit status becomes this one's.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Why there is no appliance to develop with.
#[derive(Debug, thiserror::Error)]
enum DevError {
    #[error("{0}")]
    Device(#[from] ProvisionError),
    #[error("{0}")]
    Pki(#[from] PkiError),
    #[error("{what}: {error}")]
    System { what: String, error: io::Error },
    #[error("the appliance did not start ({0}); its log says:\n{1}")]
    NotStarted(String, String),
    #[error("interrupted")]
    Interrupted,
}

fn system(what: impl ToString) -> impl FnOnce(io::Error) -> DevError {
    let what = what.to_string();
    move |error| DevError::System { what, error }
}

/// Runs `mintwarden dev`.
pub fn run(arguments: Arguments) -> ExitCode {
    match develop(&arguments) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("mintwarden dev: {error}");
            ExitCode::FAILURE
        }
    }
}

fn develop(arguments: &Arguments) -> Result<ExitCode, DevError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(system("signals"))?;
    }
    // Removed when it goes out of scope, after the appliance has ended.
    let directory = tempfile::Builder::new()
        .prefix("mintwarden-dev-")
        .tempdir()
        .map_err(system("temporary directory"))?;
    let bench = Bench::make(directory.path(), arguments.tpm)?;
    let mut appliance = bench.start(arguments.verbose)?;
    let outcome = bench
        .wait_until_serving(&mut appliance, &interrupted)
        .and_then(|addresses| bench.init(&addresses).map(|()| addresses))
        .and_then(|addresses| bench.use_it(&addresses, arguments, &mut appliance, &interrupted));
    stop(&mut appliance);
    outcome
}

/// Everything on the developer's bench: files of one temporary directory.
struct Bench {
    directory: PathBuf,
    programs: PathBuf,
    ca: PathBuf,
    signer: Identity,
    custodian: Identity,
    /// Ends when it is dropped: after the appliance.
    _swtpm: Option<Swtpm>,
}

impl Bench {
    fn make(directory: &Path, tpm: bool) -> Result<Self, DevError> {
        let program = std::env::current_exe().map_err(system("own path"))?;
        let programs = program.parent().unwrap_or(Path::new("/")).to_owned();
        let device = DEVICE.parse::<DeviceName>().expect("a valid name");
        let (device, swtpm) = if tpm {
            // Out of reach of a terminal's Ctrl-C: it is the appliance that ends first.
            let swtpm = Swtpm::provision_with(&directory.join("tpm"), |mut command| {
                command.process_group(0).spawn()
            })?;
            (swtpm.device_toml(device), Some(swtpm))
        } else {
            let worker = programs.join("mintwarden-pkcs11");
            let token = SoftHsm::provision(&directory.join("token"), "mintwarden-dev", &worker)?;
            (token.device_toml(device), None)
        };
        let pki = Pki::new(directory)?;
        pki.server("server", &[])?;
        let signer = pki.client("signer", &[&format!("spiffe://{TRUST_DOMAIN}/tts")])?;
        let custodian =
            pki.client("custodian", &[&format!("spiffe://{TRUST_DOMAIN}/custodian/dev")])?;
        fs::write(directory.join("mintwarden.toml"), configuration(&device))
            .map_err(system("mintwarden.toml"))?;
        let (directory, ca) = (directory.to_owned(), pki.ca());
        Ok(Self { directory, programs, ca, signer, custodian, _swtpm: swtpm })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn start(&self, verbose: bool) -> Result<Child, DevError> {
        let mut command = Command::new(self.programs.join("mintwarden"));
        command
            .arg("--config")
            .arg(self.file("mintwarden.toml"))
            .arg("--addresses")
            .arg(self.file("addresses.json"))
            .arg("--die-with-parent")
            .arg(std::process::id().to_string())
            .process_group(0);
        if !verbose {
            let log =
                fs::File::create(self.file("mintwarden.log")).map_err(system("mintwarden.log"))?;
            command.stderr(log);
        }
        command.spawn().map_err(system("mintwarden"))
    }

    fn wait_until_serving(
        &self,
        appliance: &mut Child,
        interrupted: &AtomicBool,
    ) -> Result<Addresses, DevError> {
        let log = || fs::read_to_string(self.file("mintwarden.log")).unwrap_or_default();
        let limit = clock::monotonic() + START_LIMIT;
        while clock::monotonic() < limit {
            if interrupted.load(Ordering::Relaxed) {
                return Err(DevError::Interrupted);
            }
            if let Some(status) = appliance.try_wait().map_err(system("mintwarden"))? {
                return Err(DevError::NotStarted(status.to_string(), log()));
            }
            if let Ok(text) = fs::read(self.file("addresses.json"))
                && let Ok(addresses) = serde_json::from_slice(&text)
            {
                return Ok(addresses);
            }
            thread::sleep(LOOK_AGAIN);
        }
        Err(DevError::NotStarted("it took too long".into(), log()))
    }

    /// Says `init`, as the throw-away custodian.
    fn init(&self, addresses: &Addresses) -> Result<(), DevError> {
        let mut ctl = Command::new(self.programs.join("mintwardenctl"));
        for (name, value) in self.environment(addresses, &self.custodian) {
            ctl.env(name, value);
        }
        let said = ctl
            .args(["init", ISSUER, "--reason", "mintwarden dev"])
            .output()
            .map_err(system("mintwardenctl"))?;
        if said.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&said.stderr).into_owned();
        Err(DevError::NotStarted(
            format!("init: {why}"),
            fs::read_to_string(self.file("mintwarden.log")).unwrap_or_default(),
        ))
    }

    /// What a command finds in its environment; the first four are what `mintwardenctl` reads.
    fn environment(
        &self,
        addresses: &Addresses,
        identity: &Identity,
    ) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.display().to_string();
        let grpc = addresses.grpc.map(|address| format!("https://{address}")).unwrap_or_default();
        let jwks = addresses.jwks.map(|address| {
            format!("{}://{address}/issuers/{ISSUER}/jwks.json", addresses.jwks_scheme)
        });
        let ops = addresses.ops.map(|address| format!("http://{address}"));
        vec![
            ("MINTWARDEN_ENDPOINT", grpc),
            ("MINTWARDEN_CERT", text(&identity.certificate)),
            ("MINTWARDEN_KEY", text(&identity.private_key)),
            ("MINTWARDEN_CA", text(&self.ca)),
            ("MINTWARDEN_UNIX", format!("unix:{}", text(&self.file("api.sock")))),
            ("MINTWARDEN_ISSUER", ISSUER.into()),
            ("MINTWARDEN_JWKS_URL", jwks.unwrap_or_default()),
            ("MINTWARDEN_OPS_URL", ops.unwrap_or_default()),
            ("MINTWARDEN_CONFIG", text(&self.file("mintwarden.toml"))),
            ("MINTWARDEN_CUSTODIAN_CERT", text(&self.custodian.certificate)),
            ("MINTWARDEN_CUSTODIAN_KEY", text(&self.custodian.private_key)),
        ]
    }

    #[expect(clippy::print_stdout, reason = "for the person at the terminal, who may pipe it")]
    fn use_it(
        &self,
        addresses: &Addresses,
        arguments: &Arguments,
        appliance: &mut Child,
        interrupted: &AtomicBool,
    ) -> Result<ExitCode, DevError> {
        let environment = self.environment(addresses, &self.signer);
        let Some((program, rest)) = arguments.command.split_first() else {
            print!("{}", self.greeting(&environment));
            return match wait(appliance, interrupted).map_err(system("mintwarden"))? {
                None => Ok(ExitCode::SUCCESS),
                Some(status) => Err(DevError::NotStarted(status.to_string(), String::new())),
            };
        };
        let mut command = Command::new(program);
        let mut child = command.args(rest).envs(environment).spawn().map_err(system(program))?;
        match wait(&mut child, interrupted).map_err(system(program))? {
            Some(status) => Ok(exit_code(status)),
            None => {
                let _killed_and_reaped = child.kill().and_then(|()| child.wait());
                Err(DevError::Interrupted)
            }
        }
    }

    fn greeting(&self, environment: &[(&'static str, String)]) -> String {
        let exports: String =
            environment.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
        format!(
            "A throw-away appliance serves the issuer {ISSUER}; Ctrl-C ends it and removes everything.\n\
             To use it from another shell:\n\n{exports}\n\
             To sign something, copy this line:\n\n\
             now=$(date +%s); echo '{{\"iat\":'$now',\"exp\":'$((now+120))',\"aud\":\"{TRUST_DOMAIN}\",\"txn\":\"'$(cat /proc/sys/kernel/random/uuid)'\",\"sub\":\"ada\",\"scope\":\"demo\",\"req_wl\":\"desk\"}}' | \
             {} --endpoint {} --cert {} --key {} --ca {} sign --issuer {ISSUER}\n",
            self.programs.join("mintwardenctl").display(),
            environment[0].1,
            environment[1].1,
            environment[2].1,
            environment[3].1,
        )
    }
}

fn configuration(device: &str) -> String {
    let users = if rustix::process::geteuid().is_root() {
        "[users]\ndanger_shared_root = true\n"
    } else {
        ""
    };
    let uid = rustix::process::geteuid().as_raw();
    format!(
        r#"# Written by `mintwarden dev`: everything here is thrown away.
state_dir = "state"
dev = true

[listen]
grpc = "127.0.0.1:0"
unix = "api.sock"
jwks = "127.0.0.1:0"
ops = "127.0.0.1:0"

[tls]
certificate = "server.crt"
private_key = "server.key"
client_ca = "ca.crt"
trust_domain = "{TRUST_DOMAIN}"

{users}
{device}
[[issuer]]
name = "{ISSUER}"
iss = "https://tts.{TRUST_DOMAIN}"
devices = ["{DEVICE}"]
audience = ["{TRUST_DOMAIN}"]

[[grant]]
role = "signer"
to = ["spiffe://{TRUST_DOMAIN}/tts", "unix:uid={uid}"]
issuers = ["{ISSUER}"]

[[grant]]
role = "custodian"
person = "dev"
to = ["spiffe://{TRUST_DOMAIN}/custodian/dev"]
"#
    )
}

/// Waits until the child ends, or until a signal: then `None`.
fn wait(child: &mut Child, interrupted: &AtomicBool) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if interrupted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn stop(appliance: &mut Child) {
    let pid = rustix::process::Pid::from_child(appliance);
    // It may have ended by itself; it is reaped only here, so the pid is still its own.
    let _sent = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    let _reaped = appliance.wait();
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
