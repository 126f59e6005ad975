//! Health and readiness, as an orchestrator sees them.

use std::fs;

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{Appliance, DEVICE, ISSUER, claims, eventually};
use reqwest::{Method, StatusCode, header::HeaderValue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use toml::toml;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

async fn until_ready(appliance: &Appliance) {
    eventually("it is ready", async || {
        let (status, said) = appliance.readyz().await;
        (status == 200).then(|| assert_eq!(said, "payments-tts: ready\n"))
    })
    .await;
}

async fn until_unready(appliance: &Appliance, because: &str) {
    eventually(&format!("it is not ready: {because}"), async || {
        let (status, said) = appliance.readyz().await;
        (said == format!("payments-tts: {because}\n")).then(|| assert_eq!(status, 503))
    })
    .await;
}

async fn health(appliance: &Appliance, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.into() };
    let mut health = HealthClient::new(appliance.unix_channel());
    health.check(request).await.unwrap().into_inner().status()
}

async fn until_health(appliance: &Appliance, [signing, jwks]: [ServingStatus; 2]) {
    for (service, status) in
        [("mintwarden.v1.SigningService", signing), ("mintwarden.v1.JwksService", jwks)]
    {
        eventually(&format!("{service} is {status:?}"), async || {
            (health(appliance, service).await == status).then_some(())
        })
        .await;
    }
    for service in ["", "mintwarden.v1.CustodianService"] {
        assert_eq!(health(appliance, service).await, ServingStatus::Serving, "{service:?}");
    }
}

async fn until_status(appliance: &Appliance, reason: &str) {
    eventually(&format!("the status says {reason:?}"), async || {
        let issuer = appliance.status().await.issuers.remove(0);
        (issuer.reason == reason).then(|| assert_eq!(issuer.ready, reason.is_empty()))
    })
    .await;
}

#[tokio::test]
async fn readiness_follows_init_a_lost_token_a_wrong_pin_and_their_mending() {
    use ServingStatus::{NotServing, Serving};
    let mut appliance = Appliance::softhsm().start().await;
    let alive = appliance.https().get(appliance.ops_url("/healthz")).send().await.unwrap();
    assert_eq!((alive.status(), &*alive.text().await.unwrap()), (StatusCode::OK, "ok\n"));
    until_unready(&appliance, "NOT_INITIALISED").await;
    until_health(&appliance, [NotServing, NotServing]).await;
    until_status(&appliance, "NOT_INITIALISED").await;

    appliance.init(ISSUER).await;
    until_ready(&appliance).await;
    until_health(&appliance, [Serving, Serving]).await;
    until_status(&appliance, "").await;

    // The PKCS#11 token is somewhere else.
    appliance.stop().await;
    let (tokens, away) = (appliance.file("hsm-a/tokens"), appliance.file("hsm-a/away"));
    fs::rename(&tokens, &away).unwrap();
    fs::create_dir(&tokens).unwrap();
    appliance.start().await;
    until_unready(&appliance, "DEVICE_UNAVAILABLE (hsm-a TOKEN_ABSENT)").await;
    until_health(&appliance, [NotServing, Serving]).await;
    until_status(&appliance, "DEVICE_UNAVAILABLE").await;
    assert_eq!(
        appliance.https().get(appliance.ops_url("/healthz")).send().await.unwrap().status(),
        StatusCode::OK
    );
    fs::remove_dir(&tokens).unwrap();
    fs::rename(&away, &tokens).unwrap();
    until_ready(&appliance).await;
    until_health(&appliance, [Serving, Serving]).await;

    // The PIN is another one.
    appliance.stop().await;
    let pin = appliance.token().pin();
    appliance.token().write_pin_file("0123456789abcdef");
    appliance.start().await;
    until_unready(&appliance, "DEVICE_UNAVAILABLE (hsm-a LOGIN_FAILED)").await;
    appliance.until_device(DEVICE, DeviceState::Parked).await;
    appliance.token().write_pin_file(&pin);
    appliance.ctl(["device", "resume", DEVICE]).run().await.success();
    until_ready(&appliance).await;
    appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
}

