//! Many signatures in one life of a worker. Counters of 16 bits, of handles, nonces and saved contexts, have gone
//! round by then.
//!
//! libtss2 on OpenSSL 3 makes a library context for each hash, some 7 ms of processor time for each signature: minutes
//! in all. Nothing here is timed, so that it runs beside the other tests, and is started first (.config/nextest.toml).

use std::{collections::HashSet, sync::mpsc, thread, time::Duration};

use mintwarden_client::{Bytes, Token};
use mintwarden_tests::{Appliance, ISSUER, Process, Role, claims};
use tokio::task::JoinSet;

const TOKENS: u64 = 70_000;
const BATCH: u64 = 100;
const IN_FLIGHT: u64 = 4;

/// What a batch may take: a hundred signatures a second are usual, and on a busy machine thirty.
const PATIENCE: Duration = Duration::from_secs(120);

/// The worker is warm by then, and what it grows by afterwards it would grow by for ever.
const WARM: u64 = 10_000;

/// What its resident memory may differ by, in KiB: pages that an allocator gives back or keeps.
const MAX_GROWTH: u64 = 1024;

fn resident(worker: &Process) -> u64 {
    let status = String::from_utf8(worker.read("status").unwrap()).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a number");
    resident.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seventy_thousand_signatures_in_one_life_of_a_worker_leave_nothing_behind() {
    let mut appliance = Appliance::swtpm().start_initialised().await;
    let worker = appliance.process(Role::Worker);
    let verifier = appliance.verifier(ISSUER).await;
    let (done, finished) = mpsc::channel::<Vec<Token>>();
    let checking = thread::spawn(move || {
        let mut transactions = HashSet::new();
        for token in finished.iter().flatten() {
            let verified = verifier.verify(&token).unwrap();
            transactions.insert(verified.claims["txn"].as_str().unwrap().to_owned());
        }
        transactions
    });
    let client = appliance.builder(appliance.tts()).timeout(PATIENCE).build().unwrap();
    let issuer = client.issuer(ISSUER);
    let mut warm = None;
    let (mut batches, mut next, mut signed) = (JoinSet::new(), 0, 0);
    while signed < TOKENS {
        while next < TOKENS && (batches.len() as u64) < IN_FLIGHT {
            let claims: Vec<Bytes> =
                (next..next + BATCH).map(|number| claims::trade(number).to_json()).collect();
            let issuer = issuer.clone();
            batches.spawn(async move { issuer.sign_batch(claims).await });
            next += BATCH;
        }
        let batch = batches.join_next().await.expect("some are in flight").unwrap().unwrap();
        let tokens: Vec<_> = batch.tokens.into_iter().map(Result::unwrap).collect();
        signed += tokens.len() as u64;
        done.send(tokens).unwrap();
        if signed >= WARM {
            warm.get_or_insert_with(|| resident(&worker));
        }
    }
    let (before, after) = (warm.expect("it was warm"), resident(&worker));
    assert!(after <= before + MAX_GROWTH, "{before} KiB, then {after} KiB");
    assert!(worker.runs(), "the same worker all along");
    assert_eq!(appliance.process(Role::Worker), worker);
    drop(done);
    assert_eq!(checking.join().unwrap().len() as u64, TOKENS, "each payload in exactly one token");
    let status = appliance.status().await.devices.remove(0);
    assert_eq!((status.starts, status.last_fault), (1, None));
    appliance.stop().await;
    for what in ["handles-transient", "handles-loaded-session", "handles-saved-session"] {
        assert_eq!(appliance.tpm().tool(&["tpm2_getcap", what]).trim(), "", "{what}");
    }
}
