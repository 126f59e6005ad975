//! The command line.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use mintwarden_worker::finding::{Finding, Verdict};
use rustix::process::Pid;

use crate::{
    config::{Config, EXIT_CONFIG},
    doctor,
    launcher::{self, layout::Layout},
    server,
};

/// A signing appliance for Transaction Token Services.
#[derive(Parser, Debug)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", default_value = "/etc/mintwarden/mintwarden.toml")]
    config: PathBuf,
    /// Check the configuration, its users and its certificates, then exit: 0 or 78. `mintwarden
    /// doctor` looks at everything else.
    #[arg(long)]
    check: bool,
    /// Once serving, write the bound addresses to this file (JSON).
    #[arg(long, value_name = "FILE")]
    addresses: Option<PathBuf>,
    /// End by SIGKILL with the parent process, which is this one: for `mintwarden dev` and tests.
    #[arg(long, hide = true, value_name = "PID", value_parser = parse_pid)]
    die_with_parent: Option<Pid>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Started by the launcher, never by hand.
    #[command(hide = true)]
    Server,
    /// Started by the doctor, never by hand.
    #[command(hide = true)]
    ServerAccount,
    /// Examine an appliance, running or stopped: what is wrong, and what to do. Exits with 0 only
    /// without a fault.
    Doctor(doctor::Arguments),
    /// A throw-away appliance on a SoftHSM2 token or a swtpm, with CA and certificates; cleans up after itself.
    #[cfg(feature = "dev")]
    Dev(crate::dev::Arguments),
}

fn parse_pid(text: &str) -> Result<Pid, &'static str> {
    text.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw).ok_or("not a process id")
}

/// Runs what the command line asks for.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Server) => server::run(),
        Some(Command::ServerAccount) => doctor::stopped::server_account(),
        Some(Command::Doctor(arguments)) => doctor::run(&arguments),
        #[cfg(feature = "dev")]
        Some(Command::Dev(dev)) => crate::dev::run(dev),
        None if arguments.check => check(&arguments.config),
        None => launcher::run(&launcher::Options {
            // Server and workers have another working directory.
            config: std::path::absolute(&arguments.config).unwrap_or(arguments.config),
            addresses: arguments.addresses,
            die_with_parent: arguments.die_with_parent,
        }),
    }
}

fn check(path: &std::path::Path) -> ExitCode {
    let checked = Config::load(path).map_err(|error| error.to_string()).and_then(|config| {
        let usable = Layout::of(&config).and_then(|_| server::preflight(&config));
        usable.map_err(|error| error.to_string()).map(|_| config)
    });
    match checked {
        Ok(config) => {
            for Finding { subject, found, remedy, .. } in doctor::configuration::warnings(&config)
                .into_iter()
                .filter(|finding| finding.verdict == Verdict::Warning)
            {
                eprintln!("{}: warning: {subject}: {found}\n  remedy: {remedy}", path.display());
            }
            let (issuers, devices) = (config.issuers.len(), config.devices.len());
            eprintln!("{}: good ({issuers} issuers, {devices} devices)", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            EXIT_CONFIG.into()
        }
    }
}
