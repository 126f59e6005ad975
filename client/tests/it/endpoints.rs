//! Several endpoints: balance, fail over, what is set aside and comes back.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use mintwarden_client::{Builder, Client, ConfigError, Error};
use tempfile::TempDir;
use tokio::{net::UnixListener, task::JoinSet};

use crate::server::{self, Seen};

/// Longer than any of this takes.
const PATIENCE: Duration = Duration::from_secs(30);
const FOR_EVER: Duration = Duration::from_secs(3600);

struct Two {
    _dir: TempDir,
    sockets: [PathBuf; 2],
    seen: [Arc<Seen>; 2],
}

impl Two {
    fn serve() -> Self {
        let two = Self::sockets();
        for (path, seen) in two.sockets.iter().zip(&two.seen) {
            server::serve(path, seen.clone());
        }
        two
    }

    fn sockets() -> Self {
        let dir = TempDir::new().unwrap();
        let sockets = ["a.sock", "b.sock"].map(|name| dir.path().join(name));
        Self { _dir: dir, sockets, seen: [Seen::new(true), Seen::new(true)] }
    }

    fn client(&self) -> Builder {
        Client::builder().endpoints(self.sockets.iter().map(|path| url(path))).timeout(PATIENCE)
    }

    /// How many batches each has got.
    fn batches(&self) -> [usize; 2] {
        [0, 1].map(|n: usize| self.seen[n].batches().len())
    }

