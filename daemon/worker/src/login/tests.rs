use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use mintwarden_hsm_config::pin::PinSource;
use tempfile::TempDir;

use super::*;

/// A worker's directory and a PIN file, across any number of starts.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new(pin: &str) -> Self {
        let place = Self { directory: tempfile::tempdir().expect("a directory") };
        place.set_pin(pin);
        place
    }

    /// Replaces the PIN file as an editor or a secret manager does.
    fn set_pin(&self, pin: &str) {
        let new = self.directory.path().join("pin.new");
        fs::write(&new, pin).expect("written");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("permitted");
        fs::rename(&new, self.directory.path().join("pin")).expect("renamed");
    }

    fn pin_from_file(&self) -> Pin {
        PinSource::File(self.directory.path().join("pin")).read().expect("a PIN")
    }

    /// A worker's start.
    fn ledger(&self) -> Ledger {
        let name = "hsm-a".parse().expect("a name");
        Ledger::open(&self.directory.path().join("state"), name).expect("the directory is made")
    }

    fn marker(&self) -> Option<String> {
        fs::read_to_string(self.ledger().path()).ok()
    }
}

/// A PIN that comes from no file, as from a credential.
fn credential(pin: &str) -> Pin {
    Pin::from_bytes(pin.as_bytes(), "a test").expect("a PIN")
}

fn assert_parked(place: &Place, pin: &Pin) {
    let before = place.marker();
    for _ in 0..5 {
        let error = place.ledger().begin(pin, false).expect_err("no login is allowed");
        assert_eq!((error.cause, error.remedy), (Cause::LoginPending, Remedy::Park));
        assert!(error.detail.contains("mintwardenctl device resume hsm-a"), "{error}");
        assert!(error.detail.contains("no login was attempted"), "{error}");
    }
    assert_eq!(place.marker(), before, "a parked start leaves the record as it was");
}

fn assert_allowed(place: &Place, pin: &Pin) {
    let ledger = place.ledger();
    ledger.begin(pin, false).expect("a login is allowed").succeeded().expect("cleared");
    assert_eq!(place.marker(), None);
}

#[test]
fn i10_a_login_is_on_disk_before_it_is_made_and_cleared_after_it_succeeded() {
    let place = Place::new("correct horse");
    let (ledger, pin) = (place.ledger(), place.pin_from_file());
    let login = ledger.begin(&pin, false).expect("allowed");
    let marker = place.marker().expect("there before the login");
    assert!(marker.contains("pending") && !marker.contains("correct horse"), "{marker}");
    login.succeeded().expect("cleared");
    assert_eq!(place.marker(), None);
    assert_allowed(&place, &pin);
}

#[test]
fn i10_a_login_cut_off_half_way_parks_every_later_start() {
    let place = Place::new("1234");
    drop(place.ledger().begin(&place.pin_from_file(), false).expect("allowed"));
    assert_parked(&place, &place.pin_from_file());
}

#[test]
fn i10_a_changed_pin_file_allows_one_login_after_a_cut_off_one() {
    let place = Place::new("1234");
    drop(place.ledger().begin(&place.pin_from_file(), false).expect("allowed"));
    place.set_pin("5678");
    drop(place.ledger().begin(&place.pin_from_file(), false).expect("allowed once"));
    assert_parked(&place, &place.pin_from_file());
}

#[test]
fn i10_without_a_pin_file_only_resume_helps_after_a_cut_off_login() {
    let place = Place::new("unused");
    drop(place.ledger().begin(&credential("1234"), false).expect("allowed"));
    assert_parked(&place, &credential("1234"));
    assert_parked(&place, &credential("5678"));
    let ledger = place.ledger();
    let pin = credential("1234");
    ledger.begin(&pin, true).expect("resumed").succeeded().expect("cleared");
    assert_allowed(&place, &pin);
}

#[test]
fn i10_moving_from_credential_to_file_or_back_is_no_change_of_pin() {
    let place = Place::new("1234");
    drop(place.ledger().begin(&credential("1234"), false).expect("allowed"));
    assert_parked(&place, &place.pin_from_file());
    let place = Place::new("1234");
    drop(place.ledger().begin(&place.pin_from_file(), false).expect("allowed"));
    assert_parked(&place, &credential("1234"));
}

