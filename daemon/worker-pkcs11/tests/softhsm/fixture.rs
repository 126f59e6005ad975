//! A throw-away SoftHSM2 for one test.
//!
//! The module reads `SOFTHSM2_CONF` from its process's environment, and a process cannot safely change
//! its own. So [`on_softhsm`] provisions SoftHSM2 and then starts the test's own binary again for the
//! one test, with the environment set; in that process it runs the test's body.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use aws_lc_rs::rand;
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    session::{Session, UserType},
    types::AuthPin,
};
use mintwarden_hsm_config::{
    device::{DeviceEntry, DeviceKind},
    model::Model,
    pin::PinSource,
    provision::SoftHsm,
};
use mintwarden_pkcs11::Pkcs11Device;
use mintwarden_worker::{
    IssuerName,
    device::{DeviceError, KeyHandle},
    setup::Setup,
};

/// The worker's binary, which initialises PKCS#11 tokens.
pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_mintwarden-pkcs11");

/// The label of the PKCS#11 token.
pub(crate) const LABEL: &str = "tts";

/// Tells the process for the body from the one that provisions.
const DIRECTORY: &str = "MINTWARDEN_TEST_DIRECTORY";

/// Runs `body` with a fresh SoftHSM2. `test` is the test's path in this binary, for `--exact`.
pub(crate) fn on_softhsm(test: &str, body: impl FnOnce(&Fixture)) {
    #[expect(clippy::disallowed_methods, reason = "the fixture starts itself with it")]
    let directory: Option<OsString> = env::var_os(DIRECTORY);
    if let Some(directory) = directory {
        return body(&Fixture { directory: directory.into() });
    }
    let directory = tempfile::tempdir().expect("a directory");
    let soft_hsm = provision(directory.path());
    let output = Command::new(env::current_exe().expect("this binary has a path"))
        .args(["--exact", test, "--nocapture"])
        .env(DIRECTORY, directory.path())
        .env("SOFTHSM2_CONF", &soft_hsm.conf)
        .output()
        .expect("this binary starts again");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    assert!(said.contains("1 passed"), "`{test}` is not the test's path: {said}");
}

/// A SoftHSM2 with one PKCS#11 token, [`LABEL`], in this directory.
pub(crate) fn provision(directory: &Path) -> SoftHsm {
    SoftHsm::provision(directory, LABEL, Path::new(WORKER)).expect("SoftHSM2 is provisioned")
}

/// A process that sees a SoftHSM2 of its own.
pub(crate) struct Fixture {
    directory: PathBuf,
}

impl Fixture {
    /// SoftHSM2 as it was provisioned.
    pub(crate) fn soft_hsm(&self) -> SoftHsm {
        let model = Model::find("softhsm2").expect("built in");
        SoftHsm {
            conf: self.directory.join("softhsm2.conf"),
            module: model.installed_module().expect("SoftHSM2 is installed").to_owned(),
            label: LABEL.to_owned(),
            serial: String::new(),
            pin_file: self.directory.join("pin"),
        }
    }

    /// A worker's set-up for the device that `change` makes of the usual one.
    pub(crate) fn setup(&self, change: impl FnOnce(&mut DeviceEntry)) -> Setup {
        let mut entry = self.soft_hsm().device("hsm-a".parse().expect("a name"));
        change(&mut entry);
        Setup {
            device: entry.resolve(&self.directory, false).expect("a device"),
            state_dir: self.directory.join("state"),
            profiles: Vec::new(),
            resume: false,
        }
    }

    /// The device, logged in.
    pub(crate) fn open(&self) -> Pkcs11Device {
        Pkcs11Device::open(&self.setup(|_| {})).expect("the device opens")
    }

    /// Why the device that `change` makes of the usual one does not open.
    pub(crate) fn refusal(&self, change: impl FnOnce(&mut DeviceEntry)) -> DeviceError {
        Pkcs11Device::open(&self.setup(change)).expect_err("the device does not open")
    }

    /// A PIN file beside the right one.
    pub(crate) fn pin_file(&self, name: &str, pin: &str) -> PinSource {
        let path = self.directory.join(name);
        fs::write(&path, pin).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permitted");
        PinSource::File(path)
    }

    /// Does something to the PKCS#11 token past the device, as another program would.
    pub(crate) fn past_the_device(&self, work: impl FnOnce(&Session)) {
        let setup = self.setup(|_| {});
        let DeviceKind::Pkcs11(config) = setup.device.kind else { unreachable!("it is one") };
        let context = Pkcs11::new(&config.module).expect("loads");
        context
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .expect("initialises");
        let is_ours = |slot: &_| context.get_token_info(*slot).is_ok_and(|i| i.label() == LABEL);
        let slots = context.get_slots_with_initialized_token().expect("listed");
        let slot = slots.into_iter().find(is_ours).expect("the token is there");
        let session = context.open_rw_session(slot).expect("a session");
        let pin = config.pin.read().expect("a PIN");
        session.login(UserType::User, Some(&AuthPin::from(pin.expose_secret()))).expect("in");
        work(&session);
        session.close().expect("closes");
        context.finalize().expect("finalises");
    }
}

/// A fresh random handle.
pub(crate) fn handle() -> KeyHandle {
    let mut bytes = vec![0; KeyHandle::RANDOM_LEN];
    rand::fill(&mut bytes).expect("random bytes");
    KeyHandle::new(bytes)
}

/// An issuer's name.
pub(crate) fn issuer(name: &str) -> IssuerName {
    IssuerName::parse(name).expect("a name")
}
