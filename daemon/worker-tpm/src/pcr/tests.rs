use std::{collections::BTreeMap, fs};

use mintwarden_hsm_config::device::PcrAuthority;
use mintwarden_worker::finding::Verdict;

use super::*;

macro_rules! vector {
    ($name:literal) => {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../attestation/vectors/pcr/", $name)
    };
}

/// A worker's directory and what may be signed off; each `open` is a start.
struct Worker {
    directory: tempfile::TempDir,
    config: config::Pcrs,
}

impl Worker {
    /// Of the PCRs of the vectors: 0, 4 and 14.
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("signed-off")).expect("a directory");
        let authority = PcrAuthority {
            public_key: vector!("authority-ecc.pem").into(),
            signed_off: directory.path().join("signed-off"),
        };
        let (bank, selection) = (PcrBank::Sha256, vec![0, 4, 14]);
        Self { directory, config: config::Pcrs { bank, selection, authority: Some(authority) } }
    }

    fn open(&self) -> Result<Pcrs, DeviceError> {
        let device = "tpm-a".parse().expect("a name");
        Pcrs::open(&self.config, &device, self.directory.path())
    }

    /// What a start makes of this state.
    fn start(&self, now: &PcrState) -> Result<(), DeviceError> {
        self.open()?.accept(now, false)
    }

    fn resume(&self, now: &PcrState) -> Result<(), DeviceError> {
        self.open()?.accept(now, true)
    }

    fn record(&self) -> std::path::PathBuf {
        self.directory.path().join("pcrs.json")
    }

    /// Puts a file where sign-offs are.
    fn sign_off(&self, name: &str, document: &[u8]) {
        fs::write(self.directory.path().join("signed-off").join(name), document).expect("a file");
    }
}

fn state(values: [u8; 3]) -> PcrState {
    let values = [0, 4, 14].into_iter().zip(values.map(|byte| vec![byte; 32]));
    PcrState::new(Hash::Sha256, values.collect()).expect("a state")
}

fn authority() -> Authority {
    Authority::parse(&fs::read(vector!("authority-ecc.pem")).expect("it")).expect("a key")
}

/// The state that the authority of the vectors has signed off, and the document.
fn signed_off() -> (PcrState, Vec<u8>) {
    let state: PcrState =
        serde_json::from_slice(&fs::read(vector!("state.json")).expect("it")).expect("a state");
    let signature = fs::read(vector!("statement-ecc.signature")).expect("it");
    let signed = SignOff::new(state.clone(), &authority(), &signature).expect("its own");
    (state, signed.to_json())
}

#[track_caller]
fn mismatch(outcome: Result<(), DeviceError>) -> String {
    let error = outcome.expect_err("another state");
    assert_eq!((error.cause, error.remedy), (Cause::PcrMismatch, Remedy::Park), "{error}");
    error.detail
}

#[test]
fn the_first_state_is_accepted_and_every_other_one_refused_by_name() {
    let worker = Worker::new();
    let (first, other) = (state([1, 2, 3]), state([1, 9, 9]));
    worker.start(&first).expect("the first");
    worker.start(&first).expect("the same");
    let detail = mismatch(worker.start(&other));
    assert!(detail.starts_with("PCRs 4, 14 (sha256) not as in"), "{detail}");
    assert!(detail.contains("device resume tpm-a"), "{detail}");
    for _ in 0..3 {
        mismatch(worker.start(&other));
    }
    // Both are there to be looked at.
    let record = fs::read_to_string(worker.record()).expect("the record");
    assert!(record.contains(&"02".repeat(32)) && record.contains(&"09".repeat(32)), "{record}");
    worker.start(&first).expect("it came back");
}

#[test]
fn a_custodian_accepts_the_state_that_was_told_and_no_other_one() {
    let worker = Worker::new();
    let (first, told, later) = (state([1, 2, 3]), state([1, 9, 3]), state([7, 9, 3]));
    worker.start(&first).expect("the first");
    // Resumed for something else, while nobody knows of the state.
    let detail = mismatch(worker.resume(&told));
    assert!(detail.contains("was told of another state, or of none"), "{detail}");
    // It has changed again since it was told.
    mismatch(worker.resume(&later));
    mismatch(worker.resume(&told));
    worker.resume(&told).expect("this one was told");
    worker.start(&told).expect("and is accepted from now on");
    // The one from before is another state now: it does not come back by itself.
    mismatch(worker.start(&first));
}

