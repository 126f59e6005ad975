//! PKCS#11 modules that are not SoftHSM2, made by hiding and changing what SoftHSM2 shows: they work by
//! configuration alone, or are refused with what is wrong.

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{
    Appliance, Builder, DEVICE, ISSUER, claims,
    faulty::{Action, AttributeValue, Bytes, Class, Function, Half, Rule, on},
};
use toml::{Table, Value, toml};

const CKA_MODULUS_BITS: u64 = 0x121;
const CKA_EC_PARAMS: u64 = 0x180;
const CKA_LOCAL: u64 = 0x163;
const CKA_NEVER_EXTRACTABLE: u64 = 0x164;
const CKF_USER_PIN_INITIALIZED: u64 = 0x8;
const CKF_PROTECTED_AUTHENTICATION_PATH: u64 = 0x100;

/// Sets a key of the first device.
fn device(config: &mut Table, key: &str, value: impl Into<Value>) {
    let devices = config["device"].as_array_mut().unwrap();
    devices[0].as_table_mut().unwrap().insert(key.into(), value.into());
}

fn with_quirks(quirks: Table) -> Builder {
    Appliance::softhsm().faulty().with(|config| device(config, "quirks", quirks))
}

/// Private keys show this attribute so.
fn shows(attribute: u64, value: AttributeValue) -> Rule {
    let class = Some(Class::PrivateKey);
    on(Function::C_GetAttributeValue).does(Action::Attribute { class, attribute, value })
}

async fn signs(appliance: &Appliance) {
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
}

#[tokio::test]
async fn a_device_that_keeps_short_ids_and_hashes_itself_needs_configuration_alone() {
    let mut appliance = Appliance::softhsm()
        .with_issuer(toml! { algorithm = "PS256"
        rsa_bits = 2048 })
        .with(|config| {
            device(config, "model", "generic");
            device(
                config,
                "quirks",
                toml! { id_bytes = 2
                hashing = "inside"
                omit = ["CKA_DERIVE", "CKA_WRAP"] },
            );
        })
        .start_initialised()
        .await;
    appliance.stop().await;
    appliance.start().await;
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
    appliance.stop().await;
}

#[tokio::test]
async fn i1_what_a_module_does_not_show_keeps_a_key_from_signing_unless_its_quirks_say_so() {
    for (quirks, rule, told) in [
        (
            toml! { not_shown = ["CKA_NEVER_EXTRACTABLE"] },
            shows(CKA_NEVER_EXTRACTABLE, AttributeValue::Absent),
            "CKA_NEVER_EXTRACTABLE is not shown by the device",
        ),
        (
            toml! { local_flag = false },
            shows(CKA_LOCAL, AttributeValue::Bytes(Bytes(vec![0]))),
            "CKA_LOCAL says nothing on this device",
        ),
    ] {
        let strict = Appliance::softhsm().faulty().start().await;
        strict.faulty().add(rule.clone()).unwrap();
        let error = strict.custodian().init(ISSUER, "a test").await.unwrap_err().to_string();
        assert!(error.contains(told.split(' ').next().unwrap()), "{error}");

        let mut excused = with_quirks(quirks).prepare();
        excused.faulty().add(rule).unwrap();
        excused.start().await;
        excused.init(ISSUER).await;
        excused.stop().await;
        excused.start().await;
        signs(&excused).await;
        let status = excused.until_device(DEVICE, DeviceState::Ready).await;
        assert!(status.detail.contains(told), "{}", status.detail);
        excused.stop().await;
    }
}

#[tokio::test]
async fn where_the_module_keeps_no_public_key_objects_the_private_one_tells() {
    let lost = || on(Function::C_GenerateKeyPair).does(Action::LoseHalf(Half::Public));
    // SoftHSM2 shows the public numbers of RSA keys on the private object, as the standard has it.
    let rsa = || {
        toml! { algorithm = "PS256"
        rsa_bits = 2048 }
    };
    let strict = Appliance::softhsm().faulty().with_issuer(rsa()).start().await;
    strict.faulty().add(lost()).unwrap();
    let error = strict.custodian().init(ISSUER, "a test").await.unwrap_err().to_string();
    assert!(error.contains("the public half is missing"), "{error}");

    let quirk = toml! { public_objects = false };
    let appliance = with_quirks(quirk).with_issuer(rsa()).start().await;
    appliance.faulty().add(lost()).unwrap();
    appliance.init(ISSUER).await;
    signs(&appliance).await;
}

#[tokio::test]
async fn i10_a_token_that_takes_its_pin_elsewhere_is_refused_before_any_login() {
    let mut appliance = Appliance::softhsm().faulty().prepare();
    let flags = Action::TokenFlags { set: CKF_PROTECTED_AUTHENTICATION_PATH, clear: 0 };
    appliance.faulty().add(on(Function::C_GetTokenInfo).does(flags)).unwrap();
    appliance.start().await;
    let status = appliance.until_device(DEVICE, DeviceState::Parked).await;
    assert_eq!(status.reason, "PIN_UNAVAILABLE");
    assert!(status.detail.contains("CKF_PROTECTED_AUTHENTICATION_PATH"), "{}", status.detail);
    assert_eq!(appliance.faulty().calls(Function::C_Login), 0);
}

#[tokio::test]
async fn a_pin_flag_that_is_never_set_is_not_waited_for_where_a_quirk_says_so() {
    let flags = Action::TokenFlags { set: 0, clear: CKF_USER_PIN_INITIALIZED };
    let cleared = on(Function::C_GetTokenInfo).does(flags);
    let mut strict = Appliance::softhsm().faulty().prepare();
    strict.faulty().add(cleared.clone()).unwrap();
    strict.start().await;
    let status = strict.until_device(DEVICE, DeviceState::Down).await;
    assert_eq!(status.reason, "TOKEN_ABSENT");
    assert!(status.detail.contains("has no user PIN yet"), "{}", status.detail);

    let mut excused = with_quirks(toml! { user_pin_flag = false }).prepare();
    excused.faulty().add(cleared).unwrap();
    excused.start().await;
    excused.init(ISSUER).await;
    signs(&excused).await;
}

#[tokio::test]
async fn another_key_than_the_one_asked_for_is_not_taken() {
    let smaller = (CKA_MODULUS_BITS, 2048_u64.to_le_bytes().to_vec());
    let p384 = (CKA_EC_PARAMS, vec![0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22]);
    for (algorithm, (attribute, value), told) in [
        (
            "RS256",
            smaller,
            "the device did not make the key that was asked for: RS256 of 3072 bits",
        ),
        ("ES256", p384, "CKA_EC_PARAMS is not P-256"),
    ] {
        let issuer = Table::from_iter([("algorithm".to_owned(), algorithm.into())]);
        let appliance = Appliance::softhsm().faulty().with_issuer(issuer).start().await;
        let value = Some(Bytes(value));
        let other = Action::Template { half: Half::Public, attribute, value };
        appliance.faulty().add(on(Function::C_GenerateKeyPair).does(other)).unwrap();
        let error = appliance.custodian().init(ISSUER, "a test").await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}
