//! The appliance as a whole: what runs, what it serves, and what it was started with.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use mintwarden_tests::{Appliance, DEVICE, ISSUER, Role, claims, eventually};
use rcgen::CertificateParams;
use rustix::process::Signal;
use toml::toml;

use super::{edit, logins, verdicts, with_ops};

/// What a doctor says of an appliance that is well. Some of it depends on the machine, and on whether
/// everything runs as one user.
const WELL: [&str; 40] = [
    "config.file ok",
    "config.running ok",
    "config.grants ok",
    "config.approvals warning",
    "users warning",
    "file.config ok",
    "file.private-key ok",
    "file.pin ok",
    "file.module ok",
    // The state's directory, the device's, the server's, the anchor's.
    "file.state ok",
    "file.state ok",
    "file.state ok",
    "file.state ok",
    "file.socket ok",
    "tls.files ok",
    "tls.certificate ok",
    "tls.chain ok",
    "tls.authority ok",
    "system.clock ok",
    "system.clock ok",
    "system.clock-sync skipped",
    "system.descriptors ok",
    "system.core-dumps ok",
    "system.space ok",
    "appliance ok",
    "device.model ok",
    "device.state ok",
    "device.module ok",
    "device.token ok",
    "device.pin ok",
    "device.sessions ok",
    "device.memory skipped",
    "device.mechanism ok",
    "device.login ok",
    "device.rate skipped",
    "key.recorded ok",
    "key.recorded ok",
    "issuer.signs ok",
    "jwks.served ok",
    "jwks.certificate ok",
];

fn machine_apart(line: &str) -> bool {
    !["system.clock-sync", "system.space", "system.descriptors"]
        .iter()
        .any(|check| line.starts_with(check))
}

#[tokio::test]
async fn i10_a_running_appliance_is_examined_without_a_second_login() {
    let appliance = Appliance::softhsm().faulty().with(with_ops).start_initialised().await;
    let before = logins(appliance.faulty());
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(0), "{}", examination.text);
    let mut expected = WELL.map(str::to_owned).to_vec();
    expected.push("ops.ready ok".to_owned());
    expected.retain(|line| machine_apart(line));
    let mut found = verdicts(&examination);
    found.retain(|line| machine_apart(line));
    assert_eq!(found, expected, "{}", examination.text);
    let report = &examination.report;
    assert_eq!((&report["format"], &report["appliance"]), (&1.into(), &"running".into()));
    assert_eq!((&report["faults"], &report["warnings"]), (&0.into(), &2.into()));
    assert_eq!(logins(appliance.faulty()), before, "the doctor had somebody log in");
    // It sees what is there, and does not only say so.
    let token = examination.worst("device.token").found;
    assert!(token.contains(&format!("label {DEVICE:?}")), "{token}");
    let keys: Vec<_> = examination.of("key.recorded").into_iter().map(|f| f.subject).collect();
    for kid in appliance.kids(ISSUER).await {
        assert!(keys.iter().any(|key| key.contains(&kid)), "{kid} is not in {keys:?}");
    }

    let text = appliance.doctor_says(&[]).await;
    assert_eq!(text.code, Some(0));
    for line in [
        ": it runs\n",
        "\nok       device.state [hsm-a]: ready: 4 sessions sign; worker number 1\n",
        "\nWARNING  users: everything is root",
        "\nWARNING  config.approvals [approvals]: one custodian alone can do these: recover, activate_immature",
        "\n0 faults, 2 warnings, ",
    ] {
        let other_user = line.contains("root") && !rustix::process::geteuid().is_root();
        assert!(other_user || text.text.contains(line), "{line:?} is not in:\n{}", text.text);
    }
}

