//! One function for each command: call, then print.

mod sign;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use mintwarden_client::Client;

use crate::{
    args::{Command, DeviceCommand, KeysCommand},
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
        Command::Init { issuer, reason } => {
            let response = custodian.init(&issuer, &reason).await?;
            output::keysets(out, format, vec![output::created(issuer, response)])?;
        }
        Command::Sign { issuer } => return sign::run(&client.issuer(issuer), out).await,
        Command::Jwks { issuer } => {
            let jwks = client.issuer(issuer).jwks().await?;
            out.write_all(&jwks.jwks)?;
            out.write_all(b"\n")?;
        }
        Command::Keys(KeysCommand::List { issuer }) => {
            let keysets = custodian.list_keys(issuer.as_deref()).await?;
            output::keysets(out, format, keysets)?;
        }
        Command::Status => output::status(out, format, custodian.status().await?)?,
        Command::Device(DeviceCommand::Resume { name, reason }) => {
            custodian.resume_device(&name, &reason).await?;
            output::resumed(out, format, &name)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
