//! Every algorithm from end to end: the device's key, the published JWK, the token, a verifier that
//! shares no code with the appliance.

use mintwarden_client::api;
use mintwarden_tests::{Appliance, DEVICE, claims, eventually};
use toml::{Table, toml};

/// Algorithm, configured size of an RSA key, `kty` and `crv` of its JWK, bytes of a signature.
type Case = (&'static str, Option<i64>, &'static str, Option<&'static str>, usize);

const CASES: [Case; 7] = [
    ("ES256", None, "EC", Some("P-256"), 64),
    ("ES384", None, "EC", Some("P-384"), 96),
    ("PS256", Some(2048), "RSA", None, 256),
    ("RS256", Some(2048), "RSA", None, 256),
    ("RS256", None, "RSA", None, 384),
    ("Ed25519", None, "OKP", Some("Ed25519"), 64),
    ("EdDSA", None, "OKP", Some("Ed25519"), 64),
];

fn name(case: usize) -> String {
    format!("{}-{case}", CASES[case].0.to_lowercase())
}

/// The issuer of a case, on every second device alone or on both.
fn issuer(case: usize) -> Table {
    let (algorithm, rsa_bits, ..) = CASES[case];
    let mut issuer = Table::new();
    issuer.insert("name".into(), name(case).into());
    issuer.insert("algorithm".into(), algorithm.into());
    if let Some(bits) = rsa_bits {
        issuer.insert("rsa_bits".into(), bits.into());
    }
    if algorithm != "ES384" {
        let device = if case.is_multiple_of(2) { DEVICE } else { "hsm-b" };
        issuer.insert("devices".into(), vec![device].into());
    }
    issuer
}

#[tokio::test]
async fn issuers_of_all_algorithms_share_two_devices() {
    let builder = Appliance::softhsm().with_device(DEVICE).with_device("hsm-b");
    let builder = (0..CASES.len()).fold(builder, |builder, case| builder.with_issuer(issuer(case)));
    let mut appliance = builder.start_initialised().await;
    // What the device shows of them is found again by fresh workers.
    appliance.stop().await;
    appliance.start().await;
    for device in [DEVICE, "hsm-b"] {
        let status = appliance.until_device(device, api::DeviceState::Ready).await;
        assert_eq!(status.detail, "", "no key has a defect");
    }
    let client = appliance.client();
    for (case, (algorithm, _, kty, crv, length)) in CASES.into_iter().enumerate() {
        let name = name(case);
        let described = client.issuer(&*name).describe().await.unwrap();
        assert_eq!(described.algorithm, algorithm);
        let batch = (0..3).map(|n| claims::trade(n).to_json()).collect();
        let batch = client.issuer(&*name).sign_batch(batch).await.unwrap();
        let verifier = appliance.verifier(&name).await;
        for token in batch.tokens {
            let token = token.unwrap();
            let verified =
                verifier.verify(token.as_str()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(verified.header["alg"], algorithm);
            assert_eq!(verified.kid, batch.kid);
            let signature = token.as_str().rsplit('.').next().unwrap();
            assert_eq!(signature.len(), (length * 4).div_ceil(3), "{name}");
        }
        let jwks = appliance.https().get(appliance.jwks_url(&name)).send().await.unwrap();
        let jwks = jwks.bytes().await.unwrap();
        let jwks: serde_json::Value = serde_json::from_slice(&jwks).unwrap();
        for jwk in jwks["keys"].as_array().unwrap() {
            assert_eq!((jwk["kty"].as_str(), jwk["crv"].as_str()), (Some(kty), crv), "{name}");
        }
    }
    appliance.stop().await;
}

#[tokio::test]
async fn i3_keys_of_issuers_with_one_type_of_key_are_not_mixed_up() {
    let appliance = Appliance::softhsm()
        .with_issuer(toml! { name = "rfc9864"
        algorithm = "Ed25519" })
        .with_issuer(toml! { name = "rfc8037"
        algorithm = "EdDSA" })
        .start_initialised()
        .await;
    let (new, old) = (appliance.verifier("rfc9864").await, appliance.verifier("rfc8037").await);
    assert!(new.kids().is_disjoint(&old.kids()));
    let token = appliance.client().issuer("rfc9864").sign(claims::trade(1)).await.unwrap();
    assert_eq!(new.verify(&token).unwrap().header["alg"], "Ed25519");
    assert!(old.verify(&token).is_err());
}

#[tokio::test]
async fn i7_an_algorithm_that_the_device_lacks_costs_its_issuer_alone_and_leaves_nothing_behind() {
    let mut appliance = Appliance::softhsm()
        .with_issuer(toml! { name = "ed"
        algorithm = "EdDSA" })
        .with_issuer(toml! { name = "rsa"
        algorithm = "RS256"
        rsa_bits = 2048 })
        .prepare();
    appliance.token().withhold_mechanisms(&["CKM_EDDSA", "CKM_RSA_PKCS"]);
    appliance.start().await;
    let status = appliance.until_device(DEVICE, api::DeviceState::Ready).await;
    let missing = "issuer ed gets no keys: EdDSA needs CKM_EDDSA (not listed) to sign";
    assert!(status.detail.contains(missing), "{}", status.detail);
    assert!(!status.detail.contains("issuer rsa"), "hashing inside will do: {}", status.detail);

    let error = appliance.custodian().init("ed", "a test").await.unwrap_err().to_string();
    for part in ["MECHANISM_MISSING", "CKM_EDDSA", "CKM_RSA_PKCS_KEY_PAIR_GEN"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    appliance.init("rsa").await;
    let token = appliance.client().issuer("rsa").sign(claims::trade(1)).await.unwrap();
    appliance.verifier("rsa").await.verify(&token).unwrap();

    // With the mechanism the work goes on by itself, as if nothing had been.
    appliance.stop().await;
    appliance.token().withhold_mechanisms(&[]);
    appliance.start().await;
    eventually("the issuer signs", async || {
        let status = appliance.status().await;
        status.issuers.iter().any(|issuer| issuer.name == "ed" && issuer.ready).then_some(())
    })
    .await;
    let kids = appliance.kids("ed").await;
    assert_eq!(kids.len(), 2);
    let token = appliance.client().issuer("ed").sign(claims::trade(1)).await.unwrap();
    assert_eq!(appliance.verifier("ed").await.verify(&token).unwrap().kid, kids[0]);
    let status = appliance.status().await;
    let issuer = status.issuers.iter().find(|issuer| issuer.name == "ed").unwrap();
    assert_eq!(issuer.alarms, Vec::<String>::new());
    appliance.stop().await;
}
