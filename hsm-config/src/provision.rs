//! Throw-away PKCS#11 tokens for `mintwarden dev`, for tests and for images.
//!
//! This process loads no PKCS#11 module: the worker's binary initialises the PKCS#11 token, and gets
//! both PINs on its standard input, where no other process can read them.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use zeroize::Zeroizing;

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
            name,
            kind: Kind::Pkcs11,
            model: "softhsm2".to_owned(),
            module: Some(self.module.clone()),
            token_label: Some(self.label.clone()),
            token_serial: None,
            pin: PinSource::File(self.pin_file.clone()),
            sessions: None,
            device_call_timeout: None,
            init_args: None,
            quirks: None,
            environment: [(SOFTHSM2_CONF.to_owned(), self.conf.display().to_string())].into(),
        }
    }

    /// The device as a `[[device]]` table, ready to be appended to a configuration file.
    #[must_use]
    pub fn device_toml(&self, name: DeviceName) -> String {
        #[derive(serde::Serialize)]
        struct File {
            device: [DeviceEntry; 1],
        }
        toml::to_string(&File { device: [self.device(name)] })
            .expect("a device entry has only strings, numbers and tables of strings")
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

/// A throw-away PKCS#11 token that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisionError {
    /// SoftHSM2 is not installed.
    #[error("SoftHSM2 is not installed; `{install}`")]
    ModuleNotInstalled {
        /// How it is installed.
        install: &'static str,
    },
    /// A file or directory cannot be made.
    #[error(
        "{path}: {source}; give a directory that does not have a PKCS#11 token yet and that this user can write"
    )]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system gives no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Random(#[source] io::Error),
    /// The worker's binary cannot be started.
    #[error(
        "{worker} cannot be started: {source}; build it (`cargo build -p mintwarden-pkcs11`) or install it beside `mintwarden`"
    )]
    Worker {
        /// The binary.
        worker: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The PKCS#11 token was not initialised.
    #[error("`{worker} init-token` failed: {problem}")]
    InitToken {
        /// The binary.
        worker: PathBuf,
        /// What it said.
        problem: String,
    },
}

fn file_error(path: &Path, source: io::Error) -> ProvisionError {
    ProvisionError::File { path: path.to_owned(), source }
}

fn softhsm_conf(tokens: &Path) -> String {
    format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
        tokens.display()
    )
}

fn make_private_directory(path: &Path) -> Result<(), ProvisionError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| file_error(path, error))
}

/// Never replaces a file: it could be the PIN of a PKCS#11 token that someone uses.
fn write_new(path: &Path, content: &[u8]) -> Result<(), ProvisionError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content)).map_err(|error| file_error(path, error))
}

/// 128 random bits in hexadecimal: within every module's limits of length and alphabet.
fn random_pin() -> Result<Zeroizing<String>, ProvisionError> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = Zeroizing::new([0_u8; 16]);
    let length = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| ProvisionError::Random(error.into()))?;
    if length != bytes.len() {
        return Err(ProvisionError::Random(io::ErrorKind::UnexpectedEof.into()));
    }
    let mut pin = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes.iter() {
        pin.push(char::from(DIGITS[usize::from(byte >> 4)]));
        pin.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    Ok(pin)
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
    fn pins_are_long_and_never_the_same() {
        let (a, b) = (random_pin().expect("random"), random_pin().expect("random"));
        assert_eq!(a.len(), 32);
        assert_ne!(a, b);
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

    #[test]
    fn an_existing_pin_file_is_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pin");
        write_new(&path, b"1").expect("written");
        assert!(write_new(&path, b"2").is_err());
        assert_eq!(fs::read(&path).expect("read"), b"1");
    }
}
