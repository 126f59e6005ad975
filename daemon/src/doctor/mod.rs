//! `mintwarden doctor`: examines an appliance, running or stopped, and says what is wrong and what to
//! do about it.
//!
//! A running appliance is asked through its server and the workers that it has: the doctor never
//! causes a second login. Of a stopped one it starts server's part and workers as the launcher would,
//! as the same users and with the same record of logins (I10), and ends them again; the lock on the
//! state directory keeps a launcher out meanwhile.

pub(crate) mod account;
mod certificates;
pub(crate) mod configuration;
mod device;
mod files;
mod http;
mod jwks;
mod keys;
mod ops;
mod report;
mod running;
pub(crate) mod server;
pub(crate) mod stopped;
mod system;
mod users;

use std::{
    fs::File,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use mintwarden_worker::finding::{Check, Finding};

use self::{
    account::ServerAccount,
    report::{Condition, Report},
    stopped::Parts,
    users::Owners,
};
use crate::{
    config::{Config, ConfigError, EXIT_CONFIG},
    launcher::{layout::Layout, process::Log},
};

/// What the command line says.
#[derive(clap::Args, Clone, Debug)]
pub struct Arguments {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", default_value = "/etc/mintwarden/mintwarden.toml")]
    config: PathBuf,
    /// Print JSON in place of text.
    #[arg(long)]
    json: bool,
    /// How long a device may take to answer.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = humantime::parse_duration)]
    within: Duration,
    /// Show the log of the processes that are started to examine a stopped appliance.
    #[arg(long)]
    verbose: bool,
}

/// Examines, and prints what was found. The exit status is 0 only without a fault: 78 for a
/// configuration that cannot be used, else 1.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut report = Report::new(&arguments.config);
    let usable = match examine(arguments, &mut report) {
        Ok(()) => true,
        Err(error) => {
            let found = if error.key.is_empty() {
                error.what
            } else {
                format!("{}: {}", error.key, error.what)
            };
            let subject = error.file.display().to_string();
            report.push(Finding::fault(Check::ConfigFile, subject, found, error.remedy));
            false
        }
    };
    report.close();
    let text = if arguments.json { report.to_json() } else { report.to_string() };
    match io::stdout().write_all(text.as_bytes()) {
        _ if !usable => EXIT_CONFIG.into(),
        Ok(()) if report.is_faultless() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn examine(arguments: &Arguments, report: &mut Report) -> Result<(), ConfigError> {
    let text = Config::read(&arguments.config)?;
    let config = Config::parse(&text, &arguments.config)?;
    let layout = Layout::of(&config)?;
    let owners = Owners::of(&layout);
    report.extend(configuration::examine(&config));
    report.push(users::examine(&config, owners));
    report.extend(files::examine(&config, &layout, owners));
    if let Some(tls) = &config.tls {
        report.extend(certificates::examine(tls));
    }
    report.extend(system::examine(&config.state_dir));
    report.extend(config.devices.iter().map(device::model));
    match appliance(arguments, &config, &text, &layout, report) {
        Ok(account) => heard(&config, account, report),
        Err(finding) => report.push(finding),
    }
    Ok(())
}

/// Asks the appliance, in the one way that there is.
fn appliance(
    arguments: &Arguments,
    config: &Config,
    text: &str,
    layout: &Layout,
    report: &mut Report,
) -> Result<ServerAccount, Finding> {
    let check = Check::Appliance;
    let subject = config.state_dir.display();
    let lock = lock(config, layout).map_err(|error| {
        let remedy = "run the doctor as the user that starts the appliance";
        Finding::fault(check, &subject, format!("it cannot be examined: {error}"), remedy)
    })?;
    let Some(_lock) = lock else {
        let account = running::ask(&config.state_dir, arguments.within).map_err(|error| {
            Finding::fault(
                check,
                &subject,
                format!("a launcher or another doctor holds it, and no server answers: {error}"),
                "it may be starting: look again, then at the log",
            )
        })?;
        report.appliance = Condition::Running;
        report.push(Finding::ok(check, &subject, "it runs; its server and workers were asked"));
        return Ok(account);
    };
    report.appliance = Condition::Stopped;
    let log = if arguments.verbose { Log::Inherited } else { Log::Discarded };
    let account = Parts { config, text, layout, log, within: arguments.within }.examine();
    let account = account.map_err(|error| {
        let found = format!("it is stopped, and its server's part cannot be examined: {error}");
        Finding::fault(check, &subject, found, "run the doctor with --verbose")
    })?;
    let found = "it is stopped; its parts were started to be examined, and ended again";
    report.push(Finding::ok(check, &subject, found));
    Ok(account)
}

/// The lock on the state directory, which is made as by a first start; `None` where somebody has it.
fn lock(config: &Config, layout: &Layout) -> Result<Option<File>, String> {
    if !config.state_dir.join("lock").exists() {
        layout.make(config).map_err(|error| error.what)?;
    }
    layout.try_lock().map_err(|error| error.to_string())
}

/// Adds what the appliance said, held against what it should be.
fn heard(config: &Config, account: ServerAccount, report: &mut Report) {
    let running = report.appliance == Condition::Running;
    report.push(configuration::running(running.then_some(&account.digest), config));
    if let Some(path) = config.listen.unix.as_ref().filter(|_| running) {
        report.push(files::socket(path));
    }
    report.extend(jwks::examine(config, &account, running));
    report.push(ops::examine(config, &account, running));
    report.extend(keys::examine(&account.issuers, &account.devices));
    report.extend(account.findings);
    report.extend(account.devices.into_iter().flat_map(|device| device.findings));
}

/// Does `work`, and does not wait for it beyond `limit`: what hangs is left to the end of this process.
fn bounded<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, waited) = mpsc::channel();
    thread::Builder::new()
        .name("bounded".into())
        .spawn(move || {
            // Nobody may be waiting any more.
            let _late = done.send(work());
        })
        .ok()?;
    waited.recv_timeout(limit).ok()
}