#[test]
fn what_was_told_before_the_accepted_state_came_back_has_to_be_told_again() {
    let worker = Worker::new();
    let (first, other) = (state([1, 2, 3]), state([1, 9, 3]));
    worker.start(&first).expect("the first");
    mismatch(worker.start(&other));
    worker.start(&first).expect("it came back");
    mismatch(worker.resume(&other));
    worker.resume(&other).expect("told now");
}

#[test]
fn a_state_that_the_authority_signed_off_is_accepted_and_nothing_else_is() {
    let worker = Worker::new();
    let (signed, document) = signed_off();
    let first = state([1, 2, 3]);
    worker.start(&first).expect("the first");
    mismatch(worker.start(&signed));
    worker.sign_off("update.json", &document);
    let other = state([8, 8, 8]);
    let detail = mismatch(worker.start(&other));
    assert!(detail.contains("update.json is for a state with another PCRs 0, 4, 14"), "{detail}");
    worker.start(&signed).expect("signed off");
    fs::remove_file(worker.directory.path().join("signed-off/update.json")).expect("it was there");
    worker.start(&signed).expect("it is the accepted one now");
    mismatch(worker.start(&first));
}

#[test]
fn what_signs_nothing_off_is_told() {
    let mut worker = Worker::new();
    let (signed, document) = signed_off();
    worker.start(&state([1, 2, 3])).expect("the first");
    // Of another authority, of another form, too long, and of other PCRs.
    let theirs = String::from_utf8(document.clone()).expect("JSON");
    let at = theirs.find("\"signature\": \"").expect("it has one") + 14;
    let forged = format!("{}{}{}", &theirs[..at], "A".repeat(86), &theirs[at + 86..]);
    worker.sign_off("1-forged.json", forged.as_bytes());
    worker.sign_off("2-no-json.json", b"x");
    worker.sign_off("3-long.json", &vec![b' '; SignOff::MAX + 1]);
    worker.sign_off("4-other.txt", &document);
    let detail = mismatch(worker.start(&signed));
    for part in ["1-forged.json: its signature is not one", "2-no-json.json: it is no", "3-long"] {
        assert!(detail.contains(part), "{detail}");
    }
    assert!(!detail.contains("4-other"), "{detail}");
    let mut pcrs = worker.open().expect("opened");
    let findings = pcrs.findings(&signed);
    let verdicts: Vec<_> = findings.iter().map(|finding| finding.verdict).collect();
    use Verdict::{Fault, Warning};
    assert_eq!(verdicts, [Fault, Warning, Warning, Warning], "{findings:?}");
    assert!(pcrs.sign_off(&signed).is_none());
    // By the right authority, but of fewer PCRs than the device asks for.
    worker.sign_off("1-forged.json", &document);
    worker.config.selection = vec![0, 4];
    let two = PcrState::new(Hash::Sha256, BTreeMap::from([(0, vec![8; 32]), (4, vec![8; 32])]));
    let detail = mismatch(worker.start(&two.expect("a state")));
    assert!(detail.contains("1-forged.json names the PCRs sha256:0,4,14"), "{detail}");
    // No directory.
    worker.config.authority.as_mut().expect("one").signed_off = "/nowhere".into();
    assert!(mismatch(worker.start(&state([8, 8, 8]))).contains("/nowhere: No such file"));
}

#[test]
fn i8_a_record_that_cannot_be_read_accepts_nothing() {
    let worker = Worker::new();
    let first = state([1, 2, 3]);
    worker.start(&first).expect("the first");
    let good = fs::read(worker.record()).expect("the record");
    for cut in [0, 1, good.len() / 2, good.len() - 1] {
        fs::write(worker.record(), &good[..cut]).expect("written");
        for outcome in [worker.start(&first), worker.resume(&first)] {
            let error = outcome.expect_err("cut short");
            assert_eq!((error.cause, error.remedy), (Cause::PcrUnusable, Remedy::Park), "{error}");
            assert!(error.detail.contains("pcrs.json"), "{error}");
        }
    }
    for wrong in ["\"version\": 2", "\"version\": 1, \"more\": 1"] {
        let text = String::from_utf8(good.clone()).expect("JSON");
        fs::write(worker.record(), text.replace("\"version\": 1", wrong)).expect("written");
        assert!(worker.start(&first).is_err(), "{wrong}");
    }
    // A power cut while it was being written leaves a file beside it.
    fs::write(worker.record(), &good).expect("written");
    fs::write(worker.record().with_extension("json.new"), b"{").expect("written");
    worker.start(&first).expect("as before");
    mismatch(worker.start(&state([9, 2, 3])));
}

