//! Messages that are none, or too much.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use mintwarden_proto::v1::{
    InitRequest, SignBatchRequest, SignRequest, custodian_service_client::CustodianServiceClient,
    signing_service_client::SigningServiceClient,
};
use mintwarden_tests::{
    Appliance, ISSUER, PATIENCE, channel, claims, eventually, refusal::Refusal,
};
use toml::toml;
use tonic::{Code, Status, body::Body};
use tower::{Service, ServiceExt as _};

const SIGN: &str = "/mintwarden.v1.SigningService/Sign";
const SIGN_BATCH: &str = "/mintwarden.v1.SigningService/SignBatch";

fn request(path: &str, headers: &[(&str, &str)], body: Body) -> http::Request<Body> {
    let uri = format!("http://localhost{path}");
    let request = http::Request::post(uri).header("content-type", "application/grpc");
    let request = request.header("te", "trailers");
    headers.iter().fold(request, |r, (name, value)| r.header(*name, *value)).body(body).unwrap()
}

/// What is answered to this body; `Code::Ok` where it is no refusal.
async fn answer<S, B>(connection: &S, request: http::Request<Body>) -> Status
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error: std::fmt::Debug> + Clone,
    B: hyper::body::Body<Error: std::fmt::Debug>,
{
    let answer = tokio::time::timeout(PATIENCE, connection.clone().oneshot(request));
    let answer = answer.await.expect("an answer").unwrap();
    let (head, body) = answer.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers) {
        return status;
    }
    let trailers = body.collect().await.unwrap().trailers().cloned();
    Status::from_header_map(&trailers.expect("an answer ends with trailers")).expect("a status")
}

fn whole(body: impl Into<Bytes>) -> Body {
    Body::new(Full::new(body.into()))
}

/// A body that begins so and never ends.
fn unfinished(begin: impl Into<Bytes>) -> Body {
    use tokio_stream::{StreamExt as _, once};
    let begin = once(Ok::<_, Status>(Frame::data(begin.into())));
    let never = tokio_stream::pending::<Result<Frame<Bytes>, Status>>();
    Body::new(StreamBody::new(begin.chain(never)))
}

fn message(message: &impl prost::Message) -> Vec<u8> {
    framed(0, &message.encode_to_vec())
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let size = u32::try_from(message.len()).unwrap();
    [&[flag][..], &size.to_be_bytes(), message].concat()
}

fn batch(items: usize) -> SignBatchRequest {
    SignBatchRequest { issuer: ISSUER.into(), claims: vec![Bytes::new(); items] }
}

fn single() -> SignRequest {
    SignRequest { issuer: ISSUER.into(), claims: claims::trade(1).to_json() }
}

#[tokio::test]
async fn i9_a_message_is_whole_or_refused() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let connection = channel::bare(appliance.unix()).await;
    let good = message(&single());
    let malformed = (Code::InvalidArgument, "MESSAGE_MALFORMED");
    let compressed = (Code::Unimplemented, "MESSAGE_COMPRESSED");
    let too_large = (Code::InvalidArgument, "MESSAGE_TOO_LARGE");
    // An issuer that is not UTF-8, and a length that leads beyond the end.
    let (not_text, beyond) = (b"\x0a\x01\xff", b"\x0a\x7fx");
    for (what, body, expected) in [
        ("nothing", vec![], malformed),
        ("half a prefix", good[..3].to_vec(), malformed),
        ("a prefix alone", good[..5].to_vec(), malformed),
        ("half a message", good[..good.len() - 1].to_vec(), malformed),
        ("a byte too many", [&good[..], b"\0"].concat(), malformed),
        ("two messages", [&good[..], &good[..]].concat(), malformed),
        ("a flag that is none", framed(2, &good[5..]), malformed),
        ("a message that says it is compressed", framed(1, &good[5..]), compressed),
        ("garbage", framed(0, &[0xff; 64]), malformed),
        ("a field that is not text", framed(0, not_text), malformed),
        ("a field beyond the end", framed(0, beyond), malformed),
        ("a group without an end", framed(0, b"\x0b"), malformed),
        ("a length that lies", [b"\0\xff\xff\xff\xff", &good[5..]].concat(), too_large),
    ] {
        for path in [SIGN, SIGN_BATCH] {
            let status = answer(&connection, request(path, &[], whole(body.clone()))).await;
            assert_eq!(Refusal::of(&status).words(), expected, "{what}, {path}: {status}");
        }
    }
    for encoding in ["gzip", "deflate", "zstd", "identity, gzip"] {
        let headers = [("grpc-encoding", encoding)];
        let status = answer(&connection, request(SIGN, &headers, whole(good.clone()))).await;
        assert_eq!(Refusal::of(&status).words(), compressed, "{encoding}");
    }
    let headers = [("grpc-encoding", "identity")];
    let status = answer(&connection, request(SIGN, &headers, whole(good))).await;
    assert_eq!(status.code(), Code::Ok, "{status}");
}

