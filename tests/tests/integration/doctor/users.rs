//! Who may read and change which file, and run which process.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use mintwarden_tests::{
    Appliance,
    doctor::{Examination, examine},
    programs,
};
use toml::{Table, toml};

use super::{edit, logins};

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
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
