//! What keeps a device from opening, each with its cause and remedy.

use std::{
    fs,
    path::{Path, PathBuf},
};

use mintwarden_hsm_config::pin::PinSource;
use mintwarden_pkcs11::Pkcs11Device;
use mintwarden_worker::device::{Cause, DeviceError, Remedy};

use crate::fixture::{LABEL, WORKER, on_softhsm};

fn assert_told(error: &DeviceError, cause: Cause, remedy: Remedy, words: &[&str]) {
    assert_eq!((error.cause, error.remedy), (cause, remedy), "{error}");
    for word in words {
        assert!(error.detail.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn i10_a_wrong_pin_is_tried_once_and_then_parks() {
    on_softhsm("opening::i10_a_wrong_pin_is_tried_once_and_then_parks", |fixture| {
        let wrong = fixture.pin_file("wrong", "31415926\n");
        let error = fixture.refusal(|entry| entry.pin = Some(wrong.clone()));
        assert_told(&error, Cause::LoginFailed, Remedy::Park, &["CKR_PIN_INCORRECT", "hsm-a"]);
        assert!(!error.detail.contains("31415926"), "{error}");
        for _ in 0..5 {
            let error = fixture.refusal(|entry| entry.pin = Some(wrong.clone()));
            let words = ["no login was attempted", "mintwardenctl device resume hsm-a"];
            assert_told(&error, Cause::LoginPending, Remedy::Park, &words);
        }
        // The right PIN is another PIN: it is tried, and clears the record.
        drop(fixture.open());
        assert!(!fixture.setup(|_| {}).state_dir.join("login.json").exists());
        drop(fixture.open());
    });
}

#[test]
fn i10_resume_allows_one_more_login() {
    on_softhsm("opening::i10_resume_allows_one_more_login", |fixture| {
        let wrong = fixture.pin_file("wrong", "31415926");
        fixture.refusal(|entry| entry.pin = Some(wrong.clone()));
        let mut setup = fixture.setup(|entry| entry.pin = Some(wrong.clone()));
        setup.resume = true;
        let error = Pkcs11Device::open(&setup).expect_err("still the wrong PIN");
        assert_eq!(error.cause, Cause::LoginFailed, "attempted: {error}");
        let error = fixture.refusal(|entry| entry.pin = Some(wrong));
        assert_eq!(error.cause, Cause::LoginPending);
    });
}

#[test]
fn i10_what_fails_before_the_login_leaves_no_record_of_one() {
    on_softhsm("opening::i10_what_fails_before_the_login_leaves_no_record_of_one", |fixture| {
        let error = fixture.refusal(|entry| entry.token_label = Some("other".to_owned()));
        assert_told(&error, Cause::TokenAbsent, Remedy::Restart, &["\"other\"", "\"tts\""]);
        let error = fixture.refusal(|entry| entry.pin = Some(PinSource::File("absent-pin".into())));
        assert_told(&error, Cause::PinUnavailable, Remedy::Restart, &["absent-pin"]);
        drop(fixture.open());
    });
}

#[test]
fn two_tokens_with_one_label_are_told_apart_by_serial_number() {
    on_softhsm("opening::two_tokens_with_one_label_are_told_apart_by_serial_number", |fixture| {
        // `init-token` refuses to make twins, so the second one is renamed on disk.
        let second =
            fixture.soft_hsm().add_token("abc", Path::new(WORKER)).expect("a second PKCS#11 token");
        rename_tokens(&fixture.soft_hsm().conf.with_file_name("tokens"), "abc", LABEL);
        let error = fixture.refusal(|_| {});
        let words = ["2 PKCS#11 tokens", &second, "token_serial"];
        assert_told(&error, Cause::TokenAmbiguous, Remedy::Park, &words);
        let by_serial = fixture.setup(|entry| {
            entry.token_label = None;
            entry.token_serial = Some(second.clone());
        });
        Pkcs11Device::open(&by_serial).expect("the serial number is enough");
    });
}

/// Renames PKCS#11 tokens in SoftHSM's object files. Both labels have the same length.
fn rename_tokens(tokens: &Path, from: &str, to: &str) {
    let padded = |label: &str| format!("{label:<32}").into_bytes();
    let (from, to) = (padded(from), padded(to));
    for token in fs::read_dir(tokens).expect("listed") {
        let file = token.expect("readable").path().join("token.object");
        let mut content = fs::read(&file).expect("read");
        if let Some(at) = content.windows(from.len()).position(|window| window == from) {
            content[at..at + to.len()].copy_from_slice(&to);
            fs::write(&file, content).expect("written");
        }
    }
}

#[test]
fn a_module_that_is_none_is_named() {
    on_softhsm("opening::a_module_that_is_none_is_named", |fixture| {
        let text = fixture.soft_hsm().conf;
        let directory = text.parent().expect("it has one").to_owned();
        let libc = libc_path();
        for (path, problem) in [
            (Path::new("/nowhere/module.so"), "No such file"),
            (&directory, "is not a file"),
            (&text, "cannot be loaded"),
            (&libc, "not a PKCS#11 one: it has no C_GetFunctionList"),
        ] {
            let error = fixture.refusal(|entry| entry.module = Some(path.to_owned()));
            let words = [problem, &path.display().to_string(), "`module`"];
            assert_told(&error, Cause::ModuleUnusable, Remedy::Park, &words);
        }
    });
}

/// A library that this process has loaded and that is no PKCS#11 module.
fn libc_path() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").expect("a process has its maps");
    let mut paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    paths.find(|path| path.contains("/libc.so")).expect("glibc is loaded").into()
}

#[test]
fn what_the_configuration_says_is_what_the_module_is_initialised_with() {
    on_softhsm(
        "opening::what_the_configuration_says_is_what_the_module_is_initialised_with",
        |fixture| {
            // SoftHSM2 follows the standard: it wants nothing there, and says so.
            let error =
                fixture.refusal(|entry| entry.init_args = Some("connector=none".to_owned()));
            assert!(
                error.detail.contains("with `init_args`: C_Initialize: CKR_ARGUMENTS_BAD"),
                "{error}"
            );
            drop(fixture.open());
        },
    );
}
