//! A TPM in software: libtpms, by way of swtpm.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::{
    ProvisionError, device_toml, file_error, make_private_directory, random_pin, write_new,
};
use crate::{
    device::{DeviceEntry, Kind, Tcti},
    name::DeviceName,
    pin::PinSource,
};

/// Where ports are looked for: below those that systems give to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Pairs of ports that are tried: another process may take one in between.
const ATTEMPTS: usize = 16;

/// How often, and how many times, it is looked whether swtpm serves.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOKS: usize = 1000;

/// What setpriv(1) ends with where the program is not there.
const NOT_EXECUTED: i32 = 127;

/// A swtpm with its state in a directory, served on a TCP port of the loopback interface. Dropped, it ends;
/// the state stays until the directory is removed. Killed with the thread that started it, it leaves nothing behind.
#[derive(Debug)]
pub struct Swtpm {
    /// Its directory.
    directory: PathBuf,
    /// The port of its command channel; that of the control channel is the next one.
    port: u16,
    /// The device secret's file, mode 0600.
    pub secret_file: PathBuf,
    running: Option<Child>,
}

impl Swtpm {
    /// Makes `directory` (0700) with the TPM's state and a random device secret in a file, and starts it.
    ///
    /// # Errors
    /// [`ProvisionError`]. What was made up to then stays.
    pub fn provision(directory: &Path) -> Result<Self, ProvisionError> {
        Self::provision_with(directory, |mut command| command.spawn())
    }

    /// As [`Swtpm::provision`], where the caller starts the process.
    ///
    /// # Errors
    /// As [`Swtpm::provision`].
    pub fn provision_with(
        directory: &Path,
        spawn: impl Fn(Command) -> io::Result<Child>,
    ) -> Result<Self, ProvisionError> {
        let directory = std::path::absolute(directory).map_err(|e| file_error(directory, e))?;
        make_private_directory(&directory.join("state"))?;
        let secret_file = directory.join("secret");
        write_new(&secret_file, random_pin()?.as_bytes())?;
        let mut swtpm = Self { directory, port: 0, secret_file, running: None };
        let mut ended = String::new();
        for _ in 0..ATTEMPTS {
            swtpm.port = free_ports()?;
            match swtpm.start_with(&spawn) {
                Err(ProvisionError::SwtpmEnded(why)) => ended = why,
                other => return other.map(|()| swtpm),
            }
        }
        Err(ProvisionError::SwtpmEnded(ended))
    }

    /// Powers it up, where it was: the same state at the same port.
    ///
    /// # Errors
    /// [`ProvisionError`].
    pub fn start_with(
        &mut self,
        spawn: impl Fn(Command) -> io::Result<Child>,
    ) -> Result<(), ProvisionError> {
        self.cut_power();
        let pid_file = self.pid_file();
        match fs::remove_file(&pid_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file_error(&pid_file, error));
            }
            _ => {}
        }
        self.running = Some(spawn(self.command()).map_err(ProvisionError::Swtpm)?);
        let running = self.running.as_mut().expect("it was put there just now");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        for _ in 0..LOOKS {
            if let Ok(Some(status)) = running.try_wait() {
                if status.code() == Some(NOT_EXECUTED) {
                    return Err(ProvisionError::Swtpm(io::ErrorKind::NotFound.into()));
                }
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                return Err(ProvisionError::SwtpmEnded(format!("{status}: {last}")));
            }
            // It says its id when it has both ports: who answers before may be somebody else's.
            let has_both = fs::metadata(&pid_file).is_ok_and(|file| file.len() > 0);
            if has_both && TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            thread::sleep(LOOK_EVERY);
        }
        Err(ProvisionError::SwtpmEnded(format!("nothing answers at {address}")))
    }

    /// Ends it at once (SIGKILL): what a TPM loses without power is lost, and no `TPM2_Shutdown` was
    /// given.
    pub fn cut_power(&mut self) {
        if let Some(mut child) = self.running.take() {
            // It may have ended by itself.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }

    /// The way to it.
    #[must_use]
    pub fn tcti(&self) -> Tcti {
        Tcti::SwtpmTcp { host: Ipv4Addr::LOCALHOST.to_string(), port: self.port }
    }

    /// The device as an operator would configure it.
    #[must_use]
    pub fn device(&self, name: DeviceName) -> DeviceEntry {
        DeviceEntry {
            tcti: Some(self.tcti().to_string()),
            secret: Some(PinSource::File(self.secret_file.clone())),
            exclusive: Some(true),
            ..DeviceEntry::new(name, Kind::Tpm)
        }
    }

    /// The device as a `[[device]]` table, ready to be appended to a configuration file.
    #[must_use]
    pub fn device_toml(&self, name: DeviceName) -> String {
        device_toml(self.device(name))
    }

    fn command(&self) -> Command {
        // Part of every Debian; it executes the program in its own place.
        let mut command = Command::new("setpriv");
        let state = self.directory.join("state");
        command
            .args(["--pdeathsig", "KILL", "--", "swtpm", "socket", "--tpm2", "--tpmstate"])
            .arg(format!("dir={}", state.display()))
            .arg("--server")
            .arg(format!("type=tcp,port={},bindaddr=127.0.0.1", self.port))
            .arg("--ctrl")
            .arg(format!("type=tcp,port={},bindaddr=127.0.0.1", self.port + 1))
            .args(["--flags", "not-need-init,startup-clear", "--log"])
            .arg(format!("file={},truncate", self.directory.join("log").display()))
            .arg("--pid")
            .arg(format!("file={}", self.pid_file().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.errors());
        command
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join("pid")
    }

    fn errors(&self) -> Stdio {
        File::create(self.directory.join("errors")).map_or_else(|_| Stdio::null(), Stdio::from)
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.cut_power();
    }
}

/// A port that is free and has a free one after it.
fn free_ports() -> Result<u16, ProvisionError> {
    for _ in 0..1000 {
        let mut random = [0; 2];
        rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| ProvisionError::Random(error.into()))?;
        let span = PORTS.end - PORTS.start;
        let port = PORTS.start + u16::from_be_bytes(random) % span;
        let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free(port) && is_free(port + 1) {
            return Ok(port);
        }
    }
    Err(ProvisionError::SwtpmEnded("no two ports in a row are free".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swtpm_is_where_it_was_after_a_power_cut() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut swtpm = Swtpm::provision(&directory.path().join("tpm")).expect("swtpm");
        let table = swtpm.device_toml("tpm-a".parse().expect("a name"));
        #[derive(serde::Deserialize)]
        struct File {
            device: Vec<DeviceEntry>,
        }
        let file: File = toml::from_str(&table).expect("parses");
        assert_eq!(file.device, [swtpm.device("tpm-a".parse().expect("a name"))]);
        assert!(file.device[0].clone().resolve(Path::new("/"), false).is_ok());

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, swtpm.port));
        swtpm.cut_power();
        for taken in [swtpm.port, swtpm.port + 1] {
            let _others = TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).expect("free again");
            let started = swtpm.start_with(|mut command| command.spawn());
            assert!(matches!(started, Err(ProvisionError::SwtpmEnded(_))), "{started:?}");
        }
        assert!(TcpStream::connect(address).is_err());
        swtpm.start_with(|mut command| command.spawn()).expect("it starts again");
        assert!(TcpStream::connect(address).is_ok());
    }
}
