//! Looks for the active keys in their devices from time to time: a key or a device may go without a
//! signature being asked for, and come back.

use std::{sync::Arc, time::Duration};

use mintwarden_worker::device::KeyHandle;
use tokio::time::MissedTickBehavior;

use crate::{
    keyset::{apply::KeyOps as _, live::LiveIssuer},
    workers::{State, Workers},
};

/// How often a key is looked for that may not sign.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Of how many of these looks one is for all keys.
const ALL_KEYS: u32 = 15;

/// Looks after the keys of `issuers` in one device for as long as the server runs.
pub async fn look_after(device: String, issuers: Vec<Arc<LiveIssuer>>, workers: Arc<Workers>) {
    let mut looks = tokio::time::interval(LOOK_AGAIN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for look in 1_u32.. {
        looks.tick().await;
        let all = look.is_multiple_of(ALL_KEYS);
        for handle in issuers.iter().filter_map(|issuer| active(issuer, &device)) {
            let Some(State::Ready(ready)) = workers.get(&device).map(|worker| worker.state())
            else {
                break;
            };
            if (all || ready.keys.unfit(&handle).is_some())
                && let Err(error) = workers.find(&device, &handle).await
            {
                tracing::debug!(device, %error, "a key could not be looked for");
            }
        }
    }
}

fn active(issuer: &LiveIssuer, device: &str) -> Option<KeyHandle> {
    let snapshot = issuer.snapshot()?;
    snapshot.keyset.active(device).map(|(key, _)| key.handle.clone())
}
