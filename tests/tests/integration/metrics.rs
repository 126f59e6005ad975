//! Metrics after known numbers of everything.

use mintwarden_client::{Bytes, TxnClaims, api::DeviceState};
use mintwarden_proto::v1::{
    SignBatchRequest, SignRequest, signing_service_client::SigningServiceClient,
};
use mintwarden_tests::{Appliance, DEVICE, ISSUER, claims, eventually, metrics::Metrics};
use tokio::io::AsyncWriteExt as _;
use toml::toml;

fn of_issuer(name: &str, labels: &str) -> String {
    let labels = if labels.is_empty() { String::new() } else { format!(",{labels}") };
    format!(r#"mintwarden_{name}{{issuer="payments-tts"{labels}}}"#)
}

fn refusals(metrics: &Metrics, reason: &str, rule: &str) -> f64 {
    let labels = format!(r#"reason="{reason}",rule="{rule}""#);
    metrics.value(&of_issuer("refusals_total", &labels))
}

fn delegated(depth: usize) -> TxnClaims {
    let act = (0..depth).fold(serde_json::json!({}), |act, n| {
        if n == 0 {
            serde_json::json!({"sub": "a"})
        } else {
            serde_json::json!({"sub": "a", "act": act})
        }
    });
    if depth == 0 { claims::trade(0) } else { claims::trade(0).claim("act", act) }
}

#[tokio::test]
async fn what_was_signed_and_refused_is_counted_to_the_one() {
    let appliance = Appliance::softhsm().start().await;
    appliance.until_device(DEVICE, DeviceState::Ready).await;
    let mut signing = SigningServiceClient::new(appliance.unix_channel());
    let single = |claims: Bytes| SignRequest { issuer: ISSUER.into(), claims };
    let batch = |claims: Vec<Bytes>| SignBatchRequest { issuer: ISSUER.into(), claims };
    let good = || claims::trade(1).to_json();

    // Nothing is initialised: two calls, four payloads.
    signing.sign(single(good())).await.unwrap_err();
    signing.sign_batch(batch(vec![good(); 3])).await.unwrap_err();
    let metrics = appliance.metrics().await;
    assert_eq!(refusals(&metrics, "NOT_INITIALISED", ""), 4.0);
    assert_eq!(metrics.value(&of_issuer("issuer_ready", "")), 0.0);
    assert_eq!(metrics.value(&of_issuer("keyset_revision", "")), 0.0);
    assert_eq!(metrics.value(&of_issuer("keys", r#"device="hsm-a",state="active""#)), 0.0);

    appliance.init(ISSUER).await;
    for depth in [0, 0, 1, 3] {
        signing.sign(single(delegated(depth).to_json())).await.unwrap();
    }
    let bad = [claims::too_long(1).to_json(), "not JSON".into(), "[]".into(), "{}".into()];
    let mixed = [vec![good(); 5], bad.to_vec()].concat();
    signing.sign_batch(batch(mixed)).await.unwrap();
    signing.sign(single(claims::too_long(1).to_json())).await.unwrap_err();
    signing.sign_batch(batch(vec![])).await.unwrap_err();
    signing.sign_batch(batch(vec![Bytes::new(); 1025])).await.unwrap_err();

    let metrics = appliance.metrics().await;
    assert_eq!(metrics.value(&of_issuer("signatures_total", r#"device="hsm-a""#)), 9.0);
    for (reason, rule, count) in [
        ("CLAIM_REFUSED", "lifetime", 2.0),
        ("CLAIM_REFUSED", "required", 1.0),
        ("PAYLOAD_MALFORMED", "json", 1.0),
        ("PAYLOAD_MALFORMED", "payload_object", 1.0),
        ("PAYLOAD_MALFORMED", "utf8", 0.0),
        ("NOT_INITIALISED", "", 4.0),
        ("BATCH_EMPTY", "", 1.0),
        // Refused before it was decoded: no issuer is known yet.
        ("TOO_MANY_ITEMS", "", 0.0),
        ("DEVICE_FAULT", "", 0.0),
        ("OTHER", "", 0.0),
    ] {
        assert_eq!(refusals(&metrics, reason, rule), count, "{reason} {rule}");
    }
    // Six batches went all the way: four single ones, the mixed one, and one that was refused.
    for stage in ["admit", "queue", "device", "verify", "total"] {
        let count = of_issuer("stage_duration_seconds_count", &format!("stage=\"{stage}\""));
        assert_eq!(metrics.value(&count), 6.0, "{stage}");
        let sum = of_issuer("stage_duration_seconds_sum", &format!("stage=\"{stage}\""));
        let total = of_issuer("stage_duration_seconds_sum", r#"stage="total""#);
        assert!(metrics.value(&sum) <= metrics.value(&total), "{stage}");
    }
    assert_eq!(metrics.value(&of_issuer("batch_payloads_count", "")), 9.0);
    assert_eq!(metrics.value(&of_issuer("batch_payloads_sum", "")), 18.0);
    assert_eq!(metrics.value(&of_issuer("delegation_depth_count", "")), 9.0);
    assert_eq!(metrics.value(&of_issuer("delegation_depth_sum", "")), 4.0);
    let at_most_one = r#"mintwarden_delegation_depth_bucket{le="1.0",issuer="payments-tts"}"#;
    assert_eq!(metrics.value(at_most_one), 8.0);
    for (method, code, count) in [
        ("Sign", "OK", 4.0),
        ("Sign", "FAILED_PRECONDITION", 1.0),
        ("Sign", "INVALID_ARGUMENT", 1.0),
        ("SignBatch", "OK", 1.0),
        ("SignBatch", "INVALID_ARGUMENT", 2.0),
        ("Init", "OK", 1.0),
    ] {
        let sample = format!(r#"mintwarden_rpcs_total{{method="{method}",code="{code}"}}"#);
        assert_eq!(metrics.value(&sample), count, "{sample}");
    }

    assert_eq!(metrics.value(&of_issuer("issuer_ready", "")), 1.0);
    let revision = appliance.status().await.issuers[0].revision.to_string();
    assert_eq!(metrics.value(&of_issuer("keyset_revision", "")).to_string(), revision);
    for state in ["active", "pre-active"] {
        let keys = of_issuer("keys", &format!(r#"device="hsm-a",state="{state}""#));
        assert_eq!(metrics.value(&keys), 1.0, "{state}");
    }
    for idle in [of_issuer("payloads_in_flight", ""), "mintwarden_claims_in_flight_bytes".into()] {
        assert_eq!(metrics.value(&idle), 0.0, "{idle}");
    }
    assert_eq!(metrics.value(r#"mintwarden_device_open_requests{device="hsm-a"}"#), 0.0);
}

#[tokio::test]
async fn the_age_of_keys_what_is_next_and_alarms_are_seen() {
    let appliance = Appliance::softhsm().start().await;
    let of_device = |name: &str| of_issuer(name, r#"device="hsm-a""#);
    let next = |act: &str| {
        let labels = format!(r#"device="hsm-a",act="{act}""#);
        of_issuer("next_act_timestamp_seconds", &labels)
    };
    let alarm = |word: &str| of_issuer("alarms", &format!(r#"alarm="{word}""#));
    let metrics = appliance.metrics().await;
    assert_eq!(metrics.value(&of_device("active_key_since_timestamp_seconds")), 0.0);
    assert_eq!(metrics.value(&next("deactivated")), 0.0);

    let before = claims::now() as f64;
    appliance.init(ISSUER).await;
    let metrics = eventually("the steward has looked", async || {
        let metrics = appliance.metrics().await;
        (metrics.value(&next("mature")) > 0.0).then_some(metrics)
    })
    .await;
    let since = metrics.value(&of_device("active_key_since_timestamp_seconds"));
    assert!(since >= before && since <= claims::now() as f64, "{since}");
    let day = metrics.value(&next("deactivated")) - since;
    assert!((day - 86400.0).abs() <= 2.0, "{day}");
    // R + P + S, counted in served time.
    let mature = metrics.value(&next("mature")) - since;
    assert!((4050.0..4350.0).contains(&mature), "{mature}");
    assert_eq!(metrics.value(&of_device("mature_standbys")), 0.0);
    let alarms: f64 = metrics.beginning_with("mintwarden_alarms{").map(|(_, count)| count).sum();
    assert_eq!(alarms, 0.0);

    let kid = appliance.kids(ISSUER).await.remove(0);
    let custodian = appliance.custodian();
    custodian.rotate(ISSUER, None, "nothing is mature yet").await.unwrap();
    eventually("the late standby is an alarm", async || {
        (appliance.metrics().await.value(&alarm("LATE_STANDBY")) == 1.0).then_some(())
    })
    .await;
    custodian.suspend(ISSUER, &kid, "").await.unwrap();
    let metrics = eventually("the suspended key is an alarm", async || {
        let metrics = appliance.metrics().await;
        (metrics.value(&alarm("SUSPENDED")) == 1.0).then_some(metrics)
    })
    .await;
    assert_eq!(metrics.value(&alarm("NO_ACTIVE_KEY")), 1.0);
    assert_eq!(metrics.value(&of_device("active_key_since_timestamp_seconds")), 0.0);
}

#[tokio::test]
async fn devices_and_restarts_of_their_workers_are_seen() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let ready = r#"mintwarden_device_state{device="hsm-a",state="ready",cause=""}"#;
    let starts = r#"mintwarden_worker_starts_total{device="hsm-a"}"#;
    let metrics = appliance.metrics().await;
    assert_eq!((metrics.value(ready), metrics.value(starts)), (1.0, 1.0));
    assert!(metrics.value(r#"mintwarden_device_sessions{device="hsm-a"}"#) >= 1.0);
    appliance.kill_worker().await;
    eventually("the next worker is ready", async || {
        let metrics = appliance.metrics().await;
        (metrics.value(starts) == 2.0 && metrics.value(ready) == 1.0).then_some(())
    })
    .await;
    // One state at a time.
    let metrics = appliance.metrics().await;
    let states = metrics.beginning_with("mintwarden_device_state{").map(|(_, value)| value);
    assert_eq!(states.sum::<f64>(), 1.0);
}

#[tokio::test]
async fn a_parked_device_is_seen_with_its_cause() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    appliance.stop().await;
    appliance.token().write_pin_file("0123456789abcdef");
    appliance.start().await;
    appliance.until_device(DEVICE, DeviceState::Parked).await;
    let metrics = appliance.metrics().await;
    let parked = r#"mintwarden_device_state{device="hsm-a",state="parked",cause="LOGIN_FAILED"}"#;
    assert_eq!(metrics.value(parked), 1.0);
    assert_eq!(metrics.value(&of_issuer("issuer_ready", "")), 0.0);
}

#[tokio::test]
async fn i9_a_thousand_workloads_make_no_more_labels_than_allowed() {
    let appliance = Appliance::softhsm()
        .with(|config| {
            config.insert("metrics".into(), toml! { workloads = 10 }.into());
        })
        .start_initialised()
        .await;
    let payload = |name: String| claims::trade(1).claim("req_wl", name).to_json();
    let hostile = |n: usize| match n % 4 {
        0 => format!("w{n}"),
        1 => format!("{}{n}", "x".repeat(2000)),
        2 => format!("a\"b\\c\n{n}"),
        _ => format!("(others){n}\u{202e}"),
    };
    let claims = (0..1000).map(|n| payload(hostile(n))).collect();
    let batch = appliance.client().issuer(ISSUER).sign_batch(claims).await.unwrap();
    assert!(batch.tokens.iter().all(Result::is_ok));
    let metrics = appliance.metrics().await;
    let workloads: Vec<_> =
        metrics.beginning_with("mintwarden_workload_signatures_total{").collect();
    assert_eq!(workloads.len(), 11, "{workloads:#?}");
    assert_eq!(workloads.iter().map(|(_, count)| count).sum::<f64>(), 1000.0);
    let others = of_issuer("workload_signatures_total", r#"req_wl="(others)""#);
    assert_eq!(metrics.value(&others), 990.0);
    assert!(workloads.iter().all(|(sample, _)| sample.len() < 200), "{workloads:#?}");
}

#[tokio::test]
async fn a_workload_that_is_configured_has_its_place_whoever_came_first() {
    let appliance = Appliance::softhsm()
        .with_issuer(toml! { req_wl = ["gateway", "batch"] })
        .with(|config| {
            config.insert("metrics".into(), toml! { workloads = 0 }.into());
        })
        .start_initialised()
        .await;
    let issuer = appliance.client().issuer(ISSUER);
    for name in ["batch", "gateway", "batch"] {
        issuer.sign(claims::trade(1).claim("req_wl", name)).await.unwrap();
    }
    let metrics = appliance.metrics().await;
    for (name, count) in [("gateway", 1.0), ("batch", 2.0), ("(others)", 0.0)] {
        let sample = of_issuer("workload_signatures_total", &format!("req_wl=\"{name}\""));
        assert_eq!(metrics.value(&sample), count, "{name}");
    }
}

async fn until_one_was_refused(appliance: &Appliance, cause: &str) {
    let sample =
        format!(r#"mintwarden_connections_refused_total{{listener="grpc",cause="{cause}"}}"#);
    eventually(&sample, async || (appliance.metrics().await.value(&sample) == 1.0).then_some(()))
        .await;
}

#[tokio::test]
async fn a_handshake_that_nobody_ends_is_told_by_its_cause() {
    // Nobody else connects there, and who reads metrics has to be in time too.
    let limits = toml! { handshake = "3s" };
    let appliance = Appliance::softhsm().with_limits(limits).start().await;
    let _silent = tokio::net::TcpStream::connect(appliance.grpc()).await.unwrap();
    until_one_was_refused(&appliance, "timeout").await;
}

#[tokio::test]
async fn handshakes_that_fail_are_told_apart() {
    let appliance = Appliance::softhsm().start().await;
    let pki = appliance.pki();
    appliance.refusal(None).await;
    appliance.refusal(Some(&pki.expired("tts"))).await;
    appliance.refusal(Some(&pki.foreign_authority("tts"))).await;
    let mut garbage = tokio::net::TcpStream::connect(appliance.grpc()).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    for cause in ["no_certificate", "certificate_expired", "unknown_authority", "protocol"] {
        until_one_was_refused(&appliance, cause).await;
    }
    // What fails is no open connection.
    let open = r#"mintwarden_connections{listener="grpc"}"#;
    eventually("all are gone", async || {
        (appliance.metrics().await.value(open) == 0.0).then_some(())
    })
    .await;
    let channel = appliance.channel(Some(appliance.tts()));
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    assert_eq!(appliance.metrics().await.value(open), 1.0);
}

#[tokio::test]
async fn the_process_and_its_configuration_are_described() {
    let appliance = Appliance::softhsm().start().await;
    let metrics = appliance.metrics().await;
    let (open, most) = (metrics.value("process_open_fds"), metrics.value("process_max_fds"));
    assert!(open > 5.0 && open < most, "{open} of {most}");
    assert!(metrics.value("process_resident_memory_bytes") > 1e6);
    // In ticks of the clock: there may be none yet.
    assert!(metrics.value("process_cpu_seconds_total") >= 0.0);
    let build: Vec<_> = metrics.beginning_with("mintwarden_build_info{version=").collect();
    assert!(matches!(build[..], [(_, 1.0)]), "{build:?}");
    let config: Vec<_> = metrics.beginning_with("mintwarden_config_info{sha256=\"").collect();
    assert!(matches!(config[..], [(_, 1.0)]), "{config:?}");
}
