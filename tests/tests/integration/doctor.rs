//! `mintwarden doctor` on running and on stopped appliances, with each fault made for real.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    time::{Duration, SystemTime},
};

use faulty_pkcs11::{Action, Ckr, Faulty, Function, on};
use mintwarden_client::api::DeviceState;
use mintwarden_tests::{
    Appliance, DEVICE, ISSUER, Role, claims,
    doctor::{Examination, examine},
    eventually, programs,
};
use rcgen::CertificateParams;
use rustix::process::Signal;
use toml::{Table, toml};

/// `CKF_USER_PIN_COUNT_LOW` (PKCS#11 v3.1 section 3.2).
const PIN_COUNT_LOW: u64 = 0x0001_0000;
/// `CKF_USER_PIN_FINAL_TRY`.
const PIN_FINAL_TRY: u64 = 0x0002_0000;

fn with_ops(config: &mut Table) {
    config["listen"].as_table_mut().unwrap().insert("ops".into(), "127.0.0.1:0".into());
}

fn edit(appliance: &Appliance, change: impl FnOnce(&mut Table)) {
    let mut config: Table = fs::read_to_string(appliance.config()).unwrap().parse().unwrap();
    change(&mut config);
    fs::write(appliance.config(), config.to_string()).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn logins(faulty: &Faulty) -> u64 {
    faulty.calls(Function::C_Login)
}

fn verdicts(examination: &Examination) -> Vec<String> {
    let findings = examination.findings().into_iter();
    findings.map(|finding| format!("{} {}", finding.check, finding.verdict)).collect()
}

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
async fn i10_a_wrong_pin_costs_one_attempt_however_often_the_doctor_comes() {
    let mut appliance = Appliance::softhsm().faulty().start_initialised().await;
    appliance.stop().await;
    appliance.token().write_pin_file("0123456789abcdef");
    let before = logins(appliance.faulty());
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(1));
    let login = examination.worst("device.login");
    assert_eq!((&*login.verdict, &*login.subject), ("fault", DEVICE));
    assert!(login.found.contains("LOGIN_FAILED"), "{login:?}");
    assert_eq!(logins(appliance.faulty()), before + 1);

    for _ in 0..3 {
        let examination = appliance.doctor(&[]).await;
        assert!(examination.worst("device.login").found.contains("LOGIN_PENDING"));
        // What can be known without a login is known all the same.
        for (check, verdict) in [
            ("device.module", "ok"),
            ("device.token", "ok"),
            ("device.mechanism", "ok"),
            // SoftHSM notes that a wrong PIN was given.
            ("device.pin", "warning"),
        ] {
            assert_eq!(examination.worst(check).verdict, verdict, "{}", examination.text);
        }
        assert_eq!(examination.worst("key.recorded").verdict, "skipped");
        assert_eq!(examination.worst("issuer.signs").verdict, "fault");
    }
    appliance.start().await;
    appliance.until_device(DEVICE, DeviceState::Parked).await;
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(1));
    let state = examination.worst("device.state");
    assert!(state.found.starts_with("parked: LOGIN_PENDING"), "{state:?}");
    assert!(state.remedy.contains("mintwardenctl device resume hsm-a"), "{state:?}");
    assert_eq!(examination.worst("device.token").verdict, "ok");
    assert_eq!(logins(appliance.faulty()), before + 1);
}

#[tokio::test]
async fn i1_a_pin_that_others_can_read_is_named_and_not_used() {
    let appliance = Appliance::softhsm().faulty().prepare();
    mode(&appliance.token().soft_hsm().pin_file, 0o644);
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(1));
    let pin = examination.worst("file.pin");
    assert_eq!(pin.verdict, "fault");
    assert!(pin.remedy.contains("chmod 600"), "{pin:?}");
    assert!(examination.worst("device.login").found.contains("PIN_UNAVAILABLE"));
    assert_eq!(logins(appliance.faulty()), 0);
    assert!(!examination.text.contains(&appliance.token().pin()));
}

#[tokio::test]
async fn files_that_others_can_change_or_read_are_named() {
    let appliance = Appliance::softhsm().start().await;
    mode(&appliance.config(), 0o666);
    mode(&appliance.file("server.key"), 0o604);
    mode(&appliance.file("state/server"), 0o755);
    mode(&appliance.file("api.sock"), 0o600);
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(1));
    for (check, verdict, said) in [
        ("file.config", "fault", "others than its owner can change it (mode 0666"),
        ("file.private-key", "fault", "everybody can get at it (mode 0604"),
        ("file.state", "fault", "mode 0755"),
        ("file.socket", "warning", "mode 0600"),
    ] {
        let finding = examination.worst(check);
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(finding.found.contains(said) && !finding.remedy.is_empty(), "{finding:?}");
    }
    // A directory on the way is as good as the file.
    mode(&appliance.config(), 0o600);
    let directory = appliance.config().parent().unwrap().to_owned();
    mode(&directory, 0o777);
    let config = appliance.doctor(&[]).await.worst("file.config");
    assert_eq!(config.verdict, "fault");
    assert!(config.found.contains("put another file in its place"), "{config:?}");
}

