//! A verifier as there are in the field: it keeps what it has read.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use mintwarden::launcher::control::Addresses;
use tokio::sync::Mutex;

use crate::{PATIENCE, TRUST_DOMAIN, Verified, Verifier};

/// How long the appliance may take to answer, once there is a set to go on with.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A verifier that keeps what it has read of a JWK Set over HTTPS for R, and never asks sooner, whatever
/// it meets. Where nobody answers it goes on with what it has, and asks again after a while. Clones are
/// the same one.
#[derive(Clone)]
pub struct Reader(Arc<Inner>);

struct Inner {
    https: reqwest::Client,
    /// The appliance's ports change with every start.
    addresses: PathBuf,
    issuer: String,
    keeps: Duration,
    again: Duration,
    kept: Mutex<Kept>,
}

struct Kept {
    set: Verifier,
    asks_at: Instant,
}

impl Reader {
    /// One that has read `issuer`'s set just now, and keeps a set for as long as `keeps`.
    ///
    /// # Panics
    /// If the set is not served, or is not sound.
    pub(crate) async fn new(
        https: reqwest::Client,
        addresses: PathBuf,
        issuer: &str,
        keeps: Duration,
        again: Duration,
    ) -> Self {
        let asked = Instant::now();
        let set = read(&https, &addresses, issuer, PATIENCE).await.expect("a JWK Set");
        let kept = Mutex::new(Kept { set, asks_at: asked + keeps });
        Self(Arc::new(Inner { https, addresses, issuer: issuer.into(), keeps, again, kept }))
    }

    /// Verifies a token under the set that it keeps; asks before, if it is time to.
    ///
    /// # Errors
    /// What is wrong with the token.
    ///
    /// # Panics
    /// If a set that it reads is not sound.
    pub async fn verify(&self, token: &str) -> Result<Verified, String> {
        self.kept().await.set.verify(token)
    }

    /// Whether it believes this key.
    pub async fn believes(&self, kid: &str) -> bool {
        self.kept().await.set.kids().contains(kid)
    }

    async fn kept(&self) -> tokio::sync::MutexGuard<'_, Kept> {
        let inner = &self.0;
        let mut kept = inner.kept.lock().await;
        let asked = Instant::now();
        if asked >= kept.asks_at {
            *kept = match read(&inner.https, &inner.addresses, &inner.issuer, TIMEOUT).await {
                Ok(set) => Kept { set, asks_at: asked + inner.keeps },
                Err(_) => Kept { set: kept.set.clone(), asks_at: asked + inner.again },
            };
        }
        kept
    }
}

async fn read(
    https: &reqwest::Client,
    addresses: &Path,
    issuer: &str,
    within: Duration,
) -> Result<Verifier, String> {
    let text = fs::read(addresses).map_err(|error| error.to_string())?;
    let addresses: Addresses = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let address = addresses.jwks.ok_or("listen.jwks is not configured")?;
    let url = format!("{}://{address}/issuers/{issuer}/jwks.json", addresses.jwks_scheme);
    let answer = https.get(url).timeout(within).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    let jwks = async { answer?.bytes().await }.await.map_err(|error| error.to_string())?;
    Ok(Verifier::new(&jwks, &[TRUST_DOMAIN]).expect("a sound JWK Set"))
}
