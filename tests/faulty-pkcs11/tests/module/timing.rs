//! Latency, turns, and calls that do not come back.

#![allow(clippy::disallowed_methods, reason = "latency is what is tested")]

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use faulty_pkcs11::{Action, Function, on};

use crate::fixture::{Fixture, ID, generate, sign};

#[test]
fn latency_is_each_calls_own_also_of_32_at_once() {
    let fixture = Fixture::new();
    let session = fixture.session();
    let (_, private) = generate(&session, ID).unwrap();
    let latency = Duration::from_millis(400);
    fixture.faulty.add(on(Function::C_Sign).takes(latency)).unwrap();
    let sessions: Vec<_> = (0..32).map(|_| fixture.session()).collect();
    let begun = Instant::now();
    thread::scope(|scope| {
        for session in sessions {
            scope.spawn(move || {
                let begun = Instant::now();
                sign(&session, private).unwrap();
                assert!(begun.elapsed() >= latency);
            });
        }
    });
    // One after the other they would take 32 times as long.
    assert!(begun.elapsed() < 16 * latency, "{:?}", begun.elapsed());
}

#[test]
fn calls_beyond_the_limit_wait_for_their_turn() {
    let fixture = Fixture::new();
    let session = fixture.session();
    let (_, private) = generate(&session, ID).unwrap();
    let latency = Duration::from_millis(50);
    fixture.faulty.add(on(Function::C_Sign).does(Action::Parallel(2))).unwrap();
    fixture.faulty.add(on(Function::C_Sign).takes(latency)).unwrap();
    let sessions: Vec<_> = (0..6).map(|_| fixture.session()).collect();
    let begun = Instant::now();
    thread::scope(|scope| {
        for session in sessions {
            scope.spawn(move || sign(&session, private).unwrap());
        }
    });
    assert!(begun.elapsed() >= 3 * latency, "three rounds of two: {:?}", begun.elapsed());
}

#[test]
fn a_blocked_call_comes_back_when_the_rule_is_removed() {
    let fixture = Fixture::new();
    let session = fixture.session();
    let (_, private) = generate(&session, ID).unwrap();
    let rule = fixture.faulty.add(on(Function::C_Sign).once().blocks()).unwrap();
    let (done, finished) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || done.send(sign(&session, private).is_ok()));
        while fixture.faulty.fired(&rule) == 0 {
            thread::yield_now();
        }
        // Others go on meanwhile.
        sign(&fixture.session(), private).unwrap();
        assert_eq!(finished.try_recv(), Err(mpsc::TryRecvError::Empty));
        fixture.faulty.remove(rule).unwrap();
        assert_eq!(finished.recv_timeout(Duration::from_secs(30)), Ok(true));
    });
}
