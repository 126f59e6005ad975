//! One full rotation and one revocation, killed at every system call that writes the store, and before
//! and after every call of the device: enumerated, not sampled. `keyset::sim::crashes` does the same in
//! a simulated world, to the same ends.
//!
//! Most of the time of a rotation is waited for, so that many appliances go through theirs side by side.

use std::time::{Duration, Instant};

use mintwarden_client::{
    Client, Error,
    api::{ActResponse, Key, KeyState, RevokeFallback},
};
use mintwarden_tests::{
    Appliance, ISSUER, PATIENCE, Reader, claims,
    faulty::{Applied, Crash, Function, on},
};
use tokio::task::{JoinSet, LocalSet};
use toml::{Table, toml};

use super::{live, steady, tidy, with_state};

/// So many appliances share the enumeration of a course.
const SHARES: u64 = 20;
/// R.
const REFRESH: Duration = Duration::from_millis(500);
/// A verifier that got no answer asks again after this: well within P.
const AGAIN: Duration = Duration::from_millis(100);
/// L in seconds.
const LIFETIME: u64 = 2;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

fn issuer() -> Table {
    toml! {
        verifier_refresh = "500ms"
        jwks_max_age = "500ms"
        propagation = "500ms"
        skew = "1s"
        max_token_lifetime = "2s"
        destroy_after = "100ms"
    }
}

/// What is gone through.
#[derive(Clone, Copy, Debug)]
enum Course {
    /// The next standby is made and published, the mature one activated, the old key deactivated,
    /// unpublished, destroyed.
    Rotation,
    /// The old key is unpublished, the mature standby activated, the old key destroyed, the next standby
    /// made and published.
    Revocation,
}

impl Course {
    async fn begin(self, appliance: &Appliance, kid: &str) -> Result<ActResponse, Error> {
        let custodian = appliance.custodian();
        match self {
            Self::Rotation => custodian.rotate(ISSUER, None, "").await,
            Self::Revocation => {
                custodian.revoke(ISSUER, kid, RevokeFallback::Unspecified, "").await
            }
        }
    }
}

/// Where it is killed.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The server, at a system call that writes the store.
    Write,
    /// The worker, before a call of its device.
    BeforeCall,
    /// The worker, after one.
    AfterCall,
}

/// A place that is set.
enum Armed {
    Write,
    Call(Applied),
}

impl Place {
    /// Kills at the `n`-th from here on.
    fn arm(self, appliance: &Appliance, n: u64) -> Armed {
        // All that rotating and revoking call, and what a fresh worker looks with; a login that is cut
        // off parks (I10).
        let calls = on(Function::C_GenerateKeyPair)
            .or(Function::C_DestroyObject)
            .or(Function::C_FindObjectsInit)
            .or(Function::C_FindObjects)
            .or(Function::C_FindObjectsFinal)
            .or(Function::C_GetAttributeValue)
            .after(n)
            .once();
        let rule = match self {
            Self::Write => {
                appliance.store().give(n).unwrap();
                return Armed::Write;
            }
            Self::BeforeCall => calls.crashes(Crash::Kill),
            Self::AfterCall => calls.after_the_call().crashes(Crash::Kill),
        };
        Armed::Call(appliance.faulty().add(rule).unwrap())
    }
}

impl Armed {
    /// Whether it was reached; it is taken back otherwise.
    fn was_reached(self, appliance: &Appliance) -> bool {
        match self {
            Self::Write => appliance.store().take_back().unwrap().is_none(),
            Self::Call(rule) => appliance.faulty().remove(rule).unwrap() != 0,
        }
    }
}

/// One appliance with its part of the enumeration.
struct Share {
    appliance: Appliance,
    client: Client,
    readers: Vec<Reader>,
    tokens: u64,
}

impl Share {
    async fn new() -> Self {
        let builder = Appliance::softhsm().with_issuer(issuer()).faulty().faulty_store();
        let appliance = builder.start_initialised().await;
        let mut readers = vec![];
        for _ in 0..3 {
            readers.push(appliance.reader(ISSUER, REFRESH, AGAIN).await);
            tokio::time::sleep(REFRESH / 3).await;
        }
        let client = appliance.unix_client();
        Self { appliance, client, readers, tokens: 0 }
    }

