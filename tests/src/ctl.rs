//! Runs `mintwardenctl`.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{Identity, programs};

/// A call of `mintwardenctl`, not made yet.
#[derive(Debug)]
#[must_use = "nothing happens before `run`"]
pub struct Ctl {
    home: PathBuf,
    endpoint: String,
    ca: PathBuf,
    identity: Option<Identity>,
    arguments: Vec<String>,
    input: String,
}

/// What it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ctl {
    pub(crate) fn new(home: &Path, endpoint: String, ca: PathBuf, identity: Identity) -> Self {
        let home = home.to_owned();
        let identity = Some(identity);
        Self { home, endpoint, ca, identity, arguments: vec![], input: String::new() }
    }

    pub(crate) fn args<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.arguments.extend(arguments.into_iter().map(str::to_owned));
        self
    }

    /// With this certificate.
    pub fn identity(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Over this unix socket, without a certificate.
    pub fn over_unix(mut self, socket: &Path) -> Self {
        self.endpoint = format!("unix:{}", socket.display());
        self.identity = None;
        self
    }

    /// With this standard input.
    pub fn input(mut self, input: impl Into<String>) -> Self {
        self.input = input.into();
        self
    }

    /// Runs it. Nothing of this process's environment reaches it.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn run(self) -> Said {
        let mut command = Command::new(programs::path(programs::CTL));
        command.env_clear().env("HOME", &self.home).args(["--endpoint", &self.endpoint]);
        if let Some(identity) = &self.identity {
            command.arg("--cert").arg(&identity.certificate);
            command.arg("--key").arg(&identity.private_key);
            command.arg("--ca").arg(&self.ca);
        }
        command.args(&self.arguments).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("mintwardenctl starts");
        let mut stdin = child.stdin.take().expect("it was asked for above");
        let feed = async move {
            // It may end without reading all of it.
            let _written = stdin.write_all(self.input.as_bytes()).await;
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        let output = output.expect("mintwardenctl ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl Said {
    /// The standard output of a call that has to succeed.
    ///
    /// # Panics
    /// If it did not.
    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }
}
