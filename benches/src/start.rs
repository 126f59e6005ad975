//! Start to first signature, with keys that exist already.

use std::time::{Duration, Instant};

use crate::{
    appliance::{ISSUER, Site},
    error::BenchError,
    payload,
};

/// From spawning the launcher until a client that connects over mTLS holds its first token. The
/// files are in the page cache, as after a restart of the service.
///
/// # Errors
/// [`BenchError`].
pub async fn first_signature(site: &Site) -> Result<Duration, BenchError> {
    let start = Instant::now();
    let mut appliance = site.start()?;
    let addresses = tokio::task::block_in_place(|| appliance.serving())?;
    let client = site.signer(&addresses).await?;
    client.issuer(ISSUER).sign(payload::typical(0)).await?;
    Ok(start.elapsed())
}
