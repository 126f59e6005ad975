//! How a TPM is configured, and what is said of a configuration that does not fit it.

use std::{fs, process::Command};

use mintwarden_client::api::{DeviceState, DeviceStatus};
use mintwarden_tests::{Appliance, Builder, ISSUER, TPM, Tpm, claims, programs};
use tokio::net::TcpSocket;
use toml::Table;

const HANDLE: &str = "0x81010010";
pub(super) const STORAGE_KEY: &str =
    "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";

fn device(config: &mut Table) -> &mut Table {
    config["device"][0].as_table_mut().unwrap()
}

fn set(config: &mut Table, key: &str, value: &str) {
    device(config).insert(key.into(), value.into());
}

/// An appliance whose TPM has a persistent key of these attributes as its `parent`, not started.
pub(super) fn with_parent(builder: Builder, attributes: &str) -> Appliance {
    let appliance = builder.with(|config| set(config, "parent", HANDLE)).prepare();
    let context = appliance.file("parent.ctx").display().to_string();
    make_persistent(appliance.tpm(), &context, attributes);
    appliance
}

fn make_persistent(tpm: &Tpm, context: &str, attributes: &str) {
    let primary = ["tpm2_createprimary", "-C", "o", "-G", "rsa2048:aes128cfb", "-a", attributes];
    let _described = tpm.tool(&[&primary[..], &["-c", context]].concat());
    let _described = tpm.tool(&["tpm2_evictcontrol", "-C", "o", "-c", context, HANDLE]);
    let _nothing = tpm.tool(&["tpm2_flushcontext", "-t"]);
}

async fn parked(appliance: &Appliance, reason: &str, words: &[&str]) -> DeviceStatus {
    let device = appliance.until_device(TPM, DeviceState::Parked).await;
    assert_eq!(device.reason, reason, "{}", device.detail);
    for word in words {
        assert!(device.detail.contains(word), "{word} is not in: {}", device.detail);
    }
    device
}

/// Signs, and over reboots of the TPM with the same key.
async fn signs_over_reboots(appliance: &mut Appliance) {
    let verifier = appliance.verifier(ISSUER).await;
    let kid = appliance.kids(ISSUER).await.remove(0);
    for reboot in 0..3 {
        let token = appliance.client().issuer(ISSUER).sign(claims::trade(reboot)).await.unwrap();
        assert_eq!(verifier.verify(&token).unwrap().kid, kid, "reboot {reboot}");
        appliance.stop().await;
        // In order and out of order.
        if reboot == 1 {
            let _nothing = appliance.tpm().tool(&["tpm2_shutdown", "-c"]);
        }
        appliance.tpm().cut_power();
        appliance.tpm().power_up();
        appliance.start().await;
        appliance.until_device(TPM, DeviceState::Ready).await;
    }
}

#[tokio::test]
async fn the_storage_key_is_the_same_after_every_reboot() {
    let mut appliance = Appliance::swtpm().start_initialised().await;
    signs_over_reboots(&mut appliance).await;
}

#[tokio::test]
async fn a_persistent_key_is_the_parent_by_its_handle() {
    let mut appliance = with_parent(Appliance::swtpm(), STORAGE_KEY);
    // The owner's password is then not needed.
    let _nothing = appliance.tpm().tool(&["tpm2_changeauth", "-c", "owner", "a password"]);
    appliance.start().await;
    appliance.init(ISSUER).await;
    signs_over_reboots(&mut appliance).await;

    // Under another parent its keys are not to be found, and said to be another one's.
    appliance.stop().await;
    let _nothing = appliance.tpm().tool(&["tpm2_changeauth", "-c", "owner", "-p", "a password"]);
    appliance.reconfigure(|config| {
        device(config).remove("parent");
    });
    appliance.start().await;
    let status = appliance.until_device(TPM, DeviceState::Ready).await;
    assert!(status.detail.contains("under another `parent`"), "{}", status.detail);
    appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap_err();
    // Nothing was lost by it.
    appliance.stop().await;
    appliance.reconfigure(|config| set(config, "parent", HANDLE));
    appliance.start().await;
    signs_over_reboots(&mut appliance).await;
}

