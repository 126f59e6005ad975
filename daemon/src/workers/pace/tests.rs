use super::*;

const OURS: Lane = Lane { issuer: 0, caller: 0 };
const OTHERS: Lane = Lane { issuer: 0, caller: 1 };

const EC: KeyKind = KeyKind { algorithm: Algorithm::ES256, rsa_bits: None };
const RSA: KeyKind = KeyKind { algorithm: Algorithm::RS256, rsa_bits: Some(RsaBits::B3072) };

/// A batch for a key of the kind that is measured.
const fn batch(lane: Lane, items: usize, left: Duration, sessions: u32) -> Asks {
    Asks { lane, kind: EC, items, left, sessions }
}

/// A device with so many sessions, all of which take so long for each signature.
fn measured(each: Duration, sessions: u32) -> Arc<Pace> {
    let pace = Arc::new(Pace::default());
    learn(&pace, EC, each, sessions);
    pace
}

fn learn(pace: &Pace, kind: KeyKind, each: Duration, sessions: u32) {
    let sample = Sample {
        signatures: 64,
        took: each * 64,
        sessions_busy: u64::from(sessions) * 64,
        sessions,
        answered_in: each * 64,
    };
    pace.learn(kind, sample);
}

const SLOW: Duration = Duration::from_millis(200);
const LEFT: Duration = Duration::from_secs(5);

#[test]
fn i9_a_batch_that_cannot_be_done_in_time_is_refused_with_the_time() {
    let pace = measured(SLOW, 1);
    let refused = pace.enter(batch(OURS, 1024, LEFT, 1)).expect_err("205 s");
    let takes = refused.takes.as_secs_f64();
    assert!((takes - 204.8).abs() < 0.1, "{takes}");
    assert_eq!((refused.retry_after, refused.fits), (None, 20), "with a fifth to spare");
    pace.enter(batch(OURS, 26, LEFT, 1)).expect_err("5.2 s");
    let _fits = pace.enter(batch(OURS, 24, LEFT, 1)).expect("4.8 s");
}

#[test]
fn i9_what_is_ahead_counts_and_a_small_batch_of_another_caller_gets_its_turn() {
    let pace = measured(SLOW, 1);
    let held = pace.enter(batch(OTHERS, 24, LEFT, 1)).expect("room");
    let refused = pace.enter(batch(OTHERS, 10, LEFT, 1)).expect_err("behind its own");
    assert!(refused.retry_after.is_some_and(|after| after < LEFT), "{refused:?}");
    let refused = pace.enter(batch(OURS, 24, LEFT, 1)).expect_err("in turns with the other");
    assert_eq!(refused.fits, 10);
    drop(pace.enter(batch(OURS, 3, Duration::from_secs(2), 1)).expect("6 turns of 200 ms"));
    drop(held);
    drop(pace.enter(batch(OURS, 24, LEFT, 1)).expect("it is gone"));
    assert_eq!(pace.state().kinds[&EC].items, 0);
}

#[test]
fn i9_what_a_device_signs_in_one_go_is_not_refused_while_nothing_waits() {
    let pace = measured(Duration::from_secs(60), 4);
    let short = Duration::from_millis(100);
    let held =
        pace.enter(batch(OURS, 4, short, 4)).expect("something has to show how fast it is now");
    pace.enter(batch(OTHERS, 1, short, 4)).expect_err("one at a time");
    drop(held);
    pace.enter(batch(OURS, 5, short, 4)).expect_err("more than it has sessions");
}

#[test]
fn i9_a_cold_start_and_a_fast_device_refuse_nothing() {
    let cold = Arc::new(Pace::default());
    let held: Vec<_> =
        (0..8).map(|_| cold.enter(batch(OURS, 1024, LEFT, 4)).expect("cold")).collect();
    drop(held);
    let fast = measured(Duration::from_micros(400), 4);
    let full: Vec<_> =
        (0..8).map(|_| fast.enter(batch(OURS, 1024, LEFT, 4)).expect("fast")).collect();
    assert_eq!((full.len(), fast.state().kinds[&EC].items), (8, 8192));
}

#[test]
fn the_largest_that_fits_is_found() {
    for fitting in 0..7 {
        assert_eq!(largest(7, |items| items <= fitting), fitting);
    }
}

#[test]
fn i9_a_slow_kind_of_key_does_not_refuse_what_is_for_a_fast_one() {
    let pace = measured(Duration::from_millis(50), 1);
    for _ in 0..4 {
        learn(&pace, RSA, Duration::from_millis(333), 1);
    }
    let fast = batch(OURS, 80, LEFT, 1);
    drop(pace.enter(fast).expect("4 s"));
    pace.enter(Asks { kind: RSA, ..fast }).expect_err("27 s");
    assert!(pace.per_second().is_some_and(|rate| rate < 4.0), "shown is the slowest");
    // What is ahead counts at its own rate: 80 turns each, of which 12 are slow ones.
    let _held = pace.enter(Asks { lane: OTHERS, kind: RSA, items: 12, ..fast }).expect("4 s");
    pace.enter(fast).expect_err("8 s");
    drop(pace.enter(batch(OURS, 10, LEFT, 1)).expect("in turns: 10 of 50 ms, 10 of 333 ms"));
}

#[test]
fn i9_who_always_asks_for_as_much_is_served_again_when_the_device_has_recovered() {
    let pace = measured(Duration::from_secs(60), 1);
    let asks = batch(OURS, 8, LEFT, 1);
    let now = clock::monotonic();
    let after = |seconds| now + Duration::from_secs(seconds);
    pace.enter_at(now, asks).expect_err("8 minutes");
    let probe = pace.enter_at(after(61), asks).expect("something has to show how fast it is now");
    pace.enter_at(after(61), asks).expect_err("one at a time");
    drop(probe);
    pace.enter_at(after(90), asks).expect_err("once a minute");
    let probe = pace.enter_at(after(122), asks).expect("again");
    drop(probe);
    let fast = Sample {
        signatures: 8,
        took: Duration::from_millis(400),
        sessions_busy: 8,
        sessions: 1,
        answered_in: Duration::from_millis(400),
    };
    (0..12).for_each(|_| pace.learn(EC, fast));
    drop(pace.enter(asks).expect("it has recovered"));
}
