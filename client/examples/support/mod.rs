//! What both examples need: files that name themselves when they are wrong, and mutual TLS.

pub(crate) mod listen;
pub(crate) mod tls;

use std::{fs, path::Path, process::ExitCode};

use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The exit status for a bad configuration (sysexits.h: EX_CONFIG).
pub(crate) const BAD_CONFIG: u8 = 78;

/// Why an example does not run, and its exit status.
pub(crate) struct Failure {
    pub(crate) status: u8,
    pub(crate) message: String,
}

impl Failure {
    /// The configuration cannot work.
    pub(crate) fn config(message: impl ToString) -> Self {
        Self { status: BAD_CONFIG, message: message.to_string() }
    }

    /// Something else.
    pub(crate) fn other(message: impl ToString) -> Self {
        Self { status: 1, message: message.to_string() }
    }
}

/// Ends `main`: says what went wrong, if anything did.
pub(crate) fn end(name: &str, outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { status, message }) => {
            eprintln!("{name}: {message}");
            ExitCode::from(status)
        }
    }
}

/// Logs to standard error; `filter` as in `info,tts=debug`.
pub(crate) fn log_to_stderr(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(Failure::config)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    Ok(())
}

/// Reads a TOML file.
pub(crate) fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let wrong =
        |problem: &dyn std::fmt::Display| Failure::config(format!("{}: {problem}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
    toml::from_str(&text).map_err(|error| wrong(&error))
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn asked_to_end() {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
