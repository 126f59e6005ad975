//! A SoftHSM2 with one PKCS#11 token and a key pair in it, behind the faulty module.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use faulty_pkcs11::Faulty;
use mintwarden_hsm_config::model::Model;
use tempfile::TempDir;

const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
pub(crate) const PIN: &str = "1234";
pub(crate) const ID: &[u8] = &[1];

pub(crate) struct Fixture {
    pub(crate) faulty: Faulty,
    pub(crate) context: Pkcs11,
    pub(crate) slot: Slot,
    _directory: TempDir,
}

/// The library beside this test, as cargo builds it.
pub(crate) fn library() -> PathBuf {
    let own = env::current_exe().unwrap();
    own.parent().unwrap().with_file_name("libfaulty_pkcs11.so")
}

pub(crate) fn softhsm() -> &'static Path {
    Model::find("softhsm2").unwrap().installed_module().expect("softhsm2 is installed")
}

/// Sets variables of this process, which is a test's alone.
#[allow(unsafe_code)]
pub(crate) fn set(name: &str, value: impl AsRef<std::ffi::OsStr>) {
    // SAFETY: no other thread of this test reads the environment yet.
    unsafe { env::set_var(name, value) };
}

/// Has SoftHSM2 keep its tokens in `directory`.
pub(crate) fn configure_softhsm(directory: &Path) {
    let (tokens, conf) = (directory.join("tokens"), directory.join("softhsm2.conf"));
    fs::create_dir(&tokens).unwrap();
    let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
    fs::write(&conf, text).unwrap();
    set("SOFTHSM2_CONF", conf);
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        configure_softhsm(directory.path());
        let faulty = Faulty::listen(directory.path()).unwrap();
        faulty.environment(softhsm()).iter().for_each(|(name, value)| set(name, value));
        let (context, slot) = open();
        Self { faulty, context, slot, _directory: directory }
    }

    /// A session with the user logged in.
    pub(crate) fn session(&self) -> Session {
        let session = self.context.open_rw_session(self.slot).unwrap();
        match session.login(UserType::User, Some(&AuthPin::from(PIN))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => session,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Loads the module and makes a PKCS#11 token.
pub(crate) fn open() -> (Pkcs11, Slot) {
    let context = Pkcs11::new(library()).unwrap();
    context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = context.get_slots_with_token().unwrap()[0];
    let so_pin = AuthPin::from("12345678");
    context.init_token(slot, &so_pin, "test").unwrap();
    // SoftHSM moves an initialised token to a new slot.
    let slot = context.get_slots_with_initialized_token().unwrap()[0];
    let session = context.open_rw_session(slot).unwrap();
    session.login(UserType::So, Some(&so_pin)).unwrap();
    session.init_pin(&AuthPin::from(PIN)).unwrap();
    session.logout().unwrap();
    session.close().unwrap();
    (context, slot)
}

/// Makes a P-256 pair: public, private.
pub(crate) fn generate(
    session: &Session,
    id: &[u8],
) -> cryptoki::error::Result<(ObjectHandle, ObjectHandle)> {
    let public =
        [Attribute::Token(true), Attribute::Id(id.to_vec()), Attribute::EcParams(P256.to_vec())];
    let private = [
        Attribute::Token(true),
        Attribute::Id(id.to_vec()),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ];
    session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
}

pub(crate) fn sign(session: &Session, key: ObjectHandle) -> cryptoki::error::Result<Vec<u8>> {
    session.sign(&Mechanism::Ecdsa, key, &[7; 32])
}

pub(crate) fn verifies(session: &Session, key: ObjectHandle, signature: &[u8]) -> bool {
    session.verify(&Mechanism::Ecdsa, key, &[7; 32], signature).is_ok()
}

/// The return value of a call that fails.
pub(crate) fn failure<T: std::fmt::Debug>(result: cryptoki::error::Result<T>) -> RvError {
    match result.unwrap_err() {
        Error::Pkcs11(value, _) => value,
        other => panic!("{other}"),
    }
}
