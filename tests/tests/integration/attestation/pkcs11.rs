//! PKCS#11 tokens only claim.

use std::fs;

use mintwarden_tests::{
    Appliance,
    faulty::{Function, on},
};
use serde_json::Value;

use super::{Desk, outcome};

#[tokio::test]
async fn a_pkcs11_token_says_what_it_is_and_proves_nothing() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let desk = Desk::new(&appliance).await;
    let challenge = desk.challenge("challenge.json").await;
    desk.ask(&challenge, "evidence.json").run().await.success();
    let evidence = fs::read(desk.file("evidence.json")).unwrap();
    let evidence: Value = serde_json::from_slice(&evidence).unwrap();
    let claim = &evidence["residence"]["pkcs11"];
    assert_eq!(claim["private_key"]["CKA_SENSITIVE"], true, "{claim:#}");
    assert_eq!(claim["private_key"]["CKA_EXTRACTABLE"], false);
    assert_eq!(claim["library"]["manufacturerID"], "SoftHSM");
    assert!(claim["token"]["serialNumber"].as_str().is_some_and(|serial| !serial.is_empty()));

    let said = desk.judge("evidence.json", &challenge, &[]).await;
    assert_eq!(said.code, Some(1), "{}", said.stdout);
    assert!(said.stdout.contains("NOT PROVED") && said.stdout.contains("own claim"));
    let accepted = ["--accept", "own-claim", "--kid", &desk.kid, "--json"];
    let said = desk.judge("evidence.json", &challenge, &accepted).await.success();
    assert_eq!(outcome(&said, "residence"), "claimed");
    assert_eq!(outcome(&said, "kid"), "holds");
    // A waiver of another kind is none; nor does it excuse what fails.
    for refused in [
        desk.judge("evidence.json", &challenge, &["--accept", "unbound-ak"]).await,
        desk.judge("evidence.json", &"00".repeat(32), &accepted).await,
        desk.judge("evidence.json", &challenge, &["--accept", "own-claim", "--kid", "other"]).await,
    ] {
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    }
}

#[tokio::test]
async fn i9_a_device_gives_evidence_to_one_at_a_time() {
    let appliance = Appliance::softhsm().faulty().start_initialised().await;
    let desk = Desk::new(&appliance).await;
    let faulty = appliance.faulty();
    let nonce = "ab".repeat(32);
    let hold = faulty.add(on(Function::C_GetInfo).once().blocks()).unwrap();
    let first = tokio::spawn(desk.ask(&nonce, "first.json").run());
    mintwarden_tests::eventually("the device is asked", async || {
        (faulty.fired(&hold) == 1).then_some(())
    })
    .await;
    let second = desk.ask(&nonce, "second.json").run().await;
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("ATTESTATION_UNDER_WAY"), "{}", second.stderr);
    assert!(!desk.file("second.json").exists());
    faulty.remove(hold).unwrap();
    first.await.unwrap().success();
    desk.ask(&nonce, "second.json").run().await.success();
}
