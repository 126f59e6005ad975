use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mintwarden_client::{Builder, Bytes, Client, Error, Issuer};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::server::{self, Seen};

const PERMITS: usize = 100_000;

struct Fixture {
    dir: TempDir,
    seen: Arc<Seen>,
    issuer: Issuer,
}

impl Fixture {
    fn client(&self) -> Builder {
        let path = self.dir.path().join("api.sock");
        Client::builder().endpoint(format!("unix:{}", path.display()))
    }
}

fn fixture(open: bool) -> Fixture {
    let dir = TempDir::new().unwrap();
    let seen = Seen::new(open);
    let path = dir.path().join("api.sock");
    server::serve(&path, seen.clone());
    let client = Client::builder().endpoint(format!("unix:{}", path.display())).build().unwrap();
    Fixture { dir, seen, issuer: client.issuer("payments-tts") }
}

fn expected(claims: &str) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    format!(
        "header.{}.{}",
        encode(claims.as_bytes()),
        encode(&claims.as_bytes()[..claims.len().min(8)])
    )
}

/// Spawns a call for each number, which has to give its own token.
fn calls(issuer: &Issuer, numbers: std::ops::Range<usize>) -> Vec<tokio::task::JoinHandle<()>> {
    numbers
        .map(|n| {
            let issuer = issuer.clone();
            tokio::spawn(async move {
                let claims = format!("{n:07} claims");
                assert_eq!(issuer.sign(claims.clone()).await.unwrap().as_str(), expected(&claims));
            })
        })
        .collect()
}

async fn all(calls: Vec<tokio::task::JoinHandle<()>>) {
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn what_waits_goes_out_together_when_a_batch_comes_back() {
    let f = fixture(false);
    let first = calls(&f.issuer, 0..1);
    f.seen.arrived(1).await;
    let rest = calls(&f.issuer, 1..400);
    f.seen.arrived(4).await;
    let late = calls(&f.issuer, 400..1000);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(f.seen.in_flight.load(Ordering::SeqCst), 4, "no more than max_in_flight go out");
    f.seen.gate.add_permits(PERMITS);
    all(first).await;
    all(rest).await;
    all(late).await;
    let batches = f.seen.batches();
    assert_eq!(batches[0], 1, "a lone call goes out at once");
    assert_eq!(batches.iter().sum::<usize>(), 1000);
    assert!(batches.len() < 20, "{batches:?}");
    assert_eq!(f.seen.most_in_flight.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_in_a_loop_keep_joining() {
    let f = fixture(true);
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let issuer = f.issuer.clone();
            tokio::spawn(async move {
                for n in 0..100 {
                    let claims = format!("{task}-{n} claims");
                    assert_eq!(
                        issuer.sign(claims.clone()).await.unwrap().as_str(),
                        expected(&claims)
                    );
                }
            })
        })
        .collect();
    all(tasks).await;
    let batches = f.seen.batches();
    assert_eq!(batches.iter().sum::<usize>(), 6400);
    assert!(batches.len() < 6400 / 4, "{} batches, sizes {:?}", batches.len(), &batches[..20]);
}

#[tokio::test]
async fn calls_one_after_the_other_go_alone() {
    let f = fixture(true);
    for n in 0..20 {
        let claims = format!("{n:07} claims");
        assert_eq!(f.issuer.sign(claims.clone()).await.unwrap().as_str(), expected(&claims));
    }
    assert_eq!(f.seen.batches(), [1; 20]);
}

#[tokio::test]
async fn a_refused_item_fails_alone_and_names_claim_and_rule() {
    let f = fixture(true);
    let good = calls(&f.issuer, 0..63);
    let error = f.issuer.sign("bad").await.unwrap_err();
    all(good).await;
    let refusal = error.refusal().unwrap();
    assert_eq!(error.reason(), "CLAIM_REFUSED");
    assert_eq!(refusal.claim.as_deref(), Some("exp"));
    assert_eq!(refusal.rule.as_deref(), Some("lifetime"));
    assert!(!error.is_retryable());

    let batch =
        f.issuer.sign_batch(vec![Bytes::from("one"), "bad".into(), "two".into()]).await.unwrap();
    assert_eq!(batch.kid, "kid");
    assert_eq!(batch.tokens[0].as_ref().unwrap().as_str(), expected("one"));
    assert_eq!(batch.tokens[1].as_ref().unwrap_err().reason(), "CLAIM_REFUSED");
    assert_eq!(batch.tokens[2].as_ref().unwrap().as_str(), expected("two"));
}

#[tokio::test]
async fn a_caller_that_gives_up_hurts_nobody() {
    let f = fixture(false);
    let alone = calls(&f.issuer, 0..1);
    f.seen.arrived(1).await;
    let batch = calls(&f.issuer, 1..4);
    f.seen.arrived(2).await;
    batch[0].abort();
    alone[0].abort();
    f.seen.gate.add_permits(PERMITS);
    for call in batch.into_iter().skip(1) {
        call.await.unwrap();
    }
    all(calls(&f.issuer, 4..6)).await;
}

#[tokio::test]
async fn a_caller_that_gives_up_before_it_is_sent_is_left_out() {
    let f = fixture(false);
    let client = f.client().max_in_flight(1).build().unwrap();
    let issuer = client.issuer("payments-tts");
    let alone = calls(&issuer, 0..1);
    f.seen.arrived(1).await;
    let waiting = calls(&issuer, 1..11);
    tokio::task::yield_now().await;
    waiting[..5].iter().for_each(tokio::task::JoinHandle::abort);
    tokio::time::sleep(Duration::from_millis(20)).await;
    // The one in flight gives up too: its place goes to those who wait.
    alone[0].abort();
    f.seen.gate.add_permits(PERMITS);
    all(waiting.into_iter().skip(5).collect()).await;
    assert_eq!(f.seen.batches(), [1, 5]);
}

#[tokio::test]
async fn each_caller_has_its_own_deadline() {
    let f = fixture(false);
    // What ends soon ends by its own deadline.
    let client = f.client().timeout(Duration::from_secs(3600)).build().unwrap();
    let issuer = client.issuer("payments-tts");
    let slow = calls(&issuer, 0..2);
    f.seen.arrived(2).await;
    let two = async {
        for _ in 0..2 {
            let error = issuer.sign_within("late", Duration::from_millis(80)).await.unwrap_err();
            assert!(matches!(error, Error::DeadlineExceeded), "{error}");
        }
    };
    tokio::time::timeout(Duration::from_secs(30), two).await.unwrap();
    f.seen.gate.add_permits(PERMITS);
    all(slow).await;
}

#[tokio::test]
async fn a_lone_call_has_its_deadline() {
    let f = fixture(false);
    let error = f.issuer.sign_within("late", Duration::from_millis(80)).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded), "{error}");
    let error = f.issuer.sign_within("late", Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded), "{error}");
}

