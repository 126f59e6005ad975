//! The appliance that is measured: a throw-away one on SoftHSM2, as an operator would run it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use mintwarden::{
    dev::pki::{Identity, Pki},
    launcher::control::Addresses,
};
use mintwarden_client::{self as client, Client, TrustAnchors};
use mintwarden_hsm_config::{name::DeviceName, provision::SoftHsm};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    cpu::Processes,
    error::{BenchError, system},
    payload::TRUST_DOMAIN,
    programs::Programs,
};

/// The issuer that signs.
pub const ISSUER: &str = "payments-tts";

const START_LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What an appliance needs in order to start: PKCS#11 token, certificates, configuration and state, in
/// a directory that goes away with this.
pub struct Site {
    directory: TempDir,
    program: PathBuf,
    token: SoftHsm,
    ca: PathBuf,
    signer: Identity,
    custodian: Identity,
}

impl Site {
    /// Provisions everything. No custodian has said `init` yet.
    ///
    /// # Errors
    /// Any [`BenchError`] but those of measuring.
    pub fn provision(programs: &Programs) -> Result<Self, BenchError> {
        let directory = tempfile::Builder::new()
            .prefix("mintwarden-benches-")
            .tempdir()
            .map_err(system("temporary directory"))?;
        let path = directory.path();
        let token = SoftHsm::provision(&path.join("token"), "mintwarden", &programs.worker)?;
        let pki = Pki::new(path)?;
        pki.server("server", &[])?;
        let signer = pki.client("signer", &[&format!("spiffe://{TRUST_DOMAIN}/tts")])?;
        let custodian = pki.client("ada", &[&format!("spiffe://{TRUST_DOMAIN}/custodian/ada")])?;
        let (ca, program) = (pki.ca(), programs.appliance.clone());
        let site = Self { directory, program, token, ca, signer, custodian };
        site.write_configuration()?;
        Ok(site)
    }

    /// The directory that goes away.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_configuration(&self) -> Result<(), BenchError> {
        let name = "softhsm".parse::<DeviceName>().expect("a valid name");
        let device = self.token.device_toml(name);
        let users = if rustix::process::geteuid().is_root() {
            "[users]\ndanger_shared_root = true\n"
        } else {
            ""
        };
        let configuration = format!(
            r#"state_dir = "state"

[listen]
grpc = "127.0.0.1:0"
unix = "api.sock"
jwks = "127.0.0.1:0"

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
devices = ["softhsm"]
audience = ["{TRUST_DOMAIN}"]

[[grant]]
role = "signer"
to = ["spiffe://{TRUST_DOMAIN}/tts"]
issuers = ["{ISSUER}"]

[[grant]]
role = "custodian"
person = "ada"
to = ["spiffe://{TRUST_DOMAIN}/custodian/ada"]
"#
        );
        let path = self.file("mintwarden.toml");
        fs::File::create(&path)
            .and_then(|mut file| file.write_all(configuration.as_bytes()))
            .map_err(system(path.display().to_string()))
    }

    /// Starts the appliance, without waiting for it.
    ///
    /// # Errors
    /// [`BenchError::System`].
    pub fn start(&self) -> Result<Appliance, BenchError> {
        let addresses = self.file("addresses.json");
        // An earlier start's addresses are not this one's.
        if let Err(error) = fs::remove_file(&addresses)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(system(addresses.display().to_string())(error));
        }
        let log_path = self.file("mintwarden.log");
        let log = fs::File::create(&log_path).map_err(system(log_path.display().to_string()))?;
        let child = Command::new(&self.program)
            .arg("--config")
            .arg(self.file("mintwarden.toml"))
            .arg("--addresses")
            .arg(&addresses)
            .arg("--die-with-parent")
            .stderr(log)
            .spawn()
            .map_err(system(self.program.display().to_string()))?;
        Ok(Appliance { child, addresses, log: log_path })
    }

    /// A client with a TTS's identity, connected.
    ///
    /// # Errors
    /// [`BenchError::Client`].
    pub async fn signer(&self, addresses: &Addresses) -> Result<Client, BenchError> {
        self.client(addresses, &self.signer).await
    }

    /// Says `init`, as the custodian.
    ///
    /// # Errors
    /// [`BenchError::Client`].
    pub async fn init(&self, addresses: &Addresses) -> Result<(), BenchError> {
        let custodian = self.client(addresses, &self.custodian).await?;
        custodian.custodian().init(ISSUER, "mintwarden-benches").await?;
        Ok(())
    }

    async fn client(&self, at: &Addresses, identity: &Identity) -> Result<Client, BenchError> {
        let endpoint = at.grpc.map(|address| format!("https://{address}")).unwrap_or_default();
        let (certificate, key) = (&identity.certificate, &identity.private_key);
        let client = Client::builder()
            .endpoint(endpoint)
            .identity(client::Identity::from_files(certificate, key))
            .ca(TrustAnchors::from_file(&self.ca))
            .connect()
            .await?;
        Ok(client)
    }
}

/// An appliance that was started. It ends, all of it, when this is dropped.
pub struct Appliance {
    child: Child,
    addresses: PathBuf,
    log: PathBuf,
}

impl Appliance {
    /// Waits until it serves. Blocks.
    ///
    /// # Errors
    /// [`BenchError::Appliance`] if it ends or takes too long.
    pub fn serving(&mut self) -> Result<Addresses, BenchError> {
        let limit = Instant::now() + START_LIMIT;
        while Instant::now() < limit {
            if let Some(addresses) = read(&self.addresses) {
                return Ok(addresses);
            }
            if let Some(status) = self.child.try_wait().map_err(system("mintwarden"))? {
                return Err(self.missing(status.to_string()));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Err(self.missing(format!("not serving after {} s", START_LIMIT.as_secs())))
    }

    /// Its processes.
    ///
    /// # Errors
    /// [`BenchError::System`].
    pub fn processes(&self) -> Result<Processes, BenchError> {
        Processes::of(self.child.id())
    }

    fn missing(&self, problem: String) -> BenchError {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        BenchError::Appliance { problem, log }
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        // If it has ended by itself, it was not reaped yet, so the process ID is still its own.
        let _sent = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _reaped = self.child.wait();
    }
}

fn read(addresses: &Path) -> Option<Addresses> {
    serde_json::from_slice(&fs::read(addresses).ok()?).ok()
}
