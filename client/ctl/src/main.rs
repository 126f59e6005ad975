//! `mintwardenctl`: the command line for operators and custodians of a Mintwarden appliance.

mod args;
mod commands;
mod config;
mod connection;
mod environment;
mod exit;
mod output;

use std::process::ExitCode;

use clap::Parser;

use crate::{args::Args, config::Settings, exit::Failure};

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
