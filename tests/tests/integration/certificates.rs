//! Certificates that change while the appliance runs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use mintwarden_tests::{
    Appliance, ISSUER, Identity, PATIENCE, Pki, channel, claims, eventually, pki::spiffe,
};
use rustls::pki_types::ServerName;
use tokio::{io::AsyncReadExt as _, net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};
use toml::toml;

/// Puts a file in the place of another, at once.
fn replace(by: &Path, file: &Path) {
    let beside = file.with_extension("new");
    fs::copy(by, &beside).unwrap();
    fs::rename(beside, file).unwrap();
}

fn install(appliance: &Appliance, server: &Identity) {
    replace(&server.private_key, &appliance.file("server.key"));
    replace(&server.certificate, &appliance.file("server.crt"));
}

/// A connection that says nothing.
async fn connect(appliance: &Appliance, identity: &Identity) -> TlsStream<TcpStream> {
    let mut tls = channel::tls(&appliance.pki().ca(), Some(identity));
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(appliance.grpc()).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap()
}

/// The server's certificate as a new connection sees it.
async fn served(appliance: &Appliance) -> Vec<u8> {
    let stream = connect(appliance, appliance.tts()).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn until_another_is_served(appliance: &Appliance, than: &[u8]) -> Vec<u8> {
    eventually("another certificate is served", async || {
        let now = served(appliance).await;
        (now != than).then_some(now)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_certificate_costs_no_call_and_no_connection() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut load = JoinSet::new();
    for task in 0..4 {
        // One connection each, which would fail with the first of its calls that did.
        let issuer = appliance.client().issuer(ISSUER);
        let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
        load.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                issuer.sign(claims::trade(task)).await?;
                calls.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, mintwarden_client::Error>(())
        });
    }
    let mut idle = connect(&appliance, appliance.tts()).await;
    let mut certificate = served(&appliance).await;
    for round in 0..3 {
        install(&appliance, &appliance.pki().server(&format!("next-{round}"), &[]));
        certificate = until_another_is_served(&appliance, &certificate).await;
        let before = calls.load(Ordering::Relaxed);
        eventually("calls go on", async || (calls.load(Ordering::Relaxed) > before).then_some(()))
            .await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap().unwrap();
    }
    // The server's own settings are there to read, and not the connection's end.
    idle.read_u8().await.unwrap();
    // The HTTPS port has the new one too.
    assert!(appliance.https().get(appliance.jwks_url(ISSUER)).send().await.is_ok());
}

#[tokio::test]
async fn half_written_files_keep_the_old_ones_in_use_and_are_an_alarm() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let before = served(&appliance).await;
    let next = appliance.pki().server("next", &[]);
    let key = fs::read(&next.private_key).unwrap();
    fs::write(appliance.file("server.key"), &key[..key.len() / 2]).unwrap();
    let alarms = eventually("the alarm", async || {
        let alarms = appliance.status().await.alarms;
        (!alarms.is_empty()).then_some(alarms)
    })
    .await;
    assert!(alarms[0].contains("tls.private_key"), "{alarms:?}");
    let metrics = appliance.metrics().await;
    assert_eq!(metrics.value("mintwarden_certificate_files_usable"), 0.0);
    assert_eq!(metrics.value(r#"mintwarden_certificate_reloads_total{outcome="refused"}"#), 1.0);
    appliance.logs("older ones stay in use").await;
    assert_eq!(served(&appliance).await, before);
    appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    // Paths are not for a TTS that may be compromised.
    let tts = appliance.client().custodian().status().await.unwrap();
    assert!(tts.alarms.is_empty(), "{:?}", tts.alarms);
    // A person sees it in words.
    let said = appliance.ctl(["status"]).run().await.success();
    assert!(said.contains("appliance: the certificate files cannot be used"), "{said}");

    install(&appliance, &next);
    until_another_is_served(&appliance, &before).await;
    eventually("the alarm ends", async || appliance.status().await.alarms.is_empty().then_some(()))
        .await;
    let metrics = appliance.metrics().await;
    assert_eq!(metrics.value("mintwarden_certificate_files_usable"), 1.0);
    assert_eq!(metrics.value(r#"mintwarden_certificate_reloads_total{outcome="taken"}"#), 1.0);
}

#[tokio::test]
async fn i2_connections_end_with_the_authority_that_vouched_for_them() {
    // One says nothing from the start on, and is not to be ended for that.
    let appliance =
        Appliance::softhsm().with_limits(toml! { handshake = "1m" }).start_initialised().await;
    let old = appliance.channel(Some(appliance.tts()));
    let sign = async |channel| {
        use mintwarden_proto::v1::{SignRequest, signing_service_client::SigningServiceClient};
        let request = SignRequest { issuer: ISSUER.into(), claims: claims::trade(1).to_json() };
        SigningServiceClient::new(channel).sign(request).await
    };
    sign(old.clone()).await.unwrap();
    let mut idle = connect(&appliance, appliance.tts()).await;

    let directory = appliance.file("other");
    fs::create_dir(&directory).unwrap();
    let other = Pki::new(&directory);
    let tts = other.client("tts");
    // Both are trusted for a while, as when an authority is replaced.
    let both = [appliance.pki().ca(), other.ca()].map(|ca| fs::read(ca).unwrap()).concat();
    let ca = appliance.file("ca.crt");
    let servers = appliance.file("servers-ca.crt");
    fs::copy(&ca, &servers).unwrap();
    let bundle = appliance.file("bundle.crt");
    fs::write(&bundle, both).unwrap();
    replace(&bundle, &ca);
    let new = channel::over_tls(appliance.grpc().to_string(), channel::tls(&servers, Some(&tts)));
    eventually("the new authority is trusted", async || sign(new.clone()).await.ok()).await;
    sign(old.clone()).await.unwrap();

    replace(&other.ca(), &ca);
    // A connection that says nothing ends by itself.
    let ended = async {
        let mut said = vec![];
        // The server says goodbye (GOAWAY) or cuts.
        let _end = idle.read_to_end(&mut said).await;
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("it is ended");
    eventually("so does one that signs", async || sign(old.clone()).await.err()).await;
    let refusal = channel::refused(
        appliance.grpc().to_string(),
        channel::tls(&servers, Some(appliance.tts())),
    );
    let refusal = refusal.await;
    assert!(refusal.contains("UnknownCA") || refusal.contains("DecryptError"), "{refusal}");
    sign(new).await.unwrap();
    let cut = r#"mintwarden_connections_ended_total{listener="grpc",cause="authority_gone"}"#;
    assert!(appliance.metrics().await.value(cut) >= 2.0);
    assert_eq!(spiffe("tts"), "spiffe://trust-domain.example/tts", "the same name, all along");
}

#[tokio::test]
async fn a_directory_that_is_replaced_as_kubernetes_does_is_noticed() {
    let mut appliance = Appliance::softhsm()
        .with(|config| {
            for (key, file) in [
                ("certificate", "server.crt"),
                ("private_key", "server.key"),
                ("client_ca", "ca.crt"),
            ] {
                config["tls"][key] = format!("secret/{file}").into();
            }
        })
        .prepare();
    // secret/FILE → ..data/FILE, and ..data → a directory with a date in its name.
    let secret = appliance.file("secret");
    let fill = |data: &str, server: &Identity| {
        let directory = secret.join(data);
        fs::create_dir_all(&directory).unwrap();
        for (from, to) in [
            (&server.certificate, "server.crt"),
            (&server.private_key, "server.key"),
            (&appliance.pki().ca(), "ca.crt"),
        ] {
            fs::copy(from, directory.join(to)).unwrap();
        }
    };
    fill("..2026_1", &appliance.pki().server("first", &[]));
    fill("..2026_2", &appliance.pki().server("second", &[]));
    let point = |data: &str| {
        symlink(data, secret.join("..data_tmp")).unwrap();
        fs::rename(secret.join("..data_tmp"), secret.join("..data")).unwrap();
    };
    point("..2026_1");
    for file in ["server.crt", "server.key", "ca.crt"] {
        symlink(format!("..data/{file}"), secret.join(file)).unwrap();
    }
    appliance.start().await;
    let before = served(&appliance).await;
    point("..2026_2");
    until_another_is_served(&appliance, &before).await;
}
