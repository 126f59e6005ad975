//! From the first key to a verified token, and over restarts.

use mintwarden_client::api;
use mintwarden_tests::{Appliance, ISSUER, TPM, claims, eventually};
use toml::{Table, toml};

/// Algorithm, size of an RSA key, bytes of a signature.
const CASES: [(&str, Option<i64>, usize); 5] = [
    ("ES256", None, 64),
    ("ES384", None, 96),
    ("PS256", Some(2048), 256),
    ("RS256", Some(2048), 256),
    ("RS256", Some(3072), 384),
];

fn name(case: usize) -> String {
    format!("{}-{case}", CASES[case].0.to_lowercase())
}

fn issuer(case: usize) -> Table {
    let mut issuer = Table::new();
    issuer.insert("name".into(), name(case).into());
    issuer.insert("algorithm".into(), CASES[case].0.into());
    if let Some(bits) = CASES[case].1 {
        issuer.insert("rsa_bits".into(), bits.into());
    }
    issuer
}

#[tokio::test]
async fn issuers_of_all_algorithms_share_a_tpm() {
    let builder = (0..CASES.len()).fold(Appliance::swtpm(), |b, case| b.with_issuer(issuer(case)));
    let mut appliance = builder.start_initialised().await;
    for restart in [false, true] {
        if restart {
            // The keyset hands the keys to a fresh worker, which loads them.
            appliance.stop().await;
            appliance.start().await;
        }
        let status = appliance.until_device(TPM, api::DeviceState::Ready).await;
        assert_eq!(status.detail, "", "no key has a defect");
        let client = appliance.client();
        for (case, (algorithm, _, length)) in CASES.into_iter().enumerate() {
            let name = name(case);
            let batch = (0..3).map(|n| claims::trade(n).to_json()).collect();
            let batch = client.issuer(&*name).sign_batch(batch).await.unwrap();
            let verifier = appliance.verifier(&name).await;
            for token in batch.tokens {
                let token = token.unwrap();
                let verified =
                    verifier.verify(token.as_str()).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(
                    (&verified.header["alg"], &verified.kid),
                    (&algorithm.into(), &batch.kid)
                );
                let signature = token.as_str().rsplit('.').next().unwrap();
                assert_eq!(signature.len(), (length * 4).div_ceil(3), "{name}");
            }
        }
    }
    appliance.stop().await;
}

#[tokio::test]
async fn i7_what_a_tpm_lacks_is_named_and_costs_its_issuer_alone() {
    let mut appliance = Appliance::swtpm()
        .with_issuer(toml! { name = "ed"
        algorithm = "Ed25519" })
        .with_issuer(toml! { name = "ec" })
        .start()
        .await;
    let status = appliance.until_device(TPM, api::DeviceState::Ready).await;
    assert!(status.detail.contains("issuer ed gets no keys"), "{}", status.detail);
    assert!(!status.detail.contains("issuer ec"), "{}", status.detail);
    let error = appliance.custodian().init("ed", "a test").await.unwrap_err().to_string();
    for part in ["MECHANISM_MISSING", "Ed25519", "it makes ES256"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    appliance.init("ec").await;
    let token = appliance.client().issuer("ec").sign(claims::trade(1)).await.unwrap();
    appliance.verifier("ec").await.verify(&token).unwrap();
    appliance.stop().await;
}

#[tokio::test]
async fn i8_restarts_of_every_kind_leave_the_same_keys() {
    let mut appliance = Appliance::swtpm().start_initialised().await;
    let kids = appliance.kids(ISSUER).await;
    assert_eq!(kids.len(), 2);
    for restart in 0..4 {
        match restart {
            0 => appliance.kill_worker().await,
            1 => appliance.kill_server().await,
            2 => {
                appliance.kill_launcher().await;
                appliance.start().await;
            }
            _ => {
                appliance.stop().await;
                appliance.start().await;
            }
        }
        let client = appliance.client();
        let token = eventually("it signs again", async || {
            client.issuer(ISSUER).sign(claims::trade(restart)).await.ok()
        })
        .await;
        let verifier = appliance.verifier(ISSUER).await;
        assert_eq!(verifier.verify(&token).unwrap().kid, kids[0], "restart {restart}");
        assert_eq!(appliance.kids(ISSUER).await, kids, "restart {restart}");
    }
    appliance.stop().await;
    // Nothing of it is left in the TPM.
    for what in ["handles-transient", "handles-loaded-session", "handles-saved-session"] {
        assert_eq!(appliance.tpm().tool(&["tpm2_getcap", what]).trim(), "", "{what}");
    }
}
