//! A SoftHSM2 with one PKCS#11 token.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use zeroize::Zeroizing;

use super::{
    ProvisionError, device_toml, file_error, make_private_directory, random_pin, write_new,
};
use crate::{
    device::{DeviceEntry, Kind},
    model::Model,
    name::DeviceName,
    pin::PinSource,
};

/// The environment variable by which SoftHSM finds its configuration.
const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";

/// A SoftHSM2 with one initialised PKCS#11 token in a directory of its own. Removing the directory
/// removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftHsm {
    /// SoftHSM's configuration file, for `SOFTHSM2_CONF`.
    pub conf: PathBuf,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// The PKCS#11 token's label.
    pub label: String,
    /// The PKCS#11 token's serial number.
    pub serial: String,
    /// The user PIN's file, mode 0600.
    pub pin_file: PathBuf,
}

impl SoftHsm {
    /// Makes `directory` (0700) with SoftHSM's configuration and a PKCS#11 token with this label,
    /// random PINs, and the user PIN in a file. The security officer's PIN is thrown away.
    ///
    /// `worker` is the path of the `mintwarden-pkcs11` binary.
    ///
    /// # Errors
    /// [`ProvisionError`]. What was made up to then stays.
    pub fn provision(directory: &Path, label: &str, worker: &Path) -> Result<Self, ProvisionError> {
        let model = Model::find("softhsm2").expect("a test parses each built-in model");
        let module = model
            .installed_module()
            .ok_or(ProvisionError::ModuleNotInstalled { install: &model.install })?;
        // Absolute, because SoftHSM resolves paths against its own working directory.
        let directory = std::path::absolute(directory).map_err(|e| file_error(directory, e))?;
        let tokens = directory.join("tokens");
        make_private_directory(&tokens)?;
        let conf = directory.join("softhsm2.conf");
        write_new(&conf, softhsm_conf(&tokens).as_bytes())?;
        let pin_file = directory.join("pin");
        let pin = random_pin()?;
        write_new(&pin_file, pin.as_bytes())?;
        let mut soft_hsm = Self {
            conf,
            module: module.to_owned(),
            label: label.to_owned(),
            serial: String::new(),
            pin_file,
        };
        soft_hsm.serial = soft_hsm.init_token(label, &pin, worker)?;
        Ok(soft_hsm)
    }

    /// Initialises one more PKCS#11 token with its own label and the same user PIN, and returns its
    /// serial number.
    ///
    /// # Errors
    /// [`ProvisionError`], among others if there is a PKCS#11 token with this label already.
    pub fn add_token(&self, label: &str, worker: &Path) -> Result<String, ProvisionError> {
        let pin = fs::read_to_string(&self.pin_file).map_err(|e| file_error(&self.pin_file, e))?;
        self.init_token(label, &Zeroizing::new(pin), worker)
    }

    /// The device as an operator would configure it.
    #[must_use]
    pub fn device(&self, name: DeviceName) -> DeviceEntry {
        DeviceEntry {
            model: Some("softhsm2".to_owned()),
            module: Some(self.module.clone()),
            token_label: Some(self.label.clone()),
            pin: Some(PinSource::File(self.pin_file.clone())),
            environment: [(SOFTHSM2_CONF.to_owned(), self.conf.display().to_string())].into(),
            ..DeviceEntry::new(name, Kind::Pkcs11)
        }
    }

    /// The device as a `[[device]]` table, ready to be appended to a configuration file.
    #[must_use]
    pub fn device_toml(&self, name: DeviceName) -> String {
        device_toml(self.device(name))
    }

    fn init_token(&self, label: &str, pin: &str, worker: &Path) -> Result<String, ProvisionError> {
        let so_pin = random_pin()?;
        let failed =
            |problem: String| ProvisionError::InitToken { worker: worker.to_owned(), problem };
        let mut child = Command::new(worker)
            .args([OsStr::new("init-token"), OsStr::new("--module"), self.module.as_os_str()])
            .args(["--label", label])
            .env(SOFTHSM2_CONF, &self.conf)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| ProvisionError::Worker { worker: worker.to_owned(), source: error })?;
        let mut stdin = child.stdin.take().expect("it was asked for above");
        // One buffer of its final size: one that grows leaves copies of the PINs behind.
        let mut lines = Zeroizing::new(String::with_capacity(so_pin.len() + pin.len() + 2));
        for line in [so_pin.as_str(), pin] {
            lines.push_str(line.trim_end_matches('\n'));
            lines.push('\n');
        }
        // A child that refuses before it reads has its reason on standard error, below.
        let written = stdin.write_all(lines.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(failed(format!("{} ({})", said.trim(), output.status)));
        }
        written.map_err(|error| failed(error.to_string()))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

fn softhsm_conf(tokens: &Path) -> String {
    format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
        tokens.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_table_is_one_that_a_configuration_takes() {
        let soft_hsm = SoftHsm {
            conf: "/d/softhsm2.conf".into(),
            module: "/m/libsofthsm2.so".into(),
            label: "dev \"token\"".to_owned(),
            serial: "1f".to_owned(),
            pin_file: "/d/pin".into(),
        };
        let name: DeviceName = "hsm-a".parse().expect("a name");
        let text = soft_hsm.device_toml(name.clone());
        #[derive(serde::Deserialize)]
        struct File {
            device: Vec<DeviceEntry>,
        }
        let file: File = toml::from_str(&text).expect("parses");
        assert_eq!(file.device, [soft_hsm.device(name)]);
        assert!(file.device[0].clone().resolve(Path::new("/"), false).is_ok());
    }

    #[test]
    fn a_worker_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let worker = directory.path().join("absent");
        let error = SoftHsm::provision(&directory.path().join("hsm"), "dev", &worker)
            .expect_err("no worker")
            .to_string();
        assert!(error.contains("absent") && error.contains("cargo build"), "{error}");
    }
}