#[tokio::test]
async fn a_parent_that_others_can_lock_or_that_is_not_there_is_refused_with_the_remedy() {
    let mut appliance = with_parent(Appliance::swtpm(), &STORAGE_KEY.replace("noda|", ""));
    appliance.start().await;
    parked(&appliance, "TOKEN_ABSENT", &[HANDLE, "has noDA"]).await;
    appliance.stop().await;
    appliance.reconfigure(|config| set(config, "parent", "0x81010099"));
    appliance.start().await;
    let words = ["0x81010099", "is not there", "tpm2_getcap handles-persistent"];
    parked(&appliance, "TOKEN_ABSENT", &words).await;
}

#[tokio::test]
async fn i10_an_owners_password_parks_and_names_the_way_out() {
    let mut appliance = Appliance::swtpm().prepare();
    let _nothing = appliance.tpm().tool(&["tpm2_changeauth", "-c", "owner", "a password"]);
    appliance.start().await;
    parked(&appliance, "LOGIN_FAILED", &["owner hierarchy", "name it as `parent`"]).await;
}

#[test]
fn a_tcti_that_is_none_is_a_bad_configuration_with_the_remedy() {
    let appliance = Appliance::swtpm().prepare();
    for (tcti, exclusive, named) in [
        ("/dev/tpmrm0", false, "device:/dev/tpmrm0"),
        ("mssim:host=localhost,port=2321", true, "it begins with none of"),
        ("device:tpmrm0", false, "no absolute path"),
        ("swtpm:port=2321", true, "swtpm:host=localhost,port=2321"),
        ("swtpm:host=localhost,port=65535", true, "from 1 to 65534"),
        ("swtpm:host=local host,port=2321", true, "write a name or an address"),
        ("swtpm:host=localhost,port=2321", false, "exclusive = true"),
        ("device:/dev/tpm0", false, "exclusive = true"),
        ("device:/dev/tpmrm0", true, "nothing is exclusive"),
        ("tabrmd:bus_type=session", false, "takes nothing after it"),
    ] {
        appliance.reconfigure(|config| {
            set(config, "tcti", tcti);
            device(config).insert("exclusive".into(), exclusive.into());
        });
        let mut check = Command::new(programs::path(programs::MINTWARDEN));
        let output = check.arg("--config").arg(appliance.config()).arg("--check").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{tcti}: {said}");
        for word in [named, "remedy: ", "tcti", &appliance.config().display().to_string()] {
            assert!(said.contains(word), "{tcti}: {word} is not in: {said}");
        }
    }
}

#[tokio::test]
async fn a_tcti_that_leads_nowhere_is_told_with_the_remedy_and_tried_again() {
    let mut appliance = Appliance::swtpm().prepare();
    let right = device(&mut config(&appliance))["tcti"].clone();
    // Bound, so that nobody else listens there either.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = nobody.local_addr().unwrap().port();
    let nowhere = format!("swtpm:host=127.0.0.1,port={port}");
    for (tcti, exclusive) in [(&*nowhere, true), ("device:/nonexistent/tpmrm0", false)] {
        appliance.reconfigure(|config| {
            set(config, "tcti", tcti);
            device(config).insert("exclusive".into(), exclusive.into());
        });
        appliance.start().await;
        let status = appliance.until_device(TPM, DeviceState::Down).await;
        assert_eq!(status.reason, "TPM_UNREACHABLE", "{}", status.detail);
        for word in [tcti, "cannot be opened", "group tss"] {
            assert!(status.detail.contains(word), "{word} is not in: {}", status.detail);
        }
        appliance.stop().await;
    }
    appliance.reconfigure(|config| set(config, "tcti", "swtpm:path=/run/swtpm.sock"));
    appliance.reconfigure(|config| {
        device(config).insert("exclusive".into(), true.into());
    });
    let ended = appliance.try_start().await.unwrap_err();
    assert_eq!(ended.status.code(), Some(78), "{}", ended.stderr);
    for word in ["swtpm:path=/run/swtpm.sock", "over TCP only", "swtpm:host=localhost,port=2321"] {
        assert!(ended.stderr.contains(word), "{word} is not in: {}", ended.stderr);
    }
    appliance.reconfigure(|config| {
        device(config).insert("tcti".into(), right);
    });
    appliance.start().await;
    appliance.init(ISSUER).await;
    appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
}

fn config(appliance: &Appliance) -> Table {
    fs::read_to_string(appliance.config()).unwrap().parse().unwrap()
}
