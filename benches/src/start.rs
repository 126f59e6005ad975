//! Start to first signature, with keys that exist already.

use std::time::{Duration, Instant};

use mintwarden_tests::{Appliance, ISSUER, claims};

use crate::error::BenchError;

/// From spawning the launcher until a client that connects over mTLS holds its first token. The
/// files are in the page cache, as after a restart of the service. Up to 10 ms too much: so often the
/// fixture looks whether the appliance serves.
///
/// # Errors
/// [`BenchError::Client`].
///
/// # Panics
/// If the appliance does not start.
pub async fn first_signature(appliance: &mut Appliance) -> Result<Duration, BenchError> {
    let start = Instant::now();
    appliance.start().await;
    let client = appliance.builder(appliance.tts()).connect().await?;
    client.issuer(ISSUER).sign(claims::trade(0)).await?;
    let elapsed = start.elapsed();
    appliance.stop().await;
    Ok(elapsed)
}
