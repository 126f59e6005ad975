//! Keys that rotate every few seconds under load, revocations by two persons, and random SIGKILLs of
//! server, launcher and worker. Seeded: `MINTWARDEN_ROTATION_SEED` repeats the order of the kills,
//! `MINTWARDEN_ROTATIONS` makes it longer (50 by hand, with a revocation after every tenth).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mintwarden_client::{
    Client,
    api::{KeyState, RecordEntry, RevokeFallback},
};
use mintwarden_tests::{Appliance, ISSUER, Reader, Role, claims, eventually};
use tokio::task::JoinSet;
use toml::toml;

use super::{steady, tidy, with_state};
use crate::{
    custodian::approvals::{by, persons},
    faults::chaos::{Dice, number},
};

const CALLERS: u64 = 4;
const READERS: u32 = 5;
/// R, and P: a verifier that got no answer asks again well within it.
const REFRESH: Duration = Duration::from_secs(1);
const PROPAGATION: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(100);
/// L, in seconds.
const LIFETIME: u64 = 2;
/// How long a caller waits for a token; claims are of now, so that it asks anew then.
const DEADLINE: Duration = Duration::from_secs(1);
const COME_BACK: Duration = Duration::from_millis(20);
/// Rotations, if nothing else is said: what a minute has room for.
const ROTATIONS: u64 = 8;
const SEED: u64 = 0x726f_7461_7465;
/// What happens so long before or after the first token of a key belongs to its rotation.
const AROUND: Duration = Duration::from_millis(250);

/// What callers and verifiers have seen.
#[derive(Default)]
struct Seen {
    done: AtomicBool,
    tokens: AtomicU64,
    errors: AtomicU64,
    /// Tokens of revoked keys that were refused.
    refused: AtomicU64,
    /// Keys that were revoked, or are about to be: their tokens may fail.
    revoked: Mutex<BTreeSet<String>>,
    /// When each key signed first, by what callers saw.
    first: Mutex<BTreeMap<String, Instant>>,
    /// When each token was asked for, and how long that took.
    calls: Mutex<Vec<(Instant, Duration)>>,
    /// From when to when something was killed and not yet back.
    disturbed: Mutex<Vec<(Instant, Instant)>>,
}

impl Seen {
    fn is_revoked(&self, kid: &str) -> bool {
        self.revoked.lock().unwrap().contains(kid)
    }

    /// The 99th percentile of calls during rotations, and of those while nothing happened; how many there
    /// were of each. What was asked for while something was killed is in neither.
    fn percentiles(&self) -> [(Duration, usize); 2] {
        let (calls, disturbed) = (self.calls.lock().unwrap(), self.disturbed.lock().unwrap());
        let rotations: Vec<_> = self.first.lock().unwrap().values().copied().collect();
        let around =
            |at: Instant, from: Instant, to: Instant| at + AROUND > from && at < to + AROUND;
        let (mut rotating, mut quiet) = (vec![], vec![]);
        for (at, took) in calls.iter().copied() {
            if disturbed.iter().any(|(from, to)| around(at, *from, *to)) {
                continue;
            }
            let rotates = rotations.iter().any(|first| around(at, *first, *first));
            if rotates { &mut rotating } else { &mut quiet }.push(took);
        }
        [rotating, quiet].map(|mut all: Vec<Duration>| {
            all.sort();
            let p99 = all.len().saturating_sub(1) * 99 / 100;
            (all.get(p99).copied().unwrap_or_default(), all.len())
        })
    }
}

/// Signs all the time; every token is verified by all when it comes and again just before it expires.
async fn call(client: Client, caller: u64, readers: Vec<Reader>, seen: Arc<Seen>) {
    let issuer = client.issuer(ISSUER);
    let mut later = JoinSet::new();
    let mut number = caller << 32;
    while !seen.done.load(Ordering::Relaxed) {
        number += 1;
        let begun = Instant::now();
        let claims = claims::trade(number).claim("exp", claims::now() + LIFETIME);
        let Ok(token) = issuer.sign_within(claims, DEADLINE).await else {
            seen.errors.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(COME_BACK).await;
            continue;
        };
        let now = Instant::now();
        seen.calls.lock().unwrap().push((begun, now - begun));
        seen.tokens.fetch_add(1, Ordering::Relaxed);
        let kid = verified(&token, &readers, &seen).await;
        seen.first.lock().unwrap().entry(kid).or_insert(now);
        // One in ten lives to its end: it is the key that is asked about.
        if number.is_multiple_of(10) {
            let (readers, seen) = (readers.clone(), Arc::clone(&seen));
            later.spawn(async move {
                // `exp` has whole seconds: it is at least so far away.
                tokio::time::sleep_until((begun + Duration::from_secs(LIFETIME - 1)).into()).await;
                verified(&token, &readers, &seen).await;
            });
        }
    }
    later.join_all().await;
}

