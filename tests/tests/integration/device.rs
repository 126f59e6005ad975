//! PKCS#11 tokens and modules that are not what the configuration says.

use std::fs;

use mintwarden_client::api::{DeviceState, DeviceStatus};
use mintwarden_proto::v1::{SignRequest, signing_service_client::SigningServiceClient};
use mintwarden_tests::{Appliance, DEVICE, ISSUER, claims, refusal::Refusal};
use tonic::Code;

/// Starts an appliance whose device is changed so, and waits for what becomes of the device.
async fn with_device(
    change: impl FnOnce(&mut toml::Table) + Send + 'static,
    state: DeviceState,
) -> (Appliance, DeviceStatus) {
    let appliance = Appliance::softhsm()
        .with(|config| change(config["device"][0].as_table_mut().unwrap()))
        .start()
        .await;
    let device = appliance.until_device(DEVICE, state).await;
    (appliance, device)
}

fn said(device: &DeviceStatus, reason: &str, words: &[&str]) {
    assert_eq!(device.reason, reason, "{}", device.detail);
    for word in words {
        assert!(device.detail.contains(word), "{word:?} is not in: {}", device.detail);
    }
}

#[tokio::test]
async fn a_label_that_is_absent_lists_those_that_are_there_and_is_looked_for_again() {
    let change = |device: &mut toml::Table| {
        device.insert("token_label".into(), "later".into());
    };
    let (appliance, device) = with_device(change, DeviceState::Down).await;
    said(&device, "TOKEN_ABSENT", &["\"later\"", "\"hsm-a\"", "token_label"]);
    assert!(device.starts >= 1);
    appliance.token().add("later");
    appliance.until_device(DEVICE, DeviceState::Ready).await;
    appliance.init(ISSUER).await;
    appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
}

#[tokio::test]
async fn a_label_that_two_tokens_have_is_never_guessed() {
    let mut appliance = Appliance::softhsm().prepare();
    appliance.token().add_twin();
    let trace = appliance.token().login_trace();
    appliance.start().await;
    let device = appliance.until_device(DEVICE, DeviceState::Parked).await;
    let serial = appliance.token().soft_hsm().serial.clone();
    said(&device, "TOKEN_AMBIGUOUS", &["\"hsm-a\"", &serial, "token_serial"]);
    assert_eq!(appliance.token().login_trace(), trace, "no login was tried");
    // What the detail says is the way out.
    appliance.stop().await;
    let config = fs::read_to_string(appliance.config()).unwrap();
    let by_serial = format!("token_serial = \"{serial}\"");
    let config = config.replace("token_label = \"hsm-a\"", &by_serial);
    fs::write(appliance.config(), config).unwrap();
    appliance.start().await;
    appliance.until_device(DEVICE, DeviceState::Ready).await;
}

#[tokio::test]
async fn a_module_that_is_none_is_named_and_not_tried_again() {
    let elf = fs::read_to_string("/proc/self/maps").unwrap();
    let libc = elf.split_whitespace().find(|path| path.contains("libc.so")).unwrap().to_owned();
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("module.so");
    fs::write(&text, "not a library").unwrap();
    let text = text.display().to_string();
    for (module, words) in [
        ("/nonexistent/module.so".to_owned(), ["/nonexistent/module.so", "No such file"]),
        (directory.path().display().to_string(), ["is not a file", "`module`"]),
        (text, ["cannot be loaded", "`module`"]),
        (libc, ["not a PKCS#11 one", "C_GetFunctionList"]),
    ] {
        let change = |device: &mut toml::Table| {
            device.insert("module".into(), module.into());
        };
        let (mut appliance, device) = with_device(change, DeviceState::Parked).await;
        said(&device, "MODULE_UNUSABLE", &words);
        assert_eq!(device.starts, 1);
        appliance.stop().await;
    }
}

#[tokio::test]
async fn signing_without_a_device_is_a_prompt_typed_answer() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    appliance.stop().await;
    fs::rename(appliance.file("hsm-a/tokens"), appliance.file("hsm-a/away")).unwrap();
    fs::create_dir(appliance.file("hsm-a/tokens")).unwrap();
    appliance.start().await;
    appliance.until_device(DEVICE, DeviceState::Down).await;
    let request = SignRequest { issuer: ISSUER.into(), claims: claims::trade(1).to_json() };
    let mut signing = SigningServiceClient::new(appliance.channel(Some(appliance.tts())));
    let status = signing.sign(request).await.unwrap_err();
    let refusal = Refusal::of(&status);
    assert_eq!(refusal.words(), (Code::Unavailable, "DEVICE_UNAVAILABLE"));
    assert!(refusal.retry_after.is_some());
    assert!(status.message().contains("TOKEN_ABSENT"), "{}", status.message());
    // Paths and serial numbers are the operator's.
    let serial = &appliance.token().soft_hsm().serial;
    assert!(!status.message().contains(&**serial), "{}", status.message());
    // Verifiers lose nothing.
    assert_eq!(appliance.verifier(ISSUER).await.kids().len(), 2);
    let issuer = appliance.status().await.issuers.remove(0);
    assert_eq!((issuer.ready, &*issuer.reason), (false, "DEVICE_UNAVAILABLE"));
}

#[tokio::test]
async fn init_without_a_device_says_so_and_goes_on_by_itself_when_it_is_there() {
    let change = |device: &mut toml::Table| {
        device.insert("token_label".into(), "later".into());
    };
    let (appliance, _) = with_device(change, DeviceState::Down).await;
    let error = appliance.custodian().init(ISSUER, "").await.unwrap_err();
    assert_eq!(error.reason(), "INIT_INTERRUPTED", "{error}");
    assert!(error.to_string().contains(DEVICE), "{error}");
    assert_eq!(error.to_string().matches("TOKEN_ABSENT").count(), 1, "{error}");
    appliance.token().add("later");
    let published = mintwarden_tests::eventually("the first keys", async || {
        let issuer = appliance.status().await.issuers.remove(0);
        issuer.ready.then_some(issuer.published_keys)
    });
    assert_eq!(published.await, 2);
}
