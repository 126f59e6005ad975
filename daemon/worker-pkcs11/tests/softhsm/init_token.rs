//! `mintwarden-pkcs11 init-token`.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use mintwarden_hsm_config::provision::SoftHsm;

use crate::fixture::{LABEL, WORKER, provision};

fn init_token(soft_hsm: &SoftHsm, module: &Path, label: &str, input: &str) -> Output {
    let mut child = Command::new(WORKER)
        .args(["init-token", "--label", label, "--module"])
        .arg(module)
        .env("SOFTHSM2_CONF", &soft_hsm.conf)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the worker starts");
    // It may refuse before it reads.
    let _written = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("the worker ends")
}

fn assert_refused(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(said.contains(words), "{said}");
}

#[test]
fn tokens_are_initialised_and_never_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    let soft_hsm = provision(directory.path());
    assert_eq!(soft_hsm.serial.len(), 16, "{soft_hsm:?}");
    let output = init_token(&soft_hsm, &soft_hsm.module, LABEL, "12345678\n87654321\n");
    assert_refused(&output, "exists already");
    assert_refused(&output, &soft_hsm.serial);
    let output = init_token(&soft_hsm, &soft_hsm.module, "other", "12345678\n87654321\n");
    assert!(output.status.success(), "{output:?}");
    let serial = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(serial.len() == 16 && serial != soft_hsm.serial, "{serial}");
}

#[test]
fn wrong_input_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let soft_hsm = provision(directory.path());
    for (input, words) in [
        ("", "write two lines"),
        ("12345678\n", "write two lines"),
        ("12345678\n87654321\nmore\n", "write two lines"),
        ("\n87654321\n", "the first line (the security officer's PIN) is not a PIN: it is empty"),
        ("12345678\n\n", "the second line (the user PIN) is not a PIN: it is empty"),
        ("1\n2\n", "CKR_PIN"),
    ] {
        let output = init_token(&soft_hsm, &soft_hsm.module, "other", input);
        assert_refused(&output, words);
    }
    let long = "x".repeat(33);
    for label in ["", "ends ", &long] {
        let output = init_token(&soft_hsm, &soft_hsm.module, label, "12345678\n87654321\n");
        assert_refused(&output, "is no label");
    }
    let output = init_token(&soft_hsm, Path::new("/nowhere.so"), "other", "12345678\n87654321\n");
    assert_refused(&output, "/nowhere.so");
    let output = init_token(&soft_hsm, &soft_hsm.module, "other", "12345678\n87654321\n");
    assert!(output.status.success(), "still free: {output:?}");
}
