//! Who may, and what is no act.

use mintwarden_client::{
    Code, Custodian, Error,
    api::{ActResponse, RevokeFallback},
};
use mintwarden_proto::v1::{
    RevokeRequest, RotateRequest, custodian_service_client::CustodianServiceClient,
};
use mintwarden_tests::{Appliance, ISSUER, refusal::Refusal};
use toml::toml;
use tonic::Code as GrpcCode;

use super::{active, keyset, slow};

/// Tries every act on an issuer but `init`.
async fn all(custodian: &Custodian, issuer: &str, kid: &str) -> Vec<Result<ActResponse, Error>> {
    let wait = RevokeFallback::Wait;
    vec![
        custodian.recover(issuer, "").await,
        custodian.danger_recover_immature(issuer, "").await,
        custodian.rotate(issuer, None, "").await,
        custodian.activate(issuer, kid, "").await,
        custodian.danger_activate_immature(issuer, kid, "").await,
        custodian.suspend(issuer, kid, "").await,
        custodian.resume(issuer, kid, "").await,
        custodian.revoke(issuer, kid, wait, "").await,
        custodian.destroy(issuer, kid, "").await,
    ]
}

#[tokio::test]
async fn no_role_but_custodian_of_the_issuer_acts_on_its_keys() {
    let appliance = Appliance::softhsm()
        .with_issuer(toml! { name = "payments-tts" })
        .with_issuer(toml! { name = "other-tts" })
        .with_grant(toml! {
            role = "auditor"
            to = ["spiffe://trust-domain.example/auditor"]
        })
        .with_grant(toml! {
            role = "custodian"
            person = "grace"
            to = ["spiffe://trust-domain.example/custodian/grace"]
            issuers = ["other-tts"]
        })
        .start_initialised()
        .await;
    let before = keyset(&appliance).await;
    let kid = active(&before);
    let auditor = appliance.pki().client("auditor");
    let grace = appliance.pki().client("custodian/grace");
    for identity in [&auditor, &grace, appliance.tts()] {
        let custodian = appliance.client_as(identity).custodian();
        for refused in all(&custodian, ISSUER, &kid).await {
            assert_eq!(refused.unwrap_err().reason(), "NO_GRANT");
        }
        assert_eq!(custodian.init(ISSUER, "").await.unwrap_err().reason(), "NO_GRANT");
    }
    let stranger = appliance.client_as(&appliance.pki().client("stranger")).custodian();
    for refused in all(&stranger, "no-such-issuer", &kid).await {
        assert_eq!(refused.unwrap_err().reason(), "NO_GRANT", "strangers learn no names");
    }
    for refused in all(&appliance.unix_client().custodian(), ISSUER, &kid).await {
        assert_eq!(refused.unwrap_err().reason(), "NO_GRANT", "no unix user is a custodian");
    }
    // An auditor reads; a custodian of another issuer does not even that.
    appliance.client_as(&auditor).custodian().key(ISSUER, &kid).await.unwrap();
    let grace = appliance.client_as(&grace).custodian();
    assert_eq!(grace.key(ISSUER, &kid).await.unwrap_err().reason(), "NO_GRANT");
    // A key of another issuer is unknown, also under a custodian's own issuer.
    for refused in all(&grace, "other-tts", &kid).await.into_iter().skip(3) {
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason(), "UNKNOWN_KEY");
        assert_eq!(refused.refusal().unwrap().code, Code::NotFound);
    }
    assert_eq!(keyset(&appliance).await.revision, before.revision, "nothing has changed");
}

#[tokio::test]
async fn what_is_no_act_is_refused_by_its_field() {
    let appliance = Appliance::softhsm().with_issuer(slow()).start_initialised().await;
    let before = keyset(&appliance).await;
    let kid = active(&before);
    let custodian = appliance.custodian();
    let long = custodian.suspend(ISSUER, &kid, &"x".repeat(1025)).await.unwrap_err();
    assert_eq!(long.reason(), "REASON_TOO_LONG");
    for refused in [
        custodian.suspend(ISSUER, &kid, "\u{1b}[2Jall is well").await,
        custodian.suspend(ISSUER, "", "").await,
        custodian.suspend(ISSUER, &"k".repeat(60_000), "").await,
        custodian.suspend(ISSUER, "../../../../../../../../../../../etc/passwd", "").await,
    ] {
        assert_eq!(refused.unwrap_err().reason(), "FIELD_MALFORMED");
    }
    let unknown = custodian.suspend(ISSUER, &"k".repeat(43), "").await.unwrap_err();
    assert_eq!(unknown.reason(), "UNKNOWN_KEY");
    for (device, reason) in [
        ("hsm-z", "NO_ACTIVE_KEY"),
        ("HSM A", "UNKNOWN_DEVICE"),
        (&*"d".repeat(900), "UNKNOWN_DEVICE"),
    ] {
        let refused = custodian.rotate(ISSUER, Some(device), "").await.unwrap_err();
        assert_eq!(refused.reason(), reason, "{device}");
    }
    let mut bare = CustodianServiceClient::new(appliance.channel(Some(appliance.ada())));
    let (issuer, reason) = (ISSUER.to_owned(), String::new());
    let revoke = RevokeRequest { issuer: issuer.clone(), reason: reason.clone(), kid, fallback: 7 };
    let refusal = Refusal::of(&bare.revoke(revoke).await.unwrap_err());
    assert_eq!(refusal.words(), (GrpcCode::InvalidArgument, "FIELD_MALFORMED"));
    assert_eq!(refusal.fields, ["fallback"]);
    let rotate = RotateRequest { issuer, reason, device: String::new() };
    bare.rotate(rotate).await.unwrap();
    assert_eq!(keyset(&appliance).await.revision, before.revision + 1, "only the last was one");
}

#[tokio::test]
async fn before_init_there_is_nothing_to_act_on() {
    let appliance = Appliance::softhsm().start().await;
    let kid = "k".repeat(43);
    let refused = all(&appliance.custodian(), ISSUER, &kid).await;
    let reasons: Vec<_> = refused.iter().map(|act| act.as_ref().unwrap_err().reason()).collect();
    assert_eq!(reasons[..2], ["NOTHING_TO_RECOVER"; 2]);
    assert_eq!(reasons[2..], ["NOT_INITIALISED"; 7]);
}