#[tokio::test]
async fn i10_a_stopped_appliance_is_examined_with_one_login_and_left_as_it_was() {
    let mut appliance = Appliance::softhsm().faulty().start_initialised().await;
    // The server is killed with the launcher: its store was not closed.
    appliance.kill_launcher().await;
    let before = logins(appliance.faulty());
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(0), "{}", examination.text);
    assert_eq!(examination.report["appliance"], "stopped");
    assert_eq!(logins(appliance.faulty()), before + 1);
    for (check, verdict) in [
        ("config.running", "skipped"),
        ("tls.files", "ok"),
        ("device.state", "ok"),
        ("device.login", "ok"),
        ("device.mechanism", "ok"),
        ("key.recorded", "ok"),
        ("issuer.signs", "ok"),
        ("jwks.served", "skipped"),
    ] {
        assert_eq!(examination.worst(check).verdict, verdict, "{check}: {}", examination.text);
    }
    // Nothing of it is left in the way.
    appliance.start().await;
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
    appliance.stop().await;
}

#[tokio::test]
async fn a_device_can_be_examined_before_the_first_start() {
    let appliance = Appliance::softhsm().prepare();
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(0), "{}", examination.text);
    assert_eq!(examination.worst("device.state").verdict, "ok");
    let signs = examination.worst("issuer.signs");
    assert_eq!(signs.verdict, "warning");
    assert!(signs.remedy.contains("mintwardenctl init payments-tts"), "{signs:?}");
}

#[tokio::test]
async fn i9_a_server_that_hangs_is_told_and_does_not_hold_the_doctor() {
    let appliance = Appliance::softhsm().faulty().start_initialised().await;
    let before = logins(appliance.faulty());
    let server = appliance.process(Role::Server);
    server.signal(Signal::STOP);
    let examination = appliance.doctor(&["--within", "100ms"]).await;
    server.signal(Signal::CONT);
    assert_eq!(examination.code, Some(1));
    let told = examination.worst("appliance");
    assert!(told.found.contains("no server answers"), "{told:?}");
    assert_eq!(logins(appliance.faulty()), before, "no worker was started beside the running one");
}

#[tokio::test]
async fn certificates_that_ended_are_told_with_what_is_served_meanwhile() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let day = Duration::from_secs(24 * 3600);
    params.not_before = (SystemTime::now() - 9 * day).into();
    params.not_after = (SystemTime::now() - day).into();
    let ended = appliance.pki().issue("ended", params);
    fs::copy(&ended.private_key, appliance.file("server.key")).unwrap();
    fs::copy(&ended.certificate, appliance.file("server.crt")).unwrap();
    let examination = eventually("the server has looked at the files", async || {
        let examination = appliance.doctor(&[]).await;
        (examination.worst("tls.files").verdict == "fault").then_some(examination)
    })
    .await;
    assert_eq!(examination.code, Some(1));
    for (check, said) in [
        ("tls.certificate", "has ended"),
        ("tls.files", "older ones are in use"),
        ("jwks.certificate", "another certificate than the configured one"),
    ] {
        let finding = examination.worst(check);
        assert_eq!(finding.verdict, "fault", "{finding:?}");
        assert!(finding.found.contains(said), "{finding:?}");
    }
}

#[tokio::test]
async fn a_configuration_that_changed_since_the_start_is_told() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let running = appliance.doctor(&[]).await.worst("config.running");
    assert_eq!(running.verdict, "ok");
    edit(&appliance, |config| {
        config.insert("limits".into(), toml! { drain = "3s" }.into());
    });
    let running = appliance.doctor(&[]).await.worst("config.running");
    assert_eq!(running.verdict, "warning");
    assert!(running.remedy.contains("restart"), "{running:?}");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_a_report_too() {
    let appliance = Appliance::softhsm().prepare();
    edit(&appliance, |config| {
        config["issuer"][0].as_table_mut().unwrap().insert("algorithm".into(), "HS256".into());
    });
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(78));
    let file = examination.worst("config.file");
    assert_eq!(examination.findings().len(), 1);
    assert!(file.found.contains("HS256") && !file.remedy.is_empty(), "{file:?}");
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_a_fault_and_kept() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    appliance.stop().await;
    let store = appliance.file("state/server/keysets.redb");
    fs::write(&store, b"garbage").unwrap();
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(1));
    let state = examination.worst("file.state");
    assert!(state.subject.ends_with("keysets.redb"), "{state:?}");
    assert_eq!(fs::read(&store).unwrap(), b"garbage");
}