    /// A token is signed without a gap, and believed by all.
    async fn sign(&mut self, what: &str) {
        let issuer = self.client.issuer(ISSUER);
        let limit = Instant::now() + PATIENCE;
        let token = loop {
            self.tokens += 1;
            let claims = claims::trade(self.tokens).claim("exp", claims::now() + LIFETIME);
            match issuer.sign_within(claims, Duration::from_secs(1)).await {
                Ok(token) => break token,
                Err(error) => assert!(Instant::now() < limit, "{what}: nothing signs: {error}"),
            }
        };
        for reader in &self.readers {
            reader.verify(&token).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }

    /// The keys, where the appliance says so just now.
    async fn keys(&mut self) -> Option<Vec<Key>> {
        self.appliance.look_again();
        let keysets = self.appliance.custodian().list_keys(Some(ISSUER)).await.ok()?;
        Some(keysets.into_iter().flat_map(|keyset| keyset.keys).collect())
    }

    /// Signs until the keys are as they should be.
    async fn until(&mut self, what: &str, done: impl Fn(&[Key]) -> bool) -> Vec<Key> {
        let limit = Instant::now() + 2 * PATIENCE;
        loop {
            self.sign(what).await;
            let keys = self.keys().await;
            if let Some(keys) = keys.as_ref().filter(|keys| done(keys)) {
                return keys.clone();
            }
            assert!(Instant::now() < limit, "{what}: it does not come to its end: {keys:?}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Goes through it once; whether it was killed at the `n`-th place.
    async fn go(&mut self, course: Course, place: Place, n: u64) -> bool {
        let what = format!("{course:?}, {place:?} {n}");
        let old = self.until(&what, steady).await;
        let old = with_state(&old, KeyState::Active).next().unwrap().kid.clone();
        let armed = place.arm(&self.appliance, n);
        // It may be killed before it has heard of it, and then it is told again.
        loop {
            let answer = course.begin(&self.appliance, &old).await;
            // A server that has just come back says nothing yet of what is next.
            let told = |keys: &[Key]| keys.iter().all(|key| !key.outlook.is_empty());
            let keys = self.until(&what, told).await;
            let key = keys.iter().find(|key| key.kid == old).unwrap();
            if key.state() != KeyState::Active || key.outlook.contains("a custodian asked for it") {
                break;
            }
            assert!(answer.is_err(), "{what}: an act that was answered is not forgotten");
        }
        let ended = |keys: &[Key]| {
            let gone = |key: &Key| key.kid == old && key.state() == KeyState::Destroyed;
            keys.iter().any(gone) && steady(keys)
        };
        self.until(&what, ended).await;
        let reached = armed.was_reached(&self.appliance);
        // It may have been killed just now, at a write that is no part of it.
        self.until(&what, ended).await;
        let keys = tidy(&self.appliance, &what).await;
        assert_eq!(live(&keys).count(), 2, "{what}: {keys:?}");
        reached
    }
}

/// Kills at every place of a course.
async fn enumerate(course: Course, place: Place) -> u64 {
    let (together, mut shares) = (LocalSet::new(), JoinSet::new());
    for first in 0..SHARES {
        let share = async move {
            let mut share = Share::new().await;
            let mut killed = 0;
            for n in (first..).step_by(usize::try_from(SHARES).unwrap()) {
                if !share.go(course, place, n).await {
                    break;
                }
                killed += 1;
            }
            (killed, share.tokens)
        };
        shares.spawn_local_on(share, &together);
    }
    let shares: Vec<(u64, u64)> = together.run_until(shares.join_all()).await;
    let killed = shares.iter().map(|(places, _)| places).sum();
    let tokens: u64 = shares.iter().map(|(_, tokens)| tokens).sum();
    eprintln!("{course:?}: killed at {killed} places ({place:?}), {tokens} tokens were believed");
    killed
}

#[tokio::test]
async fn load_i8_killed_at_every_write_of_a_rotation() {
    assert!(enumerate(Course::Rotation, Place::Write).await > 40);
}

#[tokio::test]
async fn load_i8_killed_at_every_write_of_a_revocation() {
    assert!(enumerate(Course::Revocation, Place::Write).await > 40);
}

#[tokio::test]
async fn load_i8_killed_at_every_device_call_of_a_rotation() {
    for place in [Place::BeforeCall, Place::AfterCall] {
        assert!(enumerate(Course::Rotation, place).await > 10);
    }
}

#[tokio::test]
async fn load_i8_killed_at_every_device_call_of_a_revocation() {
    for place in [Place::BeforeCall, Place::AfterCall] {
        assert!(enumerate(Course::Revocation, place).await > 10);
    }
}
