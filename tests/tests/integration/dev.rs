//! `mintwarden dev`.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use mintwarden_tests::{eventually, process::of_session, programs};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// `mintwarden dev` in a session of its own, so that what it leaves behind is found.
fn dev(arguments: &[&str]) -> Child {
    Command::new("setsid")
        .arg(programs::path(programs::MINTWARDEN))
        .arg("dev")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn session(child: &Child) -> i32 {
    i32::try_from(child.id().expect("it runs")).unwrap()
}

async fn nothing_left(session: i32, directory: &Path) {
    eventually("no process is left", async || of_session(session).is_empty().then_some(())).await;
    assert!(!directory.exists(), "{} is left", directory.display());
}

fn directory_of(config: &str) -> PathBuf {
    Path::new(config).parent().unwrap().to_owned()
}

#[tokio::test]
async fn a_command_finds_the_appliance_in_its_environment_and_its_status_is_passed_on() {
    let script = r#"
        env | grep ^MINTWARDEN_
        now=$(date +%s)
        printf '{"iat":%s,"exp":%s,"aud":"trust-domain.example","txn":"t","sub":"s","scope":"p","req_wl":"w"}\n' \
            "$now" "$((now + 60))" | "$0" sign --issuer "$MINTWARDEN_ISSUER" || exit 1
        MINTWARDEN_CERT=$MINTWARDEN_CUSTODIAN_CERT MINTWARDEN_KEY=$MINTWARDEN_CUSTODIAN_KEY \
            "$0" status || exit 1
        exit 7
    "#;
    let ctl = programs::path(programs::CTL);
    let child = dev(&["--", "sh", "-c", script, ctl.to_str().unwrap()]);
    let session = session(&child);
    let output = child.wait_with_output().await.unwrap();
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}{}", String::from_utf8_lossy(&errors));
    let variables: HashMap<_, _> = said
        .lines()
        .filter(|line| line.starts_with("MINTWARDEN_"))
        .filter_map(|line| line.split_once('='))
        .collect();
    assert!(variables["MINTWARDEN_ENDPOINT"].starts_with("https://127.0.0.1:"));
    assert!(variables["MINTWARDEN_UNIX"].starts_with("unix:/"));
    assert!(variables["MINTWARDEN_OPS_URL"].starts_with("http://127.0.0.1:"));
    let jwks = variables["MINTWARDEN_JWKS_URL"];
    assert!(jwks.starts_with("https://127.0.0.1:") && jwks.ends_with("/jwks.json"), "{jwks}");
    for name in ["CERT", "KEY", "CA", "CUSTODIAN_CERT", "CUSTODIAN_KEY"] {
        assert!(variables[&*format!("MINTWARDEN_{name}")].starts_with('/'), "{name}");
    }
    assert!(said.lines().any(|line| line.starts_with("eyJ") && line.split('.').count() == 3));
    nothing_left(session, &directory_of(variables["MINTWARDEN_CONFIG"])).await;
}

#[tokio::test]
async fn without_a_command_it_shows_a_line_that_signs_and_ends_when_asked_to() {
    let mut child = dev(&[]);
    let session = session(&child);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut directory, mut copied) = (None, None);
    while copied.is_none() {
        let line = lines.next_line().await.unwrap().expect("it goes on until the line to copy");
        if let Some(config) = line.strip_prefix("export MINTWARDEN_CONFIG='") {
            directory = Some(directory_of(config.trim_end_matches('\'')));
        }
        copied = line.contains("mintwardenctl").then_some(line);
    }
    let signed = Command::new("sh").arg("-c").arg(copied.unwrap()).output().await.unwrap();
    let errors = String::from_utf8_lossy(&signed.stderr);
    assert!(signed.status.success(), "{errors}");
    assert_eq!(String::from_utf8(signed.stdout).unwrap().trim().split('.').count(), 3);

    let pid = rustix::process::Pid::from_raw(session).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(child.wait().await.unwrap().success());
    nothing_left(session, &directory.expect("its directory was shown")).await;
}

#[tokio::test]
async fn on_a_tpm_a_command_signs_and_the_doctor_knows_it() {
    let script = r#"
        echo "MINTWARDEN_CONFIG=$MINTWARDEN_CONFIG"
        now=$(date +%s)
        printf '{"iat":%s,"exp":%s,"aud":"trust-domain.example","txn":"t","sub":"s","scope":"p","req_wl":"w"}\n' \
            "$now" "$((now + 60))" | "$0" sign --issuer "$MINTWARDEN_ISSUER" || exit 1
        "$1" doctor --config "$MINTWARDEN_CONFIG"
    "#;
    let (ctl, mintwarden) = (programs::path(programs::CTL), programs::path(programs::MINTWARDEN));
    let programs = [ctl.to_str().unwrap(), mintwarden.to_str().unwrap()];
    let child = dev(&[&["--tpm", "--", "sh", "-c", script][..], &programs].concat());
    let session = session(&child);
    let output = child.wait_with_output().await.unwrap();
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&errors));
    assert!(said.lines().any(|line| line.starts_with("eyJ") && line.split('.').count() == 3));
    for word in ["a TPM 2.0 by way of swtpm:host=127.0.0.1", "TPM2_Sign"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    let config = said.lines().find_map(|line| line.strip_prefix("MINTWARDEN_CONFIG="));
    nothing_left(session, &directory_of(config.expect("it was told"))).await;
}

#[tokio::test]
async fn a_command_that_a_signal_ends_says_so() {
    let output = dev(&["--", "sh", "-c", "kill -KILL $$"]).wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(128 + 9));
    let output = dev(&["--", "/nonexistent/command"]).wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/nonexistent/command"), "{said}");
}
