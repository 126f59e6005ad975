//! What a device's worker, its launcher and an operator say, in every order.

use std::{
    io::Write as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use mintwarden_worker::wire::{
    Answer, BUILD, FromWorker, LastWords, MAX_FRAME, Refused, WorkerHello,
};
use prost::Message as _;

use crate::{
    clock,
    config::Config,
    launcher::control::{self, ToLauncher, Upward, WORKER_PARKED},
    workers::{NotResumed, Ready, Reason, Said, State, Worker, Workers},
};

const CONFIG: &str = r#"
    state_dir = "/nonexistent"
    listen = { unix = "api.sock" }
    [[device]]
    name = "hsm-a"
    kind = "pkcs11"
    model = "softhsm2"
    token_label = "tts"
    pin = { file = "pin" }
    [[issuer]]
    name = "payments-tts"
    iss = "https://tts.trust-domain.example"
    devices = ["hsm-a"]
    audience = ["trust-domain.example"]
"#;

fn framed(answer: Answer) -> Vec<u8> {
    let body = FromWorker { id: 0, answer: Some(answer) }.encode_to_vec();
    let size = u32::try_from(body.len()).expect("small");
    [&size.to_be_bytes()[..], &body].concat()
}

/// The wire of a worker that has said all this, and is gone unless its end is kept.
fn wire(says: &[Answer]) -> (UnixStream, OwnedFd) {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    says.iter().cloned().for_each(|answer| ours.write_all(&framed(answer)).expect("it fits"));
    (ours, theirs.into())
}

fn hello() -> Answer {
    Answer::Hello(WorkerHello { build: BUILD.into(), ..WorkerHello::default() })
}

fn words(reason: &str) -> Answer {
    let why = Refused { reason: reason.into(), detail: String::new() };
    Answer::LastWords(LastWords { why, parked: false })
}

fn ended() -> Said {
    Said::Ended(Reason::new("WORKER_FAILED", "its worker ended"), clock::monotonic())
}

/// A device's worker, and the launcher's end of what it is told.
fn worker() -> (Arc<Worker>, OwnedFd) {
    let config = Config::parse(CONFIG, Path::new("/nonexistent/mintwarden.toml"));
    let (launcher, server) = control::pair().expect("a pair of sockets");
    let devices = config.expect("a good configuration").devices;
    let workers = Workers::new(&devices, &Upward::new(server));
    (Arc::clone(workers.get("hsm-a").expect("configured")), launcher)
}

async fn until_ready(worker: &Worker, start: u64) {
    let ready = || worker.starts() == start && matches!(worker.state(), State::Ready(_));
    while !ready() {
        tokio::task::yield_now().await;
    }
}

/// The device's `start`th worker, which serves; its end of the wire.
async fn serves(worker: &Arc<Worker>, start: u64) -> UnixStream {
    let (lives, wire) = wire(&[hello()]);
    worker.attach(start, wire).expect("a socket");
    until_ready(worker, start).await;
    lives
}

#[tokio::test]
async fn why_a_worker_ended_is_known_also_when_the_next_one_is_there_already() {
    let (worker, _launcher) = worker();
    // All of it is there before anything of it is read.
    let (gone, first) = wire(&[hello(), words("DEVICE_FAILED")]);
    drop(gone);
    let (_lives, second) = wire(&[hello()]);
    worker.attach(1, first).expect("a socket");
    worker.said(ended());
    worker.attach(2, second).expect("a socket");
    until_ready(&worker, 2).await;
    assert_eq!(worker.fault().expect("recorded").reason.reason, "DEVICE_FAILED");
    let faults = worker.faults();
    assert_eq!((faults["DEVICE_FAILED"], faults["WORKER_FAILED"]), (1, 0), "{faults:?}");
}

#[tokio::test]
async fn what_was_said_last_is_heard_though_the_wire_is_cut_before_it_is_read() {
    for _ in 0..32 {
        let (worker, _launcher) = worker();
        let (gone, wire) = wire(&[hello(), words("DEVICE_FAILED")]);
        drop(gone);
        worker.attach(1, wire).expect("a socket");
        while worker.starts() == 0 {
            tokio::task::yield_now().await;
        }
        worker.state.cut("its worker is gone");
        worker.said(ended());
        while worker.fault().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(worker.fault().expect("recorded").reason.reason, "DEVICE_FAILED");
    }
}

#[tokio::test]
async fn i9_a_wire_that_is_cut_ends_though_its_worker_never_stops_talking() {
    let (worker, _launcher) = worker();
    let mut talks = serves(&worker, 1).await;
    // One answer, as long as it may be and slower than anybody waits.
    let size = u32::try_from(MAX_FRAME).expect("it is in every frame").to_be_bytes();
    let talking = std::thread::spawn(move || {
        talks.write_all(&size).expect("it fits");
        while talks.write_all(&[0]).is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    worker.state.cut("it is not believed any more");
    while !talking.is_finished() {
        tokio::task::yield_now().await;
    }
    assert!(!matches!(worker.state(), State::Ready(_)));
}

/// What it signed is not right.
fn found_out(worker: &Worker) -> Arc<Ready> {
    let State::Ready(ready) = worker.state() else { panic!("it was ready") };
    worker.state.distrusted(&ready.wire, "a signature does not verify");
    ready
}

#[tokio::test]
async fn i2_a_worker_that_was_found_out_is_asked_nothing_from_then_on() {
    let (worker, _launcher) = worker();
    let _lives = serves(&worker, 1).await;
    let first = found_out(&worker);
    // Nothing else had its turn in between.
    assert!(matches!(worker.state(), State::Starting), "{:?}", worker.state());
    worker.said(ended());
    let _lives = serves(&worker, 2).await;
    // What was asked of the one before says nothing about this one.
    worker.state.distrusted(&first.wire, "a signature does not verify");
    assert!(matches!(worker.state(), State::Ready(_)), "{:?}", worker.state());
}

#[tokio::test]
async fn workers_that_are_found_out_one_after_the_other_are_a_prompt_answer() {
    let (worker, _launcher) = worker();
    for start in 1..=5 {
        let _lives = serves(&worker, start).await;
        found_out(&worker);
        worker.said(ended());
    }
    let told = |state| matches!(state, State::Down(why) if why.reason == "DEVICE_FAULT");
    while !told(worker.state()) {
        tokio::task::yield_now().await;
    }
}

fn parked(heard: u64) -> Said {
    Said::Parked { why: Reason::new(WORKER_PARKED, ""), start: 3, heard }
}

/// The launcher's word and the operator's cross on the way.
#[tokio::test]
async fn what_was_said_before_a_device_was_resumed_does_not_park_it_again() {
    let (worker, launcher) = worker();
    assert!(matches!(worker.resume(), Err(NotResumed::NotParked)));
    worker.state.said(parked(0));
    assert!(matches!(worker.state(), State::Parked(_)));
    worker.resume().expect("it is parked");
    let twice = worker.resume();
    assert!(matches!(twice, Err(NotResumed::NotParked)), "one try for each word of an operator");
    worker.state.said(parked(0));
    assert!(matches!(worker.state(), State::Starting), "{:?}", worker.state());
    worker.state.said(parked(1));
    assert!(matches!(worker.state(), State::Parked(_)), "{:?}", worker.state());
    worker.resume().expect("it is parked");
    for expected in [1, 2] {
        let heard = control::receive_upward(&launcher).expect("a message");
        let Some(ToLauncher::Resume { device, start, number }) = heard else {
            panic!("{heard:?}");
        };
        assert_eq!((&*device, start, number), ("hsm-a", 3, expected));
    }
}

#[tokio::test]
async fn a_resumption_that_nobody_hears_changes_nothing() {
    let (worker, launcher) = worker();
    worker.state.said(parked(0));
    drop(launcher);
    assert!(matches!(worker.resume(), Err(NotResumed::NotAsked(_))));
    assert!(matches!(worker.state(), State::Parked(_)));
    worker.state.said(parked(0));
    assert!(matches!(worker.state(), State::Parked(_)));
}

#[tokio::test]
async fn what_a_worker_said_last_hides_only_that_the_launcher_knows_no_better() {
    for (reason, shown) in
        [(WORKER_PARKED, "LOGIN_FAILED"), ("RESUMED_TOO_OFTEN", "RESUMED_TOO_OFTEN")]
    {
        let (worker, _launcher) = worker();
        let unusable = WorkerHello {
            build: BUILD.into(),
            unusable: Some(Refused { reason: "LOGIN_FAILED".into(), detail: String::new() }),
            parked: true,
            ..WorkerHello::default()
        };
        let (_gone, wire) = wire(&[Answer::Hello(unusable)]);
        worker.attach(3, wire).expect("a socket");
        while !matches!(worker.state(), State::Parked(_)) {
            tokio::task::yield_now().await;
        }
        worker.resume().expect("it is parked");
        let why = Reason::new(reason, "");
        worker.state.said(Said::Parked { why, start: 3, heard: 1 });
        let State::Parked(why) = worker.state() else { panic!("{:?}", worker.state()) };
        assert_eq!(why.reason, shown);
    }
}

#[tokio::test]
async fn a_wire_that_somebody_else_holds_open_gives_way_to_the_next() {
    let (worker, _launcher) = worker();
    let _held = serves(&worker, 1).await;
    worker.said(ended());
    let _lives = serves(&worker, 2).await;
    assert_eq!(worker.fault().expect("recorded").reason.reason, "WORKER_FAILED");
}
