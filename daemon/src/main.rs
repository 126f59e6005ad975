//! `mintwarden`: the launcher, and the server that it starts.

use std::process::ExitCode;

fn main() -> ExitCode {
    mintwarden::cli::run()
}
