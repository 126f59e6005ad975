use mintwarden_client::{Client, Identity, TrustAnchors};

use crate::{args::Command, config::Settings, exit::Failure};

/// The client that a command works with.
pub(crate) fn client(settings: &Settings, command: &Command) -> Result<Client, Failure> {
    let mut builder = Client::builder()
        .endpoints(settings.endpoints.iter().cloned())
        .timeout(settings.timeout(command));
    if !matches!(command, Command::Sign { .. }) {
        // A person waits for the answer, and can ask again.
        builder = builder.max_attempts(1);
    }
    match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => builder = builder.identity(Identity::from_files(cert, key)),
        (None, None) => {}
        (Some(_), None) => return Err(Failure::Half { given: "a certificate", missing: "--key" }),
        (None, Some(_)) => return Err(Failure::Half { given: "a key", missing: "--cert" }),
    }
    if let Some(ca) = &settings.ca {
        builder = builder.ca(TrustAnchors::from_file(ca));
    }
    Ok(builder.build()?)
}
