//! A throw-away TPM: a real swtpm, reached over TCP, and what can be made to go wrong with it.

pub mod relay;
mod rule;

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mintwarden_hsm_config::{device::Tcti, name::DeviceName, provision::Swtpm};

pub use self::{
    relay::Relay,
    rule::{Command as TpmCommand, Rc, Rule, When, any, on},
};
use crate::process::spawn;

/// A swtpm and its device secret. It ends with the test.
pub struct Tpm {
    directory: PathBuf,
    swtpm: Mutex<Swtpm>,
    relay: Option<Relay>,
}

impl Tpm {
    /// Makes one in `directory` and starts it.
    ///
    /// # Panics
    /// If that fails, as when swtpm is not installed.
    #[must_use]
    pub fn provision(directory: &Path) -> Self {
        let swtpm = Swtpm::provision_with(directory, spawn);
        let swtpm = swtpm.unwrap_or_else(|error| panic!("a swtpm: {error}"));
        Self { directory: directory.to_owned(), swtpm: Mutex::new(swtpm), relay: None }
    }

    /// Puts a [`Relay`] before it, by which everybody reaches it from now on.
    #[must_use]
    pub fn behind_relay(self) -> Self {
        let relay = Relay::before(port(self.lock().tcti()));
        Self { relay: Some(relay), ..self }
    }

    /// The relay before it.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("it was put behind a relay")
    }

    fn lock(&self) -> MutexGuard<'_, Swtpm> {
        self.swtpm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device as a `[[device]]` table.
    #[must_use]
    pub fn device_toml(&self, name: DeviceName) -> String {
        let swtpm = self.lock();
        swtpm.device_toml(name).replace(&swtpm.tcti().to_string(), &self.reached_by(&swtpm))
    }

    /// The way to it, as libtss2 and tpm2-tools write it.
    #[must_use]
    pub fn tcti(&self) -> String {
        self.reached_by(&self.lock())
    }

    fn reached_by(&self, swtpm: &Swtpm) -> String {
        let relay = self.relay.as_ref().map(|relay| Tcti::SwtpmTcp {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: relay.port(),
        });
        relay.unwrap_or_else(|| swtpm.tcti()).to_string()
    }

    /// The file with its device secret.
    #[must_use]
    pub fn secret_file(&self) -> PathBuf {
        self.lock().secret_file.clone()
    }

    /// Lets another user read its device secret.
    ///
    /// # Panics
    /// If this user may not do that.
    pub fn give_to(&self, user: u32, group: u32) {
        let secret = self.secret_file();
        for path in [secret.parent().expect("its directory"), &secret] {
            chown(path, Some(user), Some(group)).expect("root gives away");
        }
    }

    /// Cuts its power: it is gone, without a `TPM2_Shutdown`.
    pub fn cut_power(&self) {
        self.lock().cut_power();
    }

    /// Powers it up again, with the state that it keeps without power.
    ///
    /// # Panics
    /// If it does not start.
    pub fn power_up(&self) {
        let started = self.lock().start_with(spawn);
        started.unwrap_or_else(|error| panic!("swtpm does not start again: {error}"));
    }

    /// Puts another TPM in its place, as it comes from the factory. Returns where the one from before is kept.
    ///
    /// # Panics
    /// If that fails.
    pub fn replace(&self) -> PathBuf {
        let before = self.take_away();
        fs::create_dir(self.directory.join("state")).expect("a directory");
        self.power_up();
        before
    }

    /// Puts one back that was replaced. Returns where the one from before is kept.
    ///
    /// # Panics
    /// If that fails.
    pub fn put_back(&self, kept: &Path) -> PathBuf {
        let before = self.take_away();
        fs::rename(kept, self.directory.join("state")).expect("it was kept");
        self.power_up();
        before
    }

    fn take_away(&self) -> PathBuf {
        self.cut_power();
        let free = |n: &u32| !self.directory.join(format!("state-{n}")).exists();
        let kept = self.directory.join(format!("state-{}", (0..).find(free).expect("a number")));
        fs::rename(self.directory.join("state"), &kept).expect("its state");
        kept
    }

    /// Makes another TPM of it, as a manufacturer does: with endorsement keys and certificates in its memory. It is
    /// to be done before anything uses it. Returns a file with the manufacturer's authorities, PEM.
    ///
    /// # Panics
    /// If swtpm_setup or its certificate authority (gnutls-bin) fails.
    #[must_use]
    pub fn manufacture(&self) -> PathBuf {
        self.cut_power();
        let place = |name: &str| self.directory.join(name);
        let text = |path: PathBuf| path.into_os_string().into_string().expect("a path in UTF-8");
        let (state, ca) = (place("state"), place("ca"));
        for entry in fs::read_dir(&state).expect("its state") {
            fs::remove_file(entry.expect("its state").path()).expect("it is ours");
        }
        fs::create_dir(&ca).expect("a directory");
        let keys = ["signing.pem", "issuer.pem", "serial"].map(|name| text(ca.join(name)));
        let [signing, issuer, serial] = &keys;
        let authority = format!(
            "statedir = {}\nsigningkey = {signing}\nissuercert = {issuer}\ncertserial = {serial}\n",
            text(ca.clone())
        );
        fs::write(place("ca.conf"), authority).expect("a file");
        let options =
            "--platform-manufacturer Example\n--platform-version 1\n--platform-model swtpm\n";
        fs::write(place("ca.options"), options).expect("a file");
        let setup = format!(
            "create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = {}\n\
             create_certs_tool_options = {}\nactive_pcr_banks = sha256\n",
            text(place("ca.conf")),
            text(place("ca.options"))
        );
        fs::write(place("setup.conf"), setup).expect("a file");
        let mut command = Command::new("swtpm_setup");
        command.args(["--tpm2", "--create-ek-cert", "--tpmstate"]).arg(&state);
        run(command.arg("--config").arg(place("setup.conf")));
        self.power_up();
        let root = fs::read(ca.join("swtpm-localca-rootca-cert.pem")).expect("the root");
        let issuer = fs::read(issuer).expect("its issuer");
        fs::write(place("authorities.pem"), [root, issuer].concat()).expect("a file");
        place("authorities.pem")
    }

    /// What a program of tpm2-tools says, e.g. `["tpm2_getcap", "handles-transient"]`. While a worker is
    /// connected it waits, since swtpm serves one at a time; not behind a relay.
    ///
    /// # Panics
    /// If the program fails.
    #[must_use]
    pub fn tool(&self, command: &[&str]) -> String {
        self.try_tool(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// The same, of a program that may fail: with what it says then.
    ///
    /// # Errors
    /// What the program says on standard error.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn try_tool(&self, command: &[&str]) -> Result<String, String> {
        let tcti = self.tcti();
        let output = Command::new(command[0])
            .args(&command[1..])
            .env("TPM2TOOLS_TCTI", tcti)
            .env("TSS2_LOG", "all+error")
            .output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", command[0]));
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }
}

fn port(tcti: Tcti) -> u16 {
    match tcti {
        Tcti::SwtpmTcp { port, .. } => port,
        other => unreachable!("it was provisioned on a port, not at {other}"),
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}
