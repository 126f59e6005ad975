//! What a start refuses: a configuration under which keys that exist would be lost (DESIGN.md "Rotation
//! timing" 6).

use std::collections::BTreeSet;

use super::{Key, KeyState, Keyset, Phase, Policy};

/// A configuration that does not fit the keys that exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Misfit {
    /// What would be lost.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Checks the issuer's part of a configuration against its keyset. `configured` are all devices of
/// the configuration.
///
/// # Errors
/// [`Misfit`].
pub fn check(
    keyset: &Keyset,
    policy: &Policy,
    configured: &BTreeSet<String>,
) -> Result<(), Misfit> {
    if keyset.phase != Phase::Published {
        return Ok(());
    }
    let signs = |device: &String| keyset.active(device).is_some();
    let elsewhere = policy.devices.iter().any(signs);
    let left = |key: &&Key| {
        key.is_live()
            && !policy.devices.contains(&key.device)
            && !policy.lost_devices.contains(&key.device)
    };
    for key in keyset.keys.iter().filter(left) {
        let (device, issuer, key_name) = (&key.device, &keyset.issuer, key.name());
        if key.state == KeyState::Active && !elsewhere {
            return Err(Misfit {
                what: format!("lacks {device:?}, which holds the key that signs ({key_name})"),
                remedy: format!(
                    "list {device:?} after the new device until `mintwardenctl keys list --issuer \
                     {issuer}` shows an active key there; if it is gone for good, name it in \
                     lost_devices"
                ),
            });
        }
        if !configured.contains(device) {
            return Err(Misfit {
                what: format!(
                    "{device:?} still holds a key of the issuer ({key_name}, {}), and there is no \
                     such [[device]]",
                    key.state.as_str()
                ),
                remedy: format!(
                    "keep [[device]] {device:?} until its keys are destroyed; if it is gone for \
                     good, name it in lost_devices"
                ),
            });
        }
    }
    Ok(())
}
