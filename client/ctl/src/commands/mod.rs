//! One function for each command: call, then print.

pub(crate) mod attest;
mod keys;
pub(crate) mod pcr;
mod proposals;
mod sign;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use mintwarden_client::Client;

use crate::{
    args::{Command, DeviceCommand},
    exit::Failure,
    output::{self, Format},
};

pub(crate) async fn run(
    command: Command,
    client: &Client,
    json: bool,
) -> Result<ExitCode, Failure> {
    let out = &mut io::stdout().lock();
    let format = if json { Format::Json } else { Format::Table };
    let custodian = client.custodian();
    match command {
        Command::Init { issuer, why } => {
            let done = custodian.init(&issuer, &why.reason).await?;
            return keys::act(out, format, done);
        }
        Command::Recover { issuer, immature, why } => {
            let done = match immature {
                true => custodian.danger_recover_immature(&issuer, &why.reason).await?,
                false => custodian.recover(&issuer, &why.reason).await?,
            };
            return keys::act(out, format, done);
        }
        Command::Sign { issuer } => return sign::run(&client.issuer(issuer), out).await,
        Command::Jwks { issuer } => {
            let jwks = client.issuer(issuer).jwks().await?;
            out.write_all(&jwks.jwks)?;
            out.write_all(b"\n")?;
        }
        Command::Keys(command) => return keys::run(command, &custodian, out, format).await,
        Command::Attest(command) => return attest::run(command, out, format),
        Command::Pcr(command) => return pcr::run(command, out),
        Command::Proposals(command) => {
            return proposals::run(command, &custodian, out, format).await;
        }
        Command::Acts(command) => proposals::acts(command, &custodian, out, format).await?,
        Command::Status => output::status(out, format, custodian.status().await?)?,
        Command::Device(DeviceCommand::Resume { name, why }) => {
            custodian.resume_device(&name, &why.reason).await?;
            output::resumed(out, format, &name)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