    /// Calls until both are connected, so that what follows is evenly spread.
    async fn warm(&self, client: &Client) {
        let issuer = client.issuer("warm-up");
        for _ in 0..10_000 {
            issuer.sign("{}").await.unwrap();
            if self.batches().iter().all(|batches| *batches > 0) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("one endpoint gets no calls: {:?}", self.batches());
    }

    fn set_down(&self, server: usize, issuer: &str, retry_after: Duration) {
        *self.seen[server].down.lock().unwrap() = Some((issuer.to_owned(), retry_after));
    }
}

fn url(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// Accepts connections, and says nothing.
fn black_hole(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
}

#[tokio::test]
async fn calls_are_spread_evenly_over_those_that_are_well() {
    let two = Two::serve();
    let client = two.client().connect().await.unwrap();
    two.warm(&client).await;
    let before = two.batches();
    for _ in 0..100 {
        client.issuer("payments-tts").sign("{}").await.unwrap();
    }
    let after = two.batches();
    assert_eq!([after[0] - before[0], after[1] - before[1]], [50, 50]);
}

#[tokio::test]
async fn the_endpoint_with_fewer_calls_under_way_gets_the_next() {
    let two = Two::serve();
    let client = two.client().max_in_flight(1).connect().await.unwrap();
    two.warm(&client).await;
    // One call hangs at whichever endpoint it went to.
    two.seen.iter().for_each(|seen| seen.hold());
    let before = two.batches();
    let mut hanging = JoinSet::new();
    let issuer = client.issuer("slow");
    hanging.spawn(async move { issuer.sign("{}").await });
    let busy = tokio::select! {
        () = two.seen[0].arrived(before[0] + 1) => 0,
        () = two.seen[1].arrived(before[1] + 1) => 1,
    };
    two.seen[1 - busy].release();
    let before = two.batches();
    for _ in 0..10 {
        client.issuer("payments-tts").sign("{}").await.unwrap();
    }
    assert_eq!(two.batches()[busy], before[busy]);
    two.seen[busy].release();
    hanging.join_all().await.into_iter().for_each(|answer| drop(answer.unwrap()));
}

#[tokio::test]
async fn what_is_unavailable_at_one_is_signed_by_the_other() {
    let two = Two::serve();
    let client = two.client().connect().await.unwrap();
    two.warm(&client).await;
    two.set_down(0, "payments-tts", FOR_EVER);
    let before = two.batches();
    for _ in 0..50 {
        client.issuer("payments-tts").sign("{}").await.unwrap();
    }
    assert!(two.batches()[0] <= before[0] + 1, "it is asked once, and then set aside");
}

#[tokio::test]
async fn an_endpoint_that_fails_for_one_issuer_serves_the_others() {
    let two = Two::serve();
    let client = two.client().connect().await.unwrap();
    two.warm(&client).await;
    two.set_down(0, "payments-tts", FOR_EVER);
    two.set_down(1, "payments-tts", FOR_EVER);
    let error = client.issuer("payments-tts").sign("{}").await.unwrap_err();
    assert_eq!(error.reason(), "DEVICE_DOWN");
    let before = two.batches();
    // What waits for an hour is told so at once, and is not sent.
    let error = client.issuer("payments-tts").sign("{}").await.unwrap_err();
    assert_eq!((error.reason(), error.is_retryable()), ("DEVICE_DOWN", true));
    assert_eq!(two.batches(), before);
    for _ in 0..20 {
        client.issuer("other-tts").sign("{}").await.unwrap();
    }
    let after = two.batches();
    assert_eq!([after[0] - before[0], after[1] - before[1]], [10, 10]);
}

#[tokio::test]
async fn one_call_probes_what_was_set_aside_and_the_others_follow() {
    let two = Two::serve();
    let client = two.client().connect().await.unwrap();
    two.warm(&client).await;
    for server in [0, 1] {
        two.seen[server].unavailable.store(1, Ordering::SeqCst);
    }
    let mut calls = JoinSet::new();
    for n in 0..200 {
        let issuer = client.issuer(format!("issuer-{}", n % 4));
        calls.spawn(async move { issuer.sign("{}").await });
    }
    for answer in calls.join_all().await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn nobody_waits_for_a_black_hole_while_another_endpoint_answers() {
    let two = Two::sockets();
    black_hole(&two.sockets[0]);
    server::serve(&two.sockets[1], two.seen[1].clone());
    let client = two.client().connect_timeout(FOR_EVER).connect().await.unwrap();
    for _ in 0..20 {
        client.issuer("payments-tts").sign("{}").await.unwrap();
    }
}

#[tokio::test]
async fn a_black_hole_alone_costs_the_deadline_and_no_more() {
    let two = Two::sockets();
    black_hole(&two.sockets[0]);
    let silent = || Client::builder().endpoint(url(&two.sockets[0]));
    let client = silent().connect_timeout(FOR_EVER).build().unwrap();
    let issuer = client.issuer("payments-tts");
    let error = issuer.sign_within("{}", Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded), "{error}");

    let soon = silent().connect_timeout(Duration::from_millis(50));
    let error = soon.connect().await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("no answer"), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_hangs_costs_half_of_one_deadline() {
    let two = Two::serve();
    let client = two.client().connect().await.unwrap();
    two.warm(&client).await;
    two.seen[0].hold();
    let issuer = client.issuer("payments-tts");
    let before = two.batches();
    for _ in 0..20 {
        issuer.sign_within("{}", Duration::from_secs(8)).await.unwrap();
    }
    assert_eq!(two.batches()[0], before[0] + 1, "it is set aside after the first");
    assert_eq!(two.batches()[1], before[1] + 20);
}

#[tokio::test]
async fn a_call_that_hangs_finds_an_endpoint_that_was_not_there_when_it_began() {
    let two = Two::sockets();
    server::serve(&two.sockets[0], two.seen[0].clone());
    two.seen[0].hold();
    let client = two.client().connect().await.unwrap();
    let call = tokio::spawn(async move {
        client.issuer("payments-tts").sign_within("{}", Duration::from_secs(16)).await
    });
    two.seen[0].arrived(1).await;
    server::serve(&two.sockets[1], two.seen[1].clone());
    call.await.unwrap().unwrap();
    assert_eq!(two.batches(), [1, 1]);
}

#[tokio::test]
async fn a_server_that_goes_is_left_and_found_again() {
    let two = Two::sockets();
    let first = server::serve_apart(&two.sockets[0], two.seen[0].clone());
    server::serve(&two.sockets[1], two.seen[1].clone());
    let client = two.client().connect().await.unwrap();
    two.warm(&client).await;
    drop(first);
    for _ in 0..20 {
        client.issuer("payments-tts").sign("{}").await.unwrap();
    }
    let gone = two.batches()[0];
    std::fs::remove_file(&two.sockets[0]).unwrap();
    server::serve(&two.sockets[0], two.seen[0].clone());
    for _ in 0..10_000 {
        client.issuer("payments-tts").sign("{}").await.unwrap();
        if two.batches()[0] > gone {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it is not found again");
}

#[tokio::test]
async fn a_spent_retry_budget_is_a_typed_error_at_once() {
    let two = Two::serve();
    for server in [0, 1] {
        two.seen[server].unavailable.store(usize::MAX, Ordering::SeqCst);
    }
    let client = two.client().retry_budget(0.0, 0).build().unwrap();
    let error = client.issuer("payments-tts").sign("{}").await.unwrap_err();
    let Error::RetryBudgetExhausted { last } = &error else { panic!("{error}") };
    assert_eq!(last.reason(), "DEVICE_DOWN");
    assert_eq!(two.batches().iter().sum::<usize>(), 1, "it was sent once");
}

#[tokio::test]
async fn retries_stay_within_the_budget() {
    let two = Two::serve();
    for server in [0, 1] {
        two.seen[server].unavailable.store(usize::MAX, Ordering::SeqCst);
    }
    // One second's worth for each second of the window.
    let client = two.client().retry_budget(0.0, 1).build().unwrap();
    let error = client.issuer("payments-tts").sign("{}").await.unwrap_err();
    assert!(matches!(error, Error::RetryBudgetExhausted { .. }), "{error}");
    assert_eq!(two.batches().iter().sum::<usize>(), 11, "ten retries");
}

#[tokio::test]
async fn one_that_is_well_is_enough_to_connect_and_all_out_of_reach_are_an_error() {
    let two = Two::sockets();
    let error = two.client().connect().await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error}");
    server::serve(&two.sockets[1], two.seen[1].clone());
    two.client().connect().await.unwrap().issuer("payments-tts").sign("{}").await.unwrap();
}

#[test]
fn an_endpoint_that_is_there_twice_is_refused() {
    let client = Client::builder().endpoint("unix:/run/a").endpoint("unix:///run/a");
    let error = client.build().unwrap_err();
    assert!(
        matches!(&error, Error::Config(config) if matches!(&**config, ConfigError::Endpoint { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("twice"), "{error}");
}
