//! What the server listens on.

use super::ServerError;
use crate::{
    config::Config,
    launcher::control::Addresses,
    listen::{Endpoint, LiveCertificates},
};

/// The sockets that the server listens on.
pub(super) struct Endpoints {
    pub(super) grpc: Vec<Endpoint>,
    pub(super) jwks: Option<Endpoint>,
    pub(super) ops: Option<Endpoint>,
}

impl Endpoints {
    /// Where they listen.
    pub(super) fn addresses(&self, config: &Config) -> Addresses {
        Addresses {
            grpc: self.grpc.iter().find_map(Endpoint::address),
            unix: config.listen.unix.clone(),
            jwks: self.jwks.as_ref().and_then(Endpoint::address),
            jwks_scheme: if config.listen.jwks_plaintext { "http" } else { "https" }.into(),
            ops: self.ops.as_ref().and_then(Endpoint::address),
        }
    }

    /// Binds everything that is configured.
    ///
    /// # Errors
    /// The socket's, naming the configuration's key.
    pub(super) async fn bind(
        config: &Config,
        certificates: Option<&LiveCertificates>,
    ) -> Result<Self, ServerError> {
        let mut grpc = Vec::new();
        if let (Some(address), Some(tls), Some(certificates)) =
            (config.listen.grpc, &config.tls, certificates)
        {
            let endpoint =
                Endpoint::mutual(address, certificates.clone(), tls.trust_domain.clone()).await;
            grpc.push(endpoint.map_err(ServerError::socket(format!("listen.grpc {address}")))?);
        }
        if let Some(path) = &config.listen.unix {
            let what = format!("listen.unix {}", path.display());
            grpc.push(Endpoint::unix(path).map_err(ServerError::socket(what))?);
        }
        let jwks = match config.listen.jwks {
            Some(address) => {
                let tls = certificates.filter(|_| !config.listen.jwks_plaintext);
                let endpoint = Endpoint::public(address, tls.cloned()).await;
                Some(endpoint.map_err(ServerError::socket(format!("listen.jwks {address}")))?)
            }
            None => None,
        };
        let ops = match config.listen.ops {
            Some(address) => {
                let endpoint = Endpoint::public(address, None).await;
                Some(endpoint.map_err(ServerError::socket(format!("listen.ops {address}")))?)
            }
            None => None,
        };
        Ok(Self { grpc, jwks, ops })
    }
}
