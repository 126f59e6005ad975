//! What has to be done to a keyset, decided without doing it.

use mintwarden_worker::{Algorithm, device::KeyHandle};

use super::{KeyState, Keyset, Phase};

/// What the configuration wants of an issuer's keyset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its devices, in order of preference.
    pub devices: Vec<String>,
    /// Standby keys per device.
    pub standbys: usize,
    /// The algorithm of new keys.
    pub algorithm: Algorithm,
}

/// One step, with its reason for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub act: Act,
    /// Why.
    pub reason: String,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A recorded intent whose outcome is unknown: look in the device, adopt or give up.
    Settle {
        /// The device.
        device: String,
        /// The recorded handle.
        handle: KeyHandle,
    },
    /// Record an intent under a fresh handle, make the pair, adopt it.
    Generate {
        /// The device.
        device: String,
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// Publish the first keys and make one per device active, in one compare-and-swap. The one
    /// place where a key signs that was never served before: nothing of the issuer was (I4).
    PublishFirst,
}

/// The steps that take `keyset` to where `policy` wants it, in order. Empty: nothing to do.
///
/// The same state gives the same steps, so that a crash between any two of them is continued by
/// the same plan.
#[must_use]
pub fn plan(keyset: &Keyset, policy: &Policy) -> Vec<Step> {
    match keyset.phase {
        Phase::Published => vec![],
        Phase::Initialising => first_keys(keyset, policy),
    }
}

fn first_keys(keyset: &Keyset, policy: &Policy) -> Vec<Step> {
    let settle =
        keyset.keys.iter().filter(|key| key.state == KeyState::Generating).map(|key| Step {
            act: Act::Settle { device: key.device.clone(), handle: key.handle.clone() },
            reason: format!("the attempt at a key in {} was interrupted", key.device),
        });
    let mut steps: Vec<Step> = settle.collect();
    let wanted = 1 + policy.standbys;
    for device in &policy.devices {
        let have = keyset.keys.iter().filter(|key| key.device == *device).count();
        steps.extend((have..wanted).map(|number| Step {
            act: Act::Generate { device: device.clone(), algorithm: policy.algorithm },
            reason: format!("{device} has {number} of the first {wanted} keys"),
        }));
    }
    if steps.is_empty() {
        let reason = "all first keys exist".to_owned();
        steps.push(Step { act: Act::PublishFirst, reason });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::UnixTime,
        keyset::{Key, document::MadeKey},
    };
    use mintwarden_worker::{IssuerName, jwk::PublicJwk};

    fn policy(devices: &[&str]) -> Policy {
        let devices = devices.iter().map(|&d| d.to_owned()).collect();
        Policy { devices, standbys: 1, algorithm: Algorithm::ES256 }
    }

    fn key(device: &str, id: u8, state: KeyState) -> Key {
        let jwk = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                      "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
        let jwk: PublicJwk = serde_json::from_str(jwk).expect("a valid key");
        Key {
            device: device.into(),
            handle: KeyHandle::new(vec![id; 16]),
            state,
            algorithm: Algorithm::ES256,
            created_at: UnixTime(0),
            changed_at: UnixTime(0),
            made: (state != KeyState::Generating).then(|| MadeKey::from(jwk)),
        }
    }

    fn initialising() -> Keyset {
        Keyset::initialising(IssuerName::parse("a").expect("a name"))
    }

    #[test]
    fn i6_each_device_gets_an_active_key_and_its_standby() {
        let steps = plan(&initialising(), &policy(&["x", "y"]));
        let generate =
            |device: &str| Act::Generate { device: device.into(), algorithm: Algorithm::ES256 };
        let acts: Vec<_> = steps.into_iter().map(|step| step.act).collect();
        assert_eq!(acts, [generate("x"), generate("x"), generate("y"), generate("y")]);
    }

    #[test]
    fn i8_an_interrupted_attempt_is_settled_before_anything_is_published() {
        let mut keyset = initialising();
        keyset.keys = vec![key("x", 1, KeyState::PreActive), key("x", 2, KeyState::Generating)];
        let steps = plan(&keyset, &policy(&["x"]));
        assert_eq!(steps.len(), 1);
        assert!(
            matches!(&steps[0].act, Act::Settle { handle, .. } if handle.as_bytes() == [2; 16])
        );
    }

    #[test]
    fn i8_a_published_keyset_gets_no_further_keys() {
        let mut keyset = initialising();
        keyset.keys = vec![key("x", 1, KeyState::PreActive), key("x", 2, KeyState::PreActive)];
        let steps = plan(&keyset, &policy(&["x"]));
        assert!(matches!(steps[..], [Step { act: Act::PublishFirst, .. }]));
        keyset.phase = Phase::Published;
        assert_eq!(plan(&keyset, &policy(&["x"])), []);
    }
}
