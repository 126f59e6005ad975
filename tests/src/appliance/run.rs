//! Starting and ending.

use std::{
    fs::{self, OpenOptions},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::Signal;
use toml::Table;

use super::Appliance;
use crate::{
    Process, Role, eventually,
    process::{of_session, spawn},
};

/// The launcher, by which all others are found.
pub(super) struct Running {
    launcher: Child,
    session: i32,
}

impl Running {
    /// Kills whatever of it still runs.
    pub(super) fn kill(mut self) {
        of_session(self.session).iter().for_each(Process::kill9);
        let _reaped = self.launcher.wait();
    }
}

/// How a launcher ended, and what it had said until then.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard error, since the appliance was made.
    pub stderr: String,
}

impl Appliance {
    /// Starts it and waits until it serves; its devices may still be on their way.
    ///
    /// # Panics
    /// If it runs already, or ends instead.
    pub async fn start(&mut self) {
        if let Err(ended) = self.try_start().await {
            panic!("the appliance does not start ({}):\n{}", ended.status, ended.stderr);
        }
    }

    /// Starts it and waits until it serves, or has ended.
    ///
    /// # Errors
    /// How it ended.
    ///
    /// # Panics
    /// If it runs already, or does neither.
    pub async fn try_start(&mut self) -> Result<(), Ended> {
        assert!(self.running.is_none(), "the appliance runs already");
        let _absent = fs::remove_file(self.file("addresses.json"));
        let log = OpenOptions::new().create(true).append(true).open(self.file("log"));
        // A session of its own: see `process`. setsid(1) is part of every Debian; it executes the
        // program in its own place.
        let mut command = Command::new("setsid");
        command.arg(self.program(self.program)).arg("--config").arg(self.config());
        command.arg("--addresses").arg(self.file("addresses.json"));
        command.arg("--die-with-parent").arg(std::process::id().to_string());
        command.env_clear().env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("the log file"));
        let launcher = spawn(command).expect("setsid and mintwarden can be started");
        let session = i32::try_from(launcher.id()).expect("process ids fit");
        self.running = Some(Running { launcher, session });
        self.serving().await
    }

    /// Waits until it has said where it serves, or has ended.
    async fn serving(&mut self) -> Result<(), Ended> {
        enum Seen {
            Serves,
            Ended(ExitStatus),
        }
        let seen = eventually("the appliance serves, or ends", async || {
            let running = self.running.as_mut()?;
            if let Ok(Some(status)) = running.launcher.try_wait() {
                return Some(Seen::Ended(status));
            }
            let text = fs::read(self.file("addresses.json")).ok()?;
            self.addresses = serde_json::from_slice(&text).ok();
            self.addresses.is_some().then_some(Seen::Serves)
        });
        match seen.await {
            Seen::Serves => Ok(()),
            Seen::Ended(status) => {
                self.running = None;
                Err(Ended { status, stderr: self.log() })
            }
        }
    }

    /// Looks again where it serves, as those do who are told by its `addresses.json`: a server that ended
    /// by itself is followed by one at other ports.
    pub fn look_again(&mut self) {
        let told = fs::read(self.file("addresses.json")).ok();
        if let Some(addresses) = told.and_then(|text| serde_json::from_slice(&text).ok()) {
            self.addresses = Some(addresses);
        }
    }

    /// Its running processes, launcher first.
    ///
    /// # Panics
    /// If it was not started.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        of_session(self.running().session)
    }

    /// Its process of this kind; of several workers the first.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn process(&self, role: Role) -> Process {
        let found = self.processes().into_iter().find(|process| process.role == role);
        found.unwrap_or_else(|| panic!("no {role:?} runs"))
    }

    /// Waits for its process of this kind, which may just be on its way.
    pub async fn until_process(&self, role: Role) -> Process {
        let found = async || self.processes().into_iter().find(|process| process.role == role);
        eventually(&format!("a {role:?} runs"), found).await
    }

    /// Ends the worker by SIGKILL; returns once it is gone.
    pub async fn kill_worker(&self) {
        let worker = self.until_process(Role::Worker).await;
        worker.kill9();
        gone("the worker", &[worker]).await;
    }

    /// Ends the server by SIGKILL; returns once another one serves, at other ports.
    ///
    /// # Panics
    /// If none comes.
    pub async fn kill_server(&mut self) {
        fs::remove_file(self.file("addresses.json")).expect("the running server's addresses");
        let server = self.until_process(Role::Server).await;
        server.kill9();
        if let Err(ended) = self.serving().await {
            panic!("the launcher ended with the server ({}):\n{}", ended.status, ended.stderr);
        }
        assert!(!server.runs());
    }

    /// Ends the launcher by SIGKILL; returns once none of its processes is left.
    ///
    /// # Panics
    /// If one is.
    pub async fn kill_launcher(&mut self) {
        let mut running = self.running.take().expect("it was started");
        running.launcher.kill().expect("a child can be killed");
        running.launcher.wait().expect("a child can be reaped");
        nothing_left(running).await;
    }

    /// Asks it to end (SIGTERM); does not wait.
    pub fn terminate(&self) {
        self.process(Role::Launcher).signal(Signal::TERM);
    }

    /// Ends it by SIGTERM: it has to exit with 0 and leave no process behind.
    ///
    /// # Panics
    /// If it does not.
    pub async fn stop(&mut self) {
        self.terminate();
        let ended = self.ended().await;
        assert!(ended.status.success(), "{}:\n{}", ended.status, ended.stderr);
    }

    /// Stops it and starts it again with this `[limits]` table, which what went before need not have met.
    ///
    /// # Panics
    /// As [`stop`](Self::stop) and [`start`](Self::start).
    pub async fn restart_with_limits(&mut self, limits: Table) {
        self.stop().await;
        self.reconfigure(|config| drop(config.insert("limits".into(), limits.into())));
        self.start().await;
    }

    /// Waits until it has ended and no process is left of it.
    ///
    /// # Panics
    /// If one is.
    pub async fn ended(&mut self) -> Ended {
        let mut running = self.running.take().expect("it was started");
        let status = eventually("the launcher ends", async || {
            running.launcher.try_wait().expect("a child can be waited for")
        })
        .await;
        nothing_left(running).await;
        Ended { status, stderr: self.log() }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the appliance was started")
    }
}

/// Waits until no process of the session is left. Whatever is left when patience ends is killed, so
/// that the failure is this one and not a runner that hangs.
async fn nothing_left(running: Running) {
    struct Guard(Option<Running>);
    impl Drop for Guard {
        fn drop(&mut self) {
            if let Some(running) = self.0.take() {
                running.kill();
            }
        }
    }
    let mut guard = Guard(Some(running));
    eventually("no process of the appliance is left", async || {
        let session = guard.0.as_ref()?.session;
        of_session(session).is_empty().then_some(())
    })
    .await;
    guard.0 = None;
}

async fn gone(what: &str, processes: &[Process]) {
    eventually(&format!("{what} is gone"), async || {
        processes.iter().all(|process| !process.runs()).then_some(())
    })
    .await;
}