#[tokio::test]
async fn i7_records_without_objects_and_objects_without_records_are_told() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let kids = appliance.kids(ISSUER).await;
    appliance.stop().await;
    // Another PKCS#11 token in the place of the one with the keys.
    appliance.token().add("elsewhere");
    edit(&appliance, |config| config["device"][0]["token_label"] = "elsewhere".into());
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(1));
    let absent = examination.of("key.recorded");
    assert_eq!(absent.len(), kids.len());
    for finding in absent {
        assert_eq!(finding.verdict, "fault", "{finding:?}");
        assert!(finding.found.contains("shows no object"), "{finding:?}");
    }
    assert_eq!(examination.worst("issuer.signs").verdict, "fault");

    // The right one, and the store lost.
    edit(&appliance, |config| config["device"][0]["token_label"] = DEVICE.into());
    fs::remove_file(appliance.file("state/server/keysets.redb")).unwrap();
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(0), "{:?}", examination.faults());
    let strays = examination.of("key.stray");
    assert_eq!(strays.len(), kids.len());
    assert!(strays.iter().all(|finding| finding.verdict == "warning"), "{strays:?}");
    assert!(!appliance.file("state/server/keysets.redb").exists(), "the doctor made a store");
}

#[tokio::test]
async fn a_pkcs11_token_that_is_not_there_is_named_with_those_that_are() {
    let appliance = Appliance::softhsm()
        .with(|config| config["device"][0]["token_label"] = "elsewhere".into())
        .prepare();
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(1));
    let token = examination.worst("device.token");
    assert!(token.found.contains("TOKEN_ABSENT") && token.found.contains(DEVICE), "{token:?}");
    assert!(token.remedy.contains("token_label"), "{token:?}");
    assert_eq!(examination.worst("device.module").verdict, "ok");
}

#[tokio::test]
async fn a_missing_mechanism_is_named() {
    let appliance = Appliance::softhsm().faulty().prepare();
    let rule = on(Function::C_GetMechanismInfo).fails(Ckr::CKR_MECHANISM_INVALID);
    appliance.faulty().add(rule).unwrap();
    let mechanism = appliance.doctor(&[]).await.worst("device.mechanism");
    assert_eq!(mechanism.verdict, "fault");
    assert!(mechanism.found.contains("CKM_ECDSA"), "{mechanism:?}");
    assert!(!mechanism.remedy.is_empty());
}

#[tokio::test]
async fn wrong_pins_that_the_device_counts_are_told() {
    let appliance = Appliance::softhsm().faulty().start_initialised().await;
    for (set, verdict, said) in [
        (PIN_COUNT_LOW, "warning", "CKF_USER_PIN_COUNT_LOW"),
        (PIN_COUNT_LOW | PIN_FINAL_TRY, "fault", "CKF_USER_PIN_FINAL_TRY"),
    ] {
        let flags = Action::TokenFlags { set, clear: 0 };
        let rule = appliance.faulty().add(on(Function::C_GetTokenInfo).does(flags)).unwrap();
        let pin = appliance.doctor(&[]).await.worst("device.pin");
        assert_eq!(pin.verdict, verdict, "{pin:?}");
        assert!(pin.found.contains(said), "{pin:?}");
        appliance.faulty().remove(rule).unwrap();
    }
    assert_eq!(appliance.doctor(&[]).await.worst("device.pin").verdict, "ok");
}

