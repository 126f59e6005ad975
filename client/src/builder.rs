use std::{sync::Arc, time::Duration};

use rustls_pki_types::ServerName;

use crate::{
    Client, ConfigError, Error, Identity, TrustAnchors,
    connect::{self, Target},
    endpoint::Endpoint,
    error::TransportError,
    tls::Tls,
};

/// Builds a [`Client`]. Made by [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    endpoint: Option<String>,
    identity: Option<Identity>,
    ca: Option<TrustAnchors>,
    server_name: Option<String>,
    settings: Settings,
}

/// What the builder decides for all calls.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) max_attempts: u32,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            endpoint: None,
            identity: None,
            ca: None,
            server_name: None,
            settings: Settings {
                timeout: Duration::from_secs(10),
                connect_timeout: Duration::from_secs(5),
                max_in_flight: 4,
                max_attempts: 8,
            },
        }
    }

    /// The appliance: `https://HOST[:PORT]` (port 7443 by default) or `unix:/PATH`. Required.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The client's certificate and key. Required for https; not used on a unix socket, where the
    /// user ID is the identity.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The CA of the appliance's certificate: the only one that is believed. Required for https.
    pub fn ca(mut self, ca: TrustAnchors) -> Self {
        self.ca = Some(ca);
        self
    }

    /// The DNS name or IP address that the appliance's certificate has to carry, where that is
    /// not the endpoint's host.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// How long a call may take, retries included, where the call does not say. Default: 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How long connecting may take. Default: 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How many batches of joined [`sign`](crate::Issuer::sign) calls an issuer may have in
    /// flight; at least 1. Default: 4.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.settings.max_in_flight = batches.max(1);
        self
    }

    /// How often a call that is safe to repeat is tried, the first time included; at least 1.
    /// Default: 8, which with its back-off bridges about two seconds.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = attempts.max(1);
        self
    }

    /// Builds the client, which connects when it is first used.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], which names the file and the remedy.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn build(self) -> Result<Client, Error> {
        let (endpoint, target, settings) = self.target()?;
        let channel = connect::http2(&endpoint, settings.connect_timeout)
            .connect_with_connector_lazy(connect::connector(target));
        Ok(Client::new(channel, endpoint.to_string().into(), settings))
    }

    /// Builds the client and connects it, so that an appliance out of reach is an error now.
    /// Later on the client connects again by itself whenever it has to.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], which names the file and the remedy, or [`Error::Transport`].
    pub async fn connect(self) -> Result<Client, Error> {
        let (endpoint, target, settings) = self.target()?;
        let name: Arc<str> = endpoint.to_string().into();
        let channel = connect::http2(&endpoint, settings.connect_timeout)
            .connect_with_connector(connect::connector(target))
            .await
            .map_err(|error| Arc::new(TransportError::new(name.clone(), error.into())))?;
        Ok(Client::new(channel, name, settings))
    }

    fn target(self) -> Result<(Endpoint, Target, Settings), ConfigError> {
        let endpoint: Endpoint = self.endpoint.ok_or(ConfigError::NoEndpoint)?.parse()?;
        let target = match &endpoint {
            Endpoint::Unix(path) => Target::Unix(path.clone()),
            Endpoint::Tls { host, port } => {
                let missing = |missing, remedy| ConfigError::Missing {
                    endpoint: endpoint.to_string(),
                    missing,
                    remedy,
                };
                let identity = self.identity.ok_or_else(|| {
                    missing(
                        "a client certificate and key",
                        "the appliance knows callers by their certificate",
                    )
                })?;
                let ca = self.ca.ok_or_else(|| {
                    missing("a CA", "give the certificate of the CA that signed the appliance's")
                })?;
                let name = self.server_name.unwrap_or_else(|| host.clone());
                let name =
                    ServerName::try_from(name.clone()).map_err(|_| ConfigError::Endpoint {
                        endpoint: name,
                        problem: "neither a DNS name nor an IP address",
                    })?;
                Target::Tls {
                    host: host.clone(),
                    port: *port,
                    tls: Box::new(Tls::new(identity, ca, name)?),
                }
            }
        };
        Ok((endpoint, target, self.settings))
    }
}
