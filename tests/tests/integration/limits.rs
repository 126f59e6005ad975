//! I9: beyond a bound there is a prompt, typed answer.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use mintwarden_client::Bytes;
use mintwarden_proto::v1::{
    SignBatchRequest, SignRequest, sign_result::Outcome,
    signing_service_client::SigningServiceClient,
};
use mintwarden_tests::{
    Appliance, DEVICE, ISSUER, Role, channel, claims, eventually, refusal::Refusal,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use toml::toml;
use tonic::{Code, Request, transport::Channel};

fn batch(count: usize, payload: impl Fn(usize) -> Bytes) -> SignBatchRequest {
    SignBatchRequest { issuer: ISSUER.into(), claims: (0..count).map(payload).collect() }
}

fn trades(count: usize) -> SignBatchRequest {
    batch(count, |n| claims::trade(n as u64).to_json())
}

fn single() -> SignRequest {
    SignRequest { issuer: ISSUER.into(), claims: claims::trade(0).to_json() }
}

fn signing(appliance: &Appliance) -> SigningServiceClient<Channel> {
    SigningServiceClient::new(appliance.channel(Some(appliance.tts())))
}

#[tokio::test]
async fn i9_batches_are_bounded_in_items_and_bytes() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let mut signing = signing(&appliance);
    let mib = |bytes: usize| move |_| Bytes::from(vec![b' '; bytes]);
    for (request, reason, message) in [
        (batch(0, mib(0)), "BATCH_EMPTY", "empty"),
        (batch(1025, mib(2)), "TOO_MANY_ITEMS", "1025 items; at most 1024"),
        // Beyond what a message may have it is not even read.
        (batch(5, mib((4 << 20) / 4)), "MESSAGE_TOO_LARGE", "at most 4259840"),
        (batch(1, mib((4 << 20) + 1)), "TOO_MANY_BYTES", "4194305 bytes"),
    ] {
        let status = signing.sign_batch(request).await.unwrap_err();
        let refusal = Refusal::of(&status);
        assert_eq!(refusal.words(), (Code::InvalidArgument, reason));
        let field = (reason != "MESSAGE_TOO_LARGE").then_some("claims");
        assert_eq!(refusal.fields, Vec::from_iter(field));
        assert!(status.message().contains(message), "{}", status.message());
    }
    // The largest that is allowed: all signed.
    let answer = signing.sign_batch(trades(1024)).await.unwrap().into_inner();
    let signed = |result: &_| matches!(result, Some(Outcome::Signature(_)));
    assert!(answer.results.iter().all(|result| signed(&result.outcome)));
    assert_eq!(answer.results.len(), 1024);
}

#[tokio::test]
async fn i9_a_payload_beyond_its_bound_is_refused_as_such() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let fill = |length: usize| {
        let payload = claims::trade(1).claim("fill", "");
        let missing = length - payload.to_json().len();
        claims::trade(1).claim("fill", "x".repeat(missing)).to_json()
    };
    let claims = vec![fill(4096), fill(4097)];
    let batch = appliance.client().issuer(ISSUER).sign_batch(claims).await.unwrap();
    batch.tokens[0].as_ref().unwrap();
    let refusal = batch.tokens[1].as_ref().unwrap_err().refusal().unwrap().clone();
    assert_eq!((&*refusal.reason, refusal.rule.as_deref()), ("PAYLOAD_MALFORMED", Some("size")));
}

#[tokio::test]
async fn i9_a_deadline_that_has_passed_is_answered_at_once() {
    let appliance = Appliance::softhsm().start_initialised().await;
    // A connection that leaves the deadline to the appliance.
    let connection = channel::bare(appliance.unix()).await;
    let mut signing = SigningServiceClient::new(connection);
    for timeout in ["0n", "1n"] {
        let mut request = Request::new(single());
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        let status = signing.sign(request).await.unwrap_err();
        let refusal = Refusal::of(&status);
        assert_eq!(refusal.words(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{timeout}");
    }
    let mut request = Request::new(single());
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = signing.sign(request).await.unwrap_err();
    assert_eq!(Refusal::of(&status).words(), (Code::InvalidArgument, "TIMEOUT_MALFORMED"));
    signing.sign(single()).await.unwrap();
}

#[tokio::test]
async fn i9_a_full_house_says_when_to_come_back_and_a_client_that_is_gone_leaves_no_trace() {
    // A share of 1024 for each of the two callers that may sign.
    let limits = toml! { max_inflight_items = 2048 };
    let appliance = Appliance::softhsm().with_limits(limits).start_initialised().await;
    let (mut large, mut small) = (signing(&appliance), signing(&appliance));
    small.sign(single()).await.unwrap();

    let refused = eventually("a single call meets a full house", async || {
        let mut under_way = pin!(large.sign_batch(trades(1024)));
        // Both at once, and the large one is dropped, its connection left alone, when the small one
        // has its answer.
        let answer = poll_fn(|context| match under_way.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => Poll::Ready(None),
        });
        assert!(answer.await.is_none(), "nobody signs 1024 tokens at once");
        tokio::select! {
            answer = &mut under_way => {
                // The single call that was given up when the last round ended may still have room.
                if let Err(status) = answer {
                    assert_eq!(Refusal::of(&status).reason, "OVERLOADED");
                }
                None
            }
            answer = async {
                loop {
                    if let Err(status) = small.sign(single()).await {
                        return status;
                    }
                }
            } => Some(answer),
        }
    })
    .await;
    let refusal = Refusal::of(&refused);
    assert_eq!(refusal.words(), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(refusal.retry_after.is_some_and(|after| after < Duration::from_secs(5)), "{refusal:?}");

    // The room that the client left behind comes back, and nothing broke.
    eventually("there is room again", async || small.sign(single()).await.ok()).await;
    let device = appliance.status().await.devices.remove(0);
    assert_eq!((&*device.name, device.starts), (DEVICE, 1));
}

#[tokio::test]
async fn i9_a_client_that_hangs_up_mid_batch_takes_nobody_with_it() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let worker = appliance.process(Role::Worker);
    for _ in 0..8 {
        // A connection of its own, which ends with the call.
        let mut signing = signing(&appliance);
        let call = signing.sign_batch(trades(1024));
        let _gone = tokio::time::timeout(Duration::from_millis(20), call).await;
    }
    let verifier = appliance.verifier(ISSUER).await;
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    verifier.verify(&token).unwrap();
    assert!(worker.runs());
}

#[tokio::test]
async fn i9_a_peer_that_says_nothing_is_put_out() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    appliance.restart_with_limits(toml! { handshake = "300ms" }).await;
    let https: std::net::SocketAddr = {
        let url = appliance.url("");
        url.trim_start_matches("https://").parse().unwrap()
    };
    for address in [appliance.grpc(), https] {
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut nothing = [0];
        let ended = silent.read(&mut nothing);
        let ended = tokio::time::timeout(mintwarden_tests::PATIENCE, ended).await;
        assert!(matches!(ended.expect("it is put out"), Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn i9_connections_beyond_the_limit_wait_until_one_ends() {
    let limits = toml! { max_connections = 1 };
    let appliance = Appliance::softhsm().with_limits(limits).start().await;
    // Ada's connection for `init` has ended with her client.
    appliance.init(ISSUER).await;
    let mut first = signing(&appliance);
    first.sign(single()).await.unwrap();
    let mut second = signing(&appliance);
    let mut waiting = pin!(second.sign(single()));
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(waited.is_err(), "it was let in beyond the limit");
    first.sign(single()).await.unwrap();
    drop(first);
    waiting.await.unwrap();
}