/// All verifiers believe it, unless its key was revoked; the key.
async fn verified(token: &str, readers: &[Reader], seen: &Seen) -> String {
    let kid = kid(token);
    for reader in readers {
        if let Err(error) = reader.verify(token).await {
            assert!(seen.is_revoked(&kid), "a good token fails: {error}");
            seen.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
    kid
}

fn kid(token: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

/// Everything in the record, oldest first.
async fn record(appliance: &Appliance) -> Vec<RecordEntry> {
    let (mut entries, mut before): (Vec<RecordEntry>, _) = (vec![], 0);
    loop {
        let page = appliance.custodian().acts(None, before, 100).await.unwrap();
        entries.extend(page.entries);
        before = page.next_before;
        if before == 0 {
            entries.reverse();
            return entries;
        }
    }
}

/// How often the record tells of a step of the schedule.
fn steps(record: &[RecordEntry], step: &str) -> u64 {
    record.iter().filter(|entry| entry.kind == "stepped" && entry.what == step).count() as u64
}

/// Ends one process by SIGKILL; returns once all run again and a token was signed since.
async fn kill(appliance: &mut Appliance, role: Role, seen: &Seen) {
    let from = Instant::now();
    match role {
        Role::Server => appliance.kill_server().await,
        Role::Worker => appliance.kill_worker().await,
        Role::Launcher => {
            appliance.kill_launcher().await;
            appliance.start().await;
        }
    }
    let so_far = seen.tokens.load(Ordering::Relaxed);
    eventually("tokens are signed again", async || {
        (seen.tokens.load(Ordering::Relaxed) > so_far + CALLERS).then_some(())
    })
    .await;
    seen.disturbed.lock().unwrap().push((from, Instant::now()));
}

/// Ada proposes to revoke the key that signs, Bob agrees; a mature standby takes over.
async fn revoke(appliance: &Appliance, seen: &Seen) -> String {
    let (ada, bob) = (appliance.custodian(), by(appliance, "custodian/bob"));
    let kid = eventually("a key is revoked by two persons", async || {
        let keys = ada.list_keys(Some(ISSUER)).await.ok()?.remove(0).keys;
        let kid = with_state(&keys, KeyState::Active).next()?.kid.clone();
        with_state(&keys, KeyState::PreActive).find(|key| key.mature)?;
        seen.revoked.lock().unwrap().insert(kid.clone());
        let proposed = ada.revoke(ISSUER, &kid, RevokeFallback::Unspecified, "stolen").await;
        let approved = async {
            let id = proposed.ok()?.proposal?.id;
            // What is proposed is bound to the key's state: it signs still, or there is nothing to take over.
            let keys = ada.list_keys(Some(ISSUER)).await.ok()?.remove(0).keys;
            with_state(&keys, KeyState::Active).find(|key| key.kid == kid)?;
            bob.approve(ISSUER, &id, "seen it").await.ok()
        };
        if approved.await.is_none() {
            // It was rotated meanwhile: the proposal is void, and the key is none the worse.
            seen.revoked.lock().unwrap().remove(&kid);
            return None;
        }
        Some(kid)
    })
    .await;
    let still = appliance.verifier(ISSUER).await.kids();
    assert!(!still.contains(&kid), "a revoked key is published");
    kid
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_i4_i5_i6_i8_keys_rotate_under_kills_and_no_good_token_is_refused() {
    let seed = number("MINTWARDEN_ROTATION_SEED", SEED);
    let rotations = number("MINTWARDEN_ROTATIONS", ROTATIONS);
    let revocations = rotations.div_ceil(10);
    let builder = Appliance::softhsm().with_issuer(toml! {
        verifier_refresh = "1s"
        jwks_max_age = "1s"
        propagation = "1s"
        skew = "1s"
        max_token_lifetime = "2s"
        rotate_every = "4s"
        destroy_after = "1s"
    });
    let mut appliance = persons(builder, toml! { revoke = 2 }).start_initialised().await;
    let mut readers = vec![];
    for _ in 0..READERS {
        readers.push(appliance.reader(ISSUER, REFRESH, AGAIN).await);
        tokio::time::sleep(REFRESH / READERS).await;
    }
    let (seen, mut callers) = (Arc::new(Seen::default()), JoinSet::new());
    for caller in 1..=CALLERS {
        let (readers, seen) = (readers.clone(), Arc::clone(&seen));
        callers.spawn(call(appliance.unix_client(), caller, readers, seen));
    }

    let (mut dice, mut kills, mut revoked) = (Dice(seed), BTreeMap::new(), vec![]);
    let begun = Instant::now();
    loop {
        let rotated = steps(&record(&appliance).await, "rotate");
        if rotated >= rotations && revoked.len() as u64 >= revocations {
            break;
        }
        if (revoked.len() as u64) < revocations && rotated >= 10 * revoked.len() as u64 + 2 {
            revoked.push((revoke(&appliance, &seen).await, Instant::now()));
        }
        // At any point of the schedule, which takes a few seconds from one rotation to the next.
        tokio::time::sleep(Duration::from_millis(dice.roll(6000))).await;
        let role =
            [Role::Server, Role::Launcher, Role::Worker][usize::try_from(dice.roll(3)).unwrap()];
        kill(&mut appliance, role, &seen).await;
        *kills.entry(format!("{role:?}")).or_insert(0) += 1;
        for (kid, since) in &revoked {
            for reader in &readers {
                let exposed = reader.believes(kid).await && since.elapsed() > REFRESH + PROPAGATION;
                assert!(!exposed, "{kid} is believed {:?} after its revocation", since.elapsed());
            }
        }
        for caller in 0..callers.len() {
            assert!(callers.try_join_next().is_none(), "caller {caller} has ended");
        }
    }
    let took = begun.elapsed();
    seen.done.store(true, Ordering::Relaxed);
    callers.join_all().await;

    // The schedule comes to rest: what is left then has to be what it needs, and nothing else.
    appliance.stop().await;
    appliance.reconfigure(|config| {
        let issuer = config["issuer"][0].as_table_mut().unwrap();
        issuer.insert("rotate_every".into(), "24h".into());
    });
    appliance.start().await;
    // A rotation that was half-way has made the next standby, which waits for the next rotation.
    let spares = eventually("old keys are destroyed, and the standby is mature", async || {
        let mut keys = appliance.custodian().list_keys(Some(ISSUER)).await.ok()?.remove(0).keys;
        let all = keys.len();
        keys.retain(|key| key.state() != KeyState::PreActive || key.published);
        let spares = all - keys.len();
        (spares <= 1 && steady(&keys)).then_some(spares as u64)
    })
    .await;
    tidy(&appliance, "at the end").await;
    // The first key and its standby, one more for each that has taken the place of another, and the next;
    // each attempt has come to its end.
    let record = record(&appliance).await;
    let of = |step| steps(&record, step);
    let (rotated, made, given_up) = (of("rotate"), of("adopt"), of("give-up"));
    assert_eq!(made, 2 + rotated + revocations + spares, "as many keys were made as were used");
    assert_eq!(of("generate"), made + given_up, "an attempt without an end");
    let signed = seen.first.lock().unwrap().len() as u64;
    assert!(signed <= 1 + rotated + revocations, "{signed} keys have signed");
    let [(rotating, during), (quiet, beside)] = seen.percentiles();
    eprintln!(
        "seed {seed}: {rotated} rotations, {revocations} revocations, {kills:?} killed in {} s; {} tokens, {} errors, \
         {} refusals of tokens of revoked keys, none of others; {made} keys made, {given_up} attempts given up; p99 {rotating:?} during rotations \
         ({during} calls), {quiet:?} beside them ({beside})",
        took.as_secs(),
        seen.tokens.load(Ordering::Relaxed),
        seen.errors.load(Ordering::Relaxed),
        seen.refused.load(Ordering::Relaxed),
    );
    appliance.stop().await;
}
