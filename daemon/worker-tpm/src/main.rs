//! `mintwarden-tpm`: the worker for TPM 2.0. Started by the launcher.

use clap::Parser;
use mintwarden_tpm::TpmDevice;
use mintwarden_worker::serve;

/// The Mintwarden worker for TPM 2.0. It serves the wire on its standard input, where the launcher puts
/// it.
#[derive(Parser)]
#[command(name = "mintwarden-tpm", version)]
struct Arguments {}

fn main() -> ! {
    let Arguments {} = Arguments::parse();
    serve::run(|setup, seen| Ok(Box::new(TpmDevice::open(setup, seen)?)))
}
