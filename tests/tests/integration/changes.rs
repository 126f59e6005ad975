//! The configuration changes while there are keys: no token is refused by a verifier that keeps a JWK
//! Set for R.

use std::time::{Duration, Instant};

use mintwarden_client::api::{Key, KeyState};
use mintwarden_tests::{
    Appliance, Builder, DEVICE, ISSUER, PATIENCE, Reader, TPM, claims, eventually,
};
use toml::{Table, toml};

use crate::custodian::{active, after, becomes, in_state, keyset, mature, of, quick, standby};

/// R of [`quick`].
const REFRESH: Duration = Duration::from_secs(1);

/// Verifiers that have read at different times.
struct Readers(Vec<Reader>);

impl Readers {
    async fn new(appliance: &Appliance) -> Self {
        let mut readers = vec![];
        for _ in 0..5 {
            readers.push(appliance.reader(ISSUER, REFRESH, REFRESH / 10).await);
            tokio::time::sleep(REFRESH / 5).await;
        }
        Self(readers)
    }

    /// Signs and verifies until the keys are as they should be; from the first call on all succeed.
    async fn until(&self, appliance: &Appliance, what: &str, done: impl Fn(&[Key]) -> bool) {
        let issuer = appliance.client().issuer(ISSUER);
        let limit = Instant::now() + PATIENCE;
        for n in 0.. {
            let token = issuer.sign(claims::trade(n)).await.unwrap();
            for reader in &self.0 {
                reader.verify(&token).await.unwrap();
            }
            if done(&keyset(appliance).await.keys) {
                return;
            }
            assert!(Instant::now() < limit, "it did not happen within {PATIENCE:?}: {what}");
        }
    }
}

/// Stops it, changes its issuer, starts it again.
async fn change(appliance: &mut Appliance, edit: impl FnOnce(&mut Table)) {
    appliance.stop().await;
    appliance.reconfigure(|config| edit(issuer(config)));
    appliance.start().await;
}

fn issuer(config: &mut Table) -> &mut Table {
    config["issuer"][0].as_table_mut().unwrap()
}

fn signs_in(keys: &[Key], device: &str) -> bool {
    keys.iter().any(|key| key.device == device && key.state() == KeyState::Active)
}

fn in_device<'a>(keys: &'a [Key], device: &'a str) -> impl Iterator<Item = &'a Key> {
    keys.iter().filter(move |key| key.device == device)
}

#[tokio::test]
async fn an_issuer_moves_to_another_device_without_a_token_that_is_refused() {
    moves(Appliance::softhsm().with_device(DEVICE).with_device("hsm-b"), "hsm-b").await;
}

#[tokio::test]
async fn an_issuer_moves_to_a_tpm_without_a_token_that_is_refused() {
    moves(Appliance::softhsm().with_device(DEVICE).with_tpm(TPM), TPM).await;
}

/// Moves an issuer from [`DEVICE`], which the appliance has first, to another device of it.
async fn moves(builder: Builder, to: &str) {
    let mut issuer_at_first = quick();
    issuer_at_first.insert("devices".into(), toml::Value::from(vec![DEVICE]));
    let mut appliance = builder.with_issuer(issuer_at_first).start_initialised().await;
    let readers = Readers::new(&appliance).await;
    let moved = |devices: &[&str]| toml::Value::from(devices.to_vec());

    // Straight away would lose the key that signs.
    appliance.stop().await;
    appliance.reconfigure(|config| {
        issuer(config).insert("devices".into(), moved(&[to]));
    });
    let ended = appliance.try_start().await.unwrap_err();
    assert_eq!(ended.status.code(), Some(78));
    for word in ["hsm-a", "list \"hsm-a\" after the new device"] {
        assert!(ended.stderr.replace('\\', "").contains(word), "{word}: {}", ended.stderr);
    }
    appliance.reconfigure(|config| {
        issuer(config).insert("devices".into(), moved(&[to, DEVICE]));
    });
    appliance.start().await;
    let both = |keys: &[Key]| signs_in(keys, DEVICE) && signs_in(keys, to);
    readers.until(&appliance, "both devices have an active key", both).await;
    change(&mut appliance, |issuer| {
        issuer.insert("devices".into(), moved(&[to]));
    })
    .await;
    readers.until(&appliance, "the old device does not sign", |keys| !signs_in(keys, DEVICE)).await;
    // What it signed is still verified with.
    let keys = keyset(&appliance).await.keys;
    assert!(in_device(&keys, DEVICE).any(|key| key.published));

    // The device itself can go once its keys are destroyed.
    appliance.stop().await;
    let text = std::fs::read_to_string(appliance.config()).unwrap();
    appliance.reconfigure(|config| {
        config["device"].as_array_mut().unwrap().remove(0);
    });
    let ended = appliance.try_start().await.unwrap_err();
    assert_eq!(ended.status.code(), Some(78));
    assert!(ended.stderr.contains("still holds a key of the issuer"), "{}", ended.stderr);
    std::fs::write(appliance.config(), text).unwrap();
    appliance.start().await;
    for key in in_device(&keys, DEVICE) {
        let kid = &key.kid;
        appliance.custodian().destroy(ISSUER, kid, "the device goes back").await.unwrap();
    }
    let destroyed =
        |keys: &[Key]| in_device(keys, DEVICE).all(|key| key.state() == KeyState::Destroyed);
    readers.until(&appliance, "the old device is empty", destroyed).await;
    appliance.stop().await;
    appliance.reconfigure(|config| {
        config["device"].as_array_mut().unwrap().remove(0);
    });
    appliance.start().await;
    readers.until(&appliance, "all is well without it", |keys| signs_in(keys, to)).await;
}

