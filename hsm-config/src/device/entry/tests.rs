//! `[[device]]` tables, good and bad.

use super::*;
use crate::{
    device::{DeviceKind, TokenSelector},
    model::Model,
};

const MINIMAL: &str = r#"
    name = "hsm-a"
    kind = "pkcs11"
    model = "softhsm2"
    module = "lib/module.so"
    pin = { file = "secrets/pin" }
"#;

fn resolve(more: &str) -> Result<Device, DeviceConfigError> {
    let text = format!("{MINIMAL}\n{more}");
    let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
    entry.resolve(Path::new("/etc/mintwarden"), false)
}

#[test]
fn defaults_come_from_the_model_and_paths_from_the_file() {
    let device = resolve("token_label = 'tts'").expect("a device");
    assert_eq!(device.name.as_str(), "hsm-a");
    assert_eq!((device.sessions, device.call_timeout), (4, DEFAULT_CALL_TIMEOUT));
    let DeviceKind::Pkcs11(pkcs11) = device.kind else { panic!("a PKCS#11 token") };
    assert_eq!(pkcs11.module, Path::new("/etc/mintwarden/lib/module.so"));
    assert_eq!(pkcs11.pin, PinSource::File("/etc/mintwarden/secrets/pin".into()));
    assert_eq!(pkcs11.token, TokenSelector::Label("tts".to_owned()));
}

#[test]
fn what_the_operator_says_wins() {
    let device = resolve(
        "token_serial = '0a1b'\nsessions = 9\ndevice_call_timeout = '1m 500ms'
         environment = { SOFTHSM2_CONF = '/x.conf' }",
    )
    .expect("a device");
    assert_eq!((device.sessions, device.call_timeout), (9, Duration::from_millis(60_500)));
    assert_eq!(device.environment["SOFTHSM2_CONF"], "/x.conf");
    let json = serde_json::to_string(&device).expect("travels as JSON");
    assert_eq!(serde_json::from_str::<Device>(&json).expect("and back"), device);
}

#[test]
fn each_mistake_names_device_key_value_and_remedy() {
    let cases = [
        ("", "exactly one of token_label and token_serial; there is neither"),
        ("token_label = 'a'\ntoken_serial = 'b'", "there are both"),
        ("token_label = ''", "token_label = \"\""),
        ("token_label = 'ends with blank '", "no blank at its end"),
        ("token_label = '123456789012345678901234567890123'", "1 to 32 bytes"),
        ("token_serial = '12345678901234567'", "1 to 16 bytes"),
        ("token_label = 'a'\ninit_args = ''", "init_args"),
        ("token_label = 'a'\nquirks = { id_bytes = 1 }", "quirks.id_bytes = 1: use 2 to 16"),
        ("token_label = 'a'\nquirks = { label_bytes = 9 }", "quirks.label_bytes = 9"),
        (
            "token_label = 'a'\nquirks = { not_shown = ['CKA_SENSITIVE', 'CKA_ALWAYS_SENSITIVE'] }",
            "neither CKA_SENSITIVE nor CKA_ALWAYS_SENSITIVE",
        ),
        ("token_label = 'a'\nsessions = 0", "sessions = 0: use 1 to 1024"),
        ("token_label = 'a'\nsessions = 100000", "sessions = 100000"),
        ("token_label = 'a'\ndevice_call_timeout = '0s'", "device_call_timeout = \"0s\""),
        ("token_label = 'a'\ndevice_call_timeout = '10'", "write e.g. \"10s\""),
        ("token_label = 'a'\nenvironment = { 'A=B' = '' }", "\"A=B\""),
        ("token_label = 'a'\nenvironment = { A = \"\\u0000\" }", "\"A\""),
    ];
    for (more, expected) in cases {
        let error = resolve(more).expect_err(more).to_string();
        assert!(error.starts_with("device hsm-a: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_unknown_model_lists_the_known_ones() {
    let text = MINIMAL.replace("softhsm2", "luna7");
    let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
    let error = entry.resolve(Path::new("/"), false).expect_err("no such model").to_string();
    assert!(error.contains("\"luna7\" is not known; known are"), "{error}");
    for model in Model::all() {
        assert!(error.contains(&model.name), "{error}");
    }
}

#[test]
fn every_model_resolves_with_what_it_says_or_says_why_not() {
    for model in Model::all() {
        let text = MINIMAL.replace("softhsm2", &model.name) + "\ntoken_label = 'a'";
        let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
        match (entry.resolve(Path::new("/"), false), &model.unusable) {
            (Ok(device), None) => {
                let DeviceKind::Pkcs11(pkcs11) = device.kind else { panic!("a PKCS#11 token") };
                assert_eq!(device.sessions, model.sessions, "{}", model.name);
                let quirks = model.quirks.clone().over(QuirksEntry::default());
                assert_eq!(pkcs11.quirks, quirks, "{}", model.name);
            }
            (Err(error), Some(why)) => {
                assert!(error.to_string().contains(why.as_str()), "{error}");
                assert!(error.to_string().contains("generic"), "{error}");
            }
            (outcome, _) => panic!("{}: {outcome:?}", model.name),
        }
    }
}

#[test]
fn a_model_without_a_module_asks_for_its_path() {
    let text = MINIMAL.replace("softhsm2", "generic").replace("module = \"lib/module.so\"", "");
    let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
    let error = entry.resolve(Path::new("/"), false).expect_err("no path").to_string();
    assert!(error.contains("set `module`"), "{error}");
}

#[test]
fn pins_come_from_where_they_may() {
    let with = |pin: &str, dev| {
        let text = MINIMAL.replace(r#"{ file = "secrets/pin" }"#, pin);
        let text = format!("{text}\ntoken_label = 'a'");
        let entry: DeviceEntry = toml::from_str(&text).expect("the table parses");
        entry.resolve(Path::new("/"), dev)
    };
    assert!(with("{ credential = 'hsm-a-pin' }", false).is_ok());
    for name in ["", "..", "a/b"] {
        let error = with(&format!("{{ credential = '{name}' }}"), false).expect_err(name);
        assert!(matches!(error.problem, Problem::SecretName { place: "credential", .. }));
    }
    assert!(with("{ env = 'PIN' }", true).is_ok());
    assert!(with("{ env = 'A=B' }", true).is_err());
    let error = with("{ env = 'PIN' }", false).expect_err("not in dev").to_string();
    assert!(error.contains("mintwarden dev") && error.contains("credential"), "{error}");
}

#[test]
fn tables_with_unknown_keys_or_bad_names_do_not_parse() {
    for bad in [
        MINIMAL.replace("module =", "modul ="),
        MINIMAL.replace("hsm-a", "HSM A"),
        MINIMAL.replace("pkcs11", "tpm3"),
        format!("{MINIMAL}\nslot = 0"),
        format!("{MINIMAL}\nsessions = -1"),
        format!("{MINIMAL}\nsessions = '4'"),
    ] {
        assert!(toml::from_str::<DeviceEntry>(&bad).is_err(), "{bad}");
    }
}
