//! `mintwarden-benches`: the budget of DESIGN.md, measured in one run.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::Parser as _;
use mintwarden_benches::{
    error::{BenchError, system},
    network_hsm,
    options::{Options, Role},
    profile,
    raw::child,
    report::Report,
    run::{self, Findings},
    table::Text,
    tpm, tts,
};
use serde::Serialize;

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.role {
        Some(Role::Raw(arguments)) => child::serve(arguments),
        Some(Role::Profile(arguments)) => wait(profile::run(arguments)),
        Some(Role::Tts(arguments)) => wait(tts::run(arguments)),
        Some(Role::NetworkHsm(arguments)) => wait(network_hsm::run(arguments)),
        Some(Role::Tpm(arguments)) => wait(tpm::run(arguments)),
        Some(Role::TpmRaw(arguments)) => tpm::raw::serve(arguments),
        None => measure(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _written = writeln!(io::stderr(), "mintwarden-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), BenchError> {
    let findings = wait(run::run(options.timing()))?;
    let report = Report::new(&findings);
    write!(io::stdout(), "{}", Text { findings: &findings, report: &report })
        .map_err(system("standard output"))?;
    match &options.json {
        Some(path) => write_json(path, &findings, &report),
        None => Ok(()),
    }
}

fn wait<T>(work: impl Future<Output = Result<T, BenchError>>) -> Result<T, BenchError> {
    tokio::runtime::Runtime::new().map_err(system("tokio"))?.block_on(work)
}

fn write_json(path: &Path, findings: &Findings, report: &Report) -> Result<(), BenchError> {
    #[derive(Serialize)]
    struct File<'a> {
        report: &'a Report,
        findings: &'a Findings,
    }
    let text = serde_json::to_vec_pretty(&File { report, findings }).map_err(io::Error::from);
    text.and_then(|text| fs::write(path, text)).map_err(system(path.display().to_string()))
}
