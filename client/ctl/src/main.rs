//! `mintwardenctl`: the command line for operators and custodians of a Mintwarden appliance.

mod args;
mod clock;
mod commands;
mod config;
mod connection;
mod environment;
mod exit;
mod files;
mod output;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    args::{Args, Command},
    config::Settings,
    exit::Failure,
    output::Format,
};

fn main() -> ExitCode {
    // Bad usage ends here, with code 2.
    let args = Args::parse();
    match run(args) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(args: Args) -> Result<ExitCode, Failure> {
    let (global, command) = args.split();
    // What needs no appliance needs no settings either.
    let command = match command {
        Command::Attest(command) => {
            let format = if global.json { Format::Json } else { Format::Table };
            return commands::attest::run(command, &mut std::io::stdout().lock(), format);
        }
        Command::Pcr(command) => {
            return commands::pcr::run(command, &mut std::io::stdout().lock());
        }
        other => other,
    };
    let settings = Settings::resolve(global.connection, environment::default_config_file())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    runtime.block_on(async {
        let client = connection::client(&settings, &command)?;
        commands::run(command, &client, global.json).await
    })
}
