//! A throw-away PKCS#11 token.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use mintwarden_hsm_config::provision::SoftHsm;
use serde::Deserialize;

use crate::programs;

/// A SoftHSM2 with one PKCS#11 token, in a directory of its own.
#[derive(Clone, Debug)]
pub struct Token {
    soft_hsm: SoftHsm,
    directory: PathBuf,
}

/// What changes when a login is tried: SoftHSM writes the PKCS#11 token's flags at each `C_Login`,
/// right PIN or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginTrace(Vec<(SystemTime, Vec<u8>)>);

/// A key object as another program finds it in the PKCS#11 token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Object {
    /// `CKO_PRIVATE_KEY` or `CKO_PUBLIC_KEY`.
    pub class: String,
    /// `CKA_ID`.
    #[serde(default)]
    pub id: Vec<u8>,
    /// `CKA_LABEL`.
    #[serde(default)]
    pub label: String,
    /// `CKA_EC_POINT`: a DER octet string, of public keys on a curve.
    #[serde(default)]
    pub point: Vec<u8>,
}

impl Token {
    /// Makes the directory and an initialised PKCS#11 token with this label in it.
    ///
    /// # Panics
    /// If SoftHSM2 is not installed or the token cannot be made.
    #[must_use]
    pub fn provision(directory: &Path, label: &str) -> Self {
        let worker = programs::path(programs::WORKER);
        match SoftHsm::provision(directory, label, &worker) {
            Ok(soft_hsm) => Self { soft_hsm, directory: directory.to_owned() },
            Err(error) => panic!("{error}"),
        }
    }

    /// Where everything is, and how it is configured as a device.
    #[must_use]
    pub fn soft_hsm(&self) -> &SoftHsm {
        &self.soft_hsm
    }

    /// Adds a PKCS#11 token with this label and the same PIN; its serial number. As one that is plugged in, it
    /// is there as a whole at once: SoftHSM answers `CKR_USER_PIN_NOT_INITIALIZED` to a process that loaded one
    /// whose user PIN was set a moment later, and that parks (I10).
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn add(&self, label: &str) -> String {
        let apart = self.directory.join("apart");
        let (here, there) = (self.directory.join("tokens"), apart.join("tokens"));
        fs::create_dir_all(&there).expect("a directory for it");
        let conf = fs::read_to_string(&self.soft_hsm.conf).expect("SoftHSM's configuration");
        let [from, to] = [&here, &there].map(|path| path.display().to_string());
        let maker = SoftHsm { conf: apart.join("softhsm2.conf"), ..self.soft_hsm.clone() };
        fs::write(&maker.conf, conf.replace(&from, &to)).expect("SoftHSM's configuration");
        let worker = programs::path(programs::WORKER);
        let serial = maker.add_token(label, &worker).expect("one more PKCS#11 token");
        for token in fs::read_dir(there).expect("it was made above") {
            let token = token.expect("the PKCS#11 token");
            fs::rename(token.path(), here.join(token.file_name())).expect("it is plugged in");
        }
        fs::remove_dir_all(apart).expect("nothing is left");
        serial
    }

    /// Adds another PKCS#11 token with the same label: by SoftHSM's own tool, because the worker's
    /// `init-token` refuses to.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn add_twin(&self) {
        let said = Command::new("softhsm2-util")
            .env("SOFTHSM2_CONF", &self.soft_hsm.conf)
            .args(["--init-token", "--free", "--label", &self.soft_hsm.label])
            .args(["--so-pin", "12345678", "--pin", &self.pin()])
            .output()
            .expect("softhsm2-util is installed with SoftHSM2");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    /// Has the module list all mechanisms but these from its next start on; none, to list all again.
    ///
    /// # Panics
    /// If SoftHSM's configuration cannot be written.
    pub fn withhold_mechanisms(&self, mechanisms: &[&str]) {
        let conf = fs::read_to_string(&self.soft_hsm.conf).expect("SoftHSM's configuration");
        let kept = conf.lines().filter(|line| !line.starts_with("slots.mechanisms"));
        let mut conf: String = kept.map(|line| format!("{line}\n")).collect();
        if !mechanisms.is_empty() {
            // SoftHSM 2.6.1 overlooks the first name after the minus sign.
            conf.push_str(&format!("slots.mechanisms = -NONE,{}\n", mechanisms.join(",")));
        }
        fs::write(&self.soft_hsm.conf, conf).expect("SoftHSM's configuration");
    }

    /// The user PIN.
    ///
    /// # Panics
    /// If its file cannot be read.
    #[must_use]
    pub fn pin(&self) -> String {
        fs::read_to_string(&self.soft_hsm.pin_file).expect("the PIN's file").trim_end().to_owned()
    }

    /// Writes another PIN into the PIN's file; the PKCS#11 token's own stays as it is.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn write_pin_file(&self, pin: &str) {
        let path = &self.soft_hsm.pin_file;
        fs::write(path, pin).expect("the PIN's file");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("the PIN's file mode");
    }

    /// All key objects, looked at past the appliance by a program of its own (`examples/objects.rs`).
    ///
    /// Not those without `CKA_ID` and `CKA_LABEL`: SoftHSM 2.6.1 may fail at making a key while others sign (its
    /// issue 573), and leaves an object that has nothing of what was asked for.
    ///
    /// # Panics
    /// If they cannot be read.
    #[must_use]
    pub fn objects(&self) -> Vec<Object> {
        let said = Command::new(programs::example("objects"))
            .env("SOFTHSM2_CONF", &self.soft_hsm.conf)
            .arg(&self.soft_hsm.module)
            .args([&self.soft_hsm.label, &self.pin()])
            .output()
            .expect("it is built");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let lines = String::from_utf8_lossy(&said.stdout);
        let objects = lines.lines().map(|line| serde_json::from_str(line).expect("an object"));
        let named = |object: &Object| !(object.id.is_empty() && object.label.is_empty());
        objects.filter(named).collect()
    }

    /// What SoftHSM has written about logins so far: two are the same only if none was tried between.
    ///
    /// # Panics
    /// If the PKCS#11 token's files cannot be read.
    #[must_use]
    pub fn login_trace(&self) -> LoginTrace {
        let tokens = fs::read_dir(self.directory.join("tokens")).expect("SoftHSM's directory");
        let files = tokens.flatten().map(|token| token.path().join("token.object"));
        let trace = files.filter(|file| file.exists()).map(|file| {
            let modified = file.metadata().and_then(|m| m.modified()).expect("its time");
            (modified, fs::read(&file).expect("its content"))
        });
        let mut trace: Vec<_> = trace.collect();
        trace.sort();
        assert!(!trace.is_empty(), "SoftHSM keeps no token.object: this check has to change");
        LoginTrace(trace)
    }

    /// Gives everything to a user: the worker's, where that is not this process's.
    ///
    /// # Panics
    /// If that is not allowed.
    pub fn give_to(&self, uid: u32, gid: u32) {
        give(&self.directory, uid, gid);
    }
}

fn give(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).expect("root gives files away");
    if path.symlink_metadata().expect("it exists").is_dir() {
        for entry in fs::read_dir(path).expect("readable").flatten() {
            give(&entry.path(), uid, gid);
        }
    }
    assert_eq!(path.symlink_metadata().expect("it exists").uid(), uid);
}