#[test]
fn i10_a_refused_login_is_not_repeated_with_the_same_pin() {
    let place = Place::new("1234");
    let (ledger, pin) = (place.ledger(), place.pin_from_file());
    let error = ledger.begin(&pin, false).expect("allowed").failed("CKR_PIN_INCORRECT");
    assert_eq!((error.cause, error.remedy), (Cause::LoginFailed, Remedy::Park));
    assert!(error.detail.contains("CKR_PIN_INCORRECT"), "{error}");
    assert_parked(&place, &pin);
    // The same PIN in a new file is the same PIN.
    place.set_pin("1234\n");
    assert_parked(&place, &place.pin_from_file());
    assert_parked(&place, &credential("1234"));
}

#[test]
fn i10_another_pin_is_tried_once_after_a_refused_one() {
    let place = Place::new("1234");
    let _parked =
        place.ledger().begin(&place.pin_from_file(), false).expect("allowed").failed("no");
    let (ledger, other) = (place.ledger(), credential("5678"));
    let _parked = ledger.begin(&other, false).expect("allowed once").failed("no");
    assert_parked(&place, &other);
    assert_allowed(&place, &credential("9999"));
}

#[test]
fn i10_resume_allows_exactly_one_login() {
    let place = Place::new("1234");
    let (ledger, pin) = (place.ledger(), place.pin_from_file());
    let _parked = ledger.begin(&pin, false).expect("allowed").failed("no");
    let _parked = ledger.begin(&pin, true).expect("resumed").failed("no");
    assert_parked(&place, &pin);
}

#[test]
fn i10_a_record_that_cannot_be_read_parks() {
    let (salt, hash) = ("A".repeat(22), "A".repeat(43));
    let failed = |iterations: u64, salt: &str, hash: &str| {
        format!(
            r#"{{"version":1,"login":{{"failed":{{"iterations":{iterations},"salt":"{salt}","hash":"{hash}"}}}}}}"#
        )
    };
    let place = Place::new("1234");
    for spoilt in [
        String::new(),
        "{".to_owned(),
        "\0".repeat(300),
        r#"{"version":2,"login":{"pending":{"file":null}}}"#.to_owned(),
        r#"{"version":1,"login":{"pending":{"file":null}},"more":1}"#.to_owned(),
        r#"{"version":1,"login":{"pending":{"file":null,"more":1}}}"#.to_owned(),
        r#"{"version":1,"login":"succeeded"}"#.to_owned(),
        failed(1, &salt, &hash),
        failed(4_000_000_000, &salt, &hash),
        failed(600_000, "AA", &hash),
        failed(600_000, &salt, "AA"),
        format!("{}{}", failed(600_000, &salt, &hash), " ".repeat(5000)),
    ] {
        fs::write(place.ledger().path(), &spoilt).expect("written");
        assert_parked(&place, &place.pin_from_file());
    }
    fs::remove_file(place.ledger().path()).expect("removed");
    fs::create_dir(place.ledger().path()).expect("a directory in its place");
    assert_parked(&place, &place.pin_from_file());
}

#[test]
fn i10_no_login_where_the_record_cannot_be_written() {
    let place = Place::new("1234");
    let ledger = place.ledger();
    fs::create_dir(place.directory.path().join("state/login.json.new")).expect("in the way");
    let error = ledger.begin(&place.pin_from_file(), false).expect_err("not recorded");
    assert_eq!((error.cause, error.remedy), (Cause::StateUnusable, Remedy::Restart));
}

#[test]
fn i1_the_record_is_private_and_has_no_pin() {
    let place = Place::new("13572468");
    let (ledger, pin) = (place.ledger(), place.pin_from_file());
    let _parked = ledger.begin(&pin, false).expect("allowed").failed("no");
    let marker = place.marker().expect("a record");
    assert!(!marker.contains("13572468"), "{marker}");
    assert_eq!(fs::metadata(ledger.path()).expect("there").mode() & 0o777, 0o600);
    let state = place.directory.path().join("state");
    assert_eq!(fs::metadata(state).expect("there").mode() & 0o777, 0o700);
}
