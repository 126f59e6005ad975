use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Builder, Custodian, Issuer, call::Caller, join::Joiner};

/// So many issuers without a handle are remembered.
const MAX_IDLE_ISSUERS: usize = 256;

/// Reaches one appliance, or several that serve the same issuers. Cheap to clone; clones share the
/// connections.
///
/// ```no_run
/// # async fn example() -> Result<(), mintwarden_client::Error> {
/// use mintwarden_client::{Client, Identity, TrustAnchors};
///
/// let client = Client::builder()
///     .endpoint("https://mintwarden.trust-domain.example:7443")
///     .identity(Identity::from_files("tts.crt", "tts.key"))
///     .ca(TrustAnchors::from_file("ca.crt"))
///     .build()?;
/// let issuer = client.issuer("payments-tts");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    caller: Arc<Caller>,
    /// So that all handles of an issuer join their calls, and what is known of the endpoints outlives
    /// each of them.
    joiners: Arc<Mutex<HashMap<String, Arc<Joiner>>>>,
}

impl Client {
    /// Starts to build a client.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(caller: Caller) -> Self {
        Self { caller: Arc::new(caller), joiners: Arc::default() }
    }

    /// A handle to sign for the issuer of this name, e.g. `payments-tts`. Nothing is sent, so
    /// whether there is such an issuer shows with the first call.
    ///
    /// All handles that a client and its clones give for one name join their calls.
    pub fn issuer(&self, name: impl Into<String>) -> Issuer {
        let name = name.into();
        let mut joiners = self.joiners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(joiner) = joiners.get(&name) {
            return Issuer::new(joiner.clone());
        }
        if joiners.len() >= MAX_IDLE_ISSUERS {
            joiners.retain(|_, joiner| Arc::strong_count(joiner) > 1);
        }
        let joiner = Arc::new(Joiner::new(name.clone(), self.caller.clone()));
        joiners.insert(name, joiner.clone());
        Issuer::new(joiner)
    }

    /// What custodians and auditors do: keys, devices, status.
    pub fn custodian(&self) -> Custodian {
        Custodian::new(self.caller.clone())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<_> = self.caller.pool.names().collect();
        f.debug_struct("Client").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}
