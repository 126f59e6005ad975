//! Who may ask, and for what.

use mintwarden_client::Code;
use mintwarden_tests::{Appliance, ISSUER};
use toml::toml;

use super::Desk;

const CHALLENGE: &[u8] =
    br#"{"format": "mintwarden-challenge/1", "nonce": "AAAAAAAAAAAAAAAAAAAAAA"}"#;

#[tokio::test]
async fn custodians_and_auditors_of_the_issuer_ask_and_nobody_else() {
    let appliance = Appliance::softhsm()
        .with_issuer(toml! { name = "payments-tts" })
        .with_issuer(toml! { name = "other-tts" })
        .with_grant(toml! {
            role = "auditor"
            to = ["spiffe://trust-domain.example/auditor"]
            issuers = ["payments-tts"]
        })
        .with_grant(toml! {
            role = "custodian"
            person = "grace"
            to = ["spiffe://trust-domain.example/custodian/grace"]
            issuers = ["other-tts"]
        })
        .start_initialised()
        .await;
    let desk = Desk::new(&appliance).await;
    let [auditor, grace, stranger] =
        ["auditor", "custodian/grace", "stranger"].map(|name| appliance.pki().client(name));
    for identity in [appliance.ada(), &auditor] {
        let custodian = appliance.client_as(identity).custodian();
        custodian.attest(ISSUER, &desk.kid, CHALLENGE).await.unwrap();
    }
    for identity in [appliance.tts(), &grace, &stranger] {
        let custodian = appliance.client_as(identity).custodian();
        let refused = custodian.attest(ISSUER, &desk.kid, CHALLENGE).await.unwrap_err();
        assert_eq!(refused.reason(), "NO_GRANT");
    }
    // Another issuer's key is unknown under one's own.
    let custodian = appliance.client_as(&grace).custodian();
    let refused = custodian.attest("other-tts", &desk.kid, CHALLENGE).await.unwrap_err();
    assert_eq!(refused.reason(), "UNKNOWN_KEY");
    assert_eq!(refused.refusal().unwrap().code, Code::NotFound);
}

#[tokio::test]
async fn i9_what_is_no_challenge_reaches_no_device() {
    let appliance = Appliance::softhsm().faulty().start_initialised().await;
    let desk = Desk::new(&appliance).await;
    let custodian = appliance.custodian();
    let asked = || appliance.faulty().calls(mintwarden_tests::faulty::Function::C_GetInfo);
    let before = asked();
    let long = [CHALLENGE, &[b' '; 16 * 1024]].concat();
    let short = br#"{"format": "mintwarden-challenge/1", "nonce": "AAAA"}"#;
    let unknown = br#"{"format": "mintwarden-challenge/2", "nonce": "AAAAAAAAAAAAAAAAAAAAAA"}"#;
    let credential = br#"{"format": "mintwarden-challenge/1", "nonce": "AAAAAAAAAAAAAAAAAAAAAA",
        "credential": {"ek": "AAAA", "id_object": "", "encrypted_secret": ""}}"#;
    for bad in [&b""[..], b"null", &CHALLENGE[1..], &long, short, unknown, credential] {
        let refused = custodian.attest(ISSUER, &desk.kid, bad).await.unwrap_err();
        assert_eq!(refused.reason(), "FIELD_MALFORMED");
    }
    let refused = custodian.attest(ISSUER, "no kid", CHALLENGE).await.unwrap_err();
    assert_eq!(refused.reason(), "FIELD_MALFORMED");
    assert_eq!(asked(), before);
    custodian.attest(ISSUER, &desk.kid, CHALLENGE).await.unwrap();
    assert_eq!(asked(), before + 1);
}