#[tokio::test]
async fn unavailable_is_tried_again() {
    let f = fixture(true);
    f.seen.unavailable.store(2, Ordering::SeqCst);
    all(calls(&f.issuer, 0..1)).await;
    f.seen.unavailable.store(1, Ordering::SeqCst);
    f.issuer.sign_batch(vec!["one".into()]).await.unwrap();
}

#[tokio::test]
async fn i9_what_waits_is_bounded() {
    let f = fixture(false);
    let issuer = f.client().max_in_flight(1).build().unwrap().issuer("payments-tts");
    let one = calls(&issuer, 0..1);
    f.seen.arrived(1).await;
    let mut waiting = JoinSet::new();
    for n in 0..=16 * 1024 {
        let issuer = issuer.clone();
        waiting.spawn(async move { issuer.sign(format!("{n:07} claims")).await });
    }
    // Nothing is answered yet, so the first to end is the one that is too many.
    let first = waiting.join_next().await.unwrap().unwrap();
    assert!(matches!(first, Err(Error::Overloaded { waiting: 16384 })), "{first:?}");
    f.seen.gate.add_permits(PERMITS);
    all(one).await;
    assert!(waiting.join_all().await.into_iter().all(|answer| answer.is_ok()));
    assert_eq!(f.seen.batches().len(), 17);
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("api.sock");
    let client = Client::builder().endpoint(format!("unix:{}", path.display())).build().unwrap();
    let call = calls(&client.issuer("payments-tts"), 0..1);
    tokio::time::sleep(Duration::from_millis(50)).await;
    server::serve(&path, Seen::new(true));
    all(call).await;
}

#[tokio::test]
async fn no_server_is_a_transport_error_that_names_the_endpoint() {
    let builder = Client::builder().endpoint("unix:/nowhere/api.sock").max_attempts(2);
    for error in [
        builder.clone().build().unwrap().issuer("payments-tts").sign("{}").await.unwrap_err(),
        builder.connect().await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Transport(_)));
        assert!(error.is_retryable());
        let text = error.to_string();
        assert!(text.contains("unix:/nowhere/api.sock") && text.contains("No such file"), "{text}");
    }
}

#[test]
fn handles_outlive_a_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let f = server.block_on(async { fixture(false) });
    let first = runtime();
    let issuer = f.issuer.clone();
    first.block_on(async {
        let _calls = calls(&issuer, 0..3);
        f.seen.arrived(2).await;
    });
    drop(first);
    f.seen.gate.add_permits(PERMITS);
    runtime().block_on(async { all(calls(&issuer, 3..9)).await });
}
