//! Random faults under load. Seeded: `MINTWARDEN_CHAOS_SEED` repeats a run, `MINTWARDEN_CHAOS_SECONDS`
//! makes it longer (1200 by hand).

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mintwarden_client::{Client, api::DeviceState};
use mintwarden_tests::{
    Appliance, ISSUER, PATIENCE, Role, Verifier, claims, eventually,
    faulty::{Action, Ckr, Crash, Function, Rule, any, on},
};
use tokio::task::JoinSet;

use super::ladder::impatient;

const DEVICES: [&str; 2] = ["hsm-a", "hsm-b"];
const CALLERS: u64 = 16;
/// What callers give a token; no call outlives it by more than a loaded machine explains.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a caller waits after an error.
const COME_BACK: Duration = Duration::from_millis(20);
/// How long one fault is left in place.
const STRIKE: Duration = Duration::from_millis(300);
const SECONDS: u64 = 40;
const SEED: u64 = 0x6d69_6e74_7761_7264;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    /// A fault, and what to call it.
    fn fault(&mut self) -> (&'static str, Rule) {
        let one = |function| on(function).once();
        match self.roll(14) {
            0 => ("device error", one(Function::C_Sign).fails(Ckr::CKR_DEVICE_ERROR)),
            1 => ("session closed", one(Function::C_SignInit).fails(Ckr::CKR_SESSION_CLOSED)),
            2 => ("hang", one(Function::C_Sign).blocks()),
            3 => ("segfault", one(Function::C_Sign).crashes(Crash::Segfault)),
            4 => ("abort", one(Function::C_SignInit).after_the_call().crashes(Crash::Abort)),
            5 => ("kill", one(Function::C_Sign).after_the_call().crashes(Crash::Kill)),
            6 => ("flipped bit", one(Function::C_Sign).does(Action::FlipBit(42))),
            7 => ("another key", one(Function::C_SignInit).does(Action::OtherKey)),
            8 => ("sessions lost", one(Function::C_SignInit).does(Action::LoseSessions)),
            9 => ("handles lost", one(Function::C_SignInit).does(Action::LoseHandles)),
            10 => ("login lost", one(Function::C_SignInit).does(Action::LoseLogin)),
            11 => ("token absent", any().does(Action::TokenAbsent)),
            12 => ("slow", on(Function::C_Sign).takes(Duration::from_millis(20))),
            _ => {
                let chance = on(Function::C_Sign).with_probability(0.02, self.roll(1 << 32));
                ("many errors", chance.fails(Ckr::CKR_GENERAL_ERROR))
            }
        }
    }
}

#[derive(Default)]
struct Tally {
    tokens: AtomicU64,
    errors: AtomicU64,
    done: AtomicBool,
}

async fn call(client: Client, caller: u64, verifier: Verifier, tally: Arc<Tally>) {
    let issuer = client.issuer(ISSUER);
    let mut number = caller << 32;
    while !tally.done.load(Ordering::Relaxed) {
        number += 1;
        let begun = Instant::now();
        let answer = issuer.sign_within(claims::trade(number), DEADLINE).await;
        assert!(begun.elapsed() < DEADLINE + PATIENCE, "{answer:?} after {:?}", begun.elapsed());
        match answer {
            Ok(token) => {
                let verified = verifier.verify(&token).expect("a token that was released");
                let txn = verified.claims["txn"].as_str().unwrap().to_owned();
                assert!(
                    txn.ends_with(&number.to_string()),
                    "{txn} answers another call than {number}"
                );
                tally.tokens.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                tally.errors.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(COME_BACK).await;
            }
        }
    }
}

/// Resident memory in KiB and open descriptors of the server; `None` where that may not be seen.
fn weight(appliance: &Appliance) -> Option<(u64, usize)> {
    let server = appliance.process(Role::Server);
    let status = String::from_utf8(server.read("status").ok()?).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident = resident.trim().trim_end_matches(" kB").parse().ok()?;
    Some((resident, std::fs::read_dir(format!("/proc/{}/fd", server.pid)).ok()?.count()))
}

fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).ok().map_or(otherwise, |text| text.parse().expect(variable))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_chaos_every_token_verifies_and_all_heals() {
    let (seed, seconds) =
        (number("MINTWARDEN_CHAOS_SEED", SEED), number("MINTWARDEN_CHAOS_SECONDS", SECONDS));
    let builder = Appliance::softhsm().with_device(DEVICES[0]).with_device(DEVICES[1]).faulty();
    let mut appliance = impatient(builder).start_initialised().await;
    let verifier = appliance.verifier(ISSUER).await;
    let (tally, mut callers) = (Arc::new(Tally::default()), JoinSet::new());
    for caller in 1..=CALLERS {
        let (verifier, tally) = (verifier.clone(), Arc::clone(&tally));
        callers.spawn(call(appliance.client(), caller, verifier, tally));
    }
    eventually("all callers have begun", async || {
        (tally.tokens.load(Ordering::Relaxed) > 100 * CALLERS).then_some(())
    })
    .await;
    let before = weight(&appliance);

    let (mut dice, until) = (Dice(seed), Instant::now() + Duration::from_secs(seconds));
    let (mut struck, mut wrong) = (0_u64, 0_u64);
    while Instant::now() < until {
        let device = DEVICES[usize::try_from(dice.roll(2)).unwrap()];
        let (name, rule) = dice.fault();
        let rule = appliance.faulty_of(device).add(rule).unwrap();
        tokio::time::sleep(STRIKE).await;
        let effects = appliance.faulty_of(device).remove(rule).unwrap();
        struck += u64::from(effects != 0);
        if matches!(name, "flipped bit" | "another key") {
            wrong += effects;
        }
    }

    for device in DEVICES {
        appliance.faulty_of(device).clear().unwrap();
        appliance.until_device(device, DeviceState::Ready).await;
    }
    let healed = tally.tokens.load(Ordering::Relaxed);
    eventually("tokens are signed again", async || {
        (tally.tokens.load(Ordering::Relaxed) > healed + CALLERS).then_some(())
    })
    .await;
    tally.done.store(true, Ordering::Relaxed);
    callers.join_all().await;

    let (tokens, errors) =
        (tally.tokens.load(Ordering::Relaxed), tally.errors.load(Ordering::Relaxed));
    let status = appliance.status().await;
    let mut starts = 0;
    for (place, device) in DEVICES.into_iter().enumerate() {
        starts += status.devices[place].starts;
        let logins = appliance.faulty_of(device).calls(Function::C_Login);
        assert!(logins <= status.devices[place].starts, "I10: {logins} logins of {device}");
    }
    eprintln!(
        "seed {seed}: {struck} faults, {wrong} of them wrong signatures, {starts} starts, {tokens} tokens, {errors} errors"
    );
    assert!(struck > seconds / 4, "{struck} faults in {seconds} s");
    // No alarm without a cause: two wrong signatures in a row suspend a key, and nothing else is one.
    let alarms = &status.issuers[0].alarms;
    assert!(u64::try_from(alarms.len()).unwrap() <= wrong / 2, "{wrong} wrong, yet {alarms:?}");
    // And no cause without its trace.
    assert!(
        status.devices.iter().all(|device| device.last_fault.is_some()),
        "{:?}",
        status.devices
    );
    if let (Some((kib, files)), Some((kib_now, files_now))) = (before, weight(&appliance)) {
        assert!(kib_now < kib + 32 * 1024, "resident memory grew from {kib} to {kib_now} KiB");
        assert!(files_now <= files + 8, "descriptors grew from {files} to {files_now}");
    }
    appliance.stop().await;
}
