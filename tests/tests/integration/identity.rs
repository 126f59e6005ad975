//! Who calls, and what that allows.

use std::time::Duration;

use mintwarden_client::Error;
use mintwarden_proto::v1::{
    InitRequest, ListKeysRequest, SignRequest, custodian_service_client::CustodianServiceClient,
    signing_service_client::SigningServiceClient,
};
use mintwarden_tests::{Appliance, ISSUER, Identity, claims, eventually, refusal::Refusal};
use toml::toml;
use tonic::{Code, Status, transport::Channel};

async fn sign(channel: Channel, issuer: &str) -> Result<String, Status> {
    let request = SignRequest { issuer: issuer.into(), claims: claims::trade(1).to_json() };
    Ok(SigningServiceClient::new(channel).sign(request).await?.into_inner().token)
}

async fn refusal(appliance: &Appliance, identity: &Identity, issuer: &str) -> (Code, String) {
    let status = sign(appliance.channel(Some(identity)), issuer).await.unwrap_err();
    let refusal = Refusal::of(&status);
    (refusal.code, refusal.reason)
}

#[tokio::test]
async fn i2_without_a_certificate_that_holds_there_is_no_connection() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let pki = appliance.pki();
    let (foreign, expired) = (pki.foreign_authority("tts"), pki.expired("tts"));
    for (identity, alert) in [
        (None, "CertificateRequired"),
        // Its authority has the name of ours, and another key.
        (Some(&foreign), "DecryptError"),
        (Some(&expired), "CertificateExpired"),
    ] {
        let refusal = appliance.refusal(identity).await;
        assert!(refusal.contains(alert), "{refusal}");
        sign(appliance.channel(identity), ISSUER).await.unwrap_err();
    }
    // The client library says so in words, and does not try again.
    for identity in [&foreign, &expired] {
        let error = appliance.client_as(identity).issuer(ISSUER).sign("{}").await.unwrap_err();
        let Error::Transport(transport) = &error else { panic!("{error}") };
        assert!(transport.is_tls_refusal() && !error.is_retryable(), "{error}");
    }
    // None of that has any effect on those who may.
    sign(appliance.channel(Some(appliance.tts())), ISSUER).await.unwrap();
}

#[tokio::test]
async fn i2_a_certificate_that_names_nobody_is_unauthenticated() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let pki = appliance.pki();
    for (identity, reason) in [
        // The first of the two is the TTS.
        (pki.two_uris("tts", "other"), "IDENTITY_AMBIGUOUS"),
        (pki.foreign_trust_domain("tts"), "FOREIGN_TRUST_DOMAIN"),
        (pki.not_spiffe(), "IDENTITY_NOT_SPIFFE"),
        (pki.no_name(), "IDENTITY_AMBIGUOUS"),
        (pki.dns("two-names", &["a.example", "b.example"]), "IDENTITY_AMBIGUOUS"),
    ] {
        let refused = refusal(&appliance, &identity, ISSUER).await;
        assert_eq!(refused, (Code::Unauthenticated, reason.into()));
    }
}

#[tokio::test]
async fn i2_only_a_grant_opens_an_issuer() {
    let appliance = Appliance::softhsm()
        .with_issuer(toml! { name = "a" })
        .with_issuer(toml! { name = "b" })
        .with_grant(toml! { role = "signer"
        to = ["spiffe://trust-domain.example/only-a", "only-a.example"]
        issuers = ["a"] })
        .with_grant(toml! { role = "auditor"
        to = ["spiffe://trust-domain.example/auditor"] })
        .start_initialised()
        .await;
    let pki = appliance.pki();
    let no_grant = (Code::PermissionDenied, "NO_GRANT".to_owned());

    for only_a in [pki.client("only-a"), pki.dns("only-a-dns", &["only-a.example"])] {
        let token = sign(appliance.channel(Some(&only_a)), "a").await.unwrap();
        appliance.verifier("a").await.verify(&token).unwrap();
        assert_eq!(refusal(&appliance, &only_a, "b").await, no_grant);
        let unknown = (Code::NotFound, "UNKNOWN_ISSUER".to_owned());
        assert_eq!(refusal(&appliance, &only_a, "c").await, unknown);
    }
    // Who has no grant at all does not even learn which issuers there are.
    let stranger = pki.client("stranger");
    for issuer in ["a", "b", "c"] {
        assert_eq!(refusal(&appliance, &stranger, issuer).await, no_grant);
    }
    let status = appliance.client_as(&stranger).custodian().status().await.unwrap_err();
    assert_eq!(status.reason(), "NO_GRANT");
    // Other roles read, and do not sign.
    let auditor = pki.client("auditor");
    for reader in [&auditor, appliance.ada()] {
        assert_eq!(refusal(&appliance, reader, "a").await, no_grant);
        let client = appliance.client_as(reader);
        assert_eq!(client.custodian().list_keys(None).await.unwrap().len(), 2);
        client.issuer("a").describe().await.unwrap();
    }
    // Signers do not act as custodians, and see only their issuer.
    let only_a = appliance.client_as(&pki.client("only-a")).custodian();
    let init = only_a.init("a", "").await.unwrap_err();
    assert_eq!(init.reason(), "NO_GRANT");
    let seen: Vec<_> = only_a.status().await.unwrap().issuers.into_iter().map(|i| i.name).collect();
    assert_eq!(seen, ["a"]);
}

#[tokio::test]
async fn over_the_unix_socket_callers_are_their_user_and_never_custodians() {
    let appliance = Appliance::softhsm().start().await;
    let mut custodian = CustodianServiceClient::new(appliance.unix_channel());
    let init = InitRequest { issuer: ISSUER.into(), reason: String::new() };
    let status = custodian.init(init).await.unwrap_err();
    assert_eq!(Refusal::of(&status).words(), (Code::PermissionDenied, "NO_GRANT"));

    appliance.init(ISSUER).await;
    let token = sign(appliance.unix_channel(), ISSUER).await.unwrap();
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
    // What it may read of the custodians' service.
    custodian.list_keys(ListKeysRequest { issuer: ISSUER.into() }).await.unwrap();
    appliance.unix_client().custodian().status().await.unwrap();
}

#[tokio::test]
async fn the_unix_socket_opens_nothing_to_a_user_without_a_grant() {
    let appliance = Appliance::softhsm()
        .with(|config| {
            for grant in config["grant"].as_array_mut().unwrap() {
                let to = grant["to"].as_array_mut().unwrap();
                to.retain(|to| !to.as_str().unwrap().starts_with("unix:"));
            }
        })
        .start_initialised()
        .await;
    let status = sign(appliance.unix_channel(), ISSUER).await.unwrap_err();
    assert_eq!(Refusal::of(&status).words(), (Code::PermissionDenied, "NO_GRANT"));
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate_and_none_is_resumed() {
    let appliance = Appliance::softhsm().start_initialised().await;
    // One channel all the time: it connects again when it has to, and would resume its TLS session.
    let (identity, channel) = eventually("a certificate is used before it ends", async || {
        let identity = appliance.pki().ending("tts", Duration::from_secs(3));
        let channel = appliance.channel(Some(&identity));
        sign(channel.clone(), ISSUER).await.ok().map(|_| (identity, channel))
    })
    .await;
    eventually("the certificate's end is noticed", async || {
        sign(channel.clone(), ISSUER).await.err()
    })
    .await;
    for _ in 0..10 {
        sign(channel.clone(), ISSUER).await.unwrap_err();
    }
    let refusal = appliance.refusal(Some(&identity)).await;
    assert!(refusal.contains("CertificateExpired"), "{refusal}");
}