#[tokio::test]
async fn i1_a_usable_device_without_the_key_is_not_ready() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    until_ready(&appliance).await;
    appliance.stop().await;
    // SoftHSM keeps one file for each object, and one for the PKCS#11 token itself.
    let tokens = appliance.file("hsm-a/tokens");
    let token = fs::read_dir(tokens).unwrap().next().unwrap().unwrap().path();
    let away = appliance.file("objects");
    fs::create_dir(&away).unwrap();
    let objects: Vec<_> = fs::read_dir(&token)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "token.object" && name.to_string_lossy().ends_with(".object"))
        .collect();
    assert_eq!(objects.len(), 4, "two pairs: {objects:?}");
    objects.iter().for_each(|name| fs::rename(token.join(name), away.join(name)).unwrap());
    appliance.start().await;
    appliance.until_device(DEVICE, DeviceState::Ready).await;
    until_unready(&appliance, "KEY_UNAVAILABLE (hsm-a KEY_ABSENT)").await;
    until_status(&appliance, "KEY_UNAVAILABLE").await;
    let once = appliance.builder(appliance.tts()).max_attempts(1).build().unwrap();
    let error = once.issuer(ISSUER).sign(claims::trade(1)).await.unwrap_err();
    assert_eq!(error.reason(), "DEVICE_UNAVAILABLE", "{error}");

    // It is noticed that they are back, without anybody asking for a signature.
    objects.iter().for_each(|name| fs::rename(away.join(name), token.join(name)).unwrap());
    // A running SoftHSM looks at its directory again when this number has changed.
    let mut generation = fs::read(token.join("generation")).unwrap();
    *generation.last_mut().unwrap() += 1;
    fs::write(token.join("generation"), generation).unwrap();
    until_ready(&appliance).await;
    appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
}

#[tokio::test]
async fn an_issuer_with_a_second_device_stays_ready() {
    let mut appliance =
        Appliance::softhsm().with_device("hsm-a").with_device("hsm-b").start_initialised().await;
    appliance.stop().await;
    fs::rename(appliance.file("hsm-a/tokens"), appliance.file("hsm-a/away")).unwrap();
    fs::create_dir(appliance.file("hsm-a/tokens")).unwrap();
    appliance.start().await;
    appliance.until_device(DEVICE, DeviceState::Down).await;
    until_ready(&appliance).await;
    appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
}

#[tokio::test]
async fn bad_requests_to_the_ops_port_are_refused_and_it_goes_on() {
    let appliance = Appliance::softhsm().start().await;
    let http = appliance.https();
    for method in [Method::POST, Method::DELETE, Method::TRACE, Method::CONNECT] {
        let answer = http.request(method.clone(), appliance.ops_url("/readyz")).send().await;
        let status = answer.map(|answer| answer.status());
        assert!(!status.as_ref().is_ok_and(StatusCode::is_success), "{method}: {status:?}");
    }
    for path in ["/", "/readyz/", "/metrics/../healthz/x", "/issuers/payments-tts/jwks.json"] {
        let answer = http.get(appliance.ops_url(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let huge = HeaderValue::from_bytes(&[b'x'; 64 * 1024]).unwrap();
    let answer = http.get(appliance.ops_url("/healthz")).header("x-huge", huge).send().await;
    assert!(!answer.is_ok_and(|answer| answer.status().is_success()));
    let head = http.head(appliance.ops_url("/readyz")).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::SERVICE_UNAVAILABLE);

    // Bytes that are no request, and a peer that never ends its own.
    let limits = toml! { handshake = "300ms" };
    let appliance = Appliance::softhsm().with_limits(limits).start().await;
    let address = appliance.ops_url("").trim_start_matches("http://").to_owned();
    for bytes in [&b"\0\x01\x02garbage\r\n\r\n"[..], b"GET /healthz HTTP/1.1\r\nx: "] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut said = vec![];
        let ended = tokio::time::timeout(mintwarden_tests::PATIENCE, stream.read_to_end(&mut said));
        let _reset_or_closed = ended.await.expect("it is put out");
        assert!(!said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
    }
    // On a slow machine an honest peer may be late too.
    eventually("it goes on", async || {
        let answer = appliance.https().get(appliance.ops_url("/healthz")).send().await;
        answer.ok().filter(|answer| answer.status() == StatusCode::OK)
    })
    .await;
}
