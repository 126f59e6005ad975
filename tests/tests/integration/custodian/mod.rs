//! Acts of custodians, against real keys in real devices.

mod acts;
pub(crate) mod approvals;
mod load;
mod permission;
mod proposals;
mod recovery;
mod revocation;
mod stuck;

use mintwarden_client::{
    Error,
    api::{ActResponse, Key, KeyState, Keyset},
};
use mintwarden_tests::{Appliance, DEVICE, ISSUER, eventually};
use toml::{Table, toml};

/// An issuer whose standbys are mature after three seconds.
pub(crate) fn quick() -> Table {
    toml! {
        verifier_refresh = "1s"
        jwks_max_age = "1s"
        propagation = "1s"
        skew = "1s"
    }
}

/// An issuer whose standbys are mature after an hour and more, as usual.
pub(crate) fn slow() -> Table {
    Table::new()
}

pub(crate) async fn keyset(appliance: &Appliance) -> Keyset {
    appliance.custodian().list_keys(Some(ISSUER)).await.unwrap().remove(0)
}

/// What an act has come to.
pub(crate) fn after(answer: Result<ActResponse, Error>) -> Keyset {
    answer.unwrap().keyset.unwrap()
}

/// The key with this `kid`.
pub(crate) fn of<'a>(keyset: &'a Keyset, kid: &str) -> &'a Key {
    keyset.keys.iter().find(|key| key.kid == kid).expect("a key stays on record")
}

pub(crate) fn in_state(keyset: &Keyset, state: KeyState) -> Vec<&Key> {
    keyset.keys.iter().filter(|key| key.state() == state).collect()
}

/// Waits until a key is in this state; all keys then. An act is answered when it is in force, or after two
/// seconds: what devices have to do for it may take longer.
pub(crate) async fn becomes(appliance: &Appliance, kid: &str, state: KeyState) -> Keyset {
    eventually(&format!("{kid} is {state:?}"), async || {
        let keyset = keyset(appliance).await;
        (of(&keyset, kid).state() == state).then_some(keyset)
    })
    .await
}

/// The one key that signs in the first device.
pub(crate) fn active(keyset: &Keyset) -> String {
    let [key] = in_state(keyset, KeyState::Active)[..] else { panic!("{keyset:?}") };
    assert_eq!(key.device, DEVICE);
    key.kid.clone()
}

/// The one standby of the first device.
pub(crate) fn standby(keyset: &Keyset) -> &Key {
    let [key] = in_state(keyset, KeyState::PreActive)[..] else { panic!("{keyset:?}") };
    key
}

/// Waits until there is a mature standby; its `kid`.
pub(crate) async fn mature(appliance: &Appliance) -> String {
    eventually("a standby is mature", async || {
        let keyset = keyset(appliance).await;
        let standbys = in_state(&keyset, KeyState::PreActive);
        standbys.iter().find(|key| key.mature).map(|key| key.kid.clone())
    })
    .await
}