#[tokio::test]
async fn i9_messages_are_bounded_by_what_their_method_takes() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let mut signing = SigningServiceClient::new(appliance.unix_channel());
    // Two bytes on the wire each, 32 in memory: refused before they get there.
    for items in [1025, 2_000_000] {
        let status = signing.sign_batch(batch(items)).await.unwrap_err();
        let refusal = Refusal::of(&status);
        assert_eq!(refusal.words(), (Code::InvalidArgument, "TOO_MANY_ITEMS"));
        assert_eq!(refusal.fields, ["claims"]);
        assert!(status.message().contains(&items.to_string()), "{status}");
    }
    let claims = Bytes::from(vec![b' '; (4 << 20) + (64 << 10)]);
    let status = signing.sign(SignRequest { issuer: ISSUER.into(), claims }).await.unwrap_err();
    assert_eq!(Refusal::of(&status).words(), (Code::InvalidArgument, "MESSAGE_TOO_LARGE"));

    let ada = appliance.channel(Some(appliance.ada()));
    let init = InitRequest { issuer: ISSUER.into(), reason: "x".repeat(65 << 10) };
    let status = CustodianServiceClient::new(ada).init(init).await.unwrap_err();
    assert_eq!(Refusal::of(&status).words(), (Code::InvalidArgument, "MESSAGE_TOO_LARGE"));
}

#[tokio::test]
async fn i9_a_peer_without_any_grant_is_refused_before_its_body_is_read() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let stranger = appliance.pki().dns("stranger", &["stranger.example"]);
    let connection = appliance.channel(Some(&stranger));
    for path in [SIGN, "/mintwarden.v1.CustodianService/Init", "/no.such.Service/Method"] {
        let status = answer(&connection, request(path, &[], unfinished("\0"))).await;
        assert_eq!(Refusal::of(&status).words(), (Code::PermissionDenied, "NO_GRANT"), "{path}");
    }
}

#[tokio::test]
async fn i9_a_message_that_does_not_come_is_not_waited_for() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let connection = channel::bare(appliance.unix()).await;
    let late = [("grpc-timeout", "100m")];
    for begin in ["", "\0", "\0\0\0\0\x10half"] {
        let status = answer(&connection, request(SIGN, &late, unfinished(begin))).await;
        let refusal = Refusal::of(&status);
        assert_eq!(refusal.words(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{begin:?}");
    }
}

#[tokio::test]
async fn i9_a_caller_that_fills_its_room_takes_none_from_others() {
    let appliance = Appliance::softhsm()
        .with_limits(toml! { max_caller_bytes = 8519680 })
        .start_initialised()
        .await;
    let connection = channel::bare(appliance.unix()).await;
    // All but the last byte of messages of 1 MiB.
    let begin = &framed(0, &vec![0; 1 << 20])[..1 << 20];
    let waiting = async || -> Status {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..9 {
            let connection = connection.clone();
            let request = request(SIGN, &[("grpc-timeout", "1M")], unfinished(begin.to_vec()));
            calls.spawn(async move { answer(&connection, request).await });
        }
        // One of them is refused; the others wait for the rest of their messages. They are dropped.
        calls.join_next().await.unwrap().unwrap()
    };
    let holding = tokio::spawn({
        let connection = connection.clone();
        let request = request(SIGN, &[("grpc-timeout", "1M")], unfinished(begin.to_vec()));
        async move { answer(&connection, request).await }
    });
    let refusal = Refusal::of(&waiting().await);
    assert_eq!(refusal.words(), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(refusal.retry_after.is_some());
    // Another caller has a room of its own.
    appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    // And what was let go is there again.
    holding.abort();
    let mut signing = SigningServiceClient::new(appliance.unix_channel());
    let large = SignRequest { issuer: ISSUER.into(), claims: vec![b' '; 4 << 20].into() };
    eventually("there is room again", async || {
        let status = signing.sign(large.clone()).await.unwrap_err();
        (Refusal::of(&status).reason == "PAYLOAD_MALFORMED").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_not_served_is_refused_as_such() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let connection = channel::bare(appliance.unix()).await;
    for path in [
        "/",
        "/mintwarden.v1.SigningService",
        "/mintwarden.v1.SigningService/",
        "/mintwarden.v1.SigningService/sign",
        "/mintwarden.v1.SigningService/Sign/",
        "/mintwarden.v1.SigningService//Sign",
        "/mintwarden.v1.SigningService/../SigningService/Sign",
        "/mintwarden.v1.SigningService/%53ign",
        "/mintwarden.v1.%2e%2e/Sign",
        "//mintwarden.v1.SigningService/Sign",
        "/mintwarden.v2.SigningService/Sign",
        "/mintwarden.v1.Signing%E2%80%A4Service/Sign",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/issuers/payments-tts/jwks.json",
    ] {
        let status = answer(&connection, request(path, &[], whole(message(&single())))).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status}");
    }
    for issuer in
        ["", "Payments-TTS", "payments-tts ", "payments-tts\r\nx: 1", "../payments-tts", "*"]
    {
        let request = SignRequest { issuer: issuer.into(), ..single() };
        let status = SigningServiceClient::new(appliance.unix_channel()).sign(request).await;
        let refusal = Refusal::of(&status.unwrap_err());
        assert_eq!(refusal.words(), (Code::NotFound, "UNKNOWN_ISSUER"), "{issuer:?}");
    }
}