#[tokio::test]
async fn i9_a_device_that_hangs_is_told_and_does_not_hold_the_doctor() {
    let appliance = Appliance::softhsm().faulty().start_initialised().await;
    let hangs = appliance.faulty().add(on(Function::C_GetTokenInfo).blocks()).unwrap();
    let examination = appliance.doctor(&["--within", "500ms"]).await;
    assert_eq!(examination.code, Some(1));
    let state = examination.worst("device.state");
    assert!(state.found.contains("did not answer in time"), "{state:?}");
    // Everything else is examined all the same.
    assert_eq!(examination.worst("jwks.served").verdict, "ok");
    appliance.faulty().remove(hangs).unwrap();
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

/// `daemon`, `bin` and `sys`: Debian has these ids everywhere.
const SERVER: u32 = 1;
const WORKER: u32 = 2;
const STRANGER: u32 = 3;

/// The doctor as another user, which only root can run.
async fn doctor_as(appliance: &Appliance, user: u32) -> Examination {
    let mut command = tokio::process::Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--clear-groups");
    command.arg(appliance.program(programs::MINTWARDEN)).env_clear().env("PATH", "/usr/bin:/bin");
    command.args(["doctor", "--json", "--config"]).arg(appliance.config());
    let mut examination = examine(command).await;
    examination.report = serde_json::from_str(&examination.text).unwrap();
    examination
}

#[tokio::test]
async fn i1_split_users_are_examined_as_themselves_and_strangers_learn_nothing() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give processes other users.
    }
    let builder = Appliance::softhsm().with_split_users(SERVER, WORKER);
    let mut appliance = builder.start_initialised().await;
    for appliance_is in ["running", "stopped"] {
        let examination = appliance.doctor(&[]).await;
        assert_eq!(examination.code, Some(0), "{:?}", examination.faults());
        assert_eq!(examination.report["appliance"], appliance_is);
        assert_eq!(examination.report["warnings"], 1, "{}", examination.text);
        assert_eq!(examination.worst("config.approvals").verdict, "warning");
        let users = examination.worst("users").found;
        assert_eq!(users, "launcher uid 0, server uid 1, workers uid 2");

        for user in [STRANGER, WORKER] {
            let examination = doctor_as(&appliance, user).await;
            assert_eq!(examination.code, Some(1));
            let told = examination.worst("appliance");
            assert!(told.remedy.contains("the user that starts the appliance"), "{told:?}");
            assert_eq!(examination.of("device.token"), []);
        }
        if appliance_is == "running" {
            appliance.stop().await;
        }
    }
    // What the server's user cannot read, it cannot serve with: root alone could not tell.
    let key = appliance.file("server.key");
    chown(&key, Some(0), Some(0)).unwrap();
    let files = appliance.doctor(&[]).await.worst("tls.files");
    assert_eq!(files.verdict, "fault");
    assert!(files.found.contains("Permission denied"), "{files:?}");
    // And the PIN's file has to be the worker's.
    chown(&appliance.token().soft_hsm().pin_file, Some(SERVER), Some(SERVER)).unwrap();
    let pin = appliance.doctor(&[]).await.worst("file.pin");
    assert_eq!(pin.verdict, "fault");
    assert!(pin.found.contains("belongs to uid 1"), "{pin:?}");
}

#[tokio::test]
async fn a_plain_user_can_examine_an_appliance_of_its_own() {
    if !rustix::process::geteuid().is_root() {
        return; // Every other test here shows it.
    }
    let appliance = Appliance::softhsm().with_split_users(SERVER, WORKER).prepare();
    edit(&appliance, |config| _ = config.remove("users"));
    give(appliance.config().parent().unwrap(), STRANGER);
    let examination = doctor_as(&appliance, STRANGER).await;
    assert_eq!(examination.code, Some(0), "{:?}", examination.faults());
    assert_eq!(examination.report["appliance"], "stopped");
    assert_eq!(examination.worst("device.login").verdict, "ok");
    let users = examination.worst("users");
    assert_eq!(users.verdict, "warning");
    assert!(users.found.contains("all uid 3"), "{users:?}");
}

fn give(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        fs::read_dir(path).unwrap().flatten().for_each(|entry| give(&entry.path(), user));
    }
}

#[test]
fn the_check_names_users_that_are_not_there_and_grants_that_are_lacking() {
    let appliance = Appliance::softhsm().prepare();
    let check = |change: fn(&mut Table)| {
        edit(&appliance, change);
        let output = std::process::Command::new(appliance.program(programs::MINTWARDEN))
            .env_clear()
            .arg("--config")
            .arg(appliance.config())
            .arg("--check")
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = check(|config| {
        config["grant"].as_array_mut().unwrap().truncate(1);
    });
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("warning: payments-tts: no [[grant]] has the role custodian"), "{said}");
    assert!(said.contains("good (1 issuers, 1 devices)"), "{said}");
    if rustix::process::geteuid().is_root() {
        let (code, said) = check(|config| {
            let users = toml! { server = "no-such-user"
            worker = "daemon" };
            config.insert("users".into(), users.into());
        });
        assert_eq!(code, Some(78), "{said}");
        for named in ["users.server", "no-such-user", "remedy: make it: useradd"] {
            assert!(said.contains(named), "{named:?} is not in: {said}");
        }
    }
    assert!(!appliance.file("state").exists(), "a check makes nothing");
}
