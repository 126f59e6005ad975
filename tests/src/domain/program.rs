use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use toml::Table;

use crate::{eventually, process::spawn, programs};

/// An example of the client library that runs.
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
    address: SocketAddr,
}

impl Program {
    /// Runs an example on a configuration, which becomes `file.toml` in the directory, and waits until it serves.
    ///
    /// # Panics
    /// If it ends instead.
    pub async fn start(example: &str, file: &str, directory: &Path, config: &Table) -> Self {
        match Self::try_start(example, file, directory, config).await {
            Ok(program) => program,
            Err((status, said)) => panic!("{example} does not start ({status}):\n{said}"),
        }
    }

    /// Runs an example, and waits until it serves or has ended.
    ///
    /// # Errors
    /// How it ended, and what it said.
    ///
    /// # Panics
    /// If it cannot be run, or does neither.
    pub async fn try_start(
        example: &str,
        file: &str,
        directory: &Path,
        config: &Table,
    ) -> Result<Self, (ExitStatus, String)> {
        let path = directory.join(format!("{file}.toml"));
        fs::write(&path, config.to_string()).expect("the configuration");
        let log = directory.join(format!("{file}.log"));
        // It ends with this process: setpriv(1) is part of every Debian, and executes the program in its place.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(programs::example(example));
        command.arg("--config").arg(path).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&log).expect("the log file"));
        let mut child = spawn(command).expect("setpriv and the example can be started");
        let waiting = format!("{example} serves, or ends");
        let seen = eventually(&waiting, async || {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(Err(status));
            }
            address(&log).map(Ok)
        });
        match seen.await {
            Ok(address) => Ok(Self { name: file.to_owned(), child, log, address }),
            Err(status) => Err((status, fs::read_to_string(&log).unwrap_or_default())),
        }
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL at it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Asks it to end (SIGTERM) and waits until it has, in order; what it said.
    ///
    /// # Panics
    /// If it does not.
    pub async fn stop(&mut self) -> String {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it runs");
        let ended = async || self.child.try_wait().expect("a child can be waited for");
        let status = eventually(&format!("{} ends", self.name), ended).await;
        assert!(status.success(), "{status}:\n{}", self.log());
        self.log()
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The examples say where they serve as `NAME: serving https://ADDRESS`.
fn address(log: &Path) -> Option<SocketAddr> {
    let text = fs::read_to_string(log).ok()?;
    let (_, rest) = text.split_once("serving https://")?;
    let (address, _) = rest.split_once('\n')?;
    address.parse().ok()
}

impl Drop for Program {
    fn drop(&mut self) {
        let _killed_and_reaped = self.child.kill().and_then(|()| self.child.wait());
        if std::thread::panicking() {
            eprintln!("---- log of {} ----\n{}---- end of log ----", self.name, self.log());
        }
    }
}
