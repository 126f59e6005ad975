//! A real appliance: launcher, server and workers, from the built programs.

mod builder;
mod reach;
mod run;

use std::{fs, path::PathBuf};

use faulty_pkcs11::Faulty;
use mintwarden::launcher::control::Addresses;
use tempfile::TempDir;

use crate::{Identity, Pki, Token, Tpm, eventually};

pub use builder::Builder;
pub use run::Ended;
use run::Running;

/// An appliance in a temporary directory, which is removed when this is dropped; what still runs is
/// killed then, and if the test failed its log is printed.
pub struct Appliance {
    directory: TempDir,
    programs: PathBuf,
    program: &'static str,
    config: PathBuf,
    pki: Pki,
    tokens: Vec<(String, Token)>,
    tpms: Vec<(String, Tpm)>,
    faulty: Vec<(String, Faulty)>,
    tts: Identity,
    ada: Identity,
    running: Option<Running>,
    addresses: Option<Addresses>,
}

impl Appliance {
    /// An appliance with one SoftHSM2 device, [`DEVICE`](crate::DEVICE), and the issuer
    /// [`ISSUER`](crate::ISSUER) in it, where the builder says nothing else.
    pub fn softhsm() -> Builder {
        Builder::new()
    }

    /// An appliance with one TPM, [`TPM`](crate::TPM), and the issuer [`ISSUER`](crate::ISSUER) in it, where
    /// the builder says nothing else.
    pub fn swtpm() -> Builder {
        Builder::new().with_tpm(crate::TPM)
    }

    /// A path in its directory, where all its files are.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.config.clone()
    }

    /// Changes its configuration file; in force from the next start on.
    ///
    /// # Panics
    /// If the file cannot be read or written.
    pub fn reconfigure(&self, edit: impl FnOnce(&mut toml::Table)) {
        let text = fs::read_to_string(&self.config).expect("the configuration");
        let mut config = text.parse().expect("TOML");
        edit(&mut config);
        fs::write(&self.config, config.to_string()).expect("the configuration");
    }

    /// The authority of its and its callers' certificates.
    #[must_use]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// The PKCS#11 token behind its first device.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.tokens[0].1
    }

    /// The PKCS#11 token behind a device.
    ///
    /// # Panics
    /// If there is no such device.
    #[must_use]
    pub fn token_of(&self, device: &str) -> &Token {
        let found = self.tokens.iter().find(|(name, _)| name == device);
        &found.expect("the device was configured").1
    }

    /// Its first TPM.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn tpm(&self) -> &Tpm {
        &self.tpms.first().expect("a TPM was configured").1
    }

    /// What makes its first device misbehave.
    ///
    /// # Panics
    /// If it was not built [`faulty`](Builder::faulty).
    #[must_use]
    pub fn faulty(&self) -> &Faulty {
        &self.faulty.first().expect("it was built `faulty`").1
    }

    /// What makes a device misbehave.
    ///
    /// # Panics
    /// If there is no such device, or it was not built [`faulty`](Builder::faulty).
    #[must_use]
    pub fn faulty_of(&self, device: &str) -> &Faulty {
        let found = self.faulty.iter().find(|(name, _)| name == device);
        &found.expect("the device was configured, `faulty`").1
    }

    /// What kills its server at a write of the store, where it was built with a
    /// [`faulty_store`](Builder::faulty_store).
    #[must_use]
    pub fn store(&self) -> faulty_store::Order {
        faulty_store::Order::of(&self.file("state/server"))
    }

    /// The signer's certificate: `spiffe://trust-domain.example/tts`.
    #[must_use]
    pub fn tts(&self) -> &Identity {
        &self.tts
    }

    /// The certificate of the custodian Ada: `spiffe://trust-domain.example/custodian/ada`.
    #[must_use]
    pub fn ada(&self) -> &Identity {
        &self.ada
    }

    /// One of its programs, where the appliance has it.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Waits until its processes have logged this: a line is written beside what it tells of, and may be read
    /// later.
    ///
    /// # Panics
    /// If they don't.
    pub async fn logs(&self, text: &str) {
        let logged = async || self.log().contains(text).then_some(());
        eventually(&format!("it is logged: {text}"), logged).await;
    }

    /// What its processes have logged since it was made, and written by now.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read(self.file("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
        if std::thread::panicking() {
            eprintln!("---- the appliance's log ----\n{}---- end of log ----", self.log());
        }
    }
}