/// Changes what keys are to be, and waits until only such are in use.
async fn replaces(
    mut at_first: Table,
    edit: impl FnOnce(&mut Table),
    wanted: impl Fn(&Key) -> bool,
) {
    at_first.extend(quick());
    let mut appliance = Appliance::softhsm().with_issuer(at_first).start_initialised().await;
    let readers = Readers::new(&appliance).await;
    let old = active(&keyset(&appliance).await);
    change(&mut appliance, edit).await;
    let replaced = |keys: &[Key]| {
        let mut signing = keys.iter().filter(|key| key.state() == KeyState::Active);
        let mut next = keys.iter().filter(|key| key.state() == KeyState::PreActive);
        signing.all(&wanted) && next.all(&wanted)
    };
    readers.until(&appliance, "only the keys that are wanted are in use", replaced).await;
    let keyset = keyset(&appliance).await;
    assert_eq!(of(&keyset, &old).state(), KeyState::Deactivated);
    assert!(of(&keyset, &old).published, "what it signed is verified with");
}

#[tokio::test]
async fn i4_a_changed_algorithm_replaces_keys_when_their_successors_are_mature() {
    let edit = |issuer: &mut Table| {
        issuer.insert("algorithm".into(), "ES384".into());
    };
    replaces(Table::new(), edit, |key| key.algorithm == "ES384").await;
}

#[tokio::test]
async fn i4_a_changed_key_size_replaces_keys_when_their_successors_are_mature() {
    let at_first = toml! { algorithm = "PS256" rsa_bits = 2048 };
    let edit = |issuer: &mut Table| {
        issuer.insert("rsa_bits".into(), 3072.into());
    };
    // Base64url of 384 bytes: the modulus.
    let large = |key: &Key| {
        let jwk: serde_json::Value = serde_json::from_str(&key.jwk).unwrap();
        jwk["n"].as_str().unwrap().len() == 512
    };
    replaces(at_first, edit, large).await;
}

#[tokio::test]
async fn i4_a_raised_r_counts_for_what_is_not_mature_and_a_lowered_one_when_the_old_has_passed() {
    let mut appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    let old = mature(&appliance).await;
    // What is mature stays so.
    change(&mut appliance, |issuer| {
        issuer.insert("verifier_refresh".into(), "20m".into());
    })
    .await;
    // The standby after it is made first (I6). The answer waits two seconds for that, and a worker that
    // has only just started may take longer: the act is done all the same.
    appliance.custodian().activate(ISSUER, &old, "").await.unwrap();
    let done = eventually("it is active", async || {
        let keys = keyset(&appliance).await;
        (in_state(&keys, KeyState::Active).first()?.kid == old).then_some(keys)
    })
    .await;
    let young = standby(&done).kid.clone();
    let custodian = appliance.custodian();
    let left = custodian.activate(ISSUER, &young, "").await.unwrap_err().retry_after().unwrap();
    assert!(left > Duration::from_secs(15 * 60), "{left:?}");

    change(&mut appliance, |issuer| {
        issuer.insert("verifier_refresh".into(), "1s".into());
    })
    .await;
    // Verifiers may still keep what they read under the longer R: nothing is mature sooner.
    let custodian = appliance.custodian();
    let left = custodian.activate(ISSUER, &young, "").await.unwrap_err().retry_after().unwrap();
    assert!(left > Duration::from_secs(15 * 60), "{left:?}");
    // The worker has only just started.
    eventually("it is ready", async || {
        appliance.status().await.issuers.remove(0).ready.then_some(())
    })
    .await;
}

#[tokio::test]
async fn i5_an_old_key_stays_published_for_the_longest_lifetime_under_which_it_signed() {
    let lifetime = |text: &'static str| {
        move |issuer: &mut Table| {
            issuer.insert("max_token_lifetime".into(), text.into());
        }
    };
    let mut appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    let old = active(&keyset(&appliance).await);
    change(&mut appliance, lifetime("20m")).await;
    // Together with something else that is taken over at the start.
    change(&mut appliance, |issuer| {
        lifetime("2s")(issuer);
        issuer.insert("propagation".into(), "2s".into());
    })
    .await;
    mature(&appliance).await;
    after(appliance.custodian().rotate(ISSUER, None, "").await);
    let done = becomes(&appliance, &old, KeyState::Deactivated).await;
    let key = of(&done, &old);
    assert_eq!(key.next, "unpublished");
    let (until, since) = (key.next_at.unwrap(), key.stopped_at.unwrap());
    let waits = until.seconds - since.seconds;
    // To the second that the outlook is rounded by.
    assert!(waits > 19 * 60, "{waits} s: {key:?}");
}
