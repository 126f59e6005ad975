//! A wall clock that was set while the appliance was stopped. That it is set while the appliance runs is
//! simulated (`keyset::apply`, `keyset::sim`): a test cannot set the machine's.

use std::time::Duration;

use mintwarden::{
    clock,
    keyset::Keyset,
    record::Book,
    store::{Change, Redb, Store as _},
};
use mintwarden_client::api::KeyState;
use mintwarden_tests::{Appliance, ISSUER, claims, eventually};
use mintwarden_worker::IssuerName;
use toml::toml;

use super::with_state;
use crate::custodian::{active, keyset, mature};

const HOURS: i64 = 4 * 3_600_000;
/// How long a step of the clock has to hold before it is believed: L + S, here.
const SETTLE: Duration = Duration::from_secs(10);

/// What the appliance would have written if its wall clock had been so many milliseconds behind until now.
async fn set_back_what_was_written(appliance: &Appliance, by: i64) {
    let (path, anchor) = ("state/server/keysets.redb", "state/anchor/keysets.json");
    let (path, anchor) = (appliance.file(path), appliance.file(anchor));
    let store = Redb::open(&path, &anchor, &Book::of_digest("")).unwrap();
    let issuer = IssuerName::parse(ISSUER).unwrap();
    let keyset = store.load(&issuer).await.unwrap().unwrap();
    let mut next = Keyset { version: keyset.version + 1, ..keyset.clone() };
    next.clock.offset -= by;
    next.clock.wall.0 -= by;
    next.clock.latest.0 -= by;
    for key in &mut next.keys {
        let moments = [&mut key.published, &mut key.activated, &mut key.unpublished];
        moments.into_iter().flatten().for_each(|moment| moment.wall.0 -= by);
    }
    store.compare_and_swap(Change::of_keyset(Some(keyset.version), &next)).await.unwrap();
}

#[tokio::test]
async fn i11_a_clock_that_was_stepped_while_stopped_activates_nothing_until_it_has_held() {
    for step in [HOURS, -HOURS] {
        let builder = Appliance::softhsm().with_issuer(toml! {
            verifier_refresh = "1s"
            jwks_max_age = "1s"
            propagation = "1s"
            skew = "1s"
            max_token_lifetime = "9s"
            rotate_every = "1h"
        });
        let mut appliance = builder.start_initialised().await;
        let old = active(&keyset(&appliance).await);
        let next = mature(&appliance).await;
        appliance.stop().await;
        set_back_what_was_written(&appliance, step).await;
        let began = clock::wall();
        appliance.start().await;

        let said = format!("the wall clock was stepped by {} s", step / 1000);
        let alarms = async || appliance.status().await.issuers.remove(0).alarms;
        eventually("the step is an alarm", async || {
            alarms().await.iter().any(|alarm| alarm.contains(&said)).then_some(())
        })
        .await;
        // What signs goes on: a verifier knows the key, whatever the time.
        let token = appliance.client().issuer(ISSUER).sign(claims_of_now()).await.unwrap();
        assert_eq!(appliance.verifier(ISSUER).await.verify(&token).unwrap().kid, old, "{step}");
        eventually("the step is believed", async || {
            (!alarms().await.iter().any(|alarm| alarm.contains(&said))).then_some(())
        })
        .await;
        let held = clock::wall().0 - began.0;
        assert!(held >= i64::try_from(SETTLE.as_secs()).unwrap(), "believed after {held} s");
        if step > 0 {
            // By now the key is four hours old, and its standby was mature before.
            let keys = eventually("the schedule goes on", async || {
                let keys = keyset(&appliance).await.keys;
                let signs = with_state(&keys, KeyState::Active).any(|key| key.kid == next);
                signs.then_some(keys)
            })
            .await;
            let key = keys.iter().find(|key| key.kid == next).unwrap();
            let waited = key.activated_at.unwrap().seconds - began.0;
            assert!(waited >= SETTLE.as_secs().cast_signed(), "activated after {waited} s");
        }
    }
}

fn claims_of_now() -> mintwarden_client::TxnClaims {
    claims::trade(1).claim("exp", claims::now() + 9)
}
