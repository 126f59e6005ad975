use std::{fmt, sync::Arc, time::Duration};

use rustls_pki_types::ServerName;

use crate::{
    Client, ConfigError, Endpoint, Error, Identity, TrustAnchors, address::Address, call::Caller,
    connect::Target, observe::Observer, pool::Pool, tls::Tls,
};

/// Builds a [`Client`]. Made by [`Client::builder`].
///
/// ```no_run
/// # async fn example() -> Result<(), mintwarden_client::Error> {
/// use std::time::Duration;
///
/// use mintwarden_client::{Client, Identity, TrustAnchors};
///
/// let client = Client::builder()
///     .endpoint("https://mintwarden-a.trust-domain.example")
///     .endpoint("https://mintwarden-b.trust-domain.example")
///     .identity(Identity::from_files("tts.crt", "tts.key"))
///     .ca(TrustAnchors::from_file("ca.crt"))
///     .timeout(Duration::from_secs(2))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Builder {
    endpoints: Vec<Endpoint>,
    identity: Option<Identity>,
    ca: Option<TrustAnchors>,
    server_name: Option<String>,
    observer: Option<Arc<dyn Observer>>,
    settings: Settings,
}

/// What the builder decides for all calls.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) max_attempts: Option<u32>,
    /// Retries for each call, and retries a second on top of that.
    pub(crate) retry_budget: (f32, u32),
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            endpoints: Vec::new(),
            identity: None,
            ca: None,
            server_name: None,
            observer: None,
            settings: Settings {
                timeout: Duration::from_secs(10),
                connect_timeout: Duration::from_secs(5),
                max_in_flight: 4,
                max_attempts: None,
                retry_budget: (0.2, 10),
            },
        }
    }

    /// Adds an appliance: `https://HOST[:PORT]` (port 7443 by default) or `unix:/PATH`. At least one
    /// is required; of several, all have to serve the same issuers.
    ///
    /// Calls go to the endpoint with the fewest calls under way. One that cannot be reached, or answers
    /// `UNAVAILABLE`, is set aside with a back-off and then tried again, while the others serve.
    pub fn endpoint(mut self, endpoint: impl Into<Endpoint>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// Adds several, as [`endpoint`](Self::endpoint) does.
    pub fn endpoints<E: Into<Endpoint>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
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

    /// The DNS name or IP address that the appliances' certificates have to carry, where that is
    /// neither the endpoint's host nor said by [`Endpoint::server_name`].
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

    /// How often a call that is safe to repeat is tried at most, the first time included; at least
    /// 1. Default: as often as deadline and [`retry_budget`](Self::retry_budget) allow.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = Some(attempts.max(1));
        self
    }

    /// How many retries a client may send, so that it does not multiply the load of appliances that
    /// are in trouble: a part of its calls in the last 10 s (0 to 1), plus so many a second. Where that
    /// is spent, a call fails with [`Error::RetryBudgetExhausted`]. Default: 0.2 and 10.
    ///
    /// A batch of joined calls counts as one, and so does its retry. Waiting for a connection costs
    /// nothing.
    pub fn retry_budget(mut self, of_calls: f32, per_second: u32) -> Self {
        let of_calls = if of_calls.is_nan() { 0.0 } else { of_calls.clamp(0.0, 1.0) };
        self.settings.retry_budget = (of_calls, per_second.min(1_000_000));
        self
    }

    /// Who is told what the client does, for metrics and logs. Default: nobody.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Builds the client, which connects when it is first used.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], which names the file and the remedy.
    pub fn build(self) -> Result<Client, Error> {
        Ok(Client::new(self.caller()?))
    }

    /// Builds the client and connects it, so that appliances out of reach are an error now. One that
    /// answers is enough. Later on the client connects again by itself whenever it has to.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], which names the file and the remedy, or [`Error::Transport`].
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn connect(self) -> Result<Client, Error> {
        let caller = self.caller()?;
        caller.reach().await?;
        Ok(Client::new(caller))
    }

    fn caller(self) -> Result<Caller, ConfigError> {
        if self.endpoints.is_empty() {
            return Err(ConfigError::NoEndpoint);
        }
        let mut targets: Vec<Target> = Vec::new();
        for endpoint in &self.endpoints {
            let target = self.target(endpoint)?;
            if targets.iter().any(|other| other.name == target.name) {
                let endpoint = endpoint.url.clone();
                return Err(ConfigError::Endpoint { endpoint, problem: "it is there twice" });
            }
            targets.push(target);
        }
        let pool = Pool::new(targets, self.settings.connect_timeout, self.observer);
        Ok(Caller::new(pool, self.settings))
    }

    fn target(&self, endpoint: &Endpoint) -> Result<Target, ConfigError> {
        let address: Address = endpoint.url.parse()?;
        let (host, port) = match &address {
            Address::Unix(path) => return Ok(Target::unix(&address, path.clone())),
            Address::Tls { host, port } => (host.clone(), *port),
        };
        let missing = |missing, remedy| ConfigError::Missing {
            endpoint: address.to_string(),
            missing,
            remedy,
        };
        let identity = self.identity.clone().ok_or_else(|| {
            missing(
                "a client certificate and key",
                "the appliance knows callers by their certificate",
            )
        })?;
        let ca = self.ca.clone().ok_or_else(|| {
            missing("a CA", "give the certificate of the CA that signed the appliance's")
        })?;
        let name = endpoint.server_name.as_ref().or(self.server_name.as_ref()).unwrap_or(&host);
        let server_name =
            ServerName::try_from(name.clone()).map_err(|_| ConfigError::Endpoint {
                endpoint: name.clone(),
                problem: "neither a DNS name nor an IP address",
            })?;
        Ok(Target::tls(&address, host, port, Tls::new(identity, ca, server_name)?))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("endpoints", &self.endpoints)
            .field("identity", &self.identity)
            .field("ca", &self.ca)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
