//! Random faults and kills under load. Seeded: `MINTWARDEN_CHAOS_SEED` repeats a run, `MINTWARDEN_CHAOS_SECONDS`
//! makes it longer (1200 by hand).

use std::{
    env, fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mintwarden_client::{
    Client,
    api::{DeviceState, KeyState},
};
use mintwarden_tests::{
    Appliance, ISSUER, PATIENCE, Process, Role, Verifier, claims, eventually,
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
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    /// What happens next to a device.
    fn strike(&mut self) -> Strike {
        match self.roll(16) {
            0 => Strike::KillWorker,
            1 => Strike::KillServer,
            _ => {
                let (name, rule) = self.fault();
                Strike::Fault(name, rule)
            }
        }
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

/// What happens to a device, or to what serves it.
enum Strike {
    /// Its module misbehaves.
    Fault(&'static str, Rule),
    /// Its worker is killed.
    KillWorker,
    /// The server is killed.
    KillServer,
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

/// What a server takes: resident memory in KiB and open descriptors; `None` where that may not be seen.
#[derive(Clone, Copy)]
struct Weight {
    server: Process,
    resident: u64,
    files: usize,
}

fn weight(appliance: &Appliance) -> Option<Weight> {
    let server = appliance.process(Role::Server);
    let status = String::from_utf8(server.read("status").ok()?).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident = resident.trim().trim_end_matches(" kB").parse().ok()?;
    let files = fs::read_dir(format!("/proc/{}/fd", server.pid)).ok()?.count();
    Some(Weight { server, resident, files })
}

/// Kills the worker of a device once it is ready: one that is logging in would be parked, and rightly (I10). Returns
/// which start it was.
async fn kill_worker(appliance: &Appliance, device: &str) -> u64 {
    eventually(&format!("the worker of {device} is killed"), async || {
        let before = until_well(appliance, device).await;
        let pids = appliance.faulty_of(device).processes();
        let own = |worker: &Process| {
            worker.role == Role::Worker
                && pids.iter().any(|pid| i64::from(*pid) == i64::from(worker.pid))
        };
        let mut own = appliance.processes().into_iter().filter(own);
        let (Some(worker), None) = (own.next(), own.next()) else { return None };
        (until_well(appliance, device).await == before).then(|| {
            worker.kill9();
            before
        })
    })
    .await
}

/// Waits until a device is well; how often it was started. One whose worker was killed in its login all the same
/// waits for an operator.
async fn until_well(appliance: &Appliance, device: &str) -> u64 {
    eventually(&format!("{device} is well"), async || {
        let status = appliance.status().await;
        let mut devices = status.devices.into_iter();
        let found = devices.find(|it| it.name == device).expect("configured");
        if found.state() == DeviceState::Parked && found.reason == "LOGIN_PENDING" {
            let _resumed_or_not_parked_any_more =
                appliance.custodian().resume_device(device, "killed in its login").await;
        }
        (found.state() == DeviceState::Ready).then_some(found.starts)
    })
    .await
}

/// Has a custodian resume the keys that the appliance has suspended, if any: how many there were. A device that is
/// rarely asked may sign wrong at two strikes with nothing right between them.
async fn resume_keys(appliance: &Appliance) -> u64 {
    if appliance.status().await.issuers[0].alarms.is_empty() {
        return 0;
    }
    let custodian = appliance.custodian();
    let keysets = custodian.list_keys(Some(ISSUER)).await.expect("keys");
    let keys = keysets.iter().flat_map(|keyset| &keyset.keys);
    let mut resumed = 0;
    for key in keys.filter(|key| key.state() == KeyState::Suspended) {
        custodian.resume(ISSUER, &key.kid, "the device was struck").await.expect("an act");
        resumed += 1;
    }
    resumed
}

pub(crate) fn number(variable: &str, otherwise: u64) -> u64 {
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
        // By the unix socket: a server that starts again has other ports.
        callers.spawn(call(appliance.unix_client(), caller, verifier, tally));
    }
    let sign_on = async |more: u64| {
        let before = tally.tokens.load(Ordering::Relaxed);
        eventually("tokens are signed", async || {
            (tally.tokens.load(Ordering::Relaxed) > before + more).then_some(())
        })
        .await;
    };
    sign_on(100 * CALLERS).await;

    let (mut dice, begun) = (Dice(seed), Instant::now());
    let (half, until) =
        (begun + Duration::from_secs(seconds / 2), begun + Duration::from_secs(seconds));
    let (mut strikes, mut struck, mut wrong, mut suspended) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (mut kills, mut before) = ([0_u64; 2], None);
    while Instant::now() < until || kills[0] == 0 {
        let device = DEVICES[usize::try_from(dice.roll(2)).unwrap()];
        // In the second half the server, killed once at least, lives on: what it takes is to stay the same.
        let lives_on = Instant::now() >= half && kills[0] > 0;
        if lives_on && before.is_none() {
            sign_on(100 * CALLERS).await;
            before = weight(&appliance);
        }
        match dice.strike() {
            Strike::KillServer if lives_on => {}
            Strike::KillServer => {
                appliance.kill_server().await;
                kills[0] += 1;
            }
            Strike::KillWorker => {
                kill_worker(&appliance, device).await;
                kills[1] += 1;
            }
            Strike::Fault(name, rule) => {
                let rule = appliance.faulty_of(device).add(rule).unwrap();
                tokio::time::sleep(STRIKE).await;
                let effects = appliance.faulty_of(device).remove(rule).unwrap();
                strikes += 1;
                struck += u64::from(effects != 0);
                if matches!(name, "flipped bit" | "another key") {
                    wrong += effects;
                }
            }
        }
        suspended += resume_keys(&appliance).await;
    }

    for device in DEVICES {
        appliance.faulty_of(device).clear().unwrap();
        // Whatever else has struck it: each device has lost a worker under this server.
        let lost = kill_worker(&appliance, device).await;
        kills[1] += 1;
        eventually("another worker is ready", async || {
            (until_well(&appliance, device).await > lost).then_some(())
        })
        .await;
    }
    suspended += resume_keys(&appliance).await;
    sign_on(CALLERS).await;
    // A look at keys that the last kill ended is an alarm until the next one.
    eventually("no alarm is left", async || {
        appliance.status().await.issuers[0].alarms.is_empty().then_some(())
    })
    .await;
    tally.done.store(true, Ordering::Relaxed);
    callers.join_all().await;

    let (tokens, errors) =
        (tally.tokens.load(Ordering::Relaxed), tally.errors.load(Ordering::Relaxed));
    let status = appliance.status().await;
    let mut starts = 0;
    for device in DEVICES {
        let calls = |function| appliance.faulty_of(device).calls(function);
        // Every start of a worker initialises its module, whichever server counts it.
        let (initialised, logins) = (calls(Function::C_Initialize), calls(Function::C_Login));
        assert!(logins <= initialised, "I10: {logins} logins in {initialised} starts of {device}");
        starts += initialised;
    }
    let [servers, workers] = kills;
    eprintln!(
        "seed {seed}: {struck} of {strikes} faults, {wrong} with wrong signatures, {suspended} keys suspended, {workers} workers and {servers} servers killed, \
         {starts} starts of workers, {tokens} tokens, {errors} errors"
    );
    // A device that is not asked is not struck; how often that is so is the machine's.
    assert!(struck > 0, "none of {strikes} faults");
    // No alarm without a cause: two wrong signatures in a row suspend a key, and nothing else is one.
    assert!(suspended <= wrong / 2, "{wrong} wrong, yet {suspended} suspended");
    // And no cause without its trace.
    let traces = status.devices.iter().map(|device| &device.last_fault);
    assert!(traces.clone().all(Option::is_some), "{:?}", status.devices);
    if let (Some(before), Some(now)) = (before, weight(&appliance)) {
        let (kib, kib_now) = (before.resident, now.resident);
        assert_eq!(before.server, now.server, "nobody killed it since");
        assert!(kib_now < kib + 32 * 1024, "resident memory grew from {kib} to {kib_now} KiB");
        let (files, files_now) = (before.files, now.files);
        assert!(files_now <= files + 8, "descriptors grew from {files} to {files_now}");
    }
    appliance.stop().await;
}