#[test]
fn a_state_that_cannot_be_written_down_is_not_accepted() {
    let worker = Worker::new();
    let mut pcrs = worker.open().expect("opened");
    let place = worker.directory.path().to_owned();
    fs::remove_dir_all(&place).expect("gone");
    let error = pcrs.accept(&state([1, 2, 3]), false).expect_err("there is no directory");
    assert_eq!(error.cause, Cause::PcrUnusable);
    fs::create_dir(&place).expect("a directory");
    pcrs.accept(&state([1, 2, 3]), false).expect("the first");
}

#[test]
fn other_pcrs_in_the_configuration_are_held_against_what_is_known_of_them() {
    let mut worker = Worker::new();
    worker.start(&state([1, 2, 3])).expect("the first");
    worker.config.selection = vec![4, 7];
    let of = |values: [(u8, u8); 2]| {
        let values = values.map(|(pcr, byte)| (pcr, vec![byte; 32]));
        PcrState::new(Hash::Sha256, values.into()).expect("a state")
    };
    assert!(mismatch(worker.start(&of([(4, 9), (7, 9)]))).starts_with("PCR 4 (sha256)"));
    worker.start(&of([(4, 2), (7, 9)])).expect("of PCR 7 nothing is known");
    assert!(mismatch(worker.start(&of([(4, 2), (7, 8)]))).starts_with("PCR 7 (sha256)"));
}

#[test]
fn a_key_signs_in_its_own_state_and_in_one_that_its_own_authority_signed_off() {
    let worker = Worker::new();
    let (signed, document) = signed_off();
    worker.sign_off("update.json", &document);
    let mut pcrs = worker.open().expect("opened");
    let first = state([1, 2, 3]);
    let policy = pcrs.policy(first.clone());
    assert_eq!(policy.authority, Some(authority().name()));
    assert_eq!(pcrs.way(&policy, &first, &first), Ok(Way::Own));
    let way = pcrs.way(&policy, &signed, &signed);
    assert!(
        matches!(&way, Ok(Way::SignedOff(signed_off)) if *signed_off.state() == signed),
        "{way:?}"
    );
    let other = state([1, 2, 9]);
    let why = pcrs.way(&policy, &other, &other).expect_err("nobody signed it off");
    assert!(why.ends_with("PCR 14 (sha256) differ"), "{why}");
    // Of another authority, or of none: the sign-off is not for this key.
    let rsa = fs::read(vector!("authority-rsa.pem")).expect("it");
    let rsa = Authority::parse(&rsa).expect("a key").name();
    for authority in [None, Some(rsa)] {
        let policy = KeyPolicy { state: first.clone(), authority };
        assert!(pcrs.way(&policy, &signed, &signed).is_err());
        assert!(own_way(&policy, &signed).is_err());
        assert_eq!(own_way(&policy, &first), Ok(Way::Own));
    }
    // One that was taken away.
    fs::remove_file(worker.directory.path().join("signed-off/update.json")).expect("it was there");
    pcrs.forget_sign_off();
    assert!(pcrs.way(&policy, &signed, &signed).is_err());
}

#[test]
fn an_authority_that_cannot_be_used_is_told_with_its_key() {
    let mut worker = Worker::new();
    for (file, words) in [
        (vector!("secp256k1.pem"), "neither on P-256"),
        (vector!("state.json"), "no public key in PEM"),
        ("/nowhere", "No such file"),
        ("/dev/zero", "more than 8192 bytes"),
    ] {
        worker.config.authority.as_mut().expect("one").public_key = file.into();
        let error = worker.open().expect_err("no authority");
        assert_eq!((error.cause, error.remedy), (Cause::PcrUnusable, Remedy::Park));
        assert!(error.detail.starts_with("pcrs.authority: "), "{error}");
        assert!(error.detail.contains(words), "{error}");
    }
}
